//! The kernel's descriptor table and its futexes, as locks.

use loom::sync::{Condvar, Mutex};

use crate::os::atomic::{AtomicU32, Ordering};

/// A process with some free descriptors.
pub struct Kernel {
    free: Mutex<u32>,
    /// Addresses that threads sleep on, first come first woken.
    asleep: Mutex<Vec<(usize, usize)>>,
    woken: Condvar,
}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word).addr()
}

impl Kernel {
    /// So many descriptors are free.
    pub fn new(free: u32) -> Kernel {
        Kernel { free: Mutex::new(free), asleep: Mutex::new(vec![]), woken: Condvar::new() }
    }

    /// open(2): false is EMFILE.
    pub fn open(&self) -> bool {
        let mut free = self.free.lock().unwrap();
        let had = *free > 0;
        *free -= u32::from(had);
        had
    }

    /// close(2)
    pub fn close(&self) {
        *self.free.lock().unwrap() += 1;
    }

    /// futex(2), FUTEX_WAIT
    pub fn wait(&self, who: usize, word: &AtomicU32, value: u32) {
        let mut asleep = self.asleep.lock().unwrap();
        if word.load(Ordering::SeqCst) != value {
            return;
        }
        asleep.push((who, address(word)));
        while asleep.contains(&(who, address(word))) {
            asleep = self.woken.wait(asleep).unwrap();
        }
    }

    /// futex(2), FUTEX_WAKE of one
    pub fn wake(&self, word: &AtomicU32) -> usize {
        let mut asleep = self.asleep.lock().unwrap();
        let Some(first) = asleep.iter().position(|(_, on)| *on == address(word)) else { return 0 };
        asleep.remove(first);
        self.woken.notify_all();
        1
    }
}
