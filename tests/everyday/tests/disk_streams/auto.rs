//! Standard output carries messages: lines may go there. Or it is data: then it must be as without the library.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::{fs, thread};

use super::*;
use tideover_tests::programs::{bash, python};
use tideover_tests::{Scratch, needs};

/// Runs it without the library and with it: standard output is the same, and the lines are on standard error.
#[track_caller]
fn stdout_is_data(prepare: impl Fn(&Path) -> Run) {
    let (_disk, log) = full_disk();
    let both = prepare(&log).both();
    assert_eq!(both.plain.stdout, both.preloaded.stdout, "{}", both.preloaded);
    both.preloaded.passes();
    all_in(&sent_to_stderr(&both.preloaded));
    let said = both.preloaded.ours().iter().any(|line| line.contains("its lines go to stderr (standard error)"));
    assert!(said, "it says where they go, and why: {}", both.preloaded);
}

#[needs(mounts)]
#[test]
fn command_substitution_gets_no_log_lines() {
    stdout_is_data(|log| {
        let run = writer(log);
        let shell = bash("value=$(\"$@\"; echo result); printf '%s' \"$value\"").arg("bash").args(run.command());
        shell.stdin(text()).env("TIDEOVER_FALLBACK", "auto")
    });
}

#[needs(mounts)]
#[test]
fn a_pipeline_gets_no_log_lines() {
    stdout_is_data(|log| in_a_shell("{ \"$@\"; echo b; echo a; } | sort", &writer(log)));
}

#[needs(mounts)]
#[test]
fn a_supervisor_with_a_pipe_for_each_stream_gets_them_on_the_one_for_errors() {
    stdout_is_data(writer);
}

#[needs(mounts)]
#[test]
fn a_language_server_speaks_its_protocol_and_nothing_else() {
    // As editors start them: requests on standard input, answers on standard output, a log in a file.
    let server = "import sys, json\nlog = open(sys.argv[1], 'a')\nfor i, line in enumerate(sys.stdin):\n    \
         body = json.dumps({'jsonrpc': '2.0', 'id': i, 'result': len(line)})\n    \
         sys.stdout.write(f'Content-Length: {len(body)}\\r\\n\\r\\n{body}'); sys.stdout.flush()\n    \
         try: log.write(line); log.flush()\n    \
         except OSError: pass";
    stdout_is_data(|log| python(server).arg(log).stdin(text()).env("TIDEOVER_FALLBACK", "auto"));
}

/// The 100 lines of a transport that found no space in its log are on standard error; without the library they are nowhere.
#[track_caller]
fn what_the_transport_logged_is_on_stderr(outcome: &Outcome, preload: bool) {
    let lines: Vec<&str> = outcome.passes().stderr.lines().filter(|line| line.starts_with("debug1: line ")).collect();
    let expected: Vec<String> = (1..=if preload { 100 } else { 0 }).map(|n| format!("debug1: line {n}")).collect();
    assert_eq!(lines, expected, "{outcome}");
    assert_eq!(outcome.stderr.contains("No space left on device"), !preload, "{outcome}");
}

