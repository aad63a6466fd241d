//! libtideover.so: preloaded into a program that nobody can change, it carries the program over running out of file
//! descriptors. When nothing is short, a hook is: call the real function, look at the result, return.
//!
//! The way of a failed open, which is also the way to read this crate:
//! [`hooks`] (what is intercepted) -> [`acquire`] (try again?) -> [`reclaim`] (free what can be freed) -> [`wait`] (sleep
//! where sleeping can help) -> [`page`] (count it) and [`report`] (say it).
//!
//! What it does not do: change what a call that succeeds returns, close a descriptor of the host's, start a thread, take a
//! lock or allocate on a success path. The rules, and the incident behind each, are in DESIGN.md.
// Unit tests leave out the exported functions, or they would interpose on themselves; then much has no caller.
#![cfg_attr(test, allow(dead_code))]

mod arch;
mod engine;
mod features;
#[cfg(not(test))]
mod hooks;
mod lifecycle;
mod os;
mod state;

/// printf-style output from inside a host goes through [`report`] or nowhere.
#[allow(unused_macros)]
macro_rules! println {
    ($($any:tt)*) => {
        compile_error!("use log::warn! and friends: they format on the stack and write once")
    };
}
