//! One library for every libc: musl's programs, and those of an older and a newer glibc, plain and preloaded.
//!
//! The other Debians come from `scripts/dist-roots` (`make dist-test`); where they are not there, the tests
//! that need them are reported as not run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tideover_tests::rights::roots;
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture_by, library, needs, program, tideover, workspace};

/// A fixture, built by musl's compiler.
fn musl(name: &str, into: &Scratch) -> PathBuf {
    fixture_by(&program("musl-gcc", "musl-tools"), &[], name, into.path())
}

/// What musl calls EMFILE.
const NONE_AVAILABLE: &str = "No file descriptors available";

#[test]
fn a_musl_program_keeps_200_files_open_past_a_soft_limit_of_64() {
    let scratch = Scratch::new();
    let run = Run::new(musl("limit", &scratch)).arg("200").soft(64).hard(4096);
    run.both().rescued(NONE_AVAILABLE).preloaded.says("opened 200 of 200");
}

#[test]
fn threads_of_a_musl_program_share_64_descriptors_that_nobody_can_raise() {
    let scratch = Scratch::new();
    let run =
        Run::new(musl("threads", &scratch)).args(["/etc/passwd", "200"]).limit(64).timeout(Duration::from_secs(60));
    run.both().rescued(NONE_AVAILABLE).preloaded.says("0 refused");
}

#[test]
fn a_musl_program_forks_amid_exhausted_threads() {
    let scratch = Scratch::new();
    let run = Run::new(musl("forks", &scratch)).limit(40).timeout(Duration::from_secs(60));
    let run = run.env("TIDEOVER_MAX_RETRIES", "2").env("TIDEOVER_INITIAL_WAIT", "5ms").env("TIDEOVER_MAX_WAIT", "10ms");
    run.both().same_but_for_messages().preloaded.says("children that ended with 0: 200");
}

#[needs(mounts)]
#[test]
fn lines_of_a_musl_program_are_kept_when_it_writes_them_itself_and_not_when_libc_does() {
    let scratch = Scratch::new();
    let logger = musl("disk_append", &scratch);
    for (how, kept) in [("write", true), ("writev", true), ("line", false), ("dprintf", false)] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.join("app.log");
        fs::write(&log, "first\n").expect("there is space");
        disk.fill();
        // More than the rest of the log's last block.
        let run = Run::new(&logger).arg(how).arg(&log).stdin("a line of text for the log\n".repeat(500));
        let plain = run.output();
        plain.fails();
        fs::write(&log, "first\n").expect("its block is there");
        let preloaded = run.preload(true).output();
        if kept {
            let lines = fs::read_to_string(&log).expect("text") + &preloaded.passes().stdout;
            assert_eq!(lines.matches("a line of text").count(), 500, "{how}: {preloaded}");
        } else {
            assert_eq!(preloaded.fails().theirs()[0].split(',').next(), plain.stderr.split(',').next(), "{how}");
            assert!(preloaded.stdout.is_empty(), "{how}: {preloaded}");
        }
    }
}

#[test]
fn tideover_run_guards_a_musl_program_and_says_what_it_does_not_see() {
    let scratch = Scratch::new();
    let run = Run::new(tideover()).args(["run", "--"]).arg(musl("limit", &scratch)).arg("200").soft(64).hard(4096);
    let outcome = run.env("TIDEOVER_LIB", library()).output();
    outcome.passes().says("opened 200 of 200").says("is a musl program").says("stdio");
}

/// A Debian of another age, with the library and the fixtures in it; scripts/dist-roots makes it.
struct Root(PathBuf);

impl Root {
    /// That of the older glibc, and that of the newer.
    fn all() -> [Root; 2] {
        [Root(roots().join("bullseye")), Root::newer()]
    }

    /// That of the newer glibc.
    fn newer() -> Root {
        Root(roots().join("trixie"))
    }

