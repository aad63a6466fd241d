//! Events: the last ones are kept in the page, and functions that the program has registered through the C API hear of each.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicUsize, fence};

use tideover_contract::page::{CALL_NAME, EVENTS, EventKind, Outcome};

use crate::arch;
use crate::os::sys;
use crate::state::{page, thread};

/// An event.
pub struct Event<'a> {
    /// What has happened.
    pub kind: EventKind,
    /// Name of the call; empty: it is not about a call.
    pub call: &'a str,
    /// errno of the call's first failure; 0: it is not about one.
    pub errno: c_int,
    /// The descriptor that it is about, or a number of descriptors; -1: none.
    pub fd: c_int,
    /// How often the call was made again.
    pub tries: u32,
    /// Nanoseconds since the call's first failure.
    pub waited: u64,
    /// How the call ended.
    pub outcome: Outcome,
}

/// `tideover_event_fn` of the C header: called with the event and the context that it was registered with.
///
/// # Safety
/// The struct is valid until the function returns; the context is the one that it was registered with.
pub type Listener = unsafe extern "C" fn(*const CEvent, *mut c_void);

/// `struct tideover_event` of the C header.
#[repr(C)]
pub struct CEvent {
    /// Size of this struct in bytes, for later versions.
    pub size: u32,
    /// An [`EventKind`].
    pub kind: u32,
    /// errno, or 0.
    pub error: c_int,
    /// Descriptor, or -1.
    pub fd: c_int,
    /// An [`Outcome`].
    pub outcome: u32,
    /// How often the call was made again.
    pub tries: u32,
    /// Nanoseconds since the call's first failure.
    pub waited_ns: u64,
}

/// At most so many functions can be registered.
pub const LISTENERS: usize = 8;
/// A registered function, or room for one.
struct Place {
    /// 0: free; 1: being filled; else the address of a [`Listener`].
    function: AtomicUsize,
    /// The context that it was registered with.
    context: AtomicPtr<c_void>,
}

#[unsafe(link_section = ".tables")]
static PLACES: [Place; LISTENERS] =
    [const { Place { function: AtomicUsize::new(0), context: AtomicPtr::new(core::ptr::null_mut()) } }; LISTENERS];

/// Registers a function for good; false if [`LISTENERS`] are registered already.
pub fn listen(listener: Listener, context: *mut c_void) -> bool {
    PLACES.iter().any(|place| {
        place.function.compare_exchange(0, 1, Relaxed, Relaxed).is_ok() && {
            // The context first: a thread that finds the function must find its context, too.
            place.context.store(context, Relaxed);
            place.function.store(listener as usize, Release);
            true
        }
    })
}

/// Writes the event into the page's ring of the last events, and calls the registered functions.
pub fn emit(event: &Event<'_>) {
    page::ensure();
    let ring = page::page();
    let number = ring.last_event.fetch_add(1, Relaxed) + 1;
    let slot = &ring.events[((number - 1) % EVENTS as u64) as usize];
    slot.sequence.store(0, Relaxed);
    // Whoever reads what follows finds no old number before it.
    fence(Release);
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
    slot.sequence.store(number, Release);
    tell(event);
}

/// Calls the registered functions, unless this is called from within one.
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
    for place in &PLACES {
        let function = place.function.load(Acquire);
        if function > 1 {
            // SAFETY: only `listen` stores numbers above 1 there, each of which is a Listener.
            let function: Listener = unsafe { core::mem::transmute(function) };
            crate::os::cancel::uncancelled(|| {
                // SAFETY: `shown` lives until the function has returned, and the context is its own. Whoever registered it has promised by
                // tideover.h that it is async-signal-safe and returns.
                unsafe { function(&shown, place.context.load(Relaxed)) }
            });
        }
    }
    thread::set_telling(false);
    thread::set_retry(outer);
}
