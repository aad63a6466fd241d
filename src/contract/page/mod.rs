//! The shared page: one file of 4 KiB for each guarded process, `<dir>/tideover.<uid>/<pid>`.
//!
//! Fixed width, native byte order, no pointers. The library writes it with relaxed atomics. A reader calls read(2) on the
//! file (it never maps it: a file that somebody truncates must not raise SIGBUS in the reader) and interprets the bytes
//! with [`View`]. include/tideover.h has the same layout in C; the crate's tests compare the two.

mod counters;
mod events;
mod layout;
mod view;

pub use counters::{COUNTERS, CounterInfo, Counters, Shape};
pub use events::{Event, EventKind, Outcome, kind_name, outcome_name};
pub use layout::*;
pub use view::{CollectorView, EventView, NotAPage, View};
