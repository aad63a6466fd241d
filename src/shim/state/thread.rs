//! What is known of the calling thread: one word of thread-local storage.

use crate::arch;

/// See [`mark_event_loop`].
const EVENT_LOOP: u64 = 1;
/// See [`is_in_vfork`]. Set and cleared by the vfork hook, in assembly.
pub const IN_VFORK: u64 = 2;
/// See [`set_collecting`].
const COLLECTING: u64 = 4;
/// See [`set_telling`].
const TELLING: u64 = 8;
/// See [`set_retry`]. Frames are aligned to 16 bytes.
const RETRY: u64 = !15;

/// This thread has waited for several descriptors at once: it is the one that will close some, so it must never sleep for
/// one (glassfish-grizzly#990: servers that slept on a failed accept made their exhaustion permanent).
#[inline(always)]
pub fn mark_event_loop() {
    // SAFETY: the word belongs to this thread alone.
    unsafe { *arch::thread_word() |= EVENT_LOOP };
}

/// See [`mark_event_loop`].
#[inline(always)]
pub fn is_event_loop() -> bool {
    // SAFETY: as above.
    unsafe { *arch::thread_word() & EVENT_LOOP != 0 }
}

/// Is this the child of a vfork(2)? Its memory is its parent's, so it must not note there what it does with its own
/// descriptors; and it has its parent's thread-local storage, which is how it is known without a system call.
#[inline(always)]
pub fn is_in_vfork() -> bool {
    // SAFETY: as above.
    unsafe { *arch::thread_word() & IN_VFORK != 0 }
}

/// In the child of a fork(2), whose memory is its own, whoever made it.
pub fn forked() {
    // SAFETY: as above.
    unsafe { *arch::thread_word() &= !IN_VFORK };
}

/// This thread begins or ends a collection beside the ladder: what calls from within must not begin another.
#[inline(always)]
pub fn set_collecting(now: bool) {
    // SAFETY: the word belongs to this thread alone.
    unsafe {
        let word = arch::thread_word();
        *word = if now { *word | COLLECTING } else { *word & !COLLECTING };
    }
}

/// See [`set_collecting`].
pub fn is_collecting() -> bool {
    // SAFETY: as above.
    unsafe { *arch::thread_word() & COLLECTING != 0 }
}

/// This thread calls the program's listeners for events, within [`set_retry`]: what they lack is passed on, and not told.
pub fn set_telling(now: bool) {
    // SAFETY: the word belongs to this thread alone.
    unsafe {
        let word = arch::thread_word();
        *word = if now { *word | TELLING } else { *word & !TELLING };
    }
}

/// See [`set_telling`].
pub fn is_telling() -> bool {
    // SAFETY: as above.
    let telling = unsafe { *arch::thread_word() & TELLING != 0 };
    telling && is_retrying(arch::stack_pointer())
}

/// This thread's tideover_retry(3) calls the host's operation, from this frame; 0: that is over. Returns what was there before.
/// What the operation calls passes its errors on: the operation as a whole is tried again, by its own policy.
pub fn set_retry(frame: usize) -> usize {
    // SAFETY: the word belongs to this thread alone.
    unsafe {
        let word = arch::thread_word();
        let before = *word & RETRY;
        *word = *word & !RETRY | frame as u64 & RETRY;
        before as usize
    }
}

/// Is the caller, whose frame is `foot`, within such an operation? One that was left by longjmp(3) is found out by its frame, but for a
/// signal handler's, whose stack may lie anywhere.
pub fn is_retrying(foot: usize) -> bool {
    // SAFETY: the word belongs to this thread alone.
    let frame = unsafe { *arch::thread_word() & RETRY } as usize;
    if frame != 0 && foot >= frame && crate::os::sys::alternate_stack().is_none() {
        set_retry(0);
        set_telling(false);
        return false;
    }
    frame != 0
}

/// Has the calling thread so much stack left? Signal handlers may have 8 KiB in all, and threads 16. A coroutine's stack, which lies in the
/// program's heap, seems to go on. Costs two system calls or more.
pub fn has_stack(bytes: usize) -> bool {
    let foot = arch::stack_pointer();
    match crate::os::sys::alternate_stack() {
        Some(end) => foot.saturating_sub(end) >= bytes,
        // Below a stack is a page that can't be read; that of the first thread grows when it is.
        None => crate::os::sys::is_readable(foot.wrapping_sub(bytes) as *const _, bytes),
    }
}

/// How many threads this process has; 1 when /proc can't tell, since then nothing may be hoped for from another thread.
/// Needs no descriptor.
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
