//! Second reclaim step: functions that the program or a library has registered through the C API to free descriptors (reclaimers).

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::sync::atomic::{Ordering::Release, fence};

use parking_lot::Mutex;

use super::{FailedCall, Gain, count};
use crate::os::cancel::uncancelled;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::usage;

/// `struct tideover_pressure` of the C header.
#[repr(C)]
pub struct CPressure {
    /// Size of this struct in bytes, for later versions.
    pub size: u32,
    /// EMFILE or ENFILE.
    pub error: c_int,
    /// Name of the call that failed, a C string that is valid until the function returns.
    pub call: *const c_char,
    /// Descriptors in use.
    pub used: u64,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// `tideover_reclaim_fn` of the C header: called with the context that it was registered with; returns how many descriptors it freed.
///
/// # Safety
/// The struct is valid until the function returns; the context is the one that it was registered with.
pub type Reclaimer = unsafe extern "C" fn(*mut c_void, *const CPressure) -> c_long;

/// At most so many functions can be registered.
pub const PLACES: usize = 32;

/// A registered function.
#[derive(Clone, Copy)]
struct Registered {
    function: Reclaimer,
    context: *mut c_void,
    /// The highest is called first.
    priority: c_int,
    /// Among equal priorities, the lowest is called first: the one that was registered first.
    order: u32,
}

// SAFETY: the context is a pointer that this library never follows; tideover.h asks for a function and a context that may be used on
// any thread.
unsafe impl Send for Registered {}

#[unsafe(link_section = ".tables")]
static REGISTERED: Mutex<[Option<Registered>; PLACES]> = Mutex::new([None; PLACES]);

/// Runs `change` on the table, and waits for the lock as long as it takes: called from the C API only, never from a hook.
fn with_table<T>(change: impl FnOnce(&mut [Option<Registered>; PLACES]) -> T) -> T {
    let mut guard = loop {
        if let Some(guard) = REGISTERED.try_lock() {
            break guard;
        }
        sys::yield_now();
    };
    change(&mut guard)
}

/// Registers a function with its context; false if [`PLACES`] are registered already.
pub fn register(function: Reclaimer, context: *mut c_void, priority: c_int) -> bool {
    let added = with_table(|table| {
        let order = table.iter().flatten().map(|place| place.order + 1).max().unwrap_or(0);
        let free = table.iter_mut().find(|place| place.is_none());
        let Some(free) = free else { return false };
        // In two steps, so that no thread of a child that is forked meanwhile can find the function beside another context.
        let registered = free.insert(Registered { function: frees_nothing, context, priority, order });
        fence(Release);
        registered.function = function;
        true
    });
    super::make_all_due();
    added
}

/// Stands in for a function that is being registered.
extern "C" fn frees_nothing(_: *mut c_void, _: *const CPressure) -> c_long {
    0
}

/// Removes a function that was registered with this context; false if there is none.
pub fn unregister(function: Reclaimer, context: *mut c_void) -> bool {
    let same = |place: &Registered| core::ptr::fn_addr_eq(place.function, function) && place.context == context;
    with_table(|table| {
        table.iter_mut().find(|place| place.as_ref().is_some_and(same)).map(|place| *place = None).is_some()
    })
}

/// The reclaim step: calls the functions, the one with the highest priority first, until one frees something.
pub fn run(failed: &FailedCall) -> Gain {
    let mut done = None;
    while let Some(place) = next(done) {
        done = Some((place.priority, place.order));
        let freed = call(&place, failed);
        count(freed);
        if freed > 0 {
            return Gain::Freed;
        }
    }
    Gain::Nothing
}

/// The function that is called after the one of this priority and order; None: the first. It is looked up anew each time, and called
/// without the lock, since functions may register and remove themselves and others.
fn next(done: Option<(c_int, u32)>) -> Option<Registered> {
    let rank = |priority: c_int, order: u32| (-i64::from(priority), order);
    let guard = REGISTERED.try_lock()?;
    let after = |place: &Registered| done.is_none_or(|(p, o)| rank(place.priority, place.order) > rank(p, o));
    let candidates = guard.iter().flatten().copied().filter(after);
    candidates.min_by_key(|place| rank(place.priority, place.order))
}

/// Calls a registered function. Returns how many descriptors it says that it freed.
fn call(place: &Registered, failed: &FailedCall) -> u64 {
    let mut name = Text::<32>::new();
    let _ = name.push(failed.name.as_bytes());
    let name: &CStr = name.as_c_str();
    let limit = sys::descriptor_limit(0).unwrap_or(libc::rlimit { rlim_cur: 0, rlim_max: 0 });
    let shown = CPressure {
        size: size_of::<CPressure>() as u32,
        error: failed.errno,
        call: name.as_ptr(),
        used: usage::used(limit.rlim_cur),
        soft: limit.rlim_cur,
        hard: limit.rlim_max,
    };
    // SAFETY: the context is the one that the function was registered with, and `shown`, with the name in it, lives until the call has
    // returned. Whoever registered it has promised by tideover.h that it may be called on any thread.
    let freed = uncancelled(|| unsafe { (place.function)(place.context, &raw const shown) });
    u64::try_from(freed).unwrap_or(0)
}

/// In the child of a fork: another thread that held the lock does not exist here.
pub fn forked() {
    if REGISTERED.is_locked() {
        // SAFETY: the thread that holds the lock does not exist in this process, so no guard of it will be used or dropped; the one that
        // forked did not hold it, since nothing is called with it held. What that thread was writing is safe to use: see `register`.
        unsafe { REGISTERED.force_unlock() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::call::Role;
    use core::sync::atomic::{AtomicI64, Ordering::SeqCst};

    static CALLS: AtomicI64 = AtomicI64::new(0);

    /// # Safety
    /// See [`Reclaimer`].
    unsafe extern "C" fn append(context: *mut c_void, pressure: *const CPressure) -> c_long {
        // SAFETY: `call` passes a struct that is valid until this function returns, see `Reclaimer`.
        assert_eq!(unsafe { (*pressure).error }, libc::EMFILE);
        CALLS.store(CALLS.load(SeqCst) * 10 + context as i64, SeqCst);
        if context as i64 == 3 { 7 } else { 0 }
    }

    #[test]
    fn reclaimers_run_by_priority_until_one_frees() {
        let context = |n: usize| n as *mut c_void;
        for (n, priority) in [(1, 0), (2, 5), (3, -1), (4, -2), (5, 5)] {
            assert!(register(append, context(n), priority));
        }
        let failed = FailedCall {
            name: "open",
            errno: libc::EMFILE,
            role: Role::Usual,
            may_block: true,
            stack_pointer: usize::MAX,
            collects: true,
        };
        assert!(matches!(run(&failed), Gain::Freed));
        assert_eq!(CALLS.load(SeqCst), 2513);
        for n in 1..=5 {
            assert!(unregister(append, context(n)));
        }
        assert!(!unregister(append, context(1)));
        assert!(matches!(run(&failed), Gain::Nothing));
    }
}
