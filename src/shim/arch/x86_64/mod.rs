//! x86-64, with the System V ABI. [`crate::arch`] says what each item promises.

pub mod calls;
#[cfg(not(test))]
pub mod entries;
pub mod kernel;
#[cfg(not(test))]
pub mod runtime;
pub mod syscall;
pub mod thread;
pub mod variadic;
#[cfg(not(test))]
pub mod vfork;
pub mod weak;
