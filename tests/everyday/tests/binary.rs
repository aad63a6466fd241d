//! The file libtideover.so itself: what it needs, what it exports, and whether a cancelled thread can be unwound through it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tideover_tests::{Run, library, preload_fixture, program, workspace};

fn tool(name: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program(name, "binutils")).args(args).arg(file).output().expect("binutils run");
    assert!(output.status.success(), "{name} {args:?} {}", file.display());
    String::from_utf8(output.stdout).expect("text")
}

/// Name and address of each symbol that a shared object defines for others; the versions are cut off.
fn exported(file: &Path) -> BTreeMap<String, u64> {
    tool("nm", &["-D", "--defined-only"], file)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let _kind = words.next()?;
            Some((words.next()?.split('@').next()?.to_string(), address))
        })
        .collect()
}

/// What the shim says that it exports.
fn allowed() -> BTreeSet<String> {
    let path = workspace().join("src/shim/exports.txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_string).collect()
}

#[test]
fn it_needs_libc_and_nothing_else() {
    // A preloaded library whose own need is missing keeps every program from starting. musl takes libc.so.6 for itself, and has no
    // ld-linux-x86-64.so.2.
    let dynamic = tool("readelf", &["-dW"], &library());
    let needed = dynamic.lines().filter(|l| l.contains("(NEEDED)")).filter_map(|l| l.split(['[', ']']).nth(1));
    assert_eq!(needed.collect::<Vec<_>>(), ["libc.so.6"]);
    assert!(!dynamic.contains("(TEXTREL)"), "it has text relocations");
    assert!(!dynamic.contains("(RPATH)") && !dynamic.contains("(RUNPATH)"), "it looks for libraries in odd places");
    let stack = tool("readelf", &["-lW"], &library());
    let flags = stack.lines().find(|l| l.contains("GNU_STACK")).expect("GNU_STACK");
    assert!(!flags.contains("RWE"), "it wants an executable stack");
}

#[test]
fn every_symbol_that_it_imports_is_there() {
    let now = |run: Run| run.env("LD_BIND_NOW", "1").output();
    // The control: a library that misses a symbol is found out this way.
    let missing = preload_fixture("missing_symbol");
    now(Run::new(program("true", "coreutils")).preload_before(missing)).fails().says("undefined symbol");
    now(Run::new(program("true", "coreutils")).preload(true)).passes().does_not_say("symbol");
}

#[test]
fn it_loads_on_glibc_2_17_and_later_and_on_musl() {
    let imports = tool("nm", &["-D", "--undefined-only"], &library());
    let mut strong = vec![];
    for import in imports.lines() {
        let (kind, name) = import.trim().split_once(' ').expect("a kind and a name");
        let (name, version) = name.split_once("@GLIBC_").unwrap_or((name, "0"));
        let version: Vec<u32> = version.split('.').map(|n| n.parse().expect("a number")).collect();
        assert!(version <= vec![2, 17], "{import}: it loads on no older glibc");
        if kind == "U" {
            strong.push(name.to_string());
        }
    }
    assert!(strong.len() > 5, "{imports}");
    let musl = PathBuf::from(format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH));
    assert!(musl.exists(), "it is missing: install the Debian package musl (scripts/deps.sh does)");
    let has = exported(&musl);
    let lacking: Vec<_> = strong.iter().filter(|name| !has.contains_key(*name)).collect();
    assert!(lacking.is_empty(), "musl lacks {lacking:?}");
}

#[test]
fn it_exports_what_its_list_says() {
    let (exported, allowed) = (exported(&library()), allowed());
    let leaked: Vec<_> = exported.keys().filter(|name| !allowed.contains(*name)).collect();
    let absent: Vec<_> = allowed.iter().filter(|name| !exported.contains_key(*name)).collect();
    assert!(leaked.is_empty() && absent.is_empty(), "not in the list: {leaked:?}; not exported: {absent:?}");
    assert!(exported.len() > 100, "{} names", exported.len());
}

