//! `cargo xtask`: set-up, lab and tests.

fn main() {}