#[needs(mounts)]
#[test]
fn git_over_a_transport_that_logs_clones_as_without() {
    // What went wrong: `ssh -vE log` below git, whose standard output is the pack.
    let folder = Scratch::new();
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_string();
    let setup = "cd \"$1\" && git init -q source && cd source && echo content > file && git add file && \
         git -c user.name=u -c user.email=u@h commit -qm one";
    bash(setup).arg("bash").arg(folder.path()).env("HOME", folder.path()).output().passes();
    let transport = "#!/bin/bash\nfor i in {1..100}; do echo \"debug1: line $i\" >> \"$TRANSPORT_LOG\"; done\n\
         shift; exec sh -c \"$*\"\n";
    fs::write(path("transport"), transport).expect("it can be written");
    fs::set_permissions(path("transport"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let (_disk, log) = full_disk();
    for preload in [false, true] {
        let clone = format!("{}{preload}", path("clone"));
        let run = Run::new(program("git", "git")).args(["clone", "-q", &format!("host:{}", path("source")), &clone]);
        let run =
            run.env("GIT_SSH_COMMAND", path("transport")).env("GIT_SSH_VARIANT", "simple").env("HOME", folder.path());
        let run = run.env("TRANSPORT_LOG", &log).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let outcome = run.env("TIDEOVER_FALLBACK", "auto").preload(preload).output();
        assert_eq!(fs::read_to_string(format!("{clone}/file")).expect("it was cloned"), "content\n");
        what_the_transport_logged_is_on_stderr(&outcome, preload);
    }
}

#[needs(mounts)]
#[test]
fn rsync_over_a_transport_that_logs_copies_as_without() {
    let folder = Scratch::new();
    let transport = folder.write(
        "transport",
        "#!/bin/bash\nfor i in {1..100}; do echo \"debug1: line $i\" >> \"$TRANSPORT_LOG\"; done\nshift; exec \"$@\"\n",
    );
    fs::set_permissions(&transport, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let source = folder.write("source", "content\n");
    let (_disk, log) = full_disk();
    for preload in [false, true] {
        let copy = folder.join(&format!("copy{preload}"));
        let run = Run::new(program("rsync", "rsync")).arg("-e").arg(&transport);
        let run = run.arg(format!("host:{}", source.display())).arg(&copy).env("TRANSPORT_LOG", &log);
        let outcome = run.env("TIDEOVER_FALLBACK", "auto").preload(preload).output();
        assert_eq!(fs::read_to_string(&copy).expect("it was copied"), "content\n");
        what_the_transport_logged_is_on_stderr(&outcome, preload);
    }
}

#[needs(mounts)]
#[test]
fn the_browser_of_a_cgi_script_gets_its_answer_only() {
    stdout_is_data(|log| writer(log).env("GATEWAY_INTERFACE", "CGI/1.1"));
    // Also where the script's errors are a part of the answer: then there is nowhere to go but the hold.
    own_daemons();
    for (hold, lost) in [("off", LINES), ("1M", 0)] {
        let (_disk, log) = full_disk();
        let run = in_a_shell("exec \"$@\" 2>&1", &writer(&log)).env("GATEWAY_INTERFACE", "CGI/1.1");
        let outcome = run.preload(true).env("TIDEOVER_LOG", "off").env("TIDEOVER_HOLD", hold).output();
        none_in(&outcome.stdout);
        assert_eq!(failed(&outcome), lost, "{outcome}");
    }
}

#[needs(mounts)]
#[test]
fn an_inetd_service_writes_nothing_to_its_client() {
    own_daemons();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let sockets: [OwnedFd; 2] = [client.into(), theirs.into()];
    for socket in sockets {
        // Without a hold there is nowhere to go. With one, the client is told of no error.
        for hold in ["off", "1M"] {
            // inetd gives the socket as all three.
            let (_disk, log) = full_disk();
            let socket = socket.try_clone().expect("a descriptor is left");
            let run = in_a_shell("exec \"$@\" 2>&1", &writer(&log)).stdout(socket);
            let outcome = run.preload(true).env("TIDEOVER_LOG", "off").env("TIDEOVER_HOLD", hold).output();
            assert_eq!(outcome.succeeded(), hold != "off", "{outcome}");
        }
    }
    let mut received = [String::new(), String::new()];
    listener.accept().expect("connected").0.read_to_string(&mut received[0]).expect("it ends");
    (&ours).read_to_string(&mut received[1]).expect("it ends");
    for text in received {
        none_in(&text);
        let said: Vec<&str> = text.lines().filter_map(|line| line.split(", longest ").next()).collect();
        assert_eq!(said, ["100 failed", "0 failed"], "the true error for each line, then none: {text}");
    }
}

#[needs(mounts)]
#[test]
fn both_streams_in_one_pipe_carry_messages() {
    // A supervisor's `exec 2>&1`, cron's mail.
    let (_disk, log) = full_disk();
    let outcome = in_a_shell("exec \"$@\" 2>&1", &writer(&log)).preload(true).output();
    outcome.passes().says("its lines go to stdout (also standard error)");
    let lines: String = outcome.stdout.lines().filter(|l| l.starts_with("INFO")).map(|l| format!("{l}\n")).collect();
    all_in(&lines);
}

#[needs(mounts)]
#[test]
fn a_job_of_cron_that_appends_both_streams_to_a_log() {
    let folder = Scratch::new();
    let other = folder.join("cron.log");
    let (_disk, log) = full_disk();
    let script = format!("exec \"$@\" >> '{}' 2>&1", other.display());
    in_a_shell(&script, &writer(&log)).preload(true).output().passes();
    let came = fs::read_to_string(&other).expect("it was made");
    let lines: String = came.lines().filter(|l| l.starts_with("INFO")).map(|l| format!("{l}\n")).collect();
    all_in(&lines);
}

#[needs(mounts)]
#[test]
fn a_log_that_standard_output_appends_to() {
    let folder = Scratch::new();
    let other = folder.join("out.log");
    let (_disk, log) = full_disk();
    let append = OpenOptions::new().append(true).create(true).open(&other).expect("there is space");
    writer(&log).stdout(append).preload(true).output().passes().says("its lines go to stdout (a log)");
    all_in(&fs::read_to_string(&other).expect("it was made"));
    // Not opened to append, it is a result, whatever it is called.
    let result = folder.join("result.log");
    let outcome = writer(&log).stdout(File::create(&result).expect("there is space")).preload(true).output();
    assert_eq!(fs::read_to_string(&result).expect("it was made"), "");
    all_in(&sent_to_stderr(&outcome));
}

#[needs(mounts)]
#[test]
fn a_terminal_gets_them() {
    let (_disk, log) = full_disk();
    let (mut master, slave) = terminal();
    let run = writer(&log).stdout(slave).preload(true);
    let reader = thread::spawn(move || {
        let (mut all, mut part) = (vec![], [0; 4096]);
        // EIO: the last program that had it open has ended.
        while let Ok(count @ 1..) = master.read(&mut part) {
            all.extend_from_slice(&part[..count]);
        }
        String::from_utf8(all).expect("text").replace("\r\n", "\n")
    });
    let outcome = run.output();
    drop(run);
    outcome.passes().says("its lines go to stdout (a terminal)");
    all_in(&reader.join().expect("it reads"));
}

#[needs(mounts)]
#[test]
fn the_journal_of_a_systemd_service_gets_them() {
    // systemd says by JOURNAL_STREAM which socket is the journal; without that, a socket is somebody's protocol.
    for is_journal in [true, false] {
        let (_disk, log) = full_disk();
        let (socket, reader) = collected();
        let status = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("it is open");
        let stream = format!("{}:{}", status.dev(), status.ino());
        let run = writer(&log).stdout(socket).env("JOURNAL_STREAM", if is_journal { &stream } else { "1:1" });
        let run = run.preload(true);
        let outcome = run.output();
        drop(run);
        outcome.passes();
        let came = reader.join().expect("it reads");
        if is_journal {
            outcome.says("its lines go to stdout (the journal)");
            all_in(&came);
        } else {
            assert_eq!(came, "");
            all_in(&sent_to_stderr(&outcome));
        }
    }
}

/// Runs a shell as process 1 of a pid namespace of its own, as in a container; its standard output is a pipe and is not standard error.
fn container(script: &str, run: &Run) -> Outcome {
    let unshare =
        Run::new(program("unshare", "util-linux")).args(["--pid", "--fork", "--mount-proc", "bash", "-c", script]);
    let unshare = unshare.arg("bash").args(run.command()).stdin(text()).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    unshare.env("TIDEOVER_FALLBACK", "auto").preload(true).output()
}

#[needs(mounts)]
#[test]
fn the_log_of_a_container_gets_them() {
    // Of process 1, and of its child; not of one whose output it captures.
    for script in ["exec \"$@\"", "\"$@\"; exit 0"] {
        let (_disk, log) = full_disk();
        let outcome = container(script, &writer(&log));
        outcome.passes().says("its lines go to stdout (the container's log)");
        all_in(&outcome.stdout);
    }
    // A shell that is process 1 itself has the log at the number of its standard output while a command of its own writes.
    let (_disk, log) = full_disk();
    let script = format!("while IFS= read -r line; do echo \"$line\" >> '{}'; done; exit 0", log.display());
    all_in(&container(&script, &writer(&log)).passes().stdout);
    let (_disk, log) = full_disk();
    let outcome = container("value=$(\"$@\"); printf '%s' \"$value\"", &writer(&log));
    assert_eq!(outcome.stdout, "", "{outcome}");
    all_in(&sent_to_stderr(&outcome));
}

#[needs(mounts, root)]
#[test]
fn another_users_process_in_a_container_uses_standard_error() {
    // What process 1 has can't be seen; standard error is the same log for whoever reads it.
    let (disk, log) = full_disk();
    fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
    fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("it is ours");
    let program = writer(&log).command();
    // Program and library may lie in a folder that only root may enter.
    let script = format!(
        "own=/dev/shm/disk_append.$$; cat {} > $own; cat \"$LD_PRELOAD\" > $own.so; chmod 755 $own $own.so; shift; \
         LD_PRELOAD=$own.so setpriv --reuid 65534 --regid 65534 --clear-groups $own \"$@\"; rm $own $own.so",
        program[0].display()
    );
    let outcome = container(&script, &writer(&log));
    outcome.passes();
    all_in(&sent_to_stderr(&outcome));
    none_in(&outcome.stdout);
}