    /// Runs a script in it, in a folder that holds the fixtures as sources and libtideover.so as $LIB.
    fn run(&self, script: &str) -> Outcome {
        tideover_tests::disk::own_mounts();
        let scratch = Scratch::new();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        fs::copy(library(), scratch.join("libtideover.so")).expect("a copy");
        for entry in fs::read_dir(workspace().join("tests/fixtures")).expect("fixtures").flatten() {
            fs::copy(entry.path(), scratch.join(&entry.file_name().to_string_lossy())).expect("a copy");
        }
        fs::copy(workspace().join("include/tideover.h"), scratch.join("tideover.h")).expect("a copy");
        // Inside, the folder is /mnt.
        let build = "build() { gcc -std=gnu11 -O1 -D_GNU_SOURCE -w $2 -I. -o $1 $1.c; }";
        scratch.write("script", &format!("LIB=/mnt/libtideover.so\nexport TIDEOVER_PAGE_DIR=/dev/shm\n{build}\nldd --version | head -n 1\n{script}\n"));
        let prepare = "set -e; mount -t proc proc $ROOT/proc; mount -t tmpfs tmpfs $ROOT/dev; mkdir $ROOT/dev/shm
            mknod -m 666 $ROOT/dev/null c 1 3; mount --bind . $ROOT/mnt; exec chroot $ROOT sh -c 'cd /mnt; exec bash script'";
        let run = Run::new(program("unshare", "util-linux")).args(["-m", "sh", "-c", prepare]).folder(scratch.path());
        let run = run.env("ROOT", &self.0).soft(64).hard(4096);
        let outcome = run.env("LC_ALL", "C").timeout(Duration::from_secs(120)).output();
        println!("{}: {}", self.name(), outcome.stdout.lines().next().unwrap_or_default());
        outcome
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

#[needs(mounts, older_glibc, newer_glibc)]
#[test]
fn programs_of_an_older_and_a_newer_glibc_are_rescued() {
    // The second one is not linked with libpthread or libdl, which before glibc 2.34 are libraries of their own.
    let script = "
        build limit -pthread; cp limit.c alone.c; build alone; build threads -pthread
        for each in limit alone; do ./$each 200 2>&1 | sed s/^/plain:/; LD_PRELOAD=$LIB LD_BIND_NOW=1 ./$each 200; done
        ulimit -n 64; ./threads /etc/passwd 20 2>&1 | sed s/^/plain:/; LD_PRELOAD=$LIB ./threads /etc/passwd 20";
    for root in Root::all() {
        let outcome = root.run(script);
        outcome.passes().does_not_say("symbol lookup").does_not_say("cannot be preloaded");
        assert_eq!(outcome.stdout.matches("plain:opened 6").count(), 2, "{outcome}");
        assert_eq!(outcome.stdout.matches("\nopened 200 of 200").count(), 2, "{outcome}");
        outcome.says("\n1920 files opened by 32 threads, 0 refused");
    }
}

#[needs(mounts, older_glibc, newer_glibc)]
#[test]
fn ordinary_programs_of_an_older_and_a_newer_glibc_do_not_notice() {
    let script = r#"
        some() {
            python3 -c 'import os; print(sorted(os.listdir("/usr")), os.popen("echo x | wc").read())'
            perl -e 'print sort glob("/etc/*"); open(F, "ls / |"); print <F>'
            ls -lR /etc | wc; tar cf - /etc | tar tf - | wc -l; cat <(seq 9) | while read -r n; do echo -n $n; done
            gcc -O1 -w -D_GNU_SOURCE -I. -c opens.c -o o.o && cksum < o.o
        }
        some > plain 2>&1; (export LD_PRELOAD=$LIB; some) > preloaded 2>&1; diff plain preloaded && wc -l < plain && echo alike"#;
    for root in Root::all() {
        root.run(script).passes().says("alike");
    }
}

#[needs(mounts, older_glibc, newer_glibc)]
#[test]
fn stdio_lines_are_kept_on_an_older_and_a_newer_glibc() {
    let script = "
        build disk_append -pthread; mkdir d; mount -t tmpfs -o size=64k tmpfs d; echo first > d/app.log
        seq 999999 > d/filler 2>/dev/null
        for how in line full reopen wide dprintf; do
            seq -f 'a line of text, written by way of stdio %g' 500 | LD_PRELOAD=$LIB ./disk_append $how d/app.log | cat > kept
            [ $(cat kept d/app.log | sort -u | grep -c 'a line of text') = 500 ] && grep -q text kept && echo all kept; : > d/app.log
        done";
    for root in Root::all() {
        let outcome = root.run(script);
        let kept = outcome.stdout.matches("all kept").count();
        assert_eq!(kept, 5, "{}: {outcome}", root.name());
    }
}

/// Where the lines of fixtures/printed.c have come to.
#[derive(Debug, Default)]
struct Lines {
    lost: Vec<String>,
    doubled: Vec<String>,
    split: usize,
    /// What is no line of the program, nor a note of ours.
    stray: Vec<String>,
}

impl Lines {
    /// A line is in the log, or elsewhere, or begins in the log and ends elsewhere.
    fn new(expected: &str, log: &str, elsewhere: &str) -> Lines {
        let mut log: Vec<&str> = log.lines().filter(|line| !line.starts_with("tideover: disk full")).collect();
        let mut elsewhere: Vec<&str> = elsewhere.lines().collect();
        let mut lines = Lines::default();
        let start = |line: &str| line.chars().take(40).collect::<String>();
        let take = |from: &mut Vec<&str>, line: &str| {
            let before = from.len();
            from.retain(|other| *other != line);
            before - from.len()
        };
        for line in expected.lines() {
            match take(&mut log, line) + take(&mut elsewhere, line) {
                1 => continue,
                0 => {}
                _ => {
                    lines.doubled.push(start(line));
                    continue;
                }
            }
            let cut = (1..line.len()).filter(|&cut| line.is_char_boundary(cut)).find(|&cut| {
                let (head, tail) = line.split_at(cut);
                log.contains(&head) && elsewhere.contains(&tail)
            });
            match cut.map(|cut| line.split_at(cut)) {
                Some((head, tail)) if take(&mut log, head) + take(&mut elsewhere, tail) == 2 => lines.split += 1,
                _ => lines.lost.push(start(line)),
            }
        }
        lines.stray = log.into_iter().chain(elsewhere).map(start).collect();
        lines
    }
}

#[needs(mounts, older_glibc, newer_glibc)]
#[test]
fn dprintf_lines_are_kept_on_an_older_and_a_newer_glibc() {
    let script = "
        mkdir fortified; gcc -O1 -w -shared -fPIC -o libsay.so printed_say.c
        gcc -std=gnu11 -O1 -D_GNU_SOURCE -w -I. -pthread -o printed printed.c ./libsay.so
        gcc -O2 -D_FORTIFY_SOURCE=2 -w -shared -fPIC -o fortified/libsay.so printed_say.c
        gcc -std=gnu11 -O2 -D_FORTIFY_SOURCE=2 -D_GNU_SOURCE -w -I. -pthread -o fortified/printed printed.c fortified/libsay.so
        nm -D printed libsay.so | grep -wo v*dprintf; nm -D fortified/* | grep -wo __v*dprintf_chk
        mkdir d; mount -t tmpfs -o size=4m tmpfs d; # A file: a pipe whose reader is slow has lines dropped.
        export TIDEOVER_RECOVERY_INTERVAL=10ms TIDEOVER_FALLBACK=$PWD/elsewhere
        for which in ./printed fortified/printed; do for lib in '' $LIB; do
            > elsewhere; TIDEOVER_HOLD=off LD_PRELOAD=$lib $which d/app.log expected
            for part in expected d/app.log elsewhere; do echo; echo \"=== $which $lib $part\"; cat $part; done
            rm d/*
        done; done";
    for root in Root::all() {
        let outcome = root.run(script);
        let parts: Vec<&str> = outcome.stdout.split("\n=== ").collect();
        for name in ["\ndprintf\n", "\nvdprintf\n", "\n__dprintf_chk\n", "\n__vdprintf_chk\n"] {
            assert!(format!("{}\n", parts[0]).contains(name), "{name:?} is called: {} {}", parts[0], outcome.stderr);
        }
        let text = |n: usize| parts[n].split_once('\n').expect("a heading").1;
        let accounts: Vec<Lines> = (1..13).step_by(3).map(|n| Lines::new(text(n), text(n + 1), text(n + 2))).collect();
        for (plain, preloaded) in accounts.chunks(2).map(|both| (&both[0], &both[1])) {
            println!("{}: {} lost plain, {} split preloaded", root.name(), plain.lost.len(), preloaded.split);
            assert!(plain.lost.len() > 100 && plain.doubled.is_empty(), "{}: {plain:?}", root.name());
            let Lines { lost, doubled, split, stray } = preloaded;
            assert!(
                lost.is_empty() && doubled.is_empty() && stray.is_empty() && *split <= 2,
                "{}: {preloaded:?}",
                root.name()
            );
        }
        // stdio can't know what errno was before the write that failed.
        let told = if root.name() == "bullseye" { "\n0 failed, " } else { "\n0 failed, 0 touched errno" };
        assert_eq!(outcome.stderr.matches(told).count(), 2, "{}: {}", root.name(), outcome.stderr);
    }
}

#[needs(mounts, newer_glibc)]
#[test]
fn stdio_and_dprintf_do_on_a_newer_glibc_what_they_do_without_the_library() {
    let script = "
        build disk_battery -pthread; mkdir d
        once() { LD_PRELOAD=$3 ./disk_battery $1 \"$2\" 2>&1 > /dev/null | cat; }
        on_disk() {
            mount -t tmpfs -o size=16m tmpfs d; [ $1 = space ] || seq 99999999 > d/filler 2> /dev/null
            once d $2 $3; umount d
        }
        compare() {
            \"$@\" > plain; \"$@\" $LIB | grep -av 'tideover.*]:' > preloaded
            diff -a plain preloaded && [ $(wc -l < plain) -gt 500 ] && echo alike: \"$@\"
        }
        compare on_disk space .log; compare on_disk full .db; mknod /dev/full c 1 7; compare once /dev/full ''";
    let root = Root::newer();
    let outcome = root.run(script);
    assert_eq!(outcome.stdout.matches("alike: ").count(), 3, "{}: {outcome}", root.name());
}

#[needs(mounts, newer_glibc)]
#[test]
fn threads_of_a_newer_glibc_are_cancelled_in_dprintf() {
    let script = "
        build cancel -pthread
        for each in dprintf dprintf-file; do for how in pending blocked; do for lib in '' $LIB; do
            echo $each $how $(LD_PRELOAD=$lib ./cancel $each $how)
        done; done; done > results; cat results; [ $(uniq -c results | grep -c '^ *2 ') = 4 ] && echo alike";
    let root = Root::newer();
    root.run(script).says("alike").says("cancelled");
}

#[needs(mounts, newer_glibc)]
#[test]
fn another_preload_of_a_newer_glibc_tells_by_dprintf_what_it_writes() {
    // With the next write(2) in place of libc's own, that would never end.
    let script = r#"
        cat > told.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
ssize_t write(int fd, const void *data, size_t size)
{
    dprintf(2, "told: %zu bytes\n", size);
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, data, size);
}
END
        gcc -O1 -w -D_GNU_SOURCE -shared -fPIC -o told.so told.c
        for preload in $PWD/told.so "$PWD/told.so $LIB" "$LIB $PWD/told.so"; do
            LD_PRELOAD=$preload perl -e 'syswrite(STDOUT, "a line\n") for 1..3' 2>&1
        done"#;
    let root = Root::newer();
    let outcome = root.run(script);
    outcome.passes();
    for said in ["told: 7 bytes\n", "a line\n"] {
        assert_eq!(outcome.stdout.matches(said).count(), 9, "{outcome}");
    }
}
