//! Java programs that drop files and sockets without closing them: plain they die at their limit, preloaded they go on.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tideover_contract::collection::{Runtime, Skip};
use tideover_tests::garbage::{LIMIT, Told, rescued, source, times};
use tideover_tests::programs::{TOO_MANY, compile_java};
use tideover_tests::{Run, Scratch, program, workspace};

/// Where the classes of tests/gc are, compiled once.
fn classes() -> PathBuf {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    let compile = || {
        let into = workspace().join("target/fixtures/classes");
        compile_java(&[source("Leak.java"), source("Limit.java")], "", &into);
        into
    };
    COMPILED.get_or_init(compile).clone()
}

/// A heap so large that the JVM does not collect by itself.
fn java(arguments: &[&str]) -> Run {
    Run::new(program("java", "openjdk-17-jre-headless"))
        .args(["-Xmx200m", "-Xms128m", "-cp"])
        .arg(classes())
        .args(arguments)
        .timeout(Duration::from_secs(90))
}

#[test]
fn files_channels_and_sockets_come_back() {
    let kinds = "FileInputStream RandomAccessFile FileReader FileChannel newInputStream lines Socket DatagramSocket";
    for kind in kinds.split(' ') {
        rescued(&java(&["Leak", kind, "200"]), "opened 200", Runtime::Jvm);
    }
}

#[test]
fn every_collector_of_openjdk_17_brings_them_back() {
    for collector in ["Serial", "Parallel", "Z", "Shenandoah"] {
        let flag = format!("-XX:+Use{collector}GC");
        for kind in ["FileInputStream", "Socket"] {
            rescued(&java(&[&flag, "Leak", kind, "200"]), "opened 200", Runtime::Jvm);
        }
    }
}

#[test]
fn eight_threads_open_2400_files_or_sockets_and_none_fails() {
    for kind in ["FileInputStream", "Socket"] {
        rescued(&java(&["Leak", kind, "300", "8"]), "opened 2400", Runtime::Jvm);
    }
}

#[test]
fn class_loading_processes_and_shutdown_go_on_at_the_limit() {
    let scratch = Scratch::new();
    std::fs::copy(classes().join("Leak.class"), scratch.join("Leak.class")).expect("it was compiled");
    let folder = scratch.path().to_string_lossy().into_owned();
    for case in ["classes", "process", "monitor"] {
        let run = java(&["Limit", case, "10", &folder]).limit(LIMIT);
        run.both().rescued(TOO_MANY).preloaded.says("done");
    }
    let both = java(&["Limit", "shutdown", "1", &folder]).limit(LIMIT).both();
    both.plain.says(TOO_MANY);
    both.preloaded.passes().says("hook done");
}

#[test]
fn files_that_the_vm_itself_opens_do_not_make_it_collect() {
    let count = times(20);
    let scratch = Scratch::new();
    let folder = scratch.path().to_string_lossy().into_owned();
    let run = java(&["Limit", "dump", &count.to_string(), &folder]).limit(LIMIT).env("TIDEOVER_MAX_RETRIES", "0");
    let answer = format!("dumps that failed: {count}");
    run.output().passes().says(&answer);
    let told = Told::by(&run, "done");
    told.outcome.passes().says(&answer);
    // Not each time: the collector may be resting.
    assert!(told.skipped(Skip::ForeignCaller) > 0, "{}", told.outcome);
}

#[test]
fn what_the_user_has_switched_off_stays_off() {
    let leak =
        |flag: &str| java(&[flag, "Leak", "FileInputStream", "200"]).limit(LIMIT).env("TIDEOVER_MAX_RETRIES", "0");
    leak("-XX:+DisableExplicitGC").preload(true).output().fails().says(TOO_MANY);
    leak("-XX:+UseG1GC").preload(true).env("TIDEOVER_GC", "python").output().fails().says(TOO_MANY);
}

#[test]
fn what_no_collection_closes_gets_the_native_error() {
    // A SocketChannel has no cleaner in OpenJDK 17.
    let run = java(&["Leak", "SocketChannel", "200"]).limit(LIMIT).env("TIDEOVER_MAX_RETRIES", "0");
    run.output().fails().says(TOO_MANY);
    run.preload(true).output().fails().says(TOO_MANY);
}
