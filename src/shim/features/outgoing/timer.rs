//! TIDEOVER_CONNECT_TIMEOUT: a blocking connect(2) fails with ETIMEDOUT sooner than by the kernel's own timeout.
//!
//! The connect is begun with a send timeout of one clock tick, which is put back at once, and then waited for with poll(2). So the socket
//! is as the program knows it while the thread sleeps, when it may be cancelled or jump away. (O_NONBLOCK instead would be seen by
//! every process that shares the socket; a send timeout for the whole time would stay behind.)

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};
use tideover_contract::settings::{Id, Nanoseconds};

use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::page;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;

#[unsafe(link_section = ".tables")]
static TIMED_OUT: Repeated = Repeated::new();

/// How long a connect of this socket may take, nanoseconds; 0 where the program's own send timeout ends it sooner, or nothing is set.
pub fn limit(fd: c_int) -> u64 {
    let limit = SETTINGS.get(Id::ConnectTimeout);
    match sys::send_timeout(fd) {
        Ok(own) if limit != 0 && (own == 0 || own > limit) => limit,
        _ => 0,
    }
}

/// A connect that was begun.
pub struct Timer {
    /// How long it may take, nanoseconds.
    limit: u64,
    /// When it fails, nanoseconds of CLOCK_MONOTONIC.
    deadline: u64,
    /// What poll(2) waits for.
    pub waits_for: libc::pollfd,
    /// Is it under way? Else `answer` is its answer.
    pub goes_on: bool,
    /// What connect(2) returns, with errno set.
    pub answer: c_int,
}

/// How it stands after a poll(2).
#[derive(PartialEq, Eq)]
#[repr(C)]
pub enum Progress {
    /// A signal handler has run: poll again.
    Waiting,
    /// The real connect(2) has an answer now.
    Answered,
    /// It has failed, and errno is set.
    Failed,
}

impl Timer {
    /// Begins a connect that may take `limit` nanoseconds.
    ///
    /// # Safety
    /// `address` points to `length` bytes.
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub unsafe extern "C" fn begin(fd: c_int, address: *const sockaddr, length: socklen_t, limit: u64) -> Timer {
        // SAFETY: the caller promises the address, which is what the program passed to connect(2).
        let begun = unsafe { sys::connect_briefly(fd, address, length) };
        let errno = begun.err().unwrap_or(0);
        if errno != 0 {
            sys::set_errno(errno);
        }
        Timer {
            limit,
            deadline: sys::now().saturating_add(limit),
            waits_for: sys::pollfd(fd, libc::POLLOUT),
            // EALREADY: begun before, and interrupted.
            goes_on: matches!(errno, libc::EINPROGRESS | libc::EALREADY),
            answer: if errno == 0 { 0 } else { -1 },
        }
    }

    /// Milliseconds that are left, rounded up.
    pub extern "C" fn left(&self) -> c_int {
        let left = self.deadline.saturating_sub(sys::now()).div_ceil(1_000_000);
        c_int::try_from(left).unwrap_or(c_int::MAX)
    }

    /// How it stands after poll(2) has returned `ready`.
    pub extern "C" fn judge(&mut self, ready: c_int) -> Progress {
        barrier(Progress::Answered, || match ready {
            0 => {
                sys::disconnect(self.waits_for.fd);
                self.report();
                sys::set_errno(libc::ETIMEDOUT);
                Progress::Failed
            }
            // The connect goes on without this thread, as after a connect(2) that was interrupted.
            -1 if sys::errno() == libc::EINTR && wait::handlers_interrupt() => Progress::Failed,
            -1 if sys::errno() == libc::EINTR => Progress::Waiting,
            _ => Progress::Answered,
        })
    }

    fn report(&self) {
        page::ensure();
        page::add(&page::counters().connect_timeouts, 1);
        if let Some(more) = TIMED_OUT.due() {
            let limit = Nanoseconds(self.limit);
            log::warn!("connect: no answer within TIDEOVER_CONNECT_TIMEOUT={limit} (ETIMEDOUT){}", More(more));
        }
    }
}
