//! The `netbpf` command.

fn main() {}
