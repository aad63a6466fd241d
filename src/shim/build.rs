//! How libtideover.so is linked. Each line is a start-up cost or a way to kill a host that was measured (DESIGN.md, "Linking").

fn main() {
    // A preload whose DT_NEEDED is missing kills every host, and loading libgcc_s costs each process about 95 us. Rust asks
    // for `-lgcc_s`: give it a linker script of that name that means the static unwinder.
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(format!("{out}/libgcc_s.so"), "INPUT(-lgcc_eh -lgcc -lc)\n").expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={out}");
    // For lld, which rustc uses on this target since 1.90.
    let args = [
        // Two segments instead of four, and no mprotect: fewer system calls and page faults in the start of every process.
        "-Wl,--no-rosegment",
        "-Wl,-z,norelro",
        "-Wl,-z,now",
        // The hooks differ in little but their names: equal code is kept once.
        "-Wl,--icf=all",
        "-Wl,--hash-style=gnu",
        // Real functions and fork handlers point into us: a dlclose by a host must not unmap them.
        "-Wl,-z,nodelete",
        "-Wl,-soname,libtideover.so",
        "-Wl,--strip-all",
    ];
    for arg in args {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
