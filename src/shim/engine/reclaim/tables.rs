//! Tables of descriptors in the program, as far as its calls show them: the soft limit is not raised past their end.
//!
//! sysconf(_SC_OPEN_MAX) and getdtablesize(3) tell the limit, and a program may make a table of that length: so the limit is raised before
//! the answer, and never past what was told afterwards. getrlimit(2) alone is no sign of a table: servers look, and go on.
//!
//! A set of select(2) has room for 1024 descriptors; FD_SET(3) of a higher one writes past its end. Once any object has called select(2),
//! pselect(2) or the check that FD_SET(3) makes in fortified code, the limit stays at 1024. Interpreters check the numbers that they
//! put into a set themselves; there only calls by other objects count.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use tideover_contract::select::{self, FD_SETSIZE};

use super::{caller, limit, loaded};
use crate::os::barrier::barrier;
use crate::os::{elf, sys};
use crate::state::process::{self, Phase};

/// The limit is raised to this before it is told: tables of this length take little memory, and a program that closes all numbers below
/// it takes some milliseconds (measured on OpenLDAP's slapd, Erlang and others: docs/BENCHMARKS.md).
const TOLD: u64 = 16384;
/// In an interpreter the callers of so many calls are looked at, and then of one in [`SAMPLE`].
const FIRST_CALLS: u32 = 32;
const SAMPLE: u32 = 256;

/// What is known.
struct State {
    /// The limit that the program was told first; 0: it has not asked.
    told: AtomicU64,
    /// Sets of select(2) are used, by code that does not check its numbers.
    sets: AtomicBool,
    /// Calls that used sets so far, in an interpreter.
    calls: AtomicU32,
    /// How many objects had been loaded when their imports were looked at; 0: they have not been.
    looked_at: AtomicU64,
    /// One of them imports a function for sets.
    imported: AtomicBool,
}

static STATE: State = State {
    told: AtomicU64::new(0),
    sets: AtomicBool::new(false),
    calls: AtomicU32::new(0),
    looked_at: AtomicU64::new(0),
    imported: AtomicBool::new(false),
};

/// The limit up to which descriptors are safe, as far as the program's calls and its imports tell; u64::MAX: there is none.
pub fn end() -> u64 {
    let told = Some(STATE.told.load(Relaxed)).filter(|&told| told != 0).unwrap_or(u64::MAX);
    let sets = has_sets() || select::imports_sets(process::program(), elf::main_imports) || others_import_sets();
    told.min(if sets { FD_SETSIZE } else { u64::MAX })
}

/// Does another object that was loaded by now import a function for sets, though it has not called it yet? Looked for again when more have
/// been loaded.
fn others_import_sets() -> bool {
    let known = STATE.looked_at.load(Acquire);
    if let Some((found, adds)) = loaded::imports(&select::CALLS, select::counts_by_imports, known) {
        STATE.imported.store(found, Relaxed);
        STATE.looked_at.store(adds, Release);
    }
    STATE.imported.load(Relaxed)
}

/// The program is about to be told its soft limit.
#[inline(always)]
pub fn before_telling() {
    if STATE.told.load(Relaxed) == 0 {
        telling();
    }
}

#[cold]
#[inline(never)]
extern "C" fn telling() {
    barrier((), || {
        if matches!(process::phase(), Phase::Dormant | Phase::Sandboxed) || !process::may_ask() {
            return;
        }
        let program = process::program();
        if select::has_no_table(program) {
            return;
        }
        if process::may_act() && select::is_raised_before_telling(program) {
            limit::raise_to(TOLD);
        }
        if let Ok(limit) = sys::descriptor_limit(0) {
            let _ = STATE.told.compare_exchange(0, limit.rlim_cur, Relaxed, Relaxed);
        }
    });
}

/// Is it known that sets of select(2) are used? One load.
#[inline(always)]
pub fn has_sets() -> bool {
    STATE.sets.load(Relaxed)
}

/// A set of select(2) is used.
#[cold]
#[inline(never)]
pub extern "C" fn learn_sets() {
    barrier((), || {
        if !process::may_note() {
            return;
        }
        if select::is_checked(process::program()) {
            let call = STATE.calls.fetch_add(1, Relaxed);
            if call >= FIRST_CALLS && !call.is_multiple_of(SAMPLE) || !is_foreign(caller::address()) {
                return;
            }
        }
        STATE.sets.store(true, Relaxed);
    });
}

/// Does this address belong to an object that is not the interpreter's own?
fn is_foreign(address: usize) -> bool {
    loaded::object_at(address).is_some_and(|object| select::is_foreign_to_interpreter(object.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_the_end() {
        assert_eq!(end(), u64::MAX);
        STATE.told.store(500, Relaxed);
        assert_eq!(end(), 500);
        STATE.sets.store(true, Relaxed);
        assert_eq!(end(), 500);
        STATE.told.store(0, Relaxed);
        assert_eq!(end(), FD_SETSIZE);
        STATE.sets.store(false, Relaxed);
    }
}
