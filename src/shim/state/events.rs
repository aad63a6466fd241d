//! The last events, in the page, and the functions that want to hear of them.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use tideover_contract::page::{CALL_NAME, EVENTS, EventKind, Outcome};

use crate::arch;
use crate::os::sys;
use crate::state::{page, thread};

/// What happened.
pub struct Event<'a> {
    /// Kind.
    pub kind: EventKind,
    /// Name of the call, empty if none.
    pub call: &'a str,
    /// errno of the first failure.
    pub errno: c_int,
    /// Descriptor, or -1.
    pub fd: c_int,
    /// Retries.
    pub tries: u32,
    /// Nanoseconds since the first failure.
    pub waited: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// `tideover_event_fn` of the C header: kind, descriptors in use or -1, context.
pub type Listener = unsafe extern "C" fn(*const CEvent, *mut c_void);

/// `struct tideover_event` of the C header.
#[repr(C)]
pub struct CEvent {
    /// Size of this struct in bytes, for later versions.
    pub size: u32,
    /// As [`EventKind`].
    pub kind: u32,
    /// errno, or 0.
    pub error: c_int,
    /// Descriptor, or -1.
    pub fd: c_int,
    /// As [`Outcome`].
    pub outcome: u32,
    /// Retries.
    pub tries: u32,
    /// Nanoseconds.
    pub waited_ns: u64,
}

/// At most so many listeners.
pub const LISTENERS: usize = 8;
#[unsafe(link_section = ".tables")]
static LISTENER: [AtomicUsize; LISTENERS] = [const { AtomicUsize::new(0) }; LISTENERS];
#[unsafe(link_section = ".tables")]
static CONTEXT: [AtomicPtr<c_void>; LISTENERS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; LISTENERS];

/// Adds a listener; false if there is no room. Listeners stay.
pub fn listen(listener: Listener, context: *mut c_void) -> bool {
    (0..LISTENERS).any(|i| {
        // The context goes first into a free place; claiming the place by its function publishes both.
        LISTENER[i].compare_exchange(0, 1, Relaxed, Relaxed).is_ok() && {
            CONTEXT[i].store(context, Relaxed);
            LISTENER[i].store(listener as usize, core::sync::atomic::Ordering::Release);
            true
        }
    })
}

/// Writes the event into the ring and tells the listeners.
pub fn emit(event: &Event<'_>) {
    page::ensure();
    let ring = page::page();
    let number = ring.last_event.fetch_add(1, Relaxed) + 1;
    let slot = &ring.events[((number - 1) % EVENTS as u64) as usize];
    slot.sequence.store(0, Relaxed);
    slot.at_ns.store(sys::clock(libc::CLOCK_REALTIME), Relaxed);
    slot.waited_ns.store(event.waited, Relaxed);
    slot.kind.store(event.kind as u32, Relaxed);
    slot.errno.store(event.errno, Relaxed);
    slot.fd.store(event.fd, Relaxed);
    slot.tries.store(event.tries, Relaxed);
    slot.outcome.store(event.outcome as u32, Relaxed);
    for (i, word) in slot.call.iter().enumerate() {
        let byte = |at: usize| if at < CALL_NAME - 1 { event.call.as_bytes().get(at).copied().unwrap_or(0) } else { 0 };
        word.store(u32::from_ne_bytes([byte(4 * i), byte(4 * i + 1), byte(4 * i + 2), byte(4 * i + 3)]), Relaxed);
    }
    slot.sequence.store(number, core::sync::atomic::Ordering::Release);
    tell(event);
}

fn tell(event: &Event<'_>) {
    if thread::is_telling() {
        return;
    }
    let outer = thread::set_retry(arch::stack_pointer());
    thread::set_telling(true);
    let shown = CEvent {
        size: size_of::<CEvent>() as u32,
        kind: event.kind as u32,
        error: event.errno,
        fd: event.fd,
        outcome: event.outcome as u32,
        tries: event.tries,
        waited_ns: event.waited,
    };
    for (listener, context) in LISTENER.iter().zip(&CONTEXT) {
        let function = listener.load(core::sync::atomic::Ordering::Acquire);
        if function > 1 {
            // SAFETY: stored by `listen` from a Listener.
            let function: Listener = unsafe { core::mem::transmute(function) };
            crate::os::cancel::uncancelled(|| {
                // SAFETY: the listener's promise in tideover.h: async-signal-safe, returns.
                unsafe { function(&shown, context.load(Relaxed)) }
            });
        }
    }
    thread::set_telling(false);
    thread::set_retry(outer);
}
