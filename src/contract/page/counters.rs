//! The counters and gauges of the page: one table, from which the struct, the JSON of `tideover stat`, the metrics, the C
//! header and docs/counters.md are made.

use core::sync::atomic::AtomicU64;

/// Does a counter only grow, or does it go up and down?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is 0 or 1, in JSON `false` or `true`.
    Bool,
}

/// A row of [`COUNTERS`]: `section.name` is the JSON key of `tideover stat`.
#[derive(Debug)]
pub struct CounterInfo {
    /// `exhaustion`, `logs` ...
    pub section: &'static str,
    /// `emfile`, `diverted_bytes` ...
    pub name: &'static str,
    /// Counter, gauge or bool.
    pub shape: Shape,
    /// One sentence for the documents and for metrics.
    pub help: &'static str,
}

macro_rules! counters {
    ($($section:ident { $($field:ident $shape:ident $help:literal;)* })*) => {
        /// The counters and gauges, one u64 each, in this order.
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct Counters { $($(#[doc = $help] pub $field: AtomicU64,)*)* }

        impl Counters {
            /// All zero.
            pub const fn new() -> Counters { Counters { $($($field: AtomicU64::new(0),)*)* } }
        }

        /// All rows, in the order of [`Counters`].
        pub static COUNTERS: &[CounterInfo] = &[$($(CounterInfo {
            section: stringify!($section), name: stringify!($field), shape: Shape::$shape, help: $help,
        },)*)*];
    };
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

counters! {
    descriptors {
        soft_limit Gauge "soft limit on open descriptors when the library last looked";
        hard_limit Gauge "hard limit on open descriptors when the library last looked";
        high_water Gauge "highest descriptor number seen, plus one";
        raised_from Gauge "soft limit that the process started with, if the library raised it; else 0";
    }
    exhaustion {
        emfile Counter "calls that failed with EMFILE at first";
        enfile Counter "calls that failed with ENFILE at first";
        recovered Counter "calls that failed with EMFILE or ENFILE at first and then succeeded";
        gave_up Counter "calls that failed with EMFILE or ENFILE and whose error was passed on";
        waits Counter "times a thread slept for a descriptor";
        wait_ns Counter "nanoseconds slept, all threads";
        reclaims Counter "runs of a registered reclaimer or collector";
        reclaimed Counter "descriptors that reclaimers and collectors said they freed";
        gc_runs Counter "garbage collections run to free descriptors";
        gc_ns Counter "nanoseconds spent in garbage collections";
        breaker_trips Counter "times that calls began to fail without waiting, after too many waits in vain";
        breaker_open Bool "do calls fail without waiting now, after too many waits in vain?";
    }
    connections {
        accepted Counter "connections accepted";
        clients Gauge "accepted sockets open now";
        parked Counter "listeners parked at the limit";
        unparked Counter "parked listeners put back";
        shed Counter "connections accepted and closed at the limit";
        refused Counter "connections refused by a limit";
        idle_closed Counter "idle clients shut down at the limit";
        outgoing Gauge "outgoing TCP sockets open now; counted while a limit on them is set";
        limited Counter "connects that found TIDEOVER_MAX_CONNECTIONS or TIDEOVER_MAX_PER_ENDPOINT reached";
        connect_timeouts Counter "connects ended by TIDEOVER_CONNECT_TIMEOUT";
        ports_exhausted Counter "connects that found no local port free (EADDRNOTAVAIL)";
        phantom Counter "calls of accept that failed with EMFILE while no client was waiting";
    }
    logs {
        degraded Bool "is a log diverted now?";
        degraded_since Gauge "since when a log is diverted, nanoseconds of CLOCK_REALTIME; 0: none is";
        enospc Counter "log writes that failed with ENOSPC";
        edquot Counter "log writes that failed with EDQUOT";
        other_full Counter "writes to files that are no logs that failed with ENOSPC or EDQUOT";
        diverted_writes Counter "log writes that went elsewhere";
        diverted_bytes Counter "bytes of log lines that went elsewhere";
        diverted_lines Counter "log lines that went elsewhere";
        dropped_lines Counter "log lines that could go nowhere and are lost";
        dropped_bytes Counter "bytes of log lines that could go nowhere and are lost";
        recovery_attempts Counter "times that it was tried to write to a diverted log again";
        recoveries Counter "times that lines went to their file again";
        cleaned_files Counter "rotated log files removed to free space";
        cleaned_bytes Counter "bytes freed by removing rotated log files";
        full_waits Counter "calls that waited for space on a full disk";
    }
    calls {
        bypassed Counter "failed calls that were passed on untouched (vfork child, nested in a reclaimer, sandboxed, exiting)";
        other_limits Counter "calls that failed with EMFILE while descriptors were free: another limit was reached";
        lost_in_messages Counter "messages that were received without some of their descriptors, for lack of numbers (MSG_CTRUNC)";
    }
    logs {
        held_bytes Gauge "bytes of diverted lines that are kept until their log has space";
        put_back_bytes Counter "bytes of diverted lines that were put back into their log";
        not_held_bytes Counter "bytes of diverted lines that could not be kept, or had to make room for newer ones: only the fallback got them";
        rotated Counter "logs that the library has rotated (TIDEOVER_ROTATE)";
        ballast_bytes Counter "bytes that were freed on a full disk by giving up its ballast (`tideover ballast`)";
    }
}
