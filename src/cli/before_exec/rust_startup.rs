//! What Rust's start-up changes before `main`, put back for the program that `run` becomes.
//!
//! Rust ignores SIGPIPE, its Command sets it to the default before execve(2), and a closed standard stream becomes
//! /dev/null. A service started by systemd has SIGPIPE ignored (IgnoreSIGPIPE= is on by default): under `tideover run`
//! it would die of the first client that hangs up.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);
/// Was standard input, output, error closed?
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Runs before Rust's start-up does, as only .init_array can.
// SAFETY: an entry of .init_array is a function pointer of this type; the C library calls it once, on one thread.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    // SAFETY: all-zero bytes are a valid sigaction: a null handler, an empty mask.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null new action only asks; `found` is ours and of the right type.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut found) };
    PIPE_IGNORED.store(asked == 0 && found.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    for (fd, closed) in (0..).zip(&CLOSED) {
        // SAFETY: F_GETFD takes no argument and fails on a closed descriptor.
        closed.store(unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1, Ordering::Relaxed);
    }
}

/// Has the command's program start with what we were started with.
pub fn pass_on(command: &mut Command) {
    let restore = || {
        if PIPE_IGNORED.load(Ordering::Relaxed) {
            // SAFETY: signal(2) with SIG_IGN is async-signal-safe and installs no code of ours.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        }
        for (fd, closed) in (0..).zip(&CLOSED) {
            if closed.load(Ordering::Relaxed) {
                // SAFETY: the /dev/null that Rust put there; this process writes no more, it becomes the program.
                unsafe { libc::close(fd) };
            }
        }
        Ok(())
    };
    // SAFETY: the closure loads atomics and makes async-signal-safe calls; it neither allocates nor locks.
    unsafe { command.pre_exec(restore) };
}
