//! A page tells of a process only if it lies in a folder of that process's user.

use std::path::Path;

use tideover_contract::page;
use tideover_tests::running::tell;
use tideover_tests::{Outcome, Page, Run, Running, Scratch, fixture, needs, tideover};

const NOBODY: u32 = 65_534;

fn read(pages: &Path, words: &[&str]) -> Outcome {
    Run::new(tideover()).args(words).arg("--page-dir").arg(pages).output()
}

/// Is this number in it, and not as a part of another one?
fn names(told: &Outcome, number: &str) -> bool {
    told.stdout.split(|c: char| !c.is_ascii_digit()).any(|word| word == number)
}

/// Each reader is silent about the page that nobody forged for this process, and tells of the true page beside it.
#[track_caller]
fn only_the_truth_is_told(pages: &Path, forged_for: u32, truth: &Running) {
    let truth = truth.pid().to_string();
    for words in [&["ps"][..], &["ps", "--json"], &["stat", &truth]] {
        let told = read(pages, words);
        told.passes().does_not_say("forged");
        assert!(names(&told, &truth), "{told}");
    }
    // A program that is at its limit has a page with counts.
    read(pages, &["metrics"]).passes().says("program=\"ebb\"").does_not_say("forged");
    read(pages, &["stat", &forged_for.to_string()]).does_not_say("forged");
}

/// A root process that waits; with the library it has a page of its own.
fn victim(pages: &Path, preload: bool) -> Running {
    let run = Run::new(fixture("sick")).arg("none").page_dir(pages).preload(preload);
    let mut running = run.start();
    running.wait_for("sick");
    running
}

/// A root process at its limit, with the page that it has made.
fn with_a_true_page(pages: &Path) -> Running {
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages).preload(true).start();
    tell(&mut running, "fill");
    assert!(Page::read(pages, running.pid()).is_some(), "a program at its limit has a page");
    running
}

/// A page in nobody's folder that says it is of this process.
fn forge(pages: &Path, pid: u32) {
    Page::put_as(NOBODY, pages, pid, &page::uncounted(pid, 0, u64::MAX >> 2, u64::MAX >> 2, b"forged"));
}

#[needs(root)]
#[test]
fn a_page_that_another_user_forged_for_an_unguarded_process_is_not_believed() {
    let pages = Scratch::new();
    let (running, truth) = (victim(pages.path(), false), with_a_true_page(pages.path()));
    forge(pages.path(), running.pid());
    only_the_truth_is_told(pages.path(), running.pid(), &truth);
    let listed = read(pages.path(), &["ps", "--json"]);
    assert!(!names(&listed, &running.pid().to_string()), "{listed}");
    read(pages.path(), &["stat", &running.pid().to_string()]).fails().says("is not guarded");
    for one in [running, truth] {
        one.finish().passes();
    }
}

#[needs(root)]
#[test]
fn a_page_that_another_user_forged_does_not_hide_the_true_one() {
    let pages = Scratch::new();
    let (running, truth) = (victim(pages.path(), true), with_a_true_page(pages.path()));
    Page::wait(pages.path(), running.pid());
    for one in [&running, &truth] {
        forge(pages.path(), one.pid());
        only_the_truth_is_told(pages.path(), one.pid(), &truth);
        let listed = read(pages.path(), &["ps"]);
        assert!(names(&listed, &one.pid().to_string()), "{listed}");
        read(pages.path(), &["stat", &one.pid().to_string()]).passes();
    }
    for one in [running, truth] {
        one.finish().passes();
    }
}

#[needs(root)]
#[test]
fn an_empty_file_in_anothers_folder_is_no_page() {
    let pages = Scratch::new();
    let (running, truth) = (victim(pages.path(), false), with_a_true_page(pages.path()));
    Page::put_as(NOBODY, pages.path(), running.pid(), b"");
    let listed = read(pages.path(), &["ps"]);
    assert_eq!([&truth, &running].map(|one| names(&listed, &one.pid().to_string())), [true, false], "{listed}");
    for one in [running, truth] {
        one.finish().passes();
    }
}

/// The pages that lie in a folder of pages.
fn left(pages: &Path) -> Vec<String> {
    let folder = Page::path(pages, 0);
    let entries = std::fs::read_dir(folder.parent().expect("a folder")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The next program has no library; a thread that made a descriptor just before had made a new page for the old one.
#[test]
fn a_program_with_threads_that_executes_another_leaves_no_page() {
    for preload in [false, true] {
        for _ in 0..20 {
            let pages = Scratch::new();
            let run = Run::new(fixture("evidence_exec")).args(["/bin/echo", "done"]).page_dir(pages.path());
            run.preload(preload).output().passes().says("done");
            assert_eq!(left(pages.path()), [] as [String; 0]);
        }
    }
}

/// Pages are named by process ids, which are the same in different pid namespaces.
#[needs(root)]
#[test]
fn process_1_of_a_child_namespace_leaves_its_parents_page_alone() {
    for way in ["raw", "fork"] {
        let pages = Scratch::new();
        let run = Run::new(fixture("evidence_namespace")).args([way, &pages.path().to_string_lossy()]);
        let both = run.page_dir(pages.path()).both();
        both.plain.passes().says("process 1, its page: none");
        both.preloaded.passes().says("process 1, its page: stays");
        assert_eq!(left(pages.path()), [] as [String; 0], "{way}");
    }
}
