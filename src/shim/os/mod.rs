//! What the library needs of the operating system and of libc, and does itself: system calls, the ELF objects of the process, the real
//! functions behind the hooks, a lock, text on the stack, the panic barrier. Nothing here knows of descriptors running out.

pub mod atomic;
pub mod barrier;
pub mod cancel;
pub mod display;
pub mod elf;
pub mod errno;
pub mod lock;
pub mod lossy_lock;
pub mod real;
pub mod sys;
pub mod text;
#[cfg(not(test))]
mod unused;
