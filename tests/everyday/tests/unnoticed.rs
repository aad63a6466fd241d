//! Programs that lack nothing: they must not be able to tell whether the library is there.

use std::fs;
use std::time::Duration;

use tideover_tests::programs::{bash, python};
use tideover_tests::running::tell;
use tideover_tests::{Page, Run, Scratch, fixture, fixture_source, program, tideover};

fn sh(script: &str) -> Run {
    bash(script)
}

#[test]
fn ls_lists_a_tree() {
    Run::new(program("ls", "coreutils")).args(["-lR", "/etc"]).timeout(Duration::from_secs(60)).both().same();
}

#[test]
fn pipelines_and_redirections_of_a_shell() {
    let script = r#"
find /usr/share -maxdepth 2 | sort | uniq -c | awk '{ n += $1 } END { print n }'
echo one >&2; { echo two; echo three >&2; } 2>&1 | cat -n
exec 5<>/tmp/../etc/passwd; read -r line <&5; echo "$line"; exec 5>&-
(exit 3); echo $?; cat < /no/such/file; echo $?
cat <(echo process) <(echo substitution)
ulimit -Sn; ulimit -Hn
"#;
    sh(script).soft(512).hard(2048).both().same();
}

#[test]
fn a_program_that_lists_its_own_descriptors_does_not_see_us() {
    let script = r#"
import os, subprocess, sys
print(sorted(os.listdir('/proc/self/fd')))
print(subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout)
print(os.open('/dev/null', os.O_RDONLY), os.dup(0), os.pipe())
print(len([l for l in open('/proc/self/limits') if 'open files' in l]))
import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))
import threading; print(threading.active_count(), len(os.listdir('/proc/self/task')))
"#;
    python(script).soft(512).hard(2048).both().same();
}

#[test]
fn python_runs_its_io_to_the_letter() {
    let script = r#"
import errno, os, socket, subprocess, tempfile, select, mmap, glob, shutil, asyncio
def error(f, *a):
    try: return f(*a)
    except OSError as e: return errno.errorcode.get(e.errno, e.errno)
print(error(os.open, '/no/such', os.O_RDONLY), error(os.open, '/etc', os.O_WRONLY), error(os.close, 999), error(os.dup, 999))
print(error(os.dup2, 0, 100000000), error(os.open, '/etc/passwd', os.O_RDONLY | os.O_DIRECTORY), error(socket.socket, 77))
print(error(os.pipe2, 0x40000000), error(os.memfd_create, 'x' * 300), error(os.eventfd, 0, 0x40000000))
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, 'f')
    fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640); print(oct(os.fstat(fd).st_mode))
    print(error(os.open, p, os.O_CREAT | os.O_EXCL))
    os.write(fd, b'abc'); os.lseek(fd, 0, 0); print(os.read(fd, 9)); print(os.get_inheritable(fd)); os.close(fd)
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o600); print(oct(os.fstat(fd).st_mode)); os.close(fd)
    print(sorted(os.path.basename(x) for x in glob.glob(d + '/*')))
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.setblocking(False); print(error(s.accept))
c = socket.create_connection(s.getsockname()); s.setblocking(True); a, _ = s.accept(); a.send(b'hello'); print(c.recv(9))
async def main():
    p = await asyncio.create_subprocess_exec('echo', 'async', stdout=subprocess.PIPE); print(await p.communicate())
asyncio.run(main())
print(subprocess.run(['sh', '-c', 'cat; ulimit -Sn; exit 4'], input=b'in', capture_output=True))
print(os.WEXITSTATUS(os.system('exit 5')), os.popen('echo popen').read())
"#;
    let both = python(script).soft(512).hard(2048).both();
    both.same().preloaded.passes();
}

#[test]
fn git_tells_the_status_and_log_of_this_repository_or_of_a_fresh_one() {
    let scratch = Scratch::new();
    let script = "git init -q . && git config user.email a@b && git config user.name a && echo 1 > f && git add f &&
        GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_DATE='@1 +0000' git commit -q -m one && echo 2 > f && git status --short &&
        git diff && git log --stat && git gc -q && git fsck && git grep 2; cd .. && rm -rf \"$OLDPWD\"/.git \"$OLDPWD\"/f";
    let run = sh(script).folder(scratch.path()).env("HOME", scratch.path());
    run.both().same().preloaded.passes();
}

#[test]
fn tar_packs_and_unpacks_a_tree() {
    let scratch = Scratch::new();
    scratch.files("tree/file", 50);
    let script = "tar cf packed.tar --sort=name --mtime=@0 tree && mkdir -p out && tar xvf packed.tar -C out &&
        diff -r tree out/tree && sha256sum packed.tar; rm -rf out packed.tar";
    sh(script).folder(scratch.path()).both().same().preloaded.passes();
}

