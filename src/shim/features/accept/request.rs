//! One accept(2) of the program's that can't be answered at once, and what its hook is told to do next.
#![forbid(unsafe_code)]

use core::ffi::c_int;

use crate::engine::wait;
use crate::os::sys;

/// What the hook of accept(2) does next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Next {
    /// Make the real call. If it fails for lack of descriptors, ask again.
    Call,
    /// Let the engine free a descriptor and make the real call again. If it still fails for lack of descriptors, ask again.
    Retry,
    /// Sleep in poll(2) until a client comes, at most for [`Request::timeout`], then ask again.
    AwaitClient,
    /// Ask again, after a cancellation point.
    AskAgain,
    /// Return -1 with this errno.
    Fail(c_int),
    /// Return what the real call returned last.
    Answer,
}

/// How a request has waited for a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Closes by all threads, when more were seen last.
    pub closes: u64,
    /// When that was, nanoseconds of CLOCK_MONOTONIC.
    pub progress: u64,
    /// When the real call was made last, nanoseconds of CLOCK_MONOTONIC.
    pub tried: u64,
}

/// See the module.
pub struct Request {
    /// The listening socket.
    pub listener: c_int,
    /// How long poll(2) may sleep for it now, milliseconds; -1: for ever.
    pub timeout: c_int,
    /// When it was first found to have to wait, nanoseconds of CLOCK_MONOTONIC; 0: it has not waited yet.
    begun: u64,
    /// When the listener's SO_RCVTIMEO ends it, nanoseconds of CLOCK_MONOTONIC; 0: never.
    deadline: u64,
    /// Batches of clients refused meanwhile, or attempts in a row that turned no client away.
    pub batches: u32,
    /// How it has waited for a descriptor; None: it has not.
    pub waited: Option<Waited>,
    /// What the hook was told last; None: it has not asked yet.
    pub told: Option<Next>,
}

impl Request {
    /// Not asked and not waited yet.
    pub const fn new(listener: c_int) -> Request {
        Request { listener, timeout: -1, begun: 0, deadline: 0, batches: 0, waited: None, told: None }
    }

    /// Has it been found to have to wait?
    pub fn has_waited(&self) -> bool {
        self.begun != 0
    }

    /// May it go on waiting? False when the listener's SO_RCVTIMEO has passed, which is read at the first call.
    pub fn may_wait(&mut self) -> bool {
        let now = sys::now();
        if self.begun == 0 {
            self.begun = now;
            let timeout = sys::receive_timeout(self.listener);
            self.deadline = if timeout == 0 { 0 } else { now + timeout };
        }
        let left = self.deadline.saturating_sub(now);
        self.timeout =
            if self.deadline == 0 { -1 } else { c_int::try_from(left.div_ceil(1_000_000)).unwrap_or(c_int::MAX) };
        self.deadline == 0 || left > 0
    }

    /// A signal handler has run: does it end the accept(2) with EINTR? Always where SO_RCVTIMEO is set (signal(7)).
    pub fn is_interrupted(&self) -> bool {
        self.deadline != 0 || wait::handlers_interrupt()
    }
}
