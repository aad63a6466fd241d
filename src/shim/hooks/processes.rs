//! Functions that start and end processes and set their limits. fork(2) has no hook: pthread_atfork(3) tells of it.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use libc::{pid_t, rlimit};

use super::answer::{Answer, Code};
use super::hooks;
use super::kinds::through;
use super::retry::second_chance;
use crate::arch::vfork_entry;
use crate::engine::call::Call;
use crate::engine::reclaim::{limit, limit_for_exec};
use crate::features::logs;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{late_messages, page, report, thread, usage};

/// How many descriptors popen(3) needs for a moment, and two to spare.
const SPAWN_NEEDS: u64 = 4;

type Strings = *const *const c_char;

hooks! {
    execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int = executing();
    execv(path: *const c_char, arguments: Strings) -> c_int = executing();
    execvp(file: *const c_char, arguments: Strings) -> c_int = executing();
    execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int = executing();
    fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int = executing();
    execveat(at: c_int, path: *const c_char, arguments: Strings, environment: Strings, flags: c_int) -> c_int = executing();
    posix_spawn(pid: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: Strings,
        environment: Strings) -> c_int = spawning(pid);
    posix_spawnp(pid: *mut pid_t, file: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: Strings,
        environment: Strings) -> c_int = spawning(pid);
    system(command: *const c_char) -> c_int = with_original_limit();
    setrlimit(resource: c_int, new: *const rlimit) -> c_int = limiting(resource, 0, new);
    setrlimit64(resource: c_int, new: *const rlimit) -> c_int = limiting(resource, 0, new);
    prlimit(pid: pid_t, resource: c_int, new: *const rlimit, old: *mut rlimit) -> c_int = limiting(resource, pid, new);
    prlimit64(pid: pid_t, resource: c_int, new: *const rlimit, old: *mut rlimit) -> c_int = limiting(resource, pid, new);
    exit(status: c_int) -> () = ending();
    _exit(status: c_int) -> () = leaving();
    _Exit(status: c_int) -> () = leaving();
    quick_exit(status: c_int) -> () = leaving();
}

// vfork(2) itself, with a mark on the thread for as long as the child borrows it.
vfork_entry! { vfork: mark = thread::IN_VFORK, failed = no_child }
vfork_entry! { __vfork: mark = thread::IN_VFORK, failed = no_child }

/// vfork(2) has failed with this errno.
extern "C" fn no_child(errno: c_int) -> pid_t {
    sys::set_errno(errno);
    -1
}

/// execve(2) and its variants: the program that is executed gets the soft limit that this one was started with. In the child of a
/// vfork(2), too: its limits are its own, though its memory is not.
#[inline(always)]
pub(super) fn executing(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int) -> c_int {
    let limit = before_exec();
    let answer = real();
    after_failed_exec(&limit);
    answer
}

/// Gives the original soft limit back. Returns the raised one, if there was one.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn before_exec() -> Option<rlimit> {
    barrier(None, || {
        if !matches!(process::phase(), Phase::Active | Phase::Exiting) {
            return None;
        }
        if process::is_ours() {
            logs::ending();
            report::ending();
            page::withdraw();
        }
        limit_for_exec::set()
    })
}

/// Raises the soft limit again; errno stays that of the exec.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn after_failed_exec(limit: &Option<rlimit>) {
    let errno = sys::errno();
    barrier((), || {
        if let Some(limit) = limit {
            limit_for_exec::undo(*limit);
        }
        page::exec_failed();
    });
    sys::set_errno(errno);
}

/// posix_spawn(3), which returns an errno. Its child starts with the original soft limit. Where other threads would miss the raised limit
/// meanwhile, the child is given the original one as soon as its number is known.
///
/// # Safety
/// Once `real` has returned 0, a number can be read at `pid`, unless that is NULL.
#[inline(always)]
unsafe fn spawning(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, pid: *mut pid_t) -> c_int {
    let limit = lower_for_child();
    let mut answer = Code(real());
    raise_again(&limit);
    if answer.failure().is_some() {
        answer = second_chance(answer, call, || Code(real()));
    }
    if answer.0 == 0 && !pid.is_null() && limit.is_none() {
        // SAFETY: `real` has succeeded, so the caller promises a number.
        spawned(unsafe { *pid });
    }
    answer.0
}

extern "C" fn spawned(pid: pid_t) {
    barrier((), || {
        if process::may_note() {
            limit_for_exec::set_in_child(pid);
        }
    });
}

/// system(3) and popen(3), whose child can't be named afterwards. In a program with one thread nobody can miss the higher limit
/// meanwhile; with more threads, or more descriptors than the original limit, the child keeps the higher one.
#[inline(always)]
pub fn with_original_limit<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let limit = lower_for_child();
    let answer = real();
    raise_again(&limit);
    answer
}

/// Lowers the soft limit to the original one, if nobody can miss the raised one. Returns that, if so.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn lower_for_child() -> Option<rlimit> {
    barrier(None, || {
        let original = limit::original()?;
        let spare = || usage::used(page::counters().soft_limit.load(Relaxed)) + SPAWN_NEEDS <= original;
        if process::may_note() && thread::count() <= 1 && spare() { limit_for_exec::set() } else { None }
    })
}

/// Undoes [`lower_for_child`].
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn raise_again(limit: &Option<rlimit>) {
    if let Some(limit) = limit {
        limit_for_exec::undo(*limit);
    }
}

/// setrlimit(2) and prlimit(2): a program that sets its own limit on descriptors decides about it from then on.
#[inline(always)]
fn limiting(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    resource: c_int,
    pid: pid_t,
    new: *const rlimit,
) -> c_int {
    let answer = through(call, real);
    note_limit(answer, resource, pid, new);
    answer
}

/// Notes that the program has set a limit on descriptors; for [`limiting`], and for system calls by number. `pid` 0 is this process; a
/// `new` of NULL sets nothing.
#[inline(always)]
pub fn note_limit(answer: c_int, resource: c_int, pid: pid_t, new: *const rlimit) {
    if answer == 0 && resource == libc::RLIMIT_NOFILE as c_int && !new.is_null() && (pid == 0 || pid == process::pid())
    {
        limit::program_has_set_it();
    }
}

/// exit(3): from here on no call waits for descriptors. (A return from main is not seen.)
#[inline(always)]
fn ending(_: impl Fn() -> Call, mut real: impl FnMut()) {
    process::set_phase_ending();
    real();
}

/// _exit(2) and its variants, which run no destructors.
#[inline(always)]
fn leaving(_: impl Fn() -> Call, mut real: impl FnMut()) {
    before_leaving();
    real();
}

/// Before the process ends by a way that runs no destructors; for [`leaving`], and for system calls by number.
#[inline(always)]
pub(super) fn before_leaving() {
    if logs::files::any() || late_messages::any() {
        end_of_logs();
    }
    page::process_ends();
}

#[cold]
#[inline(never)]
extern "C" fn end_of_logs() {
    barrier((), || {
        if process::may_note() {
            logs::ending();
            report::ending();
        }
    });
}
