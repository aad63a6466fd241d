//! What the library needs of the operating system and of libc, and has of its own: system calls, the ELF objects of the process, the real
//! functions behind the hooks, locks, text on the stack, the panic barrier. Nothing here knows that descriptors can run out.
//!
//! Functions that a hook calls with a program's pointers are `unsafe`, and say under "Safety" what is promised: that these are what the
//! program passed. What can't be read there is an error of the kernel's, as it is for the program's own call.

pub mod atomic;
pub mod barrier;
pub mod cancel;
pub mod chunks;
pub mod display;
pub mod elf;
pub mod errno;
pub mod links;
pub mod lock;
pub mod lossy_lock;
pub mod mapping;
pub mod output;
pub mod real;
pub mod sys;
pub mod table;
pub mod text;
#[cfg(not(test))]
mod unused;
