//! What select(2) and pselect(2) do besides calling the real function: they mark event loops, and look after parked listeners.
//!
//! Their sets may be bad pointers, for which the program expects EFAULT: nothing is read that the kernel has not said can be read.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use libc::{fd_set, sigset_t, timespec, timeval};

use tideover_contract::select::FD_SETSIZE;

use super::hooks;
use super::parts::{INVALID, in_parts, nanoseconds, nanoseconds_of, timespec_of};
use crate::engine::call::Call;
use crate::engine::reclaim::tables;
use crate::features::accept::parking;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

hooks! {
    select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = selecting(end, read, write, except, Limit::Select(timeout), core::ptr::null());
    __select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = selecting(end, read, write, except, Limit::Select(timeout), core::ptr::null());
    pselect(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec,
        mask: *const c_void) -> c_int = selecting(end, read, write, except, Limit::Pselect(timeout), mask.cast());
}

/// The first so many calls of the process are looked at, and then one in [`SAMPLE`]: each look is a system call or more.
const FIRST_CALLS: u32 = 1024;
const SAMPLE: u32 = 64;
/// Calls so far by threads that are not known for event loops.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// For how long select(2) or pselect(2) waits, as the program gave it.
#[derive(Clone, Copy)]
enum Limit {
    Select(*mut timeval),
    Pselect(*const timespec),
}

/// select(2) and pselect(2) about the descriptors below `end`.
///
/// # Safety
/// The pointers are what `real` passes to select(2) or pselect(2).
#[allow(clippy::too_many_arguments, reason = "those of pselect(2), and the two that each kind is given")]
#[inline(always)]
unsafe fn selecting(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    end: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    limit: Limit,
    mask: *const sigset_t,
) -> c_int {
    if !tables::has_sets() && end > 0 && (!read.is_null() || !write.is_null() || !except.is_null()) {
        tables::learn_sets();
    }
    if end > 1 && !thread::is_event_loop() {
        let calls = CALLS.load(Relaxed);
        CALLS.store(calls.wrapping_add(1), Relaxed);
        if calls < FIRST_CALLS || calls.is_multiple_of(SAMPLE) {
            look(end, read, write, except);
        }
    }
    if parking::is_alert()
        // SAFETY: promised by the caller.
        && let Some(answer) = unsafe { selecting_in_parts(end, read, write, except, limit, mask) }
    {
        return answer;
    }
    real()
}

/// Marks the thread as an event loop if there is more than one descriptor in these sets. Programs sleep by select(2) with none, and wait
/// for one.
#[cold]
#[inline(never)]
extern "C" fn look(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set) {
    barrier((), || {
        if !process::may_act() {
            return;
        }
        // Whatever `end` says, the kernel reads no further than there are descriptors, and a set may be as short as that.
        let known = (page::high_water() as usize).clamp(u64::BITS as usize, FD_SETSIZE as usize);
        let words = (end as usize).min(known).div_ceil(u64::BITS as usize);
        let mut found = 0;
        for set in [read, write, except].iter().filter(|set| !set.is_null() && sys::is_readable(set.cast(), 8 * words))
        {
            for word in 0..words {
                // SAFETY: it can be read, as the kernel has just said, and the program leaves it alone during its call.
                found += unsafe { set.cast::<u64>().add(word).read_unaligned() }.count_ones();
            }
        }
        if found > 1 {
            thread::mark_event_loop();
        }
    });
}

/// Longest set that is kept between the parts of a wait, in words: 4096 descriptors.
const WORDS: usize = 64;

/// What the program has in its three sets. The kernel empties them at the end of each part of a wait.
struct Kept {
    words: usize,
    sets: [(*mut fd_set, [u64; WORDS]); 3],
}

/// Keeps what is in the sets. False: they can't be read, or are too long. `extern "C"`, as [`restore`]: nothing unwinds into the hook.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn keep(kept: &mut Kept, end: c_int) -> bool {
    barrier(false, || {
        kept.words = (end as usize).div_ceil(u64::BITS as usize);
        let readable = |set: *mut fd_set| set.is_null() || sys::is_readable(set.cast(), 8 * kept.words);
        if kept.words > WORDS || !kept.sets.iter().all(|(set, _)| readable(*set)) {
            return false;
        }
        for (set, copy) in kept.sets.iter_mut().filter(|(set, _)| !set.is_null()) {
            for (word, to) in copy.iter_mut().enumerate().take(kept.words) {
                // SAFETY: it can be read, as the kernel has just said, and the program leaves it alone during its call.
                *to = unsafe { set.cast::<u64>().add(word).read_unaligned() };
            }
        }
        true
    })
}

/// Puts back what was in the sets: the kernel has emptied them at the end of a part of the wait.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn restore(kept: &Kept) {
    barrier((), || {
        for (set, copy) in kept.sets.iter().filter(|(set, _)| !set.is_null()) {
            for (word, &bits) in copy.iter().enumerate().take(kept.words) {
                // SAFETY: the kernel has just written there: a part of the wait has ended with no descriptor ready.
                unsafe { set.cast::<u64>().add(word).write_unaligned(bits) };
            }
        }
    });
}

/// A listener may be parked in an epoll set that is in one of these sets. None: it is for the real call alone to answer.
///
/// # Safety
/// As pselect(2).
#[cold]
#[inline(never)]
unsafe fn selecting_in_parts(
    end: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    limit: Limit,
    mask: *const sigset_t,
) -> Option<c_int> {
    type Wait =
        unsafe extern "C" fn(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *const timespec, *const sigset_t) -> c_int;
    let within = match limit {
        Limit::Pselect(time) => nanoseconds(time)?,
        Limit::Select(time) if time.is_null() => None,
        Limit::Select(time) => {
            if !sys::is_readable(time.cast(), size_of::<timeval>()) {
                return None;
            }
            // SAFETY: it can be read, as the kernel has just said, and the program leaves it alone during its call.
            let time = unsafe { time.read_unaligned() };
            Some(nanoseconds_of(time.tv_sec, time.tv_usec.saturating_mul(1000)))
        }
    };
    if end <= 0 || within == Some(INVALID) || within == Some(0) || process::phase() == Phase::Sandboxed {
        return None;
    }
    let mut kept = Kept { words: 0, sets: [(read, [0; WORDS]), (write, [0; WORDS]), (except, [0; WORDS])] };
    if !keep(&mut kept, end) {
        return None;
    }
    let begun = sys::now();
    let is_first = Cell::new(true);
    let answer = in_parts(within, mask, |time, mask| {
        if !is_first.replace(false) {
            restore(&kept);
        }
        let time = time.map(timespec_of);
        let time = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: the function of this name has this type; the time is NULL or our own, the mask is ours or the caller's, and the caller
        // promises the rest.
        unsafe { core::mem::transmute::<usize, Wait>(pselect::real())(end, read, write, except, time, mask) }
    });
    if let (Limit::Select(time), Some(within)) = (limit, within)
        && !time.is_null()
    {
        // Linux says how much of the time is left.
        let left = timespec_of(within.saturating_sub(sys::now().saturating_sub(begun)));
        // SAFETY: the program's own timeval, which select(2) writes to.
        unsafe { time.write_unaligned(timeval { tv_sec: left.tv_sec, tv_usec: left.tv_nsec / 1000 }) };
    }
    Some(answer)
}
