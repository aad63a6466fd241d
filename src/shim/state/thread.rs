//! What is known of the calling thread: one word of thread-local storage, which holds some bits and the address of a stack frame.

use crate::arch;

/// See [`mark_event_loop`].
const EVENT_LOOP: u64 = 1;
/// See [`is_in_vfork`]. Set and cleared by the vfork hook, in assembly.
pub const IN_VFORK: u64 = 2;
/// See [`set_collecting`].
const COLLECTING: u64 = 4;
/// See [`set_telling`].
const TELLING: u64 = 8;
/// The address of a frame, see [`set_retry`]. Frames are aligned to 16 bytes.
const RETRY: u64 = !15;

/// The word of the calling thread.
#[inline(always)]
fn read() -> u64 {
    // SAFETY: the address of this thread's word, which is valid as long as the thread runs. No other thread knows it, and in the child of a
    // vfork(2) this thread stands still.
    unsafe { *arch::thread_word() }
}

#[inline(always)]
fn write(word: u64) {
    // SAFETY: as for `read`: the word is this thread's alone. A signal handler may run between a `read` and this; what it changes, it
    // changes back before it returns, but for a mark that is then made again.
    unsafe { *arch::thread_word() = word };
}

#[inline(always)]
fn set(bit: u64, on: bool) {
    write(if on { read() | bit } else { read() & !bit });
}

/// The calling thread has waited for events of several descriptors at once. It is the thread that will close some, so it must never
/// sleep for one (glassfish-grizzly#990: servers that slept after a failed accept never got out of their exhaustion).
#[inline(always)]
pub fn mark_event_loop() {
    set(EVENT_LOOP, true);
}

/// Has [`mark_event_loop`] been called on this thread?
#[inline(always)]
pub fn is_event_loop() -> bool {
    read() & EVENT_LOOP != 0
}

/// Is this the child of a vfork(2)? It has its parent's memory, and must not note there what it does with descriptors of its own. It also
/// has its parent's thread-local storage, which tells without a system call.
#[inline(always)]
pub fn is_in_vfork() -> bool {
    read() & IN_VFORK != 0
}

/// In the child of a fork(2): it has memory of its own, also if the child of a vfork(2) has made it.
pub fn forked() {
    set(IN_VFORK, false);
}

/// The calling thread begins or ends a garbage collection that it runs while another thread has the turn to reclaim. Calls that the
/// collection makes must not begin another.
#[inline(always)]
pub fn set_collecting(now: bool) {
    set(COLLECTING, now);
}

/// See [`set_collecting`].
pub fn is_collecting() -> bool {
    read() & COLLECTING != 0
}

/// The calling thread begins or ends a call of the program's functions for events, within [`set_retry`]. Calls that these make get their
/// errors at once, and no event.
pub fn set_telling(now: bool) {
    set(TELLING, now);
}

/// See [`set_telling`].
pub fn is_telling() -> bool {
    read() & TELLING != 0 && is_retrying(arch::stack_pointer())
}

/// The calling thread calls an operation of the program's, in tideover_retry(3) or for an event, from the stack frame at this address; 0:
/// that is over. Calls that the operation makes get their errors at once: the operation as a whole is tried again, by its own policy.
/// Returns the address before.
pub fn set_retry(frame: usize) -> usize {
    let word = read();
    write(word & !RETRY | frame as u64 & RETRY);
    (word & RETRY) as usize
}

/// Was the call with this stack pointer made by such an operation? If the operation was left by longjmp(3), the calls that follow have
/// frames further out, by which that is found out, except in a signal handler, whose stack may be anywhere.
pub fn is_retrying(stack_pointer: usize) -> bool {
    let frame = (read() & RETRY) as usize;
    if frame != 0 && stack_pointer >= frame && crate::os::sys::alternate_stack().is_none() {
        set_retry(0);
        set_telling(false);
        return false;
    }
    frame != 0
}

/// Has the calling thread at least so many bytes of stack left? Signal handlers may have 8 KiB in all, and threads 16. A coroutine's stack
/// can't be told from the heap that it is in, and seems to go on. Makes two system calls or more.
pub fn has_stack(bytes: usize) -> bool {
    let stack_pointer = arch::stack_pointer();
    match crate::os::sys::alternate_stack() {
        Some(end) => stack_pointer.saturating_sub(end) >= bytes,
        // On a stack of valgrind's own, which does not tell how much of it is left.
        None if arch::is_on_valgrind() => true,
        // Below a stack is a page that can't be read. The stack of the first thread grows when it is read there.
        None => crate::os::sys::is_readable(stack_pointer.wrapping_sub(bytes) as *const _, bytes),
    }
}

/// How many threads this process has; 1 if /proc does not say, since then no other thread can be relied on. Needs no descriptor.
pub fn count() -> u64 {
    crate::os::sys::link_count(c"/proc/self/task").map_or(1, |links| links.saturating_sub(2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_belongs_to_one_thread() {
        mark_event_loop();
        assert!(is_event_loop());
        assert!(!std::thread::spawn(is_event_loop).join().unwrap());
    }

    #[test]
    fn threads_are_counted_without_a_descriptor() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let before = count();
        let extra = std::thread::spawn(move || told.recv());
        assert!(count() >= 2 && before >= 1);
        drop(tell);
        let _ = extra.join();
    }
}
