//! The real functions: what a hook would have called without us, found in the objects behind ours, or else by dlsym(RTLD_NEXT), which
//! takes the loader's lock: a thread that loads a library holds it, and may wait for another that calls a hook for the first time.
//!
//! The common ones are found when the library is loaded, the rest at first use. Not redhook's own look-up: its `Once` blocks
//! when it is re-entered (dlsym may call malloc, whose first call may open) and it ends the host when a name is missing.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::num::NonZeroUsize;
use once_cell::race::OnceNonZeroUsize;

use crate::arch::weak;
use crate::os::elf::{self, Name};

/// dlsym(3). Before glibc 2.34 it is in libdl.so.2, which many programs never load, and for which all others would pay at each start
/// if the library needed it: libc's own two functions for such cases find it there.
static DLSYM: OnceNonZeroUsize = OnceNonZeroUsize::new();

fn find_dlsym() -> NonZeroUsize {
    // The mode that tells glibc that this is dlopen(3).
    const LAZY: c_int = 1 | 0x8000_0000_u32 as c_int;
    let mut address = weak!("dlsym");
    let (open, find) = (weak!("__libc_dlopen_mode"), weak!("__libc_dlsym"));
    if address == 0 && open != 0 && find != 0 {
        // SAFETY: glibc's functions, typed as in its include/dlfcn.h.
        unsafe {
            let open: extern "C" fn(*const c_char, c_int) -> *mut c_void = transmute(open);
            let find: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void = transmute(find);
            let libdl = open(c"libdl.so.2".as_ptr(), LAZY);
            if !libdl.is_null() {
                address = find(libdl, c"dlsym".as_ptr()) as usize;
            }
        }
    }
    NonZeroUsize::new(address).or(NonZeroUsize::new(none as *const () as usize)).unwrap_or(NonZeroUsize::MIN)
}

/// A dlsym where there is none.
extern "C" fn none(_: *mut c_void, _: *const c_char) -> *mut c_void {
    core::ptr::null_mut()
}

/// Address of a libc function, 0 if it has none of this name: dlsym(3) with RTLD_NEXT or RTLD_DEFAULT.
pub fn dlsym(handle: *mut c_void, name: &CStr) -> usize {
    // SAFETY: the address is dlsym's; a look-up of a NUL-terminated name neither allocates nor touches dlerror(3) if it exists.
    unsafe {
        let dlsym: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            transmute(DLSYM.get_or_init(find_dlsym).get());
        dlsym(handle, name.as_ptr()) as usize
    }
}

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

    /// Finds it ahead of its first call, if that needs no dlsym(3).
    #[cold]
    #[inline(never)]
    pub fn resolve(&self, name: &'static CStr) {
        if let Some(address) = elf::next(&Name::new(name)).and_then(NonZeroUsize::new) {
            // Set already: to the same.
            let _ = self.0.set(address);
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.at_load")]
    extern "C" fn look_up(&self, name: *const c_char, returns_pointer: bool) -> usize {
        let find = || {
            // SAFETY: `address` passed a CStr.
            let name = unsafe { CStr::from_ptr(name) };
            let found = elf::next(&Name::new(name)).unwrap_or_else(|| dlsym(libc::RTLD_NEXT, name));
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
