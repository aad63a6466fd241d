//! The real functions: what the program would call if this library were not there. They are looked for in the objects behind ours, and only
//! then by dlsym(3) with RTLD_NEXT, which takes the loader's lock: a thread that loads a library holds it, and may wait for another
//! thread that calls a hook for the first time.
//!
//! The common ones are found when the library is loaded, the others at their first use. redhook's own look-up is not used: its `Once`
//! blocks when it is entered again (dlsym may call malloc, whose first call may open a file), and it ends the program when a name is
//! missing.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute;
use core::num::NonZeroUsize;
use once_cell::race::OnceNonZeroUsize;

use crate::arch::weak;
use crate::os::elf::{self, Name};
use crate::os::errno::set_errno;

/// Address of dlsym(3). Before glibc 2.34 it is in libdl.so.2, which many programs never load; if this library needed that one, every
/// program would pay for it at its start. Two functions that glibc has for such cases find it there.
static DLSYM: OnceNonZeroUsize = OnceNonZeroUsize::new();

fn find_dlsym() -> NonZeroUsize {
    // The mode that tells glibc that this is dlopen(3).
    const LAZY: c_int = 1 | 0x8000_0000_u32 as c_int;
    let mut address = weak!("dlsym");
    let (open, find) = (weak!("__libc_dlopen_mode"), weak!("__libc_dlsym"));
    if address == 0 && open != 0 && find != 0 {
        // SAFETY: glibc's functions, with the types that they have in its dlfcn.h.
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

/// Stands for dlsym(3) where there is none: it finds nothing.
extern "C" fn none(_: *mut c_void, _: *const c_char) -> *mut c_void {
    core::ptr::null_mut()
}

/// Where dlsym(3) looks.
pub enum Scope {
    /// RTLD_DEFAULT: in all objects, in the order in which the program looks.
    Everywhere,
    /// RTLD_NEXT: in those behind this library.
    BehindUs,
}

/// Address of a function by dlsym(3); 0 if there is none of this name.
pub fn dlsym(scope: Scope, name: &CStr) -> usize {
    let handle = match scope {
        Scope::Everywhere => libc::RTLD_DEFAULT,
        Scope::BehindUs => libc::RTLD_NEXT,
    };
    // SAFETY: the address is that of dlsym(3), or of `none`: both have this type, and take a C string
    // and either handle.
    unsafe {
        let dlsym: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            transmute(DLSYM.get_or_init(find_dlsym).get());
        dlsym(handle, name.as_ptr()) as usize
    }
}

/// The address of one real function, or 0 until it was looked for. Its name is given at each look-up: a pointer to it would be relocated at
/// the start of every process.
pub struct Real(OnceNonZeroUsize);

/// Stands for a function that this libc lacks: -1, and errno is ENOSYS.
extern "C" fn absent() -> isize {
    set_errno(libc::ENOSYS);
    -1
}

/// Stands for one that returns a pointer: NULL, and errno is ENOSYS.
extern "C" fn absent_pointer() -> usize {
    set_errno(libc::ENOSYS);
    0
}

impl Real {
    /// Not looked up yet.
    pub const fn new() -> Real {
        Real(OnceNonZeroUsize::new())
    }

    /// Address of the function of this name, or of one that fails with ENOSYS.
    #[inline(always)]
    pub fn address(&self, name: &'static CStr, returns_pointer: bool) -> usize {
        match self.0.get() {
            Some(address) => address.get(),
            None => self.look_up(name.as_ptr(), returns_pointer),
        }
    }

    /// Looks for the function before its first call, unless that needs dlsym(3).
    #[cold]
    #[inline(never)]
    pub fn resolve(&self, name: &'static CStr) {
        if let Some(address) = elf::next(&Name::new(name)).and_then(NonZeroUsize::new) {
            // If another thread was first, it has found this address, too.
            let _ = self.0.set(address);
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.at_load")]
    extern "C" fn look_up(&self, name: *const c_char, returns_pointer: bool) -> usize {
        let find = || {
            // SAFETY: `address`, the only caller, passes a CStr.
            let name = unsafe { CStr::from_ptr(name) };
            let found = elf::next(&Name::new(name)).unwrap_or_else(|| dlsym(Scope::BehindUs, name));
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
