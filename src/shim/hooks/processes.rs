//! What starts and ends processes and sets their limits. fork(2) is seen by pthread_atfork(3).

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use libc::{pid_t, rlimit};

use super::{Answer, Code, hooks, second_chance, through};
use crate::arch::vfork_entry;
use crate::engine::call::Call;
use crate::engine::reclaim::{limit, limit_for_exec};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// Descriptors that popen(3) needs for a moment, and two to spare.
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

extern "C" fn no_child(errno: c_int) -> pid_t {
    sys::set_errno(errno);
    -1
}

/// The program that is executed gets the soft limit that this one was started with. In a vfork child, too: limits are the
/// child's own there, though its memory is not.
#[inline(always)]
unsafe fn executing(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int) -> c_int {
    let limit = before_exec();
    let answer = real();
    after_failed_exec(&limit);
    answer
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn before_exec() -> Option<rlimit> {
    barrier(None, || {
        if !matches!(process::phase(), Phase::Active | Phase::Exiting) {
            return None;
        }
        if process::is_ours() {
            page::withdraw();
        }
        limit_for_exec::set()
    })
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn after_failed_exec(limit: &Option<rlimit>) {
    let errno = sys::errno();
    barrier((), || {
        if let Some(limit) = limit {
            limit_for_exec::undo(*limit);
        }
    });
    sys::set_errno(errno);
}

/// posix_spawn(3): the answer is an errno. The child starts with the original soft limit; where other threads would miss the
/// raised one meanwhile, it is given the original as soon as it is known.
#[inline(always)]
unsafe fn spawning(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, pid: *mut pid_t) -> c_int {
    let limit = lend();
    let mut answer = Code(real());
    lent(&limit);
    // SAFETY: right after the call; the pid is filled in on success.
    unsafe {
        if answer.failure().is_some() {
            answer = second_chance(answer, call, || Code(real()));
        }
        if answer.0 == 0 && !pid.is_null() && limit.is_none() {
            spawned(*pid);
        }
    }
    answer.0
}

extern "C" fn spawned(pid: pid_t) {
    barrier((), || {
        if process::may_act() {
            limit_for_exec::set_in_child(pid);
        }
    });
}

/// system(3) and popen(3): their child can't be named afterwards. With one thread nobody can miss the higher limit meanwhile;
/// with more threads, or more descriptors than the original limit, the child keeps it.
#[inline(always)]
pub(super) unsafe fn with_original_limit<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let limit = lend();
    let answer = real();
    lent(&limit);
    answer
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn lend() -> Option<rlimit> {
    barrier(None, || {
        let original = limit::original()?;
        let spare = || crate::state::usage::used(page::counters().soft_limit.load(Relaxed)) + SPAWN_NEEDS <= original;
        if process::may_act() && thread::count() <= 1 && spare() { limit_for_exec::set() } else { None }
    })
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn lent(limit: &Option<rlimit>) {
    if let Some(limit) = limit {
        limit_for_exec::undo(*limit);
    }
}

/// setrlimit(2) and prlimit(2): a program that sets its own limit on descriptors has taken it over.
#[inline(always)]
unsafe fn limiting(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    resource: c_int,
    pid: pid_t,
    new: *const rlimit,
) -> c_int {
    // SAFETY: as the caller promised.
    let answer = unsafe { through(call, real) };
    note_limit(answer, resource, pid, new);
    answer
}

/// See [`limiting`]; also for the same system calls made by number.
#[inline(always)]
pub(super) fn note_limit(answer: c_int, resource: c_int, pid: pid_t, new: *const rlimit) {
    if answer == 0 && resource == libc::RLIMIT_NOFILE as c_int && !new.is_null() && (pid == 0 || pid == process::pid())
    {
        limit::program_has_set_it();
    }
}

/// exit(3): from here on nobody waits for descriptors. (A return from main is not seen.)
#[inline(always)]
unsafe fn ending(_: impl Fn() -> Call, mut real: impl FnMut()) {
    process::set_phase_ending();
    real();
}

/// Ends the process without destructors.
#[inline(always)]
unsafe fn leaving(_: impl Fn() -> Call, mut real: impl FnMut()) {
    page::leave();
    real();
}
