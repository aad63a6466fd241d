//! Log lines of everyday programs while the log's disk is full: without the library some are lost, with it none.
//!
//! Each program is given 100 lines with space, 100 on the full disk, 100 after it was freed. `--nocapture` shows the losses.
//! tests/tests/disk_programs.rs has languages that not every machine has, and other filesystems.

use tideover_tests::loggers::{EACH, FILE_HANDLER, ONCE, c, python_that, shell};
use tideover_tests::survival::{fails_as_without, survives, survives_in_a_shell, survives_on_stderr};
use tideover_tests::{Kind, Run, needs, program};

#[needs(mounts)]
#[test]
fn bash_appends_line_by_line() {
    survives("bash: echo >> log", Kind::Tmpfs, |log| shell("bash", "bash", EACH, log));
}

#[needs(mounts)]
#[test]
fn bash_with_its_output_in_the_log() {
    survives_in_a_shell("bash: exec >> log", |log| shell("bash", "bash", ONCE, log));
}

#[needs(mounts)]
#[test]
fn dash_appends_line_by_line() {
    survives("dash: echo >> log", Kind::Tmpfs, |log| shell("dash", "dash", EACH, log));
}

#[needs(mounts)]
#[test]
fn dash_with_its_output_in_the_log() {
    survives_in_a_shell("dash: exec >> log", |log| shell("dash", "dash", ONCE, log));
}

#[needs(mounts)]
#[test]
fn python_file_handler() {
    survives("python: FileHandler", Kind::Tmpfs, |log| python_that(FILE_HANDLER, log));
}

#[needs(mounts)]
#[test]
fn python_rotating_file_handler() {
    let put = "import logging, logging.handlers\n\
               handler = logging.handlers.RotatingFileHandler(log, maxBytes=4000, backupCount=20)\n\
               logging.basicConfig(handlers=[handler], level='INFO', format='%(message)s')\nput = logging.info";
    survives("python: RotatingFileHandler", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_opens_the_log_for_each_line() {
    let put = "def put(line):\n    try:\n        with open(log, 'a') as f: f.write(line + '\\n')\n    \
               except OSError as e: print(e, file=sys.stderr)";
    survives("python: open('a')", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_to_its_redirected_output() {
    let put = "def put(line): print(line, flush=True)";
    survives_on_stderr("python: print >> log", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_to_a_result_and_gets_the_true_error() {
    // `> log` rather than `>> log`: whoever writes `command > app.log && rm source` takes the exit status for a receipt.
    let put = "def put(line): print(line, flush=True)";
    fails_as_without("python: print > log", ">", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_unbuffered_to_its_redirected_output() {
    // As in most containers: a write for the text, one for the newline, and what a short write leaves is forgotten.
    let put = "def put(line): print(line, flush=True)";
    survives_on_stderr("python -u: print >> log", Kind::Tmpfs, |log| {
        python_that(put, log).env("PYTHONUNBUFFERED", "1")
    });
}

#[needs(mounts)]
#[test]
fn perl_print() {
    let script = "use IO::Handle; open my $log, '>>', $ARGV[0] or die; $log->autoflush; \
                  while (<STDIN>) { if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { print $log $_ } }";
    survives("perl: print", Kind::Tmpfs, |log| Run::new(program("perl", "perl")).args(["-e", script]).arg(log));
}

#[needs(mounts)]
#[test]
fn c_in_every_way_to_write_a_line() {
    for how in ["line", "full", "none", "write", "writev", "reopen", "dprintf", "wide", "tell"] {
        survives(&format!("C: {how}"), Kind::Tmpfs, |log| c(how, log));
    }
}

#[needs(mounts)]
#[test]
fn c_with_stdout_reopened_onto_the_log() {
    survives("C: freopen(stdout)", Kind::Tmpfs, |log| c("stdout", log));
}

#[needs(mounts)]
#[test]
fn c_that_flushes_late() {
    survives("C: flushed late", Kind::Tmpfs, |log| c("later", log));
}
