//! Surroundings that lack what the library would like to have, or hold what it must not touch: the program runs all the same,
//! and at most one line says what is off.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tideover_tests::disk::own_mounts;
use tideover_tests::programs::{TOO_MANY, python};
use tideover_tests::{Outcome, Page, Run, Scratch, fixture, library, needs, preload_fixture, program};

/// A program that is rescued, and stays so that its page can be looked for.
fn greedy() -> Run {
    Run::new(fixture("limit")).args(["200", "--stay"]).soft(64).hard(4096)
}

/// Runs the greedy program plain and preloaded with its pages in `dir`: it must be rescued, with at most one line about the page,
/// and have none there.
#[track_caller]
fn assert_rescued_without_a_page(dir: &Path) {
    let run = greedy().page_dir(dir);
    run.output().fails().says(TOO_MANY);
    let mut running = run.preload(true).start();
    running.wait_for("limit was");
    let page = Page::read(dir, running.pid());
    let outcome = running.finish();
    outcome.passes().says("opened 200");
    assert!(page.is_none(), "there is no page: {outcome}");
    assert!(outcome.ours().len() <= 1, "one line at most: {outcome}");
}

/// The name of the folder for this user's pages.
fn folder_of_ours() -> String {
    // SAFETY: geteuid(2) always succeeds.
    format!("tideover.{}", unsafe { libc::geteuid() })
}

