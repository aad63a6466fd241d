//! AArch64, with the procedure call standard of Arm (AAPCS64) as Linux has it. [`crate::arch`] says what each item promises.

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
