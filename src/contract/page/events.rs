//! The events of the page, and how calls that found no descriptor ended: two tables, from which the enums, the names in
//! JSON and the enums of the C header are made.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use super::layout::CALL_NAME;

macro_rules! numbered {
    ($(#[$meta:meta])* $type:ident { $($variant:ident = $number:literal $name:literal $help:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $type { $(#[doc = $help] $variant = $number,)* }

        impl $type {
            /// All of them, by number.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];

            /// Its name in JSON; in capitals and with a prefix, that of its constant in the C header.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            /// What it means, in a few words.
            pub const fn help(self) -> &'static str {
                match self { $($type::$variant => $help,)* }
            }
        }
    };
}

numbered! {
    /// What an event is about. Its number in the page and in the C header is `as u32`.
    EventKind {
        Warning = 1 "warning" "usage passed TIDEOVER_FD_WARN; fd is how many descriptors are in use";
        Critical = 2 "critical" "usage passed TIDEOVER_FD_CRITICAL; fd is how many descriptors are in use";
        Exhausted = 3 "exhausted" "a call found no descriptor (connect: no port, or not its turn), and its error was passed on";
        Recovered = 4 "recovered" "a call found no descriptor (connect: no port, or not its turn), and then succeeded";
        Degraded = 5 "degraded" "the filesystem of a log is full";
        Restored = 6 "restored" "the filesystem of a log has space again";
        Raised = 7 "raised" "the soft limit was raised; fd is the new one";
        Parked = 8 "parked" "a listener is parked: its clients wait for descriptors";
        Shed = 9 "shed" "clients are turned away; tries is how many so far, fd the listener";
    }
}

numbered! {
    /// How a call that found no descriptor ended. Its number in the page and in the C header is `as u32`.
    Outcome {
        None = 0 "none" "the event is not about a call";
        Raised = 1 "raised" "succeeded after the soft limit was raised";
        Reclaimed = 2 "reclaimed" "succeeded after a reclaimer freed descriptors";
        Waited = 3 "waited" "succeeded after a wait, or because another thread closed a descriptor meanwhile";
        Hopeless = 4 "hopeless" "failed at once: nothing could be freed, and waiting could not help";
        GaveUp = 5 "gave_up" "failed after all waits";
        BreakerOpen = 6 "breaker_open" "failed at once, because too many waits before it were in vain";
        Interrupted = 7 "interrupted" "failed because a signal handler without SA_RESTART ran during the wait";
        OtherError = 8 "other_error" "the next try failed with another error, which was passed on";
        Parked = 9 "parked" "accept answered EAGAIN: its client waits";
    }
}

/// Name in JSON of an [`EventKind`] by its number; `?` for a number that none has.
pub fn kind_name(kind: u32) -> &'static str {
    EventKind::ALL.iter().find(|known| **known as u32 == kind).map_or("?", |known| known.name())
}

/// Name in JSON of an [`Outcome`] by its number; `?` for a number that none has.
pub fn outcome_name(outcome: u32) -> &'static str {
    Outcome::ALL.iter().find(|known| **known as u32 == outcome).map_or("?", |known| known.name())
}

/// A place in the page for one event. A reader believes it only if it finds the number that belongs into this place.
#[repr(C)]
pub struct Event {
    /// Number of the event from 1; 0 while it is being written.
    pub sequence: AtomicU64,
    /// Nanoseconds of CLOCK_REALTIME.
    pub at_ns: AtomicU64,
    /// Nanoseconds from the first failure to the outcome.
    pub waited_ns: AtomicU64,
    /// [`EventKind`].
    pub kind: AtomicU32,
    /// errno of the first failure; 0 if none.
    pub errno: AtomicI32,
    /// Descriptor that the call got, or the highest in use; -1 if none.
    pub fd: AtomicI32,
    /// How many times the call was tried again.
    pub tries: AtomicU32,
    /// [`Outcome`].
    pub outcome: AtomicU32,
    /// Name of the call, zero-padded; the bytes of five native u32.
    pub call: [AtomicU32; CALL_NAME / 4],
}