/// A small filesystem, mounted in a namespace of this test's thread: nobody else sees it, and it ends with the thread.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, options: &str) -> Mounted {
        fs::create_dir_all(&at).expect("a folder to mount on");
        own_mounts();
        let mount =
            Command::new(program("mount", "mount")).args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).status();
        assert!(mount.is_ok_and(|s| s.success()), "mounting a tmpfs takes root, as these tests do");
        Mounted(at)
    }

    fn remount(&self, options: &str) {
        let mount =
            Command::new(program("mount", "mount")).args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(mount.is_ok_and(|s| s.success()), "remounting a tmpfs");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[needs(mounts)]
#[test]
fn a_full_dev_shm_raises_no_sigbus() {
    let scratch = Scratch::new();
    let mounted = Mounted::tmpfs(scratch.join("shm"), "size=64k");
    let filler = fs::write(mounted.0.join("filler"), vec![1; 1 << 20]);
    assert!(filler.is_err(), "it is full");
    assert_rescued_without_a_page(&mounted.0);
    // No file is left that a reader would take for a page.
    let left = fs::read_dir(mounted.0.join(folder_of_ours())).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[needs(mounts)]
#[test]
fn a_dev_shm_without_inodes() {
    let scratch = Scratch::new();
    let mounted = Mounted::tmpfs(scratch.join("shm"), "size=1m,nr_inodes=2");
    fs::write(mounted.0.join("last"), "").expect("the last inode");
    assert_rescued_without_a_page(&mounted.0);
}

#[needs(mounts)]
#[test]
fn a_read_only_dev_shm() {
    let scratch = Scratch::new();
    let mounted = Mounted::tmpfs(scratch.join("shm"), "size=1m");
    mounted.remount("ro");
    assert_rescued_without_a_page(&mounted.0);
}

#[test]
fn no_dev_shm_at_all() {
    let scratch = Scratch::new();
    assert_rescued_without_a_page(&scratch.join("missing"));
}

#[needs(root)]
#[test]
fn another_users_folder_in_the_place_of_ours() {
    let scratch = Scratch::new();
    let theirs = scratch.join(&folder_of_ours());
    fs::create_dir(&theirs).expect("a folder");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).expect("their mode");
    chown(&theirs, Some(65534), Some(65534)).expect("root gives it away");
    assert_rescued_without_a_page(scratch.path());
    assert_eq!(fs::read_dir(&theirs).expect("it is readable").count(), 0);
}

#[test]
fn a_symlink_in_the_place_of_our_folder() {
    let scratch = Scratch::new();
    let elsewhere = scratch.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    symlink(&elsewhere, scratch.join(&folder_of_ours())).expect("a symlink");
    assert_rescued_without_a_page(scratch.path());
    assert_eq!(fs::read_dir(&elsewhere).expect("it is readable").count(), 0, "the link was not followed");
}

#[test]
fn a_file_in_the_place_of_our_folder() {
    let scratch = Scratch::new();
    scratch.write(&folder_of_ours(), "not a folder");
    assert_rescued_without_a_page(scratch.path());
    assert_eq!(fs::read_to_string(scratch.join(&folder_of_ours())).expect("untouched"), "not a folder");
}

#[needs(root)]
#[test]
fn a_chroot_without_proc_and_dev() {
    let scratch = Scratch::new();
    let jail = scratch.path();
    let copy = |from: &Path, to: &str| {
        let to = jail.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("the jail's folders");
        fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    };
    copy(&fixture("limit"), "limit");
    copy(&library(), "libtideover.so");
    let ldd = Command::new(program("ldd", "libc-bin")).arg(fixture("limit")).output().expect("ldd runs");
    for word in String::from_utf8_lossy(&ldd.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
        copy(Path::new(word), word);
    }
    // The program opens /dev/null.
    fs::create_dir_all(jail.join("dev")).expect("the jail's dev");
    fs::write(jail.join("dev/null"), "").expect("a stand-in");
    let jailed = |preload: &str| {
        let run = Run::new(fixture("jail")).arg(jail).args([preload, "/limit", "200"]).soft(64).hard(4096);
        run.page_dir("/dev/shm").output()
    };
    jailed("").fails().says(TOO_MANY);
    let outcome = jailed("/libtideover.so");
    outcome.passes().says("opened 200 of 200");
    assert!(outcome.ours().len() <= 1, "one line at most: {outcome}");
}

#[test]
fn a_sandbox_that_kills_for_any_system_call_beyond_the_programs_own() {
    for way in ["prctl", "seccomp"] {
        for crowd in [None, Some("crowd")] {
            let run = Run::new(fixture("sandbox")).args(["kill", way]).args(crowd).limit(40);
            run.both().same().preloaded.passes().says("open: EMFILE").says("after a close: ok");
        }
    }
}

#[test]
fn a_sandbox_that_refuses_any_system_call_beyond_the_programs_own() {
    for way in ["prctl", "seccomp"] {
        for crowd in [None, Some("crowd")] {
            let run = Run::new(fixture("sandbox")).args(["errno", way]).args(crowd).limit(40);
            run.both().same().preloaded.passes().says("open: EMFILE").says("after a close: ok");
        }
    }
}

/// Found by reading: each of these made the library ask something, and the kernel killed the program.
#[test]
fn a_server_in_a_sandbox() {
    for what in ["close-listener", "close-epoll", "fsync", "epoll", "listen", "accept", "exhausted", "fork", "thread"] {
        let both = Run::new(fixture("sandbox_server")).arg(what).limit(64).both();
        for outcome in [&both.plain, &both.preloaded] {
            outcome.passes().says("as it should be");
        }
    }
}

#[test]
fn what_programs_may_do_and_rarely_do() {
    for (what, said) in [
        ("wide", "select: 1"),
        ("listener", "open: EMFILE"),
        ("unfit", "ppoll: EINVAL\nppoll: EINVAL\nppoll: EINVAL"),
        ("vfork", "40"),
    ] {
        let both = Run::new(fixture("edges")).arg(what).soft(64).hard(if what == "vfork" { 4096 } else { 64 }).both();
        for outcome in [&both.plain, &both.preloaded] {
            outcome.passes();
            assert_eq!(outcome.stdout.trim(), said, "{what}: {outcome}");
        }
    }
    let probe = Run::new(fixture("edges")).arg("probe").soft(64).hard(4096).both();
    probe.plain.passes().does_not_say("opened 100");
    probe.preloaded.passes().says("seccomp: 0").says("opened 100");
}

/// Found by reading: to make a page of 4 KiB raised SIGXFSZ.
#[test]
fn a_program_that_may_write_no_files() {
    let script = "trap 'echo trapped' XFSZ; ulimit -f 0; exec python3 -c 'import os; print(sum(os.open(\"/dev/null\", 0) > 0 for _ in range(20)))'";
    let both = Run::new("sh").args(["-c", script]).both();
    assert_eq!(both.plain.passes().stdout, "20\n");
    assert_eq!(both.preloaded.passes().stdout, "20\n");
}

/// Found by reading: the thread looked for real functions with dlsym(3), and for the unwinder with dlopen(3), which wait for the loader's
/// lock.
#[test]
fn a_library_whose_constructor_waits_for_a_thread() {
    let both = Run::new(fixture("loads")).arg(preload_fixture("joining")).both();
    both.same().preloaded.passes().says("loaded");
}

#[test]
fn a_program_that_sets_its_own_limit_is_held_to_it() {
    for way in ["setrlimit", "prlimit", "syscall"] {
        let run = Run::new(fixture("own_limit")).args([way, "40"]).soft(64).hard(4096);
        run.both().same_but_for_messages().preloaded.says("opened 37 with a limit of 40");
    }
}

#[test]
fn settings_that_make_no_sense_are_named_once_and_the_program_runs() {
    let bad = [
        ("TIDEOVER_MAX_RETRIES", "banana", "0 to 1000"),
        ("TIDEOVER_INITIAL_WAIT", "5", "1ms to 1h"),
        ("TIDEOVER_JITTER", "7", "0.0 to 1.0"),
        ("TIDEOVER_RAISE", "perhaps", "off, auto, force"),
        ("TIDEOVER_PAGE_DIR", "relative", "absolute path"),
        ("TIDEOVER_FD_WARN", "\u{e9}", "0.0 to 1.0"),
    ];
    for (name, value, range) in bad {
        let outcome = greedy().env(name, value).preload(true).output();
        outcome.passes().says("opened 200");
        let about: Vec<&str> = outcome.ours().into_iter().filter(|l| l.contains(name)).collect();
        assert_eq!(about.len(), 1, "{name}: one line: {outcome}");
        assert!(about[0].contains(value) && about[0].contains(range), "{name}: {about:?}");
    }
    // All at once: a line each, and no more.
    let all = bad.iter().fold(greedy(), |run, (name, value, _)| run.env(name, value)).preload(true).output();
    assert_eq!(all.passes().ours().len(), bad.len(), "{all}");
}

#[test]
fn settings_are_kept_when_they_make_sense() {
    let none: [(&str, &str); 4] = [
        ("TIDEOVER_MAX_RETRIES", "0"),
        ("TIDEOVER_INITIAL_WAIT", "1.5s"),
        ("TIDEOVER_LOG", "error"),
        ("TIDEOVER_PAGE", "off"),
    ];
    let outcome = none.iter().fold(greedy(), |run, (name, value)| run.env(name, value)).preload(true).output();
    assert!(outcome.passes().ours().is_empty(), "{outcome}");
}

#[test]
fn it_does_nothing_where_it_is_switched_off() {
    let off = |name: &str, value: &str| {
        let dir = Scratch::new();
        let mut running = greedy().env(name, value).page_dir(dir.path()).preload(true).start();
        running.wait_for("limit was");
        let page = Page::read(dir.path(), running.pid());
        let outcome = running.finish();
        assert!(page.is_none(), "{name}={value}: no page");
        assert!(outcome.ours().is_empty(), "{name}={value}: no word: {outcome}");
        outcome
    };
    let plain = greedy().output();
    for (name, value) in
        [("TIDEOVER_DISABLE", "1"), ("TIDEOVER_ONLY", "nginx,redis*"), ("TIDEOVER_EXCEPT", "other,lim*")]
    {
        let outcome = off(name, value);
        assert_eq!(outcome.stdout, plain.stdout, "{name}={value}");
        assert_eq!(outcome.status, plain.status, "{name}={value}");
    }
    for (name, value) in [("TIDEOVER_DISABLE", "0"), ("TIDEOVER_ONLY", "nginx,limit"), ("TIDEOVER_EXCEPT", "nginx")] {
        greedy().env(name, value).preload(true).output().passes().says("opened 200");
    }
}

#[test]
fn without_a_page_the_program_is_rescued_all_the_same() {
    let dir = Scratch::new();
    let outcome = greedy().env("TIDEOVER_PAGE", "off").page_dir(dir.path()).preload(true).output();
    outcome.passes().says("opened 200");
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
}

#[test]
fn files_that_got_the_numbers_of_standard_streams_hold_nothing_but_the_programs_own() {
    let scratch = Scratch::new();
    for closed in [&[2][..], &[1, 2], &[0, 1, 2], &[0]] {
        let content = |preload: bool| {
            let path = scratch.join(&format!("{closed:?}.{preload}"));
            let run = closed.iter().fold(Run::new(fixture("bare")).arg(&path).limit(40), |run, &fd| run.closed(fd));
            let outcome = run.preload(preload).output();
            outcome.passes();
            fs::read_to_string(path).expect("the program has written")
        };
        assert_eq!(content(false), "before\nafter\n");
        assert_eq!(content(true), "before\nafter\n", "closed: {closed:?}");
    }
}

#[test]
fn five_seconds_of_failing_opens_are_under_ten_lines() {
    let storm = |args: &[&str]| -> Outcome {
        let run = Run::new(fixture("storm")).args(args).limit(40).timeout(Duration::from_secs(60));
        run.output().passes().says("often refused");
        run.preload(true).output()
    };
    // A program of one thread, and one whose threads wait in vain: the breaker keeps them from a standstill.
    for args in [&["5"][..], &["2", "threads"]] {
        let outcome = if args.len() == 1 {
            storm(args)
        } else {
            let run = Run::new(fixture("storm")).args(args).limit(40).timeout(Duration::from_secs(60));
            run.env("TIDEOVER_MAX_RETRIES", "1").env("TIDEOVER_INITIAL_WAIT", "10ms").preload(true).output()
        };
        outcome.passes().says("often refused");
        let lines = outcome.stderr.lines().count();
        assert!((1..10).contains(&lines), "{args:?}: {lines} lines: {outcome}");
    }
}

#[test]
fn a_message_that_nobody_reads_kills_and_blocks_nobody() {
    for how in ["gone", "full"] {
        let run = Run::new(fixture("deaf")).arg(how).limit(40);
        run.both().same().preloaded.passes().says("alive");
    }
}

#[test]
fn messages_go_to_a_file_when_told_so() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    // Something to say while there are descriptors left to say it with: at the limit a file can't be opened.
    let run = Run::new(fixture("limit")).arg("10").env("TIDEOVER_LOG_FILE", &log).env("TIDEOVER_JITTER", "7");
    let both = run.both();
    both.same();
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(said.starts_with("tideover[") && said.contains("TIDEOVER_JITTER"), "the file has it: {said:?}");
}

