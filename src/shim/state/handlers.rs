//! The functions of upper layers that lower layers call, in tables, in the order in which they are called. lifecycle/tables.rs has the
//! tables, and sets them at load; until then, and in unit tests, they are empty.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Functions, each beside the marks (`state::descriptors`) of the descriptors that it is called for: those with at least one of them.
type Marked<Function> = &'static [(u32, Function)];

/// The tables.
pub struct Handlers {
    /// A descriptor with one of these marks is about to be closed, or its number is about to be open on something new. Called with the
    /// descriptor, which is still open, and its marks.
    pub on_close: Marked<fn(i32, u32)>,
    /// A close of a descriptor with one of these marks, for which [`Handlers::on_close`] was called, has failed.
    pub on_close_undone: Marked<fn()>,
    /// A descriptor with one of these marks was copied. Called with the old and the new descriptor.
    pub on_copy: Marked<fn(i32, i32)>,
    /// A descriptor was made whose number is higher than all before, or which is one of the first of this process. Called with the
    /// descriptor, also where the library may not act.
    pub on_new_descriptor: fn(i32),
    /// Nine tenths of the descriptors that can be had are in use. Called before a message says so: other threads use up the rest while it
    /// is written.
    pub on_near_limit: fn(),
    /// A call other than accept(2) has found no descriptor, and nothing could be freed for it.
    pub on_lack: fn(),
    /// The file of the page was made, which happens once, and not in programs that end soon.
    pub on_page_made: fn(),
    /// Is this descriptor a copy that the library made for itself?
    pub is_own_copy: fn(i32) -> bool,
    /// A message of the library's waits for a descriptor: closes are to be told of.
    pub on_late_message: fn(),
    /// A socket turns out to have been closed where no hook could see it.
    pub on_unseen_close: fn(),
    /// A stream over standard output or standard error was closed.
    pub on_stream_closed: extern "C" fn(),
    /// Is something besides sleeping threads to be told of closes?
    pub awaits_closes: fn() -> bool,
    /// The program has closed a descriptor while [`Handlers::awaits_closes`] answers true.
    pub on_awaited_close: extern "C" fn(),
}

/// Empty tables.
static NONE: Handlers = Handlers {
    on_close: &[],
    on_close_undone: &[],
    on_copy: &[],
    on_new_descriptor: |_| {},
    on_near_limit: || {},
    on_lack: || {},
    on_page_made: || {},
    is_own_copy: |_| false,
    on_late_message: || {},
    on_unseen_close: || (),
    on_stream_closed: nothing,
    awaits_closes: || false,
    on_awaited_close: nothing,
};

extern "C" fn nothing() {}

/// The tables in use.
static TABLES: AtomicPtr<Handlers> = AtomicPtr::new((&raw const NONE).cast_mut());

/// Sets the tables, at load.
pub fn set(tables: &'static Handlers) {
    TABLES.store(core::ptr::from_ref(tables).cast_mut(), Relaxed);
}

/// The tables.
pub fn handlers() -> &'static Handlers {
    // SAFETY: TABLES points to `NONE`, or to what `set` was given: both are static, and nothing writes to them.
    unsafe { &*TABLES.load(Relaxed) }
}
