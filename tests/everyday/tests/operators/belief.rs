//! A page counts only if the owner of its folder owns the process: else any user could tell root's readers that root's cron has
//! given up a million calls, and have `watch --exec` and `--rescue` act on it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use tideover_contract::page::{COUNTERS, FIELDS};
use tideover_tests::running::Endless;
use tideover_tests::{Page, Run, Running, Scratch, fixture, needs};

use super::{command, full, json, of_pages};

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;

/// The folder of pages of nobody, who writes the page of one process into it under the number of another.
fn forge(pages: &Scratch, from: &Running, pid: u32) -> PathBuf {
    let mut bytes = fs::read(Page::path(pages.path(), from.pid())).expect("it has a page");
    let at = |name: &str| FIELDS.iter().find(|field| field.0 == name).unwrap().1;
    bytes[at("pid")..][..4].copy_from_slice(&pid.to_ne_bytes());
    // Made far in the future, so that no start of a process is later.
    bytes[at("started_boot_ns")..][..8].copy_from_slice(&(1u64 << 62).to_ne_bytes());
    bytes[at("program")..][..8].copy_from_slice(b"forged\0\0");
    let gave_up = COUNTERS.iter().position(|counter| counter.name == "gave_up").unwrap();
    bytes[at("counters") + gave_up * 8..][..8].copy_from_slice(&1_000_000u64.to_ne_bytes());
    Page::put_as(NOBODY, pages.path(), pid, &bytes)
}

fn of_nobody() -> Endless {
    Endless::start(Command::new("sleep").arg("300").uid(NOBODY).gid(NOBODY))
}

#[needs(root)]
#[test]
fn nobody_tells_no_reader_about_the_processes_of_root() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    // The test itself is root's, and is not guarded.
    let victim = std::process::id();
    let forged = forge(&pages, &guarded, victim);
    let listed = of_pages(&pages, &["ps", "--json"]).output();
    let pids: Vec<u64> = json(listed.passes()).as_array().unwrap().iter().filter_map(|it| it["pid"].as_u64()).collect();
    assert_eq!(pids, [u64::from(guarded.pid())]);
    of_pages(&pages, &["stat", &victim.to_string()]).output().fails().says("is not guarded");
    for words in [&["ps"][..], &["top"], &["metrics"], &["doctor"], &["config", &victim.to_string()]] {
        of_pages(&pages, words).output().does_not_say("forged").does_not_say("1000000");
    }
    let mut watch = of_pages(&pages, &["watch", "--interval", "50ms", "--only", "forged", "--rescue"]).start();
    watch.wait_for("watching");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!watch.stdout_so_far().contains("forged"), "{}", watch.stdout_so_far());
    watch.signal(libc::SIGTERM);
    watch.finish();
    of_pages(&pages, &["clean"]).output().passes().says("1 live process left alone");
    assert!(forged.exists(), "it is not ours to remove while a process has that number");
    guarded.finish().passes();
}

/// The control: of his own process nobody is believed, by himself and by root.
#[needs(root)]
#[test]
fn of_his_own_process_a_user_is_believed() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    let own = of_nobody();
    forge(&pages, &guarded, own.id());
    let said = of_pages(&pages, &["stat", &own.id().to_string(), "--json"]).output();
    assert_eq!(json(said.passes())["exhaustion"]["gave_up"], 1_000_000);
    // The command itself may lie in a folder that only root may enter.
    let own_copy = pages.join("command");
    let copied = Command::new("install").args(["-m", "755"]).arg(tideover_tests::tideover()).arg(&own_copy).status();
    assert!(copied.expect("install runs").success());
    let mut as_nobody = Command::new(own_copy);
    as_nobody.args(["stat", &own.id().to_string()]).arg("--page-dir").arg(pages.path()).uid(NOBODY).gid(NOBODY);
    let output = as_nobody.output().expect("nobody may run it there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("forged (process"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    drop(own);
    of_pages(&pages, &["clean"]).output().passes().says("Removed 1 page");
    guarded.finish().passes();
}

#[needs(root)]
#[test]
fn an_empty_page_counts_only_with_the_library_in_the_process() {
    let pages = Scratch::new();
    let own = of_nobody();
    let empty = Page::put_as(NOBODY, pages.path(), own.id(), b"");
    of_pages(&pages, &["ps"]).output().passes().says("No guarded process");
    of_pages(&pages, &["stat", &own.id().to_string()]).output().fails().says("is not guarded");
    assert!(empty.exists());
    drop(own);
    // The control: with the library in the process, it counts.
    let mut guarded = Run::new(fixture("sick")).arg("none").page_dir(pages.path()).preload(true).start();
    guarded.wait_for("sick");
    Page::put_as(ROOT, pages.path(), guarded.pid(), b"");
    of_pages(&pages, &["stat", &guarded.pid().to_string()]).output().passes().says("sick (process");
    guarded.finish().passes();
    // A mapping of the file as data is no library either.
    let script = format!(
        "import mmap, sys\nfile = open({:?}, 'rb')\nkept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\nprint('mapped', flush=True)\nsys.stdin.read()",
        tideover_tests::library()
    );
    let mut reader = tideover_tests::programs::python(&script).start();
    reader.wait_for("mapped");
    command(&["doctor", &reader.pid().to_string(), "--sample", "0s"]).output().says("not loaded");
    reader.finish().passes();
}