#[test]
fn a_compiler_compiles_the_same_bytes() {
    let scratch = Scratch::new();
    for name in ["calls.c", "calls_bodies.h", "common.h"] {
        fs::copy(fixture_source(name), scratch.join(name)).expect("a source");
    }
    let script = "cc -O1 -w -D_GNU_SOURCE -frandom-seed=1 -c calls.c -o calls.o && sha256sum calls.o";
    sh(script).folder(scratch.path()).timeout(Duration::from_secs(60)).both().same().preloaded.passes();
}

#[test]
fn sqlite_writes_and_reads_a_database() {
    let scratch = Scratch::new();
    let script = "sqlite3 d.db \"pragma journal_mode=wal; create table t(x); insert into t select value from
        generate_series(1, 1000); select count(*), sum(x) from t; vacuum; pragma integrity_check;\" && rm -f d.db*";
    sh(script).folder(scratch.path()).both().same().preloaded.passes();
}

/// KiB of the library's memory that a child of a fork gets copies of when it calls what its parent has not called.
fn copied(before: &str) -> u32 {
    let script = format!(
        "import os, socket\nfor _ in range(48): os.close(os.dup(0))\ns = socket.socket()\n{before}\n\
         def copied():\n    ours, kib = False, 0\n    \
         for line in open('/proc/self/smaps'):\n        words = line.split()\n        \
         if not words[0].endswith(':'): ours = 'libtideover' in line\n        \
         elif ours and words[0] == 'Private_Dirty:': kib += int(words[1])\n    return kib\n\
         copied()\nif not os.fork():\n    at_first = copied()\n    \
         os.memfd_create('x'); os.eventfd(0); os.pipe(); os.dup(0)\n    \
         print(copied() - at_first, flush=True)\n    os._exit(0)\nos.wait()"
    );
    let outcome = python(&script).preload(true).output();
    outcome.passes().stdout.trim().parse().expect("a number")
}

#[test]
fn the_child_of_a_server_looks_for_nothing() {
    // One for each client: what each would look for and note is known when the program begins to listen. The parent may write to a
    // page at that moment, which is counted for the child then.
    let ever = |before: &str, fits: fn(u32) -> bool| (0..5).any(|_| fits(copied(before)));
    assert!(ever("s.listen()", |kib| kib == 0));
    assert!(ever("", |kib| kib > 0), "the control: the child of who does not listen looks when it calls");
}

#[test]
fn threads_with_room_for_all_their_files() {
    Run::new(fixture("threads")).args(["/etc/passwd", "5"]).limit(512).both().same().preloaded.passes();
}

#[test]
fn a_program_with_nothing_to_count_has_no_page_and_is_listed_all_the_same() {
    let dir = Scratch::new();
    let running = Run::new("sleep").arg("60").page_dir(dir.path()).preload(true).start();
    let pid = running.pid().to_string();
    let ask = |what: &[&str]| Run::new(tideover()).args(what).page_dir(dir.path()).output();
    // Until the loader has mapped the library, it is guarded by nothing.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !ask(&["ps"]).passes().stdout.contains(&pid) {
        assert!(std::time::Instant::now() < end, "{}", ask(&["ps"]));
    }
    ask(&["stat", &pid]).passes().says("sleep");
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "nothing is made for it");
    let elsewhere = Scratch::new();
    let others = Run::new(tideover()).arg("ps").page_dir(elsewhere.path()).output();
    assert!(!others.passes().stdout.contains(&pid), "its page would be elsewhere: {others}");
}

/// Starts a program that opens files as it is told; has it a page after each of these numbers of files?
fn pages_after(files: &[&str], pause: Duration) -> Vec<bool> {
    let dir = Scratch::new();
    let mut running = Run::new(fixture("young")).page_dir(dir.path()).preload(true).start();
    let has_page = |count: &&str| {
        tell(&mut running, count);
        let page = Page::read(dir.path(), running.pid());
        std::thread::sleep(pause);
        page.is_some()
    };
    let found = files.iter().map(has_page).collect();
    running.finish().passes();
    found
}

#[test]
fn a_program_that_has_just_started_has_no_page_yet() {
    // As an interpreter does at its start. Where the machine stops for longer than the program is young, once is enough.
    let quickly = |files: &[&str], expected: &[bool]| (0..20).any(|_| pages_after(files, Duration::ZERO) == expected);
    assert!(quickly(&["25", "40"], &[false, true]), "it has one with its first files, or none with many");
    assert_eq!(pages_after(&["60"], Duration::ZERO), [true], "it has many files");
    // The first files make it young; when it makes the next ones, it is not any more.
    let lasting = pages_after(&["8", "1"], Duration::from_millis(100));
    assert_eq!(lasting.last(), Some(&true), "it has lasted");
}