#[test]
fn the_last_message_names_the_call_the_limits_and_a_remedy() {
    let outcome = Run::new(fixture("limit")).arg("200").limit(64).preload(true).output();
    outcome.fails();
    let line = outcome.ours().into_iter().find(|l| l.contains("EMFILE")).unwrap_or_else(|| panic!("{outcome}"));
    for part in ["open", "64", "ulimit", "LimitNOFILE=", "docker"] {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

/// Forks at its limit with something to say, and ends when a line comes. The child closes what its parent has opened, so that it could write.
const FORKS: &str = "import os, sys\nfull = []\n\
    try:\n    while True: full.append(os.open('/dev/null', 0))\nexcept OSError: pass\n\
    child = os.fork()\n\
    if not child:\n    \
        for fd in full: os.close(fd)\n    \
        if sys.argv[1] == 'executes': os.execv('/bin/true', ['true'])\n    \
        sys.exit()\n\
    os.waitpid(child, 0)\n\
    print('waited for it', flush=True)\ninput()\n\
    for fd in full: os.close(fd)\n";

/// Messages wait in memory for a descriptor to write them by; the child of a fork has a copy of that memory.
#[test]
fn what_a_parent_has_still_to_say_is_not_said_by_its_child() {
    for how in ["ends", "executes"] {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let run = python(FORKS).arg(how).limit(40).preload(true).env("TIDEOVER_LOG_FILE", &log);
        let mut parent = run.env("TIDEOVER_MAX_RETRIES", "0").start();
        parent.wait_for("waited for");
        let of = |pid: u32| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.lines()
                .filter(|line| line.starts_with(&format!("tideover[{pid}]: open")) && line.contains("(EMFILE)"))
                .count()
        };
        assert_eq!(of(parent.pid()), 0, "{how}: it is the parent's to say");
        parent.say("");
        let pid = parent.pid();
        let outcome = parent.finish();
        outcome.passes();
        assert_eq!(of(pid), 1, "{how}: now it is said: {outcome}");
    }
}
