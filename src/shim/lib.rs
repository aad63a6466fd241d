//! libtideover.so: an LD_PRELOAD library that keeps unmodified programs running when they hit `Too many open files` (EMFILE, ENFILE) or
//! when their log's disk is full (`No space left on device`). When nothing is short, a hook calls the real function, looks at the
//! result, counts it and returns.
//!
//! # Layers
//! A file uses its own layer and those below it (a test in tests/ reads the `use` lines). From the top:
//!
//! - [`lifecycle`]: load, fork and exit, and the functions of upper layers that lower ones call, in order.
//! - `hooks`: the functions of libc that are intercepted, one table per family.
//! - [`features`]: [`accept`](features::accept) (servers at their limit), [`logs`](features::logs) (full disks),
//!   [`outgoing`](features::outgoing) (limits and timeouts of connections).
//! - [`engine`]: what is tried for a call that failed for lack of a descriptor or a port. It knows no feature.
//! - [`state`]: settings, the shared page, events, messages, and what is known of the process, its threads and its descriptors.
//! - [`os`]: the library's own system calls, locks, ELF objects, the panic barrier. It knows nothing of what runs out.
//! - [`arch`]: what differs between processor architectures.
//!
//! # The path of a failed open
//! This is also an order in which the crate can be read:
//!
//! 1. `hooks/files.rs` has the row for `open`. Its real function fails with EMFILE, and the hook calls
//! 2. [`engine::attempt::retry_for`], which decides what is done next, and makes the real call again after each of these:
//! 3. [`engine::reclaim`] frees descriptors, in steps: the soft limit is raised, the program's reclaimers are called, garbage is collected,
//!    idle clients are shut down; [`engine::reserve`] gives back what it has kept.
//! 4. [`engine::wait`] sleeps until another thread closes a descriptor, if that can happen, with the [`engine::backoff`] of the settings,
//!    unless the [`engine::breaker`] is open.
//! 5. The call succeeds, or its original error stands. Either way [`state::page`] counts it, [`state::events`] reports it, and
//!    [`state::report`] logs it.
//!
//! # What it does not do
//! It does not change what a call that succeeds returns, close a descriptor that the program has opened, or start a thread. On a success
//! path it takes no lock, allocates nothing and makes no system call. The rules, and the incident behind each, are in DESIGN.md.
// Unit tests are built without the hooks, which would intercept the calls of the tests themselves; so much is never called there.
#![cfg_attr(test, allow(dead_code))]
// The documentation is made with private items (`make doc`); there are no others.
#![allow(rustdoc::private_intra_doc_links)]

mod arch;
mod engine;
mod features;
#[cfg(not(test))]
mod hooks;
mod lifecycle;
mod os;
mod state;

/// Messages are logged through [`state::report`]; nothing is printed in any other way.
#[allow(unused_macros)]
macro_rules! println {
    ($($any:tt)*) => {
        compile_error!(
            "use the macros of the log crate: their lines are formatted on the stack and written by one call"
        )
    };
}
