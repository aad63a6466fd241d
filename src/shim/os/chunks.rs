//! A table that grows: a first part that is a static, and further parts that are mapped when they are needed, and never unmapped.

use core::sync::atomic::{AtomicPtr, Ordering::*};

use super::sys;
use super::table::Zeroed;

/// Entries of a part.
pub const PART: usize = 64;

/// A further part.
struct Part<T> {
    entries: [T; PART],
    next: AtomicPtr<Part<T>>,
}

/// The further parts.
pub struct Chunks<T: 'static> {
    first: AtomicPtr<Part<T>>,
}

impl<T: Zeroed + 'static> Chunks<T> {
    /// None yet.
    pub const fn new() -> Chunks<T> {
        Chunks { first: AtomicPtr::new(core::ptr::null_mut()) }
    }

    fn parts(&self) -> impl Iterator<Item = &'static Part<T>> {
        // SAFETY: null, or a part that `grow` has mapped, which is never unmapped; zero bytes are a valid one.
        let part = |at: &AtomicPtr<Part<T>>| unsafe { at.load(Acquire).as_ref::<'static>() };
        core::iter::successors(part(&self.first), move |before| part(&before.next))
    }

    /// Their entries.
    pub fn iter(&self) -> impl Iterator<Item = &'static T> {
        self.parts().flat_map(|part| &part.entries)
    }

    /// Adds a part of zeroed entries, and returns the first of them. None: there is no memory. Two threads at once add one each.
    pub fn grow(&self) -> Option<&'static T> {
        let fresh = sys::map_private(size_of::<Part<T>>()).ok()?.cast::<Part<T>>();
        let mut end = &self.first;
        while let Err(next) = end.compare_exchange(core::ptr::null_mut(), fresh, AcqRel, Acquire) {
            // SAFETY: as in `parts`.
            end = unsafe { &(*next).next };
        }
        // SAFETY: mapped above, with its size, and zeroed.
        unsafe { (*fresh).entries.first() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    #[test]
    fn it_grows_while_others_look() {
        static CHUNKS: Chunks<AtomicU32> = Chunks::new();
        assert_eq!(CHUNKS.iter().count(), 0);
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..5).for_each(|_| CHUNKS.grow().unwrap().store(1, Relaxed))))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(CHUNKS.iter().count(), 20 * PART);
        assert_eq!(CHUNKS.iter().map(|entry| entry.load(Relaxed)).sum::<u32>(), 20);
    }
}
