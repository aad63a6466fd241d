//! What is intercepted: one table per family of functions, one line per function, its variants beside it.
//!
//! A line is the C prototype and the kind of answer (`kinds`, or a function of the family's own). It expands to `redhook::hook!`, which
//! makes the exported function, around: call the real function; if it failed for lack of descriptors, let the engine call it again
//! (`retry`); else count what it made. A new hook is a line here and its name in exports.txt. The tests compare that list with the
//! built library, and ask the libc of the machine for variants that were forgotten.
//!
//! Inside this folder, the families use `kinds`, which uses `retry`, which uses `answer`.

mod answer;
pub mod capi;
mod closes;
mod composites;
mod connects;
mod descriptors;
mod files;
mod kinds;
mod limits;
mod loops;
mod parts;
mod processes;
mod real_poll;
mod receives;
mod retry;
mod sandbox;
mod selects;
pub mod sockets;
mod spaces;
mod syscall;
mod threads;
mod variadic;
mod writes;

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::os::barrier::barrier;
use crate::state::process;

/// A family's table: `name(argument: type, ...) -> type = kind(what else the kind is told) if condition;`. The call may sleep for a
/// descriptor only where the condition holds. It is evaluated after a failure for lack of descriptors.
///
/// A table that begins with `at load:` has functions that [`resolve_common`] looks up: the addresses of its real functions stand with what
/// the start of a process writes anyway, all others apart (layout.ld).
macro_rules! hooks {
    (at load: $($lines:tt)*) => {
        $crate::hooks::hooks_in! { ".data.at_load"; $($lines)* }
    };
    ($($lines:tt)*) => {
        $crate::hooks::hooks_in! { ".tables"; $($lines)* }
    };
}

/// [`hooks`], told in which section the addresses of the real functions stand.
macro_rules! hooks_in {
    ($section:literal; $($name:ident($($arg:ident: $type:ty),*) -> $answer:ty = $kind:ident($($extra:expr),*) $(if $may_block:expr)?;)*) => {
        $(#[allow(non_snake_case)]
        pub mod $name {
            #[allow(unused_imports)]
            use super::*;
            use core::ffi::CStr;
            $crate::hooks::hook! {
                unsafe fn $name($($arg: $type),*) -> $answer => hook {
                    type Function = unsafe extern "C" fn($($type),*) -> $answer;
                    // SAFETY: `real()` is the function of this name, or one that takes no notice of its arguments, so it has
                    // this type. The program calls it with these arguments, so they are what its manual page asks for; they are
                    // handed to it as they are, which is what the kinds ask for.
                    unsafe {
                        let call = move || $crate::hooks::kinds::named(stringify!($name), true $(&& $may_block)?);
                        // Loaded again for each call: kept across it, the address would cost a register to save.
                        $kind(call, move || core::mem::transmute::<usize, Function>(real())($($arg),*) $(, $extra)*)
                    }
                }
            }

            #[unsafe(link_section = $section)]
            static REAL: $crate::os::real::Real = $crate::os::real::Real::new();
            // SAFETY: it ends with a NUL, and a C identifier holds none.
            const NAME: &CStr = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };

            /// Address of the real function.
            #[inline(always)]
            #[unsafe(link_section = ".text.at_load")]
            pub fn real() -> usize {
                REAL.address(NAME, <$answer as $crate::hooks::answer::Answer>::POINTER)
            }

            /// Looks the real function up ahead of its first call.
            pub fn resolve() {
                REAL.resolve(NAME);
            }
        })*

        /// Looks up the real functions of this family.
        pub fn resolve() {
            $($name::resolve();)*
        }
    };
}
pub(crate) use {hooks, hooks_in, redhook::hook};

/// Looks up the real functions that nearly every program calls, so that no hook has to later.
pub fn resolve_common() {
    let common: [fn() -> usize; 3] = [files::open::real, files::open64::real, closes::close::real];
    for look_up in common {
        look_up();
    }
}

/// Looks up all others, when the program has become a server: else each child that it forks for a client would search all its
/// libraries for what it calls.
#[cold]
#[inline(never)]
pub extern "C" fn resolve_all() {
    #[unsafe(link_section = ".tables")]
    static DONE: AtomicBool = AtomicBool::new(false);
    barrier((), || {
        if !process::may_note() || DONE.swap(true, Relaxed) {
            return;
        }
        // The compiler reports a family that is missing here: its `resolve` would be unused. (A table of functions instead would be
        // a relocation per family at each start.)
        closes::resolve();
        composites::resolve();
        connects::resolve();
        descriptors::resolve();
        files::resolve();
        limits::resolve();
        loops::resolve();
        processes::resolve();
        receives::resolve();
        selects::resolve();
        sockets::resolve();
        spaces::resolve();
        syscall::resolve();
        threads::resolve();
        writes::resolve();
    });
}
