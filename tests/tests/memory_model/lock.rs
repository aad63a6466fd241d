//! The lock that survives the loss of its holder: one thread at a time has it, an eviction hits only the taking that it was meant for, and
//! an evicted holder that lives on frees nothing that another one holds.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::*};
use loom::thread;

use crate::os::lossy_lock::{LossyLock, Lost, Taken};
use crate::os::sys;

/// Loom's atomics are made at their first use, which must be before there are threads.
fn used_once(lock: &LossyLock) {
    sys::set_tid(9);
    assert!(lock.take(1) == Taken::Yes && lock.release());
}

#[test]
fn two_threads_never_have_it_at_once() {
    loom::model(|| {
        let shared = Arc::new((LossyLock::new(Lost::ThreadGone), AtomicU32::new(0)));
        used_once(&shared.0);
        let work = |shared: Arc<(LossyLock, AtomicU32)>, number| {
            sys::set_tid(number);
            let (lock, inside) = &*shared;
            if lock.take(5) == Taken::Yes {
                assert_eq!(inside.fetch_add(1, Relaxed), 0);
                inside.fetch_sub(1, Relaxed);
                assert!(lock.release());
            }
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || work(shared, 2))
        };
        work(shared.clone(), 1);
        other.join().unwrap();
        assert!(!shared.0.is_taken());
    });
}

#[test]
fn a_holder_that_was_taken_for_lost_frees_nothing_of_anothers() {
    loom::model(|| {
        let lock = Arc::new(LossyLock::new(Lost::After(10 << 30)));
        used_once(&lock);
        sys::set_tid(1);
        assert_eq!(lock.take(1), Taken::Yes);
        let other = {
            let lock = lock.clone();
            thread::spawn(move || {
                sys::set_tid(2);
                // Long after: this thread takes it from the first, unless that has released it by now.
                let taken = lock.take(20 << 30);
                assert!(matches!(taken, Taken::From(1) | Taken::Yes | Taken::No), "{taken:?}");
                if taken != Taken::No {
                    assert!(lock.is_mine());
                }
                taken != Taken::No
            })
        };
        lock.release();
        let has_it = other.join().unwrap();
        assert_eq!(lock.is_taken(), has_it, "only its holder frees it");
        assert!(!lock.is_mine());
    });
}

#[test]
fn it_is_taken_from_a_thread_that_has_ended() {
    loom::model(|| {
        let lock = LossyLock::new(Lost::ThreadGone);
        sys::set_tid(100);
        assert_eq!(lock.take(1), Taken::Yes);
        sys::set_tid(3);
        assert_eq!(lock.take(2), Taken::From(100));
        assert_eq!(lock.take(2), Taken::No, "it is its own already");
        assert!(lock.held_for(12 << 30) == 12 << 30 && lock.release() && !lock.release());
        lock.evict(3);
        assert_eq!(lock.take(3), Taken::Yes);
        lock.evict(3);
        assert!(!lock.is_taken() && !lock.is_mine());
        assert_eq!(lock.take(3), Taken::Yes);
        lock.forked();
        assert!(lock.is_mine());
    });
}
