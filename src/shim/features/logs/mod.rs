//! Log lines survive a full disk.
//!
//! Whether a file is a log is decided only after a write to it has failed; before that, nothing is kept but a byte per descriptor. Bytes
//! that reached the file are not sent elsewhere, and the program gets the full count as its answer.
//!
//! The files, from above; each uses only those below it:
//! - [`calls`] (write, writev), [`stdio`] (FILE) and [`dprintf`] make the real write for the hooks; [`on_full`] repeats one that
//!   waits for space instead.
//! - [`decide`]: the write failed or was short. Is this a log, and what becomes of the rest?
//! - [`recover`] writes to the file again when there is space, [`divert`] sends lines elsewhere; [`cleanup`] frees space, if the user
//!   has asked for that; [`placeholder`] is for a log that can't be created.
//! - [`rotate`], with [`rotated_files`]: logs are rotated, if the user has asked for that. [`ballast`]: space that was kept for a full disk is
//!   given up.
//! - [`hold`], with [`hold_file`]: lines are kept until they can be put back into their file, one process after the other ([`log_lock`], [`target`]).
//!   [`burst`]: those that come fast are kept first, and sent together.
//! - [`opened`]: what the kernel knows of the open file.
//! - [`sink`], with [`evidence`], [`delivery`], [`pipe`] and [`copies`]: where lines go. [`files`]: what is diverted now. [`cap`]: how much may be. [`space`]: is
//!   there room again?
//! - [`syncs`]: how often does the program sync a file?
//! - `tideover_contract::rule`: is this a log? [`program`]: is this a program whose files may be logs? [`payload`]: the program's buffers.
//!   `state::streams`: what standard output was at start. [`messages`]: what is said at most so often.

mod ballast;
mod burst;
pub mod calls;
mod cap;
mod cleanup;
pub mod copies;
mod decide;
mod delivery;
mod divert;
pub mod dprintf;
mod evidence;
pub mod files;
mod hold;
mod hold_file;
mod log_lock;
mod messages;
mod note;
pub mod on_full;
mod opened;
mod payload;
pub mod pipe;
pub mod placeholder;
mod program;
mod put_back;
mod readable;
mod recover;
mod rotate;
mod rotated_files;
mod sink;
mod space;
pub mod stdio;
pub mod syncs;
mod target;

use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::thread;
use files::Key;

/// At load. `to_file`: a standard stream is a regular file.
pub fn start(to_file: bool) {
    if !program::is_set_to_act_on_writes() {
        return;
    }
    rotate::start();
    if !stdio::find() {
        log::info!("this libc's stdio is not as expected: logs written through it are not diverted");
    } else if to_file {
        stdio::install();
    }
}

/// In the parent before a fork, and before standard output is closed or replaced: lines that came fast are sent.
#[inline(always)]
pub fn catch_up() {
    if files::any_diverted() {
        send_rest();
    }
}

#[cold]
#[inline(never)]
extern "C" fn send_rest() {
    barrier((), hold::catch_up);
}

/// In the child of a fork.
pub fn forked() {
    files::forked();
    rotate::forked();
    hold::forked();
    log_lock::forked();
    pipe::changed();
    copies::forked();
}

/// The program has started with a file as its output, or has got its page.
pub fn put_back_what_is_left() {
    put_back::of_ended_processes();
}

/// The program ends, or is about to execute another: what is kept is put back where there is space. What is left is found by the next
/// program that gets a page or has the log as its output, and by `tideover clean`.
pub fn ending() {
    if files::any_diverted() && !thread::is_in_vfork() {
        put_back::of_all_logs();
    }
}

/// The library was told to pass everything through, or to act again, perhaps by other settings.
pub fn told(is_off: bool) {
    if is_off {
        put_back::of_all_logs_at_once();
    } else if program::is_set_to_act_on_writes() {
        rotate::start();
        if stdio::find() {
            stdio::install();
        }
    }
}

/// Are lines of this descriptor's file diverted now?
pub fn is_degraded(fd: libc::c_int) -> bool {
    files::any_diverted() && sys::fstat(fd).is_ok_and(|status| files::find(Key::of_file(&status)).is_some())
}