#[test]
fn it_is_at_most_512_kib() {
    let size = fs::metadata(library()).expect("it is there").len();
    assert!(size <= 512 << 10, "{size} bytes");
}

/// What layout.ld is for. Names that its patterns no longer fit show here: 36 KiB before there was one.
#[test]
fn a_start_touches_little_of_it() {
    let maps =
        Run::new(program("cat", "coreutils")).arg("/proc/self/smaps").preload(true).output().passes().stdout.clone();
    let name = library().file_name().expect("a name").to_string_lossy().into_owned();
    let mut of_ours = false;
    let mut copied = 0;
    for line in maps.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Anonymous:", size, "kB"] if of_ours => copied += size.parse::<u32>().expect("a number"),
            [_, _, _, _, _, path] => of_ours = path.ends_with(&name),
            // Memory without a file, which may follow the library.
            [range, _, _, _, _] if range.contains('-') => of_ours = false,
            _ => {}
        }
    }
    // Six pages of 4 KiB; where pages are larger, four.
    let page = maps.lines().find_map(|line| line.strip_prefix("KernelPageSize:")).expect("the size of a page");
    let page: u32 = page.trim().trim_end_matches(" kB").parse().expect("a number");
    let most = 24.max(4 * page);
    assert!((1..=most).contains(&copied), "{copied} KiB are copied by a program that opens a file: {maps}");
    let headers = tool("readelf", &["-lW"], &library());
    let load =
        headers.lines().rfind(|l| l.contains(" LOAD ")).expect("a segment").split_whitespace().collect::<Vec<_>>();
    assert_eq!(load[4], load[5], "its memory goes beyond the file: an mmap more");
    let sections = tool("readelf", &["-SW"], &library());
    let order: Vec<_> = [" .rodata ", " .text ", " .eh_frame "].map(|name| sections.find(name).expect(name)).into();
    assert!(order.is_sorted(), "{sections}");
}

