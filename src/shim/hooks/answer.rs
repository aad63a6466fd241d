//! What a libc function returns, and how that shows a failure.
#![forbid(unsafe_code)]

use core::ffi::{c_int, c_long, c_void};

use crate::engine::call::is_exhaustion;
use crate::os::sys::errno;

/// The return value of an intercepted function.
pub trait Answer: Copy {
    /// Is it a pointer? A function that this libc lacks then answers NULL instead of -1.
    const POINTER: bool = false;

    /// The errno of the failure, or None for a success. To be asked right after the call and on its thread: most return values say
    /// only that the call failed, and the thread's errno says why.
    fn failure(self) -> Option<c_int>;

    /// The descriptor that an event about this call names, or -1.
    fn descriptor(self) -> c_int {
        -1
    }
}

impl Answer for c_int {
    fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
    fn descriptor(self) -> c_int {
        self
    }
}

impl Answer for c_long {
    fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
    fn descriptor(self) -> c_int {
        self as c_int
    }
}

impl Answer for libc::ssize_t {
    fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
}

impl<T> Answer for *mut T {
    const POINTER: bool = true;
    fn failure(self) -> Option<c_int> {
        self.is_null().then(errno)
    }
}

impl Answer for () {
    fn failure(self) -> Option<c_int> {
        None
    }
}

/// A return value that is itself an errno, or 0: posix_spawn(3), posix_fallocate(3).
#[derive(Clone, Copy)]
pub struct Code(pub c_int);

impl Answer for Code {
    fn failure(self) -> Option<c_int> {
        (self.0 != 0).then_some(self.0)
    }
}

/// A return value that names no descriptor, although its type could hold one.
#[derive(Clone, Copy)]
pub struct NoDescriptor<R>(pub R);

impl<R: Answer> Answer for NoDescriptor<R> {
    fn failure(self) -> Option<c_int> {
        self.0.failure()
    }
}

/// The return value of catopen(3), whose failure is the pointer -1.
#[derive(Clone, Copy)]
pub struct Catalogue(pub *mut c_void);

impl Answer for Catalogue {
    fn failure(self) -> Option<c_int> {
        (self.0 as isize == -1).then(errno)
    }
}

/// Is this the answer of a call that failed for lack of descriptors?
#[inline(always)]
pub fn is_exhausted(answer: impl Answer) -> bool {
    answer.failure().is_some_and(is_exhaustion)
}
