//! syscall(2): the system calls that make or close descriptors, and the few others whose own functions have hooks.

use core::ffi::{c_int, c_long};

use super::hooks;
use super::kinds::{blocking, closing, closing_many};
use super::processes::{before_leaving, executing, note_limit};
use super::retry::second_chance;
use super::sandbox;
use super::sockets::{accept_failed, client_accepted, may_sleep_at};
use crate::arch::calls;
use crate::engine::call::Call;
use crate::state::{descriptors, page, thread};

type Argument = c_long;

hooks! {
    syscall(number: c_long, a: Argument, b: Argument, c: Argument, d: Argument, e: Argument, f: Argument) -> c_long
        = by_number(number, [a, b, c, d]) if may_sleep(number, [a, b, c, d]);
}

/// What a system call does, as far as the library is concerned.
enum Concern {
    /// Makes a descriptor.
    Makes,
    /// Makes two, and puts them into the array at this address.
    MakesPair(Argument),
    /// Closes a descriptor.
    Closes,
    /// Closes many.
    ClosesMany,
    /// Ends the process.
    Exits,
    /// Sets a limit: the resource, the process, the address of the new limit.
    Limits(Argument, Argument, Argument),
    /// Installs a seccomp filter. True: on success it returns a descriptor.
    Sandboxes(bool),
    /// Executes a program.
    Executes,
    /// Waits for several descriptors.
    Loops,
    /// Nothing of interest.
    None,
}

#[inline(always)]
fn concern(number: c_long, [a, b, c, d]: [Argument; 4]) -> Concern {
    use libc as n;
    match number {
        calls::OPEN
        | n::SYS_openat
        | n::SYS_openat2
        | calls::CREAT
        | n::SYS_open_by_handle_at
        | n::SYS_open_tree
        | n::SYS_socket
        | n::SYS_accept
        | n::SYS_accept4
        | n::SYS_dup
        | calls::EPOLL_CREATE
        | n::SYS_epoll_create1
        | calls::EVENTFD
        | n::SYS_eventfd2
        | calls::SIGNALFD
        | n::SYS_signalfd4
        | n::SYS_timerfd_create
        | calls::INOTIFY_INIT
        | n::SYS_inotify_init1
        | n::SYS_fanotify_init
        | n::SYS_memfd_create
        | n::SYS_memfd_secret
        | n::SYS_userfaultfd
        | n::SYS_perf_event_open
        | n::SYS_pidfd_open
        | n::SYS_pidfd_getfd
        | n::SYS_io_uring_setup
        | n::SYS_fsopen
        | n::SYS_fsmount
        | n::SYS_fspick
        | n::SYS_mq_open => Concern::Makes,
        n::SYS_fcntl if b == c_long::from(n::F_DUPFD) || b == c_long::from(n::F_DUPFD_CLOEXEC) => Concern::Makes,
        calls::PIPE | n::SYS_pipe2 => Concern::MakesPair(a),
        n::SYS_socketpair => Concern::MakesPair(d),
        n::SYS_close => Concern::Closes,
        n::SYS_close_range if c & c_long::from(n::CLOSE_RANGE_CLOEXEC as c_int) == 0 => Concern::ClosesMany,
        n::SYS_exit_group => Concern::Exits,
        n::SYS_execve | n::SYS_execveat => Concern::Executes,
        n::SYS_setrlimit => Concern::Limits(a, 0, b),
        n::SYS_prlimit64 => Concern::Limits(b, a, c),
        n::SYS_seccomp if a as u32 == n::SECCOMP_SET_MODE_STRICT || a as u32 == n::SECCOMP_SET_MODE_FILTER => {
            // With this flag it returns a descriptor; else a number above 0 is that of a thread that it failed for.
            Concern::Sandboxes(b as u64 & n::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0)
        }
        n::SYS_prctl if a == c_long::from(n::PR_SET_SECCOMP) => Concern::Sandboxes(false),
        calls::EPOLL_WAIT | n::SYS_epoll_pwait | n::SYS_epoll_pwait2 => Concern::Loops,
        calls::POLL if b > 1 && c != 0 => Concern::Loops,
        n::SYS_ppoll if b > 1 => Concern::Loops,
        _ => Concern::None,
    }
}

