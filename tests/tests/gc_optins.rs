//! Guile and PHP, whose garbage is collected on request.

use tideover_contract::collection::Runtime;
use tideover_tests::garbage::{LIMIT, TOO_MANY, rescued, source};
use tideover_tests::{Run, program};

fn guile(arguments: &[&str]) -> Run {
    Run::new(program("guile", "guile-3.0"))
        .arg("--no-auto-compile")
        .arg(source("leak.scm"))
        .args(arguments)
        .env("TIDEOVER_GC", "auto,guile")
}

fn php(arguments: &[&str]) -> Run {
    Run::new(program("php", "php-cli")).arg(source("leak.php")).args(arguments).env("TIDEOVER_GC", "php")
}

#[test]
fn guiles_ports_pipes_sockets_and_folders_come_back() {
    for kind in ["port", "pipe", "socket", "directory"] {
        rescued(&guile(&[kind, "200"]), "done", Runtime::Guile);
    }
}

#[test]
fn four_threads_of_guile_open_1200_files_and_none_fails() {
    // Natively this may even abort: "error creating finalization pipe".
    rescued(&guile(&["port", "300", "4"]), "done", Runtime::Guile);
}

#[test]
fn phps_files_and_sockets_come_back() {
    for kind in ["file", "socket", "include"] {
        rescued(&php(&[kind, "200"]), "done", Runtime::Php);
    }
}

#[test]
fn a_php_that_has_switched_its_collector_off_is_left_alone() {
    php(&["file", "200", "nogc"]).limit(LIMIT).preload(true).output().fails().says(TOO_MANY);
}

#[test]
fn neither_is_collected_unasked() {
    for run in [guile(&["port", "200"]), php(&["file", "200"])] {
        run.env("TIDEOVER_GC", "auto")
            .env("TIDEOVER_MAX_RETRIES", "0")
            .limit(LIMIT)
            .preload(true)
            .output()
            .fails()
            .says(TOO_MANY);
    }
}
