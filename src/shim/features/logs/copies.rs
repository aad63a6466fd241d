//! A copy of standard output or standard error, made when the program is about to put another file at its number, so that diverted
//! lines still reach what it was at start: the PostgreSQL server replaces its standard output so.
//!
//! The copy has a high number and is close-on-exec. It is not made before it is needed: a program that counts its descriptors must
//! not see one of the library's. It is not made when the number is closed, nor in child processes: whoever reads our standard
//! output may be waiting for its end (`$(daemon)`).
#![deny(unsafe_code)]

use core::sync::atomic::AtomicI32;
use core::sync::atomic::Ordering::{Relaxed, Release};

use tideover_contract::glob;
use tideover_contract::settings::{Id, sink};

use super::{evidence, pipe};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::descriptors::{self, PIPE, SHARED};
use crate::state::process::Phase;
use crate::state::settings::SETTINGS;
use crate::state::streams::{STDERR, STDOUT, Stream};
use crate::state::{process, thread};

/// Programs that put files over their standard output for each command, and keep a copy of it meanwhile.
const SHELLS: &[u8] = b"sh, bash, dash, zsh, ksh*, mksh, ash, busybox, fish";

/// The library's copies of the standard streams.
struct Copies {
    /// Descriptor of the copy of standard output; -1: none was made. Another negative number: the process that this one was forked
    /// from has its copy at the bitwise complement.
    of_stdout: AtomicI32,
    /// That of standard error, in the form of `of_stdout`.
    of_stderr: AtomicI32,
}

static COPIES: Copies = Copies { of_stdout: AtomicI32::new(-1), of_stderr: AtomicI32::new(-1) };

fn copy_of(stream: &Stream) -> &'static AtomicI32 {
    if stream.number == STDOUT.number { &COPIES.of_stdout } else { &COPIES.of_stderr }
}

/// This process's copy of the stream; negative: it has none.
pub fn number(stream: &Stream) -> i32 {
    copy_of(stream).load(Relaxed)
}

/// Where the process that this one was forked from may have the stream besides the stream's own number: its copy; or 0, standard
/// input, which on a terminal is the same file.
pub fn number_in_parent(stream: &Stream) -> i32 {
    let here = number(stream);
    if here < 0 { !here } else { here }
}

/// The program is about to put another file at this number: if diverted lines go to what is there, a copy of it is made.
#[inline(always)]
pub fn before_replacing(fd: i32) {
    if fd == 1 || fd == 2 {
        replacing(fd);
    }
}

#[cold]
#[inline(never)]
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn replacing(fd: i32) {
    barrier((), || {
        if descriptors::marks(fd) & PIPE != 0 {
            super::catch_up();
            pipe::changes();
        }
        let stream = if fd == STDOUT.number { &STDOUT } else { &STDERR };
        let is_auto = match SETTINGS.get(Id::Fallback) {
            sink::AUTO => true,
            sink::STDOUT if fd == STDOUT.number => false,
            sink::STDERR if fd == STDERR.number => false,
            _ => return,
        };
        let copy = copy_of(stream);
        if copy.load(Relaxed) >= 0 || process::is_forked() || !process::may_act() {
            return;
        }
        if glob::any(SHELLS, crate::state::process::program()) {
            return;
        }
        let Ok(status) = sys::fstat(stream.number) else { return };
        if !stream.is_file(&status) || is_useless_device(&status) || is_auto && !is_sink(stream, &status) {
            return;
        }
        let soft = sys::descriptor_limit(0).map_or(0, |limit| limit.rlim_cur.min(1024) as i32);
        if let Ok(made) = sys::duplicate(stream.number, (soft - 24).max(3)) {
            copy.store(made, Release);
            // A descriptor with a mark takes the slow path of close(2), which asks `is_ours`.
            descriptors::add(made, SHARED);
        }
    });
}

/// Would lines go to this stream, whose fstat(2) is `status`, where the user has named none?
fn is_sink(stream: &Stream, status: &libc::stat) -> bool {
    // Whether a regular file is a log is found out when lines go there.
    let carries =
        |stream: &Stream, status: &libc::stat| evidence::reason(stream, stream.number, status, &|_, _| true).is_some();
    let is_second = stream.number == STDERR.number;
    let is_after =
        is_second && sys::fstat(STDOUT.number).is_ok_and(|first| STDOUT.is_file(&first) && carries(&STDOUT, &first));
    carries(stream, status) && !is_after
}

/// Is this descriptor the library's own copy? The program does not know of it, so that its close(2) must find nothing there. A file
/// that the program opened at this number after it closed our copy by a system call that has no hook is its own.
pub fn is_ours(fd: i32) -> bool {
    let is_copy = |stream: &&Stream| fd >= 0 && fd == copy_of(stream).load(Relaxed);
    let Some(stream) = [&STDOUT, &STDERR].into_iter().find(is_copy) else { return false };
    if process::phase() == Phase::Sandboxed || sys::fstat(fd).is_ok_and(|status| stream.is_file(&status)) {
        return true;
    }
    // The child of a vfork has closed its own descriptor: its parent, whose memory this is, still has one.
    if !thread::is_in_vfork() {
        copy_of(stream).store(-1, Relaxed);
    }
    false
}

/// Is this a memory device (major number 1), where no line can be read again? /dev/null discards them, /dev/full refuses them. Minor
/// number 8 is /dev/random.
pub fn is_useless_device(status: &libc::stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFCHR
        && libc::major(status.st_rdev) == 1
        && libc::minor(status.st_rdev) != 8
}

/// In the child of a fork: closes the copies, since the child may outlive its parent as a daemon. While the parent is there, its
/// copies can be opened through /proc.
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".text.at_fork")]
pub fn forked() {
    for stream in [&STDOUT, &STDERR] {
        let copy = copy_of(stream);
        let fd = copy.load(Relaxed);
        if fd >= 0 && process::phase() != Phase::Sandboxed {
            sys::close(fd);
            copy.store(!fd, Relaxed);
        }
    }
}
