//! Where lines go and which files are logs, as the settings say: TIDEOVER_FALLBACK and its kin, TIDEOVER_LOGS.

use super::*;

#[needs(mounts)]
#[test]
fn a_path() {
    let folder = Scratch::new();
    let sink = folder.join("overflow.txt");
    let told = through(|run, _| run.env("TIDEOVER_FALLBACK", &sink));
    let account = told.account(&fs::read_to_string(&sink).expect("it was made"));
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert_eq!(told.outcome.stdout, "");
}

#[needs(mounts)]
#[test]
fn a_path_that_already_has_content() {
    let folder = Scratch::new();
    let sink = folder.write("overflow.txt", "before\n");
    let told = through(|run, _| run.env("TIDEOVER_FALLBACK", &sink));
    let content = fs::read_to_string(&sink).expect("it was made");
    let after = content.strip_prefix("before\n").expect("what was there stays");
    nothing_lost(&told, &told.account(after));
}

/// The lines are on standard output or standard error, and the library has said why.
#[track_caller]
fn elsewhere_with_a_reason(told: &Told, reason: &str) {
    let said = told.outcome.ours().iter().any(|l| l.contains(reason));
    assert!(said, "a line should name {reason:?}: {}", told.outcome);
    let account = told.account(&format!("{}{}", told.outcome.stdout, sent_to_stderr(&told.outcome)));
    nothing_lost(told, &account);
}

#[needs(mounts)]
#[test]
fn a_path_that_cannot_be_opened() {
    let told = through(|run, _| run.env("TIDEOVER_FALLBACK", "/nonexistent/folder/overflow.txt"));
    elsewhere_with_a_reason(&told, "/nonexistent/folder/overflow.txt");
}

#[needs(mounts)]
#[test]
fn a_path_that_is_a_folder() {
    let told = through(|run, _| run.env("TIDEOVER_FALLBACK", "/tmp"));
    elsewhere_with_a_reason(&told, "/tmp");
}

#[needs(mounts)]
#[test]
fn a_path_on_the_same_full_disk() {
    let told = through(|run, disk| run.env("TIDEOVER_FALLBACK", disk.join("overflow.txt")));
    let account = told.account(&format!("{}{}", told.outcome.stdout, sent_to_stderr(&told.outcome)));
    nothing_lost(&told, &account);
}

/// On a disk that stays full: the program without the library and with it.
fn on_a_full_disk(name: &OsStr, prepare: impl Fn(Run) -> Run) -> Both {
    let once = |preload: bool| {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.path().join(name);
        fs::write(&log, "").expect("there is space");
        disk.fill();
        let outcome = prepare(writer(&log).preload(preload).stdin(lines(1..=100))).output();
        (outcome, fs::read_to_string(&log).expect("it is there"))
    };
    let (plain, preloaded) = (once(false), once(true));
    plain.0.fails().says("100 failed").says(""); // nothing fits into a file without a page
    assert_eq!(plain.1, preloaded.1, "the file");
    Both { plain: plain.0, preloaded: preloaded.0 }
}

/// The slowest line's time differs from run to run.
#[track_caller]
fn untouched(both: &Both) {
    let end = |o: &tideover_tests::Outcome| {
        let theirs = o.theirs().concat();
        (o.code(), o.timed_out, o.stdout.clone(), theirs.split(", longest").next().map(str::to_string))
    };
    assert_eq!(end(&both.plain), end(&both.preloaded), "{}\n{}", both.plain, both.preloaded);
}

#[track_caller]
fn diverted(both: &Both) {
    both.preloaded.passes().says("0 failed");
    let account = Account::new("", &both.preloaded.stdout);
    account.complete(1..=100, 0);
}

