//! Messages that TIDEOVER_LOG_FILE has not got yet because no descriptor was free to open it: they are written before the next message, once
//! a descriptor is closed and no thread waits for one, or when the program ends. No descriptor is kept for that: the program would miss it.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::io::IoSlice;

use crate::os::lock::Lock;
use crate::os::mapping::Mapping;
use crate::os::output::Output;
use crate::state::handlers::handlers;
use crate::state::process;

/// Bytes of messages that are kept. When they are full, the first ones stay: later ones mostly repeat them.
const ROOM: usize = 4096;

/// The messages, in memory that is mapped for the first one.
struct Late {
    memory: Mapping,
    /// Bytes in use.
    length: usize,
    /// The process whose messages they are: the child of a fork has its parent's.
    pid: i32,
}

static LATE: Lock<Option<Late>> = Lock::new(None);
/// Is there a message?
static ANY: AtomicBool = AtomicBool::new(false);

/// Is there a message that waits for a descriptor?
pub fn any() -> bool {
    ANY.load(Relaxed)
}

/// Keeps a line, if there is room for all of it; from then on closes are told of.
pub fn keep(line: &[u8]) {
    let pid = process::pid();
    let Some(mut held) = LATE.enter() else { return };
    if held.as_ref().is_none_or(|late| late.pid != pid) {
        *held = Mapping::private(ROOM).ok().map(|memory| Late { memory, length: 0, pid });
    }
    if let Some(late) = held.as_mut().filter(|late| line.len() <= ROOM - late.length) {
        late.memory.put(late.length, line);
        late.length += line.len();
    }
    ANY.store(true, Relaxed);
    drop(held);
    (handlers().await_close)();
}

/// Writes what is kept, in one write, and forgets it.
pub fn write(to: &Output) {
    if !any() {
        return;
    }
    let Some(mut held) = LATE.enter() else { return };
    if let Some(late) = held.take().filter(|late| late.pid == process::pid()) {
        let _ = to.write(&[IoSlice::new(late.memory.bytes(0, late.length))]);
    }
    ANY.store(false, Relaxed);
}

/// In the child of a fork: the messages are its parent's, and a thread that was writing them does not exist here.
pub fn forked() {
    LATE.forked();
    if any() {
        ANY.store(false, Relaxed);
    }
}
