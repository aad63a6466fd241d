//! The command needs nothing but the C library, so that it starts in the smallest images. Rust asks for `-lgcc_s`: give it a linker
//! script of that name that means the static unwinder, as in src/shim/build.rs.

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(format!("{out}/libgcc_s.so"), "INPUT(-lgcc_eh -lgcc -lc)\n").expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rerun-if-changed=build.rs");
}
