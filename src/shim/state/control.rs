//! What `tideover control` has told this process: a word in its page, which cold paths look at.
//!
//! Told `off`, the library begins nothing any more ([`process::may_act`]), and ends what it has begun; its records of descriptors, epoll
//! sets and logs go on, so that it can act again. The word stands in memory that the owner of the page and root can write. A page that
//! others could write is not obeyed.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use tideover_contract::page::{Page, control};

use crate::os::sys;
use crate::state::handlers::handlers;
use crate::state::policy::Trouble;
use crate::state::settings::SETTINGS;
use crate::state::{page, page_file, process, report, thread};

/// Bytes of stack that it takes to obey: to read the policy file, and to put back what is kept of logs.
const STACK: usize = 16 << 10;

/// To read the policy file, a descriptor has to be closed first.
static WAITS: AtomicBool = AtomicBool::new(false);
/// A thread is obeying.
static IS_OBEYING: AtomicBool = AtomicBool::new(false);
/// The word that was not obeyed, since others could have written it.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Is there a word that is obeyed when a descriptor is free? One load.
pub fn waits() -> bool {
    WAITS.load(Relaxed)
}

/// Obeys a word that has not been obeyed yet, and says whether everything is to be passed through. For cold paths on which nothing is
/// locked.
#[inline(never)]
pub fn look() -> bool {
    let page = page::page();
    let word = page.control.load(Relaxed);
    if word != page.obeyed.load(Relaxed) && word != REFUSED.load(Relaxed) {
        obey(page, word);
    }
    process::is_off()
}

#[cold]
#[inline(never)]
fn obey(page: &Page, word: u32) {
    if !process::may_note() || thread::is_in_vfork() || !thread::has_stack(STACK) || IS_OBEYING.swap(true, Relaxed) {
        return;
    }
    let errno = sys::errno();
    if !page_file::is_closed_to_others(page::owner()) {
        REFUSED.store(word, Relaxed);
        log::warn!(
            "others than the owner of the page and root can write to it: what it says is not obeyed; chmod go-w"
        );
    } else if act(page, control::what(word)) {
        (handlers().on_told)(process::is_off());
        page.obeyed.store(word, Relaxed);
    }
    IS_OBEYING.store(false, Relaxed);
    sys::set_errno(errno);
}

/// Does what a word says. False: not yet.
fn act(page: &Page, what: u8) -> bool {
    match what {
        control::ON => process::set_off(false),
        control::OFF => process::set_off(true),
        control::RELOAD => {
            let (is_meant, trouble) = SETTINGS.reload(process::program());
            let waits = trouble.as_ref().is_some_and(Trouble::is_for_want_of_descriptors);
            WAITS.store(waits, Relaxed);
            if waits {
                (handlers().await_close)();
                return false;
            }
            page_file::fill_settings(page);
            report::start();
            trouble.inspect(|trouble| SETTINGS.say(trouble));
            if let Some(is_meant) = is_meant {
                process::set_off(!is_meant);
            }
        }
        _ => {}
    }
    true
}

/// In the child of a fork: it goes on as its parent, and is told anew by a page of its own.
pub fn forked() {
    IS_OBEYING.store(false, Relaxed);
    WAITS.store(false, Relaxed);
}
