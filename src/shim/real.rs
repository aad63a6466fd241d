//! The real functions: what a hook would have called without us, found by dlsym(RTLD_NEXT).
//!
//! The common ones are found when the library is loaded, the rest at first use. Not redhook's own look-up: its `Once` blocks
//! when it is re-entered (dlsym may call malloc, whose first call may open) and it ends the host when a name is missing.

use core::ffi::{CStr, c_char};
use core::num::NonZeroUsize;
use once_cell::race::OnceNonZeroUsize;

/// One real function. Its name is given at the look-up: kept here, it would cost every process a relocation per hook.
pub struct Real(OnceNonZeroUsize);

/// A function that this libc lacks: -1 and ENOSYS.
extern "C" fn absent() -> isize {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    -1
}

/// The same for a function that returns a pointer.
extern "C" fn absent_pointer() -> usize {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    0
}

impl Real {
    /// Not looked up yet.
    pub const fn new() -> Real {
        Real(OnceNonZeroUsize::new())
    }

    /// Address of the function, or of one that answers ENOSYS.
    #[inline(always)]
    pub fn address(&self, name: &'static CStr, returns_pointer: bool) -> usize {
        match self.0.get() {
            Some(address) => address.get(),
            None => self.look_up(name.as_ptr(), returns_pointer),
        }
    }

    #[cold]
    #[inline(never)]
    extern "C" fn look_up(&self, name: *const c_char, returns_pointer: bool) -> usize {
        let find = || {
            // SAFETY: a NUL-terminated name; dlsym of a name that exists neither allocates nor touches dlerror(3).
            let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name) } as usize;
            let fallback = if returns_pointer { absent_pointer as *const () } else { absent as *const () };
            NonZeroUsize::new(found).or(NonZeroUsize::new(fallback as usize)).unwrap_or(NonZeroUsize::MIN)
        };
        self.0.get_or_init(find).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_function_answers_enosys() {
        static MISSING: Real = Real::new();
        // SAFETY: the address is that of `absent`, which takes nothing and returns isize.
        let call: extern "C" fn() -> isize =
            unsafe { core::mem::transmute(MISSING.address(c"tideover_no_such_function", false)) };
        assert_eq!(call(), -1);
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS));
    }
}
