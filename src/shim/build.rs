//! How libtideover.so is linked. Each line is a start-up cost or a way to kill a host that was measured (DESIGN.md, "Linking").

fn main() {
    // A preload whose DT_NEEDED is missing kills every host, and loading libgcc_s costs each process about 95 us. Rust asks
    // for `-lgcc_s`: give it a linker script of that name that means the static unwinder.
    let out = var("OUT_DIR");
    std::fs::write(format!("{out}/libgcc_s.so"), "INPUT(-ltideover_unwind -lgcc -lc)\n").expect("OUT_DIR is writable");
    let output = |program: &str, args: &[&str]| {
        let done = std::process::Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_string()
    };
    let arch = var("CARGO_CFG_TARGET_ARCH");
    let tools = Tools::new(&arch);
    take_unwinder(&out, &tools, output);
    link_against_imports(&out, &arch, |args| output(&tools.compiler, args));
    let here = var("CARGO_MANIFEST_DIR");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-T,{here}/layout.ld");
    println!("cargo:rustc-link-search=native={out}");
    // Data that begins with a page of its own is a page less to copy. And rustc uses lld itself on x86-64 alone (since 1.90).
    let own = match arch.as_str() {
        "x86_64" => vec!["-Wl,-z,separate-loadable-segments".to_string()],
        _ => vec![format!("-Wl,-T,{here}/arch/{arch}/layout.ld"), "-fuse-ld=lld".to_string()],
    };
    for arg in own {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
    println!("cargo:rerun-if-changed=arch/{arch}");
    // For lld.
    let args = [
        // Two segments instead of four, and no mprotect: fewer system calls and page faults in the start of every process.
        "-Wl,--no-rosegment",
        "-Wl,-z,norelro",
        "-Wl,-z,now",
        // crtbeginS.o and its kin: four look-ups of names that nobody defines.
        "-nostartfiles",
        // Our own names mean us: a second copy must see its own version function (lifecycle/load.rs), and execl our own execve. Not
        // -Bsymbolic, with which dlsym(RTLD_DEFAULT) would find the caller's copy first.
        "-Wl,-Bsymbolic-functions",
        // A name that is not in arch/*/imports.txt is an error here, not in other people's programs.
        "-Wl,-z,defs",
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
    println!("cargo:rerun-if-changed=layout.ld");
}

/// Copies the compiler's static unwinder. Its _Unwind_Backtrace gives way to the one in os/unused.rs, and is kept under a name of ours for
/// engine/reclaim/caller.rs.
fn take_unwinder(out: &str, tools: &Tools, output: impl Fn(&str, &[&str]) -> String) {
    let unwinder = output(&tools.compiler, &["-print-file-name=libgcc_eh.a"]);
    let ours = format!("{out}/libtideover_unwind.a");
    output(
        &tools.objcopy,
        &[
            "--redefine-sym=_Unwind_Backtrace=tideover_backtrace",
            // What asks at load whether the processor has SME, whose registers nobody unwinds here.
            "--remove-section=.init_array*",
            "--remove-section=.rela.init_array*",
            "--remove-section=.fini_array",
            "--remove-section=.rela.fini_array",
            &unwinder,
            &ours,
        ],
    );
}

/// A variable that cargo sets for build scripts.
fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// The C compiler and what else of binutils is run, by which names they are called.
struct Tools {
    compiler: String,
    objcopy: String,
}

impl Tools {
    /// The machine's own, or those of Debian's cross compiler.
    fn new(arch: &str) -> Tools {
        if var("HOST") == var("TARGET") {
            return Tools { compiler: "cc".to_string(), objcopy: "objcopy".to_string() };
        }
        let tool = |name| format!("{arch}-linux-gnu-{name}");
        Tools { compiler: tool("gcc"), objcopy: tool("objcopy") }
    }
}

/// Makes the linker see a libc.so.6 with what the imports.txt of the architecture lists and nothing else. The machine's own would bind the library to versions
/// that older systems lack (dlsym moved in 2.34), and to names that musl lacks.
fn link_against_imports(out: &str, arch: &str, compile: impl Fn(&[&str]) -> String) {
    let folder = format!("{out}/libc");
    std::fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    let mut code = String::from(".text\n");
    let mut versions = std::collections::BTreeMap::<&str, String>::new();
    // Symbols have versions of their own on each architecture.
    let imports = format!("arch/{arch}/imports.txt");
    println!("cargo:rerun-if-changed={imports}");
    let imports = std::fs::read_to_string(&imports).unwrap_or_else(|e| panic!("{imports}: {e}"));
    for line in imports.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let kind = words.next().unwrap_or("function");
        code.push_str(&format!(".globl {name}\n.type {name},@{kind}\n.size {name},8\n{name}: .quad 0\n"));
        versions.entry(version).or_default().push_str(&format!("{name}; "));
    }
    let script: String = versions.iter().map(|(version, names)| format!("{version} {{ {names}}};\n")).collect();
    let file = |name: &str, text: &str| {
        let path = format!("{folder}/{name}");
        std::fs::write(&path, text).expect("OUT_DIR is writable");
        path
    };
    let (code, script) = (file("imports.s", &code), file("versions.map", &script));
    let script = format!("-Wl,--version-script={script}");
    compile(&["-shared", "-nostdlib", "-Wl,-soname,libc.so.6", &script, "-o", &format!("{folder}/libc.so"), &code]);
    // Their functions are in libc.so.6, or found at load (os/real.rs).
    for name in ["dl", "pthread", "rt", "util", "m"] {
        file(&format!("lib{name}.so"), "INPUT(-lc)\n");
    }
    println!("cargo:rustc-cdylib-link-arg=-L{folder}");
}
