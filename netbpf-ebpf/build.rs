//! Asks the BPF linker for the instruction set of version 3: it has 32-bit jumps and the atomic
//! operations that return a value, and every kernel that netbpf supports runs it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        println!("cargo:rustc-link-arg-bins=--cpu=v3");
    }
}
