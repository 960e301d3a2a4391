//! Tells the linker to write small copies and fills as single loads and stores. Without that LLVM
//! leaves every fill to a loop over bytes, hundreds of instructions a packet.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=--disable-expand-memcpy-in-order");
}
