//! One library for every libc: musl's programs, and those of an older and a newer glibc, plain and preloaded.
//!
//! The other Debians come from `scripts/dist-roots` (`make dist-test`); where they are not there, a line says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, library, program, tideover, workspace};

/// A fixture, built by musl's compiler.
fn musl(name: &str, into: &Scratch) -> PathBuf {
    let (source, built) = (workspace().join(format!("tests/fixtures/{name}.c")), into.join(name));
    let output = Command::new(program("musl-gcc", "musl-tools"))
        .args(["-std=gnu11", "-O1", "-D_GNU_SOURCE", "-pthread", "-I"])
        .arg(workspace().join("include"))
        .arg("-o")
        .args([&built, &source])
        .output()
        .expect("musl-gcc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built
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

#[test]
fn lines_of_a_musl_program_are_kept_when_it_writes_them_itself_and_not_when_stdio_does() {
    let scratch = Scratch::new();
    let logger = musl("disk_append", &scratch);
    for (how, kept) in [("write", true), ("writev", true), ("line", false)] {
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

/// A Debian of another age, with the library and the fixtures in it.
struct Root(PathBuf);

impl Root {
    /// Those that are here.
    fn all() -> Vec<Root> {
        let roots = std::env::var_os("TIDEOVER_ROOTS").map_or("/var/tmp/tideover-roots".into(), PathBuf::from);
        let found = ["bullseye", "trixie"].into_iter().filter_map(|name| {
            let root = roots.join(name);
            if root.join("usr/bin/gcc").exists() {
                return Some(Root(root));
            }
            println!("{} is not here: scripts/dist-roots makes it", root.display());
            None
        });
        found.collect()
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
        // Since glibc 2.37 dprintf has no FILE: docs/limits.md.
        let script = if root.name() == "bullseye" { script } else { &script.replace("dprintf", "") };
        let outcome = root.run(script);
        let kept = outcome.stdout.matches("all kept").count();
        assert_eq!(kept, if root.name() == "bullseye" { 5 } else { 4 }, "{}: {outcome}", root.name());
    }
}
