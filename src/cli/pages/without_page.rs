//! Guarded processes that have no page yet: the library makes one with the first event, or after some descriptors. That they
//! are guarded is seen from what they have mapped, and from the environment that they were started with.
#![forbid(unsafe_code)]

use crate::processes::each;
use crate::processes::mappings::{self, Code};
use crate::processes::process::{Environment, alive, boot_time_ns, name};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tideover_contract::glob;
use tideover_contract::page::{SIZE, uncounted};
use tideover_contract::settings::{Id, SETTINGS, default_value, parse};

/// Why a process that has the library may have no page.
pub const WITHOUT_PAGE: &str =
    "loaded, but without a page: TIDEOVER_PAGE=0, TIDEOVER_DISABLE=1, TIDEOVER_EXCEPT, or another page folder";

/// Finds such processes, except those in `known`, and returns their ids and the pages without counts that they would have.
pub fn find(base: &Path, known: &BTreeSet<u32>) -> Vec<(u32, [u8; SIZE])> {
    let Ok(folder) = fs::metadata(base) else { return Vec::new() };
    let folder = (folder.dev(), folder.ino());
    each::ask(&each::pids(), |pid| {
        let found = !known.contains(&pid) && is_guarded(pid, base, folder);
        if found { Some((pid, page(pid)?)) } else { None }
    })
}

/// Has a process mapped the library, and would its page be in this folder?
fn is_guarded(pid: u32, base: &Path, folder: (u64, u64)) -> bool {
    // In a container, the same path is another folder.
    let same_folder = || {
        let inside = format!("/proc/{pid}/root{}", base.display());
        fs::metadata(inside).is_ok_and(|there| (there.dev(), there.ino()) == folder)
    };
    let Some(environment) = Environment::of(pid) else { return false };
    // The list of mappings comes last, since the kernel takes longer to make it than all the rest takes.
    preloads(pid, &environment)
        && has_page_in(|name| environment.get(name), base, &name(pid))
        && same_folder()
        && has_loaded(pid)
}

/// Has a process mapped the library as code? False if this user may not see that.
pub fn has_loaded(pid: u32) -> bool {
    mappings::library(pid) == Code::Present
}

/// May the loader have been told to preload something, by LD_PRELOAD or by the /etc/ld.so.preload of the process's root?
fn preloads(pid: u32, environment: &Environment) -> bool {
    environment.is_overwritten()
        || environment.get("LD_PRELOAD").is_some()
        || fs::metadata(format!("/proc/{pid}/root/etc/ld.so.preload")).is_ok()
}

/// Would a program of this name keep a page in `base`?
fn has_page_in(get: impl Fn(&str) -> Option<OsString>, base: &Path, program: &str) -> bool {
    let given = |id: Id| get(SETTINGS[id as usize].env).filter(|text| !text.is_empty());
    let flag = |id: Id| {
        let setting = &SETTINGS[id as usize];
        given(id).and_then(|text| parse(&setting.kind, text.as_bytes())).unwrap_or_else(|| default_value(id as usize))
            != 0
    };
    let globs = |id: Id| given(id).unwrap_or_default();
    let named = |id: Id| glob::any(globs(id).as_bytes(), program.as_bytes());
    let meant = (globs(Id::Only).as_bytes().trim_ascii().is_empty() || named(Id::Only)) && !named(Id::Except);
    let directory = given(Id::PageDir).unwrap_or_else(|| SETTINGS[Id::PageDir as usize].default.into());
    flag(Id::Page) && !flag(Id::Disable) && meant && directory == base
}

/// The page without counts that a process would have; None: it has ended.
pub fn page(pid: u32) -> Option<[u8; SIZE]> {
    let user = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let started = alive(pid)?.started_ns.unwrap_or(0);
    Some(uncounted(pid, user, started, started.saturating_add(boot_time_ns()), name(pid).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_who_has_a_page_here() {
        let has = |variables: &[(&str, &str)], base: &str| {
            let get = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.into());
            has_page_in(get, Path::new(base), "nginx")
        };
        assert!(has(&[], "/dev/shm"));
        assert!(!has(&[], "/run"));
        assert!(has(&[("TIDEOVER_PAGE_DIR", "/run")], "/run"));
        assert!(!has(&[("TIDEOVER_PAGE", "0")], "/dev/shm"));
        assert!(!has(&[("TIDEOVER_DISABLE", "1")], "/dev/shm"));
        assert!(has(&[("TIDEOVER_DISABLE", "nonsense")], "/dev/shm"));
        assert!(has(&[("TIDEOVER_ONLY", "ng*")], "/dev/shm"));
        assert!(!has(&[("TIDEOVER_ONLY", "redis*")], "/dev/shm"));
        assert!(!has(&[("TIDEOVER_EXCEPT", "nginx")], "/dev/shm"));
    }

    #[test]
    fn processes_without_the_library_are_not_found() {
        let me = std::process::id();
        assert!(find(Path::new("/dev/shm"), &BTreeSet::new()).iter().all(|(pid, _)| *pid != me));
    }
}
