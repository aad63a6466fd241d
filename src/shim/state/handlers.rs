//! What a lower layer calls of an upper one, as tables of functions in order. lifecycle/tables.rs says what stands in them, and sets
//! them at load; until then, and in unit tests, they are empty.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Functions that are called for descriptors that bear one of the marks beside them (`state::descriptors`).
type Marked<Function> = &'static [(u32, Function)];

/// The tables.
pub struct Handlers {
    /// A descriptor that bears one of these marks is about to be closed, or its number belongs to something new. Called with the number
    /// and its marks; the descriptor is still open.
    pub on_close: Marked<fn(i32, u32)>,
    /// A close that [`Handlers::on_close`] was told of has not happened, for a descriptor with one of these marks.
    pub on_close_undone: Marked<fn()>,
    /// A descriptor with one of these marks was copied, from one number to another.
    pub on_copy: Marked<fn(i32, i32)>,
    /// A descriptor was made whose number is higher than all before, or it is one of the first of this process. Called with the number, also
    /// where the library may not act.
    pub on_new_descriptor: fn(i32),
    /// A descriptor was made whose number is higher than all before, and the library may act. Called with the number.
    pub on_highest: fn(i32),
    /// Is something besides sleeping threads to be told of closes?
    pub awaits_closes: fn() -> bool,
    /// The program has closed a descriptor while [`Handlers::awaits_closes`] answers true.
    pub on_awaited_close: extern "C" fn(),
}

static NONE: Handlers = Handlers {
    on_close: &[],
    on_close_undone: &[],
    on_copy: &[],
    on_new_descriptor: |_| {},
    on_highest: |_| {},
    awaits_closes: || false,
    on_awaited_close: nothing,
};

extern "C" fn nothing() {}

static TABLES: AtomicPtr<Handlers> = AtomicPtr::new((&raw const NONE).cast_mut());

/// Sets the tables, at load.
pub fn set(tables: &'static Handlers) {
    TABLES.store(core::ptr::from_ref(tables).cast_mut(), Relaxed);
}

/// The tables.
pub fn handlers() -> &'static Handlers {
    // SAFETY: `NONE`, or what `set` was given: both live as long as the library, which is never unloaded.
    unsafe { &*TABLES.load(Relaxed) }
}
