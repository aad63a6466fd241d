//! The library's own lock-free code, in every order that the memory model allows (loom): the files of src/shim are compiled here as they
//! are, with loom's atomics in the place of core's, and what else they use of the library in a small form.

/// What the files use of src/shim.
mod arch {
    /// A number that is this thread's alone.
    pub fn thread_pointer() -> usize {
        super::os::sys::gettid() as usize
    }
}

mod os {
    pub mod atomic {
        //! loom's atomics with a `const fn new`: they are made when they are used first, in the model's run.

        pub use std::sync::atomic::Ordering;

        macro_rules! atomics {
            ($($name:ident: $type:ty),*) => { $(
                /// See the module.
                pub struct $name($type, std::sync::OnceLock<loom::sync::atomic::$name>);

                #[allow(dead_code)]
                impl $name {
                    pub const fn new(value: $type) -> $name {
                        $name(value, std::sync::OnceLock::new())
                    }

                    fn inner(&self) -> &loom::sync::atomic::$name {
                        self.1.get_or_init(|| loom::sync::atomic::$name::new(self.0))
                    }

                    pub fn load(&self, order: Ordering) -> $type {
                        self.inner().load(order)
                    }

                    pub fn store(&self, value: $type, order: Ordering) {
                        self.inner().store(value, order);
                    }

                    pub fn swap(&self, value: $type, order: Ordering) -> $type {
                        self.inner().swap(value, order)
                    }

                    pub fn fetch_add(&self, value: $type, order: Ordering) -> $type {
                        self.inner().fetch_add(value, order)
                    }

                    pub fn compare_exchange(
                        &self,
                        old: $type,
                        new: $type,
                        success: Ordering,
                        failure: Ordering,
                    ) -> Result<$type, $type> {
                        self.inner().compare_exchange(old, new, success, failure)
                    }
                }
            )* };
        }

        atomics!(AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
    }

    pub use super::lossy_lock;

    pub mod sys {
        use std::cell::Cell;

        loom::thread_local! {
            static NUMBER: Cell<i32> = Cell::new(0);
        }

        /// This thread's number, which the model gives it.
        pub fn gettid() -> i32 {
            NUMBER.with(Cell::get)
        }

        /// The calling thread has this number from now on.
        pub fn set_tid(number: i32) {
            NUMBER.with(|own| own.set(number));
        }

        /// Is there a thread of this number? Those of 100 and above have ended.
        pub fn has_thread(number: i32) -> bool {
            number < 100
        }
    }
}

#[path = "../../../src/shim/os/lossy_lock.rs"]
pub mod lossy_lock;
#[allow(dead_code)]
#[path = "../../../src/shim/engine/queue.rs"]
mod queue;
#[allow(dead_code)]
#[path = "../../../src/shim/engine/tickets.rs"]
mod tickets;

mod kernel;
mod lock;
mod waiting;
