//! Second reclaim step: functions that the program or a library has registered through the C API to free descriptors (reclaimers).

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_void};

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
    /// Name of the call that found no descriptor.
    pub call: *const c_char,
    /// Descriptors in use.
    pub used: u64,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// `tideover_reclaim_fn` of the C header: how many descriptors it freed.
pub type Reclaimer = unsafe extern "C" fn(*mut c_void, *const CPressure) -> c_long;

/// At most so many reclaimers.
pub const PLACES: usize = 32;

#[derive(Clone, Copy)]
struct Place {
    function: Reclaimer,
    context: *mut c_void,
    priority: c_int,
    /// Orders equal priorities: first come, first served.
    order: u32,
}

struct Table(Mutex<UnsafeCell<[Option<Place>; PLACES]>>);

// SAFETY: contexts are the host's pointers, which tideover.h asks to be usable from any thread; the table itself is locked.
unsafe impl Sync for Table {}

#[unsafe(link_section = ".tables")]
static TABLE: Table = Table(Mutex::new(UnsafeCell::new([None; PLACES])));

/// Runs `change` on the table, waiting for its turn; called from the C API only, never from a hook.
fn with_table<T>(change: impl FnOnce(&mut [Option<Place>; PLACES]) -> T) -> T {
    let mut guard = loop {
        if let Some(guard) = TABLE.0.try_lock() {
            break guard;
        }
        std::thread::yield_now();
    };
    change(guard.get_mut())
}

/// Adds a reclaimer; false if all places are taken.
pub fn register(function: Reclaimer, context: *mut c_void, priority: c_int) -> bool {
    let added = with_table(|table| {
        let order = table.iter().flatten().map(|place| place.order + 1).max().unwrap_or(0);
        let free = table.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(Place { function, context, priority, order })).is_some()
    });
    super::make_all_due();
    added
}

/// Removes a reclaimer; false if there is none of this function and context.
pub fn unregister(function: Reclaimer, context: *mut c_void) -> bool {
    let same = |place: &Place| core::ptr::fn_addr_eq(place.function, function) && place.context == context;
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

/// The first place after `done` in the order of running. Looked up anew each time, and called without the lock: a reclaimer
/// may unregister itself or others.
fn next(done: Option<(c_int, u32)>) -> Option<Place> {
    let rank = |priority: c_int, order: u32| (-i64::from(priority), order);
    let mut guard = TABLE.0.try_lock()?;
    let after = |place: &Place| done.is_none_or(|(p, o)| rank(place.priority, place.order) > rank(p, o));
    let candidates = guard.get_mut().iter().flatten().copied().filter(after);
    candidates.min_by_key(|place| rank(place.priority, place.order))
}

fn call(place: &Place, failed: &FailedCall) -> u64 {
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
    // SAFETY: registered with the promises of tideover.h: callable from any thread, returns.
    let freed = uncancelled(|| unsafe { (place.function)(place.context, &raw const shown) });
    u64::try_from(freed).unwrap_or(0)
}

/// In the child of a fork: if another thread was registering, its change is whole or not begun.
pub fn forked() {
    if TABLE.0.is_locked() {
        // SAFETY: the thread that held it does not exist in this process; places are written last and whole.
        unsafe { TABLE.0.force_unlock() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::call::Role;
    use core::sync::atomic::{AtomicI64, Ordering::SeqCst};

    static CALLS: AtomicI64 = AtomicI64::new(0);

    unsafe extern "C" fn append(context: *mut c_void, pressure: *const CPressure) -> c_long {
        // SAFETY: `call` passes a valid struct.
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
