//! What follows a failed call: it is made again when a descriptor, a local port or disk space is there.

use core::ffi::{c_int, c_void};

use super::answer::Answer;
use crate::engine::attempt::retry_for;
use crate::engine::call::{Call, Lack, Tried, is_exhaustion};
use crate::features::logs::on_full;

/// A call has just failed. If that was for lack of descriptors, the engine makes it again after whatever helps. Returns the last
/// answer, or the first with its errno when nothing helped. Nearly every program looks for files that are not there, at its start.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub fn second_chance<R: Answer, F: FnMut() -> R>(first: R, call: impl Fn() -> Call, real: F) -> R {
    match first.failure() {
        Some(errno) if is_exhaustion(errno) => second_chance_for(Lack::Descriptor, first, errno, call, real),
        _ => first,
    }
}

/// [`second_chance`] for a call that lacks `lack`, and failed with `errno` for it.
pub fn second_chance_for<R: Answer, F: FnMut() -> R>(
    lack: Lack,
    first: R,
    errno: c_int,
    call: impl Fn() -> Call,
    real: F,
) -> R {
    let mut call_again = RealCall { real, answer: first };
    // SAFETY: `make` is told the type of what it is given, which lives until `retry_for` returns.
    let has_answer = unsafe { retry_for(lack, call(), errno, make::<R, F>, (&raw mut call_again).cast()) };
    if has_answer { call_again.answer } else { first }
}

/// A call has just failed. If its disk was full and the user has asked for that (TIDEOVER_ON_FULL=wait), it is made again when there
/// is space.
#[cold]
#[inline(never)]
pub fn when_there_is_space<R: Answer, F: FnMut() -> R>(first: R, name: &'static str, real: F) -> R {
    match first.failure() {
        Some(errno) if on_full::may_wait(errno) => {
            let mut call_again = RealCall { real, answer: first };
            // SAFETY: `make` is told the type of what it is given, which lives until `retry_until_space` returns.
            let has_answer =
                unsafe { on_full::retry_until_space(name, errno, make::<R, F>, (&raw mut call_again).cast()) };
            if has_answer { call_again.answer } else { first }
        }
        _ => first,
    }
}

/// A real call with its arguments, and what it answered last.
struct RealCall<R, F> {
    real: F,
    answer: R,
}

/// Makes a [`RealCall`], keeps its answer, and says how it went.
///
/// # Safety
/// `call` points to a `RealCall<R, F>` that nobody else uses meanwhile.
unsafe extern "C" fn make<R: Answer, F: FnMut() -> R>(call: *mut c_void) -> Tried {
    // SAFETY: the caller promises the type, and that this is the only reference.
    let call = unsafe { &mut *call.cast::<RealCall<R, F>>() };
    call.answer = (call.real)();
    match call.answer.failure() {
        None => Tried { errno: 0, descriptor: call.answer.descriptor() },
        Some(errno) => Tried { errno, descriptor: -1 },
    }
}