#[needs(mounts)]
#[test]
fn off_means_the_true_error() {
    untouched(&on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_FALLBACK", "off")));
}

#[needs(mounts)]
#[test]
fn a_cap_of_nothing_means_the_true_error() {
    for cap in ["0", "0/min"] {
        untouched(&on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_FALLBACK_LIMIT", cap)));
    }
}

#[needs(mounts)]
#[test]
fn past_the_cap_the_true_error() {
    let both = on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_FALLBACK_LIMIT", "4K/min"));
    let came = both.preloaded.fails().stdout.lines().count();
    assert!((39..=41).contains(&came), "4 KiB are 40 lines: {}", both.preloaded);
    both.preloaded.says(&format!("{} failed", 100 - came));
    Account::new("", &both.preloaded.stdout).complete(1..=came as u32, 0);
}

#[needs(mounts)]
#[test]
fn a_program_that_appends_until_the_disk_is_full_ends() {
    for how in ["write", "stdio"] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.join("app.log");
        let until = Run::new(fixture("disk_until")).arg(how).arg(&log);
        let plain = until.output();
        fs::remove_file(&log).expect("it was made");
        // A file, not a pipe, whose reader may not keep up.
        let folder = Scratch::new();
        let sink = folder.join("overflow.txt");
        let preloaded =
            until.preload(true).env("TIDEOVER_FALLBACK", &sink).env("TIDEOVER_FALLBACK_LIMIT", "1M/min").output();
        plain.passes().says("then ENOSPC");
        preloaded.passes().says("then ENOSPC");
        let size = fs::metadata(&sink).expect("it was made").len();
        assert!((900_000..=1 << 20).contains(&size), "{size} bytes went there");
    }
}

#[needs(mounts)]
#[test]
fn a_prefix_before_each_line() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = writer(&log).env("TIDEOVER_FALLBACK_PREFIX", "[{name} {pid} {path}] ");
    let fed = Fed::start(&run);
    let pid = tideover_tests::outage::Logger::writer(&fed).pid();
    let told = outage(&disk, &log, 100, fed);
    let prefix = format!("[app.log {pid} {}] ", log.display());
    let mut bare = String::new();
    for (i, line) in told.outcome.stdout.lines().enumerate() {
        // The rest of the line that was cut goes on where its head ends.
        let rest = i == 0 && !line.contains("INFO");
        let text = if rest { Some(line.strip_prefix(&prefix).unwrap_or(line)) } else { line.strip_prefix(&prefix) };
        bare += text.unwrap_or_else(|| panic!("{line:?} does not start with {prefix:?}"));
        bare.push('\n');
    }
    nothing_lost(&told, &told.account(&bare));
}

#[needs(mounts)]
#[test]
fn patterns_say_what_is_a_log() {
    diverted(&on_a_full_disk("events.txt".as_ref(), |run| run.env("TIDEOVER_LOGS", "*/events.txt")));
    diverted(&on_a_full_disk("events.txt".as_ref(), |run| run.env("TIDEOVER_LOGS", "/nothing,*.txt")));
    untouched(&on_a_full_disk("events.txt".as_ref(), |run| run));
    untouched(&on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_LOGS_EXCEPT", "*.log")));
    let both = |run: Run| run.env("TIDEOVER_LOGS", "*.log").env("TIDEOVER_LOGS_EXCEPT", "*/app.*");
    untouched(&on_a_full_disk("app.log".as_ref(), both));
    // No pattern makes a log of a database.
    untouched(&on_a_full_disk("appendonly.aof".as_ref(), |run| run.env("TIDEOVER_LOGS", "*")));
}

#[needs(mounts)]
#[test]
fn a_pattern_that_does_not_parse_gets_a_clear_line() {
    let both = on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_LOGS", "*.txt[a-"));
    assert!(both.preloaded.ours().iter().any(|l| l.contains("TIDEOVER_LOGS")), "{}", both.preloaded);
    diverted(&both);
    // What can't be understood as an exception must not make a log of something that was to be excepted.
    let both = on_a_full_disk("app.log".as_ref(), |run| run.env("TIDEOVER_LOGS_EXCEPT", "*.l[o"));
    assert!(both.preloaded.ours().iter().any(|l| l.contains("TIDEOVER_LOGS_EXCEPT")), "{}", both.preloaded);
}

#[needs(mounts)]
#[test]
fn names_with_newlines_and_bytes_that_are_not_text() {
    for name in [&b"two\nlines.log"[..], b"not\xffutf\xfe8.log", b"esc\x1b[31m.log"] {
        let name = OsString::from_vec(name.to_vec());
        let both = on_a_full_disk(&name, |run| run);
        diverted(&both);
        for line in both.preloaded.stderr.lines() {
            let known = line.starts_with("tideover[") || line.contains(" failed, longest ");
            assert!(known && !line.contains('\x1b'), "a message is one line of text: {}", both.preloaded);
        }
    }
}

#[needs(mounts)]
#[test]
fn without_proc_the_true_error() {
    let both = on_a_full_disk("app.log".as_ref(), |run| {
        let preload = run.preloads().unwrap_or_default();
        // The program alone is preloaded: mount(8) and the shell need a /proc themselves.
        let shell = Run::new(program("unshare", "util-linux"))
            .args(["-m", "sh", "-c", "umount -l /proc && LD_PRELOAD=$0 exec \"$@\""])
            .arg(preload)
            .args(run.command());
        shell.stdin(lines(1..=100))
    });
    untouched(&both);
}