#[test]
fn a_cancelled_thread_can_be_unwound_through_every_hook() {
    // A hook with a personality routine has a landing pad, and in `extern "C"` code that pad aborts the process.
    let frames = tool("readelf", &["-W", "--debug-dump=frames"], &library());
    let mut augmentation = BTreeMap::new();
    let mut functions = vec![];
    let mut entry = "";
    for line in frames.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() >= 4 && words[3] == "CIE" {
            entry = words[0];
        } else if let ["Augmentation:", text] = words[..] {
            augmentation.insert(entry, text.trim_matches('"'));
        } else if words.len() >= 6 && words[3] == "FDE" {
            let cie = words[4].strip_prefix("cie=").expect("cie=");
            let (from, to) = words[5].strip_prefix("pc=").and_then(|pc| pc.split_once("..")).expect("pc=from..to");
            let number = |text| u64::from_str_radix(text, 16).expect("a hexadecimal address");
            functions.push((number(from), number(to), augmentation.get(cie).copied().unwrap_or_default()));
        }
    }
    let mut wrong = vec![];
    // The C API's own functions, but for those that make a call for the program, are no place for a cancellation.
    let calls = |name: &str| !name.starts_with("tideover_") || ["open", "fopen", "retry"].contains(&&name[9..]);
    for (name, address) in exported(&library()).into_iter().filter(|(name, _)| calls(name)) {
        match functions.iter().find(|(from, to, _)| (*from..*to).contains(&address)) {
            Some((.., text)) if text.contains('P') => wrong.push(format!("{name} has a personality routine ({text})")),
            Some(_) => {}
            None => wrong.push(format!("{name} has no unwind table")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Twins that are not hooked, each with its reason.
const DELIBERATE: &[(&str, &str)] = &[];

/// The libc of this machine.
fn libc() -> PathBuf {
    let ldd = Command::new(program("ldd", "libc-bin")).arg(program("true", "coreutils")).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    let line = text.lines().find(|l| l.contains("libc.so.6")).expect("true uses libc");
    line.split_whitespace().find(|w| w.starts_with('/')).expect("a path").into()
}

/// Names that programs can link against: those of GLIBC_PRIVATE and of old versions only are not.
fn public_names() -> BTreeSet<String> {
    let names: BTreeSet<String> = tool("nm", &["-D", "--defined-only", "--with-symbol-versions"], &libc())
        .lines()
        .filter_map(|line| {
            let (name, version) = line.split_whitespace().nth(2)?.split_once('@')?;
            (version.starts_with("@GLIBC_") && !version.contains("PRIVATE")).then(|| name.to_string())
        })
        .collect();
    assert!(names.contains("open64") && names.contains("__open_2"), "nm tells the names of libc");
    names
}

/// The name that a hook and its twins have in common: `open` for `__open64_2`.
fn root(name: &str) -> &str {
    let name = name.strip_prefix("_IO_").or_else(|| name.strip_prefix("__")).unwrap_or(name);
    let name = name.strip_suffix("_chk").or_else(|| name.strip_suffix("_2")).unwrap_or(name);
    name.strip_suffix("64").unwrap_or(name)
}

#[test]
fn every_twin_that_this_libc_has_of_a_hook_is_hooked_too() {
    let (public, hooked) = (public_names(), allowed());
    let mut unhooked = BTreeSet::new();
    for name in hooked.iter().filter(|name| !name.starts_with("tideover_")) {
        let root = root(name);
        let twins = [
            root.to_string(),
            format!("{root}64"),
            format!("__{root}"),
            format!("__{root}64"),
            format!("{root}_2"),
            format!("__{root}_2"),
            format!("__{root}64_2"),
            format!("__{root}_chk"),
            format!("__{root}64_chk"),
            format!("_IO_{root}"),
            format!("_IO_{root}64"),
        ];
        unhooked.extend(twins.into_iter().filter(|twin| public.contains(twin) && !hooked.contains(twin)));
    }
    let excepted: BTreeSet<String> = DELIBERATE.iter().map(|(name, _)| name.to_string()).collect();
    let forgotten: Vec<_> = unhooked.difference(&excepted).collect();
    assert!(forgotten.is_empty(), "this libc also has {forgotten:?}");
    let outdated: Vec<_> = excepted.difference(&unhooked).collect();
    assert!(outdated.is_empty(), "these exceptions are none any more: {outdated:?}");
}

/// The calls that make descriptors, by hand from glibc's manual and symbol table: no hook may get lost.
const MAKERS: &str = "open open64 __open __open64 __open_2 __open64_2 openat openat64 __openat_2 __openat64_2 creat creat64
    open_by_handle_at socket __socket socketpair accept accept4 dup dup2 __dup2 dup3 fcntl fcntl64 __fcntl pipe __pipe pipe2
    epoll_create epoll_create1 eventfd signalfd timerfd_create inotify_init inotify_init1 fanotify_init memfd_create
    pidfd_open pidfd_getfd shm_open mq_open posix_openpt getpt openpty forkpty syscall fopen fopen64 freopen freopen64 tmpfile
    tmpfile64 mkstemp mkstemp64 mkostemp mkostemp64 mkstemps mkstemps64 mkostemps mkostemps64 opendir scandir scandir64
    scandirat scandirat64 ftw ftw64 nftw nftw64 fts_open glob glob64 popen getaddrinfo sem_open catopen posix_spawn
    posix_spawnp _IO_fopen _IO_popen";

/// The calls that give descriptors back, or the process away.
const CLOSERS: &str = "close __close close_range closefrom fclose closedir pclose execve execv execvp execvpe execl execlp
    execle fexecve setrlimit setrlimit64 prlimit prlimit64 _exit _Exit quick_exit epoll_wait epoll_pwait epoll_pwait2 poll
    ppoll select pselect";

#[test]
fn every_call_that_makes_or_closes_descriptors_is_hooked() {
    let (public, hooked) = (public_names(), allowed());
    let wanted = MAKERS.split_whitespace().chain(CLOSERS.split_whitespace());
    let unhooked: Vec<_> = wanted.filter(|name| public.contains(*name) && !hooked.contains(*name)).collect();
    assert!(unhooked.is_empty(), "not hooked: {unhooked:?}");
}
