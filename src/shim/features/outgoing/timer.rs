//! TIDEOVER_CONNECT_TIMEOUT: a blocking connect(2) that fails with ETIMEDOUT sooner than the kernel would let it.
//!
//! The connect is begun with a send timeout of one tick, which is put back at once, and then waited for with poll(2). So nothing of
//! ours is in the socket while the thread sleeps, when it may be cancelled or jump away. (O_NONBLOCK instead would be seen by
//! whoever shares the socket; a send timeout for the whole time would stay behind.)

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};
use tideover_contract::settings::{Id, Nanoseconds};

use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::page;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;

static TIMED_OUT: Repeated = Repeated::new();

/// How long a connect of this socket may take; 0 where the host's own send timeout ends it sooner, or nothing is set.
pub fn limit(fd: c_int) -> u64 {
    let limit = SETTINGS.get(Id::ConnectTimeout);
    match sys::send_timeout(fd) {
        Ok(own) if limit != 0 && (own == 0 || own > limit) => limit,
        _ => 0,
    }
}

/// A connect that was begun.
pub struct Timer {
    limit: u64,
    deadline: u64,
    /// What poll(2) waits for.
    pub waits_for: libc::pollfd,
    /// It goes on. Else `answer` is the connect's own.
    pub goes_on: bool,
    /// As connect(2) answers, errno set.
    pub answer: c_int,
}

/// How it stands after a poll(2).
#[derive(PartialEq, Eq)]
#[repr(C)]
pub enum Stands {
    /// Nothing has come: poll again.
    Waiting,
    /// The real connect(2) has an answer now.
    Answered,
    /// -1, with errno set.
    Ended,
}

impl Timer {
    /// Begins.
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub extern "C" fn begin(fd: c_int, address: *const sockaddr, length: socklen_t, limit: u64) -> Timer {
        let begun = sys::connect_briefly(fd, address, length);
        let wrong = begun.err().unwrap_or(0);
        if wrong != 0 {
            sys::set_errno(wrong);
        }
        Timer {
            limit,
            deadline: sys::now().saturating_add(limit),
            waits_for: sys::pollfd(fd, libc::POLLOUT),
            // EALREADY: begun before, and interrupted.
            goes_on: matches!(wrong, libc::EINPROGRESS | libc::EALREADY),
            answer: if wrong == 0 { 0 } else { -1 },
        }
    }

    /// Milliseconds that are left, rounded up.
    pub extern "C" fn left(&self) -> c_int {
        let left = self.deadline.saturating_sub(sys::now()).div_ceil(1_000_000);
        c_int::try_from(left).unwrap_or(c_int::MAX)
    }

    /// poll(2) has answered.
    pub extern "C" fn judge(&mut self, ready: c_int) -> Stands {
        barrier(Stands::Answered, || match ready {
            0 => {
                sys::disconnect(self.waits_for.fd);
                self.tell();
                sys::set_errno(libc::ETIMEDOUT);
                Stands::Ended
            }
            // As after a connect(2) that was interrupted, it goes on without the thread.
            -1 if sys::errno() == libc::EINTR && wait::handlers_interrupt() => Stands::Ended,
            -1 if sys::errno() == libc::EINTR => Stands::Waiting,
            _ => Stands::Answered,
        })
    }

    fn tell(&self) {
        page::ensure();
        page::add(&page::counters().connect_timeouts, 1);
        if let Some(more) = TIMED_OUT.due() {
            let limit = Nanoseconds(self.limit);
            log::warn!("connect: no answer within TIDEOVER_CONNECT_TIMEOUT={limit} (ETIMEDOUT){}", More(more));
        }
    }
}
