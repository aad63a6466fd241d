//! The system calls that the library makes itself, all on cold paths: typed, with errno as a value, by [`crate::arch::syscall`]. Files are
//! named as the sections of the manual about them.
//!
//! All are calls that every architecture has; where one has an older twin (poll for ppoll), the newer is made.

mod descriptors;
mod files;
mod limits;
mod memory;
mod poll;
mod processes;
mod signals;
mod sockets;
mod terminals;
mod time;

pub use self::descriptors::*;
pub use self::files::*;
pub use self::limits::*;
pub use self::memory::*;
pub use self::poll::*;
pub use self::processes::*;
pub use self::signals::*;
pub use self::sockets::*;
pub use self::terminals::*;
pub use self::time::*;
pub use super::errno::{Errno, errno, set_errno};

/// The kernel's answer: -4095..=-1 is an errno.
fn answer(raw: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&raw) { Err(-raw as Errno) } else { Ok(raw as usize) }
}

/// `call!(SYS_NAME, ARGUMENTS...)`: makes a system call; the arguments that are missing are 0.
macro_rules! call {
    ($number:ident $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: the arguments are what the man page asks for: numbers, and pointers to locals, references, slices and C strings that
        // live across the call, with their true lengths. What an `unsafe fn` passes besides, its caller has promised.
        $crate::os::sys::answer(unsafe { $crate::arch::syscall(libc::$number as core::ffi::c_long, args) })
    }};
}
use call;
