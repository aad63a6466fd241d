//! A limit of 2^30 descriptors, as some container engines give (moby#38814). Setting one needs a privilege that containers
//! lack, so a kernel of its own is started for it: user-mode Linux, on this system's own files.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tideover_tests::{Scratch, fixture, library, needs, program};

/// The highest that Linux takes: 2^30 less what one word of its bit maps holds.
const VAST: u64 = (1 << 30) - 8;

/// Turns the machine off, which no program of the system does without an init.
const POWER_OFF: &str = "#include <sys/reboot.h>\nint main(void) { return reboot(RB_POWER_OFF); }\n";

struct Machine {
    scratch: Scratch,
}

impl Machine {
    fn new() -> Machine {
        let scratch = Scratch::new();
        let source = scratch.write("off.c", POWER_OFF);
        let built = Command::new("cc").arg(source).arg("-o").arg(scratch.join("off")).status().expect("cc runs");
        assert!(built.success());
        Machine { scratch }
    }

    /// Runs a shell command under these limits in it. Standard output and error.
    fn run(&self, soft: u64, command: &str) -> (String, String) {
        let folder = self.scratch.path().display();
        let init = format!(
            "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\n\
             mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm\n\
             echo {VAST} > /proc/sys/fs/nr_open && ulimit -Hn {VAST} && ulimit -Sn {soft} &&\n\
             {command} >{folder}/out 2>{folder}/err\n\
             echo \"ended: $?\" >>{folder}/err\n\
             exec {folder}/off\n"
        );
        let init = self.scratch.write("init", &init);
        let _ = fs::remove_file(self.scratch.join("out"));
        Command::new("chmod").arg("+x").arg(&init).status().expect("chmod runs");
        // Not under the harness: the machine's memory is a file, and larger than a program of ours may write.
        let machine = Command::new("timeout")
            .args(["--kill-after=5", "240"])
            .arg(program("linux.uml", "user-mode-linux"))
            .args(["rootfstype=hostfs", "rootflags=/", "rw", "mem=128M", "con=null", "quiet"])
            .arg(format!("init={}", init.display()))
            .env("TMPDIR", self.scratch.path())
            .env("HOME", self.scratch.path())
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .output()
            .expect("timeout runs");
        let read = |name| fs::read_to_string(self.scratch.join(name)).unwrap_or_else(|e| panic!("{e}: {machine:?}"));
        (read("out"), read("err"))
    }
}

fn memory(said: &str) -> i64 {
    let line = said.lines().find(|l| l.starts_with("memory ")).unwrap_or_else(|| panic!("{said}"));
    line.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[needs(root, ptrace)]
#[test]
fn a_limit_of_two_to_the_thirty_costs_neither_memory_nor_time() {
    let (machine, host) = (Machine::new(), fixture("vast"));
    let preload = |library: PathBuf| format!("LD_PRELOAD={} {}", library.display(), host.display());
    let (out, err) = machine.run(VAST, &host.display().to_string());
    let (out_with, err_with) = machine.run(VAST, &preload(library()));
    assert!(out.starts_with(&format!("limit {VAST}\nclosed 1 of them\nhigh 1000000, ")), "{out}{err}");
    assert_eq!((&out, err.lines().last()), (&out_with, err_with.lines().last()), "{err}{err_with}");
    assert!(!err_with.contains("tideover["), "there was nothing to say: {err_with}");
    let more = memory(&err_with) - memory(&err);
    assert!(more < 1024, "{more} KiB more");

    // From a low soft limit, the way up is taken in steps, and not to the top.
    let take = |preloads: &str| machine.run(64, &format!("{preloads} {} take", host.display())).0;
    assert_eq!(take(""), "took numbers up to 63, soft limit 64\n");
    assert_eq!(take(&format!("LD_PRELOAD={}", library().display())), "took numbers up to 1000, soft limit 4096\n");
}
