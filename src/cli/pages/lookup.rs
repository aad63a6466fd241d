//! The page of one process, or the reason why it has none.
#![forbid(unsafe_code)]

use super::{Page, walk, without_page};
use crate::processes::process;
use crate::processes::program::Program;
use crate::show::failure::Failure;
use rustix::process::geteuid;
use std::path::Path;

/// The page of a process, or a failure that says why there is none and what to do.
pub fn find(base: &Path, pid: u32) -> Result<Page, Failure> {
    let found = walk(base)?;
    if let Some(page) = found.pages.into_iter().find(|page| page.pid == pid) {
        return Ok(page);
    }
    if process::alive(pid).is_none() {
        return Err(Failure::failed(format!("there is no process {pid}; `tideover ps` lists the guarded ones")));
    }
    if process::owner(pid).is_some_and(|owner| owner != geteuid().as_raw()) && !geteuid().is_root() {
        return Err(Failure::failed(format!("process {pid} is another user's; say it as root, with sudo")));
    }
    Err(not_guarded(pid))
}

/// Says that a process that runs has no page, why, and what to do.
pub fn not_guarded(pid: u32) -> Failure {
    let name = process::name(pid);
    if let Some(why) = Program::of(pid).out_of_reach() {
        return Failure::failed(format!(
            "process {pid} ({name}) can't be guarded: {why}; `tideover doctor {pid}` works"
        ));
    }
    if without_page::has_loaded(pid) {
        return Failure::failed(format!("process {pid} ({name}) has the library {}", without_page::WITHOUT_PAGE));
    }
    Failure::failed(format!(
        "process {pid} ({name}) is not guarded; start it with `tideover run`, or name the folder of its page with --page-dir"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_page_is_explained() {
        let base = tempfile::tempdir().unwrap();
        let text = find(base.path(), std::process::id()).err().unwrap().text;
        assert!(text.contains("is not guarded") && text.contains("tideover run"), "{text}");
        let text = find(base.path(), 4_000_000_000).err().unwrap().text;
        assert!(text.contains("there is no process 4000000000"), "{text}");
    }
}
