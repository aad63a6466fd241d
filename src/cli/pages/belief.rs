//! Which pages are believed: every user can make a folder of pages and write into it what he likes, also under the process ids
//! of others. One function decides, for `ps`, `stat`, `top`, `metrics`, `watch`, `--rescue`, `doctor` and `clean` alike.
#![forbid(unsafe_code)]

use crate::processes::mappings::{self, Code};
use crate::processes::process::user;
use rustix::process::geteuid;

/// What a file in a folder of pages holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A page that the library has filled in.
    Written,
    /// Nothing: the file alone says that the process is guarded.
    Empty,
}

/// Is a page in the folder of `folder_user` believed about process `pid`? It is if that user owns the process, which is then
/// his to tell about; root owns all. An empty file says so little that the library must be seen in the process, mapped as code.
pub fn believed(folder_user: u32, pid: u32, content: Content) -> bool {
    owns(folder_user, pid) && (content == Content::Written || mappings::library(pid) != Code::Absent)
}

/// Does a user own a process, so that he might as well trace it and make it write anything? The owner is the effective user, as
/// for kill(2) and ptrace(2); of a set-uid program it is not the user who has started it.
pub fn owns(folder_user: u32, pid: u32) -> bool {
    folder_user == 0
        || match user(pid) {
            Some(owner) => owner == folder_user,
            // A process that /proc hides (hidepid=). Whoever is not root reads his own folder alone, and can deceive himself alone.
            None => folder_user == geteuid().as_raw(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_believed_about_his_own_processes_and_root_about_all() {
        let (me, mine) = (geteuid().as_raw(), std::process::id());
        assert!(believed(me, mine, Content::Written) && believed(0, mine, Content::Written));
        assert!(!believed(me + 12345, mine, Content::Written), "another user");
        assert!(!believed(12345, 1, Content::Written), "the first process is root's");
        assert!(!believed(me, mine, Content::Empty), "this test has no library");
    }
}
