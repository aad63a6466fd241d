//! A page tells of a process only if it lies in a folder of that process's user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tideover_contract::page;
use tideover_tests::{Outcome, Page, Run, Running, Scratch, fixture, needs, tideover};

const NOBODY: u32 = 65_534;

/// A page in nobody's folder that says it is of this process.
fn forge(pages: &Path, pid: u32, bytes: &[u8]) {
    let folder = pages.join(format!("tideover.{NOBODY}"));
    fs::create_dir_all(&folder).expect("a folder");
    chown(&folder, Some(NOBODY), Some(NOBODY)).expect("root gives it away");
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("its mode");
    let page = folder.join(pid.to_string());
    fs::write(&page, bytes).expect("a page");
    chown(&page, Some(NOBODY), Some(NOBODY)).expect("root gives it away");
}

fn read(pages: &Path, words: &[&str]) -> Outcome {
    Run::new(tideover()).args(words).arg("--page-dir").arg(pages).output()
}

fn nobody_is_believed(pages: &Path, pid: u32) {
    for words in [&["ps"][..], &["ps", "--json"], &["stat", &pid.to_string()], &["metrics"]] {
        read(pages, words).does_not_say("forged");
    }
}

/// A root process that waits; with the library it has a page of its own.
fn victim(pages: &Path, preload: bool) -> Running {
    let run = Run::new(fixture("sick")).arg("none").page_dir(pages).preload(preload);
    let mut running = run.start();
    running.wait_for("sick");
    running
}

#[needs(root)]
#[test]
fn a_page_that_another_user_forged_for_an_unguarded_process_is_not_believed() {
    let pages = Scratch::new();
    fs::set_permissions(pages.path(), Permissions::from_mode(0o1777)).expect("its mode");
    let running = victim(pages.path(), false);
    let pid = running.pid();
    forge(pages.path(), pid, &page::uncounted(pid, 0, u64::MAX >> 2, u64::MAX >> 2, b"forged"));
    nobody_is_believed(pages.path(), pid);
    running.finish();
}

#[needs(root)]
#[test]
fn a_page_that_another_user_forged_does_not_hide_the_true_one() {
    let pages = Scratch::new();
    fs::set_permissions(pages.path(), Permissions::from_mode(0o1777)).expect("its mode");
    let running = victim(pages.path(), true);
    let pid = running.pid();
    Page::wait(pages.path(), pid);
    forge(pages.path(), pid, &page::uncounted(pid, 0, u64::MAX >> 2, u64::MAX >> 2, b"forged"));
    nobody_is_believed(pages.path(), pid);
    read(pages.path(), &["ps"]).passes().says(&pid.to_string());
    running.finish();
}

#[needs(root)]
#[test]
fn an_empty_file_in_anothers_folder_is_no_page() {
    let pages = Scratch::new();
    fs::set_permissions(pages.path(), Permissions::from_mode(0o1777)).expect("its mode");
    let running = victim(pages.path(), false);
    let pid = running.pid();
    forge(pages.path(), pid, b"");
    read(pages.path(), &["ps"]).does_not_say(&pid.to_string());
    running.finish();
}

/// The pages that lie in a folder of pages.
fn left(pages: &Path) -> Vec<String> {
    let folder = Page::path(pages, 0);
    let entries = fs::read_dir(folder.parent().expect("a folder")).into_iter().flatten().flatten();
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
