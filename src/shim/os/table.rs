//! A table that is mapped when it is first needed, all zero bytes, and never unmapped.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use super::sys;

/// A type whose value may be all zero bytes, and that threads may share.
///
/// # Safety
/// All zero bytes are a valid value.
pub unsafe trait Zeroed: Sync {}

// SAFETY: any bytes are a number.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: any bytes are a number.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: each of its entries may be zero bytes.
unsafe impl<T: Zeroed, const ENTRIES: usize> Zeroed for [T; ENTRIES] {}

/// The table.
pub struct Table<T: 'static> {
    /// Null until it is mapped.
    mapped: AtomicPtr<T>,
}

impl<T: Zeroed + 'static> Table<T> {
    /// Not mapped yet.
    pub const fn new() -> Table<T> {
        Table { mapped: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// The table, if it was mapped.
    #[inline(always)]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or what `map` has mapped: as many bytes, zero at first, which are a valid value, and never unmapped.
        unsafe { self.mapped.load(Acquire).as_ref() }
    }

    /// The table, which is mapped now if it was not. None: there is no memory for it.
    pub fn map(&self) -> Option<&'static T> {
        if self.get().is_none() {
            let fresh = sys::map_private(size_of::<T>()).ok()?;
            if self.mapped.compare_exchange(core::ptr::null_mut(), fresh.cast(), AcqRel, Relaxed).is_err() {
                // SAFETY: mapped above with this size; another thread was first, and nothing else has the address of this one.
                unsafe { sys::unmap(fresh, size_of::<T>()) };
            }
        }
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_need_it_at_once_get_one_table() {
        static TABLE: Table<[AtomicU64; 1000]> = Table::new();
        assert!(TABLE.get().is_none());
        let map = || std::thread::spawn(|| TABLE.map().unwrap()[7].fetch_add(1, Relaxed));
        let threads: Vec<_> = (0..8).map(|_| map()).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(TABLE.get().unwrap()[7].load(Relaxed), 8);
    }
}