/// May this call sleep for a descriptor? Asked after it has failed for lack of one.
fn may_sleep(number: c_long, [a, b, c, d]: [Argument; 4]) -> bool {
    let flags = match number {
        calls::OPEN
        | libc::SYS_socket
        | libc::SYS_socketpair
        | libc::SYS_eventfd2
        | libc::SYS_pipe2
        | libc::SYS_timerfd_create
        | libc::SYS_pidfd_open => b,
        libc::SYS_openat | libc::SYS_open_by_handle_at => c,
        libc::SYS_signalfd4 => d,
        libc::SYS_inotify_init1 => a,
        libc::SYS_accept | libc::SYS_accept4 => {
            return may_sleep_at(a as c_int) && (number == libc::SYS_accept || blocking(d as c_int));
        }
        _ => 0,
    };
    blocking(flags as c_int)
}

/// # Safety
/// The arguments are what `real` passes to the system call `number`.
#[inline(always)]
unsafe fn by_number(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_long,
    number: c_long,
    arguments: [Argument; 4],
) -> c_long {
    let what = concern(number, arguments);
    match what {
        Concern::None => return real(),
        Concern::Exits => before_leaving(),
        Concern::Executes => return c_long::from(executing(call, || real() as c_int)),
        Concern::Sandboxes(_) => sandbox::before(),
        Concern::Loops => thread::mark_event_loop(),
        Concern::Closes => return c_long::from(closing(call, || real() as c_int, arguments[0] as c_int)),
        Concern::ClosesMany => return closing_many(call, real, arguments[0] as u32, arguments[1] as u32),
        _ => {}
    }
    let mut answer = real();
    match what {
        Concern::Makes | Concern::MakesPair(_) => {
            if answer < 0 {
                answer = match number {
                    libc::SYS_accept | libc::SYS_accept4 => {
                        let listener = arguments[0] as c_int;
                        accept_failed(answer, listener, call, real)
                    }
                    _ => second_chance(answer, call, real),
                };
            }
            if answer >= 0 {
                // SAFETY: the call has succeeded, and the caller promises its arguments.
                unsafe { note_made(answer, &what, number, arguments[0] as c_int) };
            }
        }
        Concern::Limits(resource, pid, new) => {
            note_limit(answer as c_int, resource as c_int, pid as c_int, new as *const libc::rlimit);
        }
        Concern::Sandboxes(listens) => sandbox::after(answer == 0 || answer > 0 && listens),
        _ => {}
    }
    answer
}

/// Notes the descriptors that a system call has made; `first` is its first argument.
///
/// # Safety
/// The call has succeeded: where it makes a pair, two numbers can be read at its array.
#[inline(always)]
unsafe fn note_made(answer: c_long, what: &Concern, number: c_long, first: c_int) {
    if let Concern::MakesPair(fds) = what {
        let fds = *fds as *const c_int;
        // SAFETY: promised by the caller.
        unsafe {
            page::opened(*fds);
            page::opened(*fds.add(1));
        }
        return;
    }
    match number {
        libc::SYS_accept | libc::SYS_accept4 => {
            client_accepted(answer as c_int);
        }
        calls::EPOLL_CREATE | libc::SYS_epoll_create1 => {
            page::opened(answer as c_int);
            descriptors::classify(answer as c_int, descriptors::EPOLL);
        }
        libc::SYS_dup | libc::SYS_fcntl => {
            page::opened(answer as c_int);
            descriptors::copy(first, answer as c_int);
        }
        _ => page::opened(answer as c_int),
    }
}
