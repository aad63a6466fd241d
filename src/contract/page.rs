//! The shared page: one file of 4 KiB per guarded process, `<dir>/tideover.<uid>/<pid>`.
//!
//! Fixed width, native byte order, no pointers. The library writes it with relaxed atomics; readers read(2) the file (never
//! map it: a truncated file must not raise SIGBUS in them) and interpret the bytes with [`View`]. The C layout in
//! include/tideover.h is checked against [`FIELDS`].

use core::mem::offset_of;
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::collection::{Runtime, Skip};

/// Size of the page in bytes; also the size of its file.
pub const SIZE: usize = 4096;
/// First eight bytes: `TIDEOVER`.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"TIDEOVER");
/// Version of this layout. Readers refuse any other.
pub const LAYOUT: u32 = 1;
/// `calls.opened` and `calls.closed` are kept in this many cache lines, so that threads don't share one; a reader adds up.
pub const SHARDS: usize = 8;
/// Events that are kept: the last 16.
pub const EVENTS: usize = 16;
/// Room for settings in the page.
pub const MAX_SETTINGS: usize = 48;
/// Room for runtimes, and for reasons not to collect, in the page.
pub const MAX_RUNTIMES: usize = 8;
/// See [`MAX_RUNTIMES`].
pub const MAX_SKIPS: usize = 24;
/// Room for reasons in the page.
pub const MAX_REFUSALS: usize = 64;
/// Bytes of a call's name that an event keeps.
pub const CALL_NAME: usize = 20;
/// Bytes of the program's name that the page keeps.
pub const PROGRAM_NAME: usize = 64;

/// Does a counter only grow, or does it go up and down?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down; a bool is a gauge of 0 or 1.
    Gauge,
    /// A gauge of 0 or 1, `true` or `false` in JSON.
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
        recovered Counter "of these, calls that then succeeded";
        gave_up Counter "of these, calls whose error was passed on";
        waits Counter "times a thread slept for a descriptor";
        wait_ns Counter "nanoseconds slept, all threads";
        reclaims Counter "runs of a registered reclaimer or collector";
        reclaimed Counter "descriptors that these said they freed";
        gc_runs Counter "garbage collections run to free descriptors";
        gc_ns Counter "nanoseconds spent in them";
        breaker_trips Counter "times the breaker opened after fruitless waits";
        breaker_open Bool "is the breaker open, so that nobody waits?";
    }
    connections {
        accepted Counter "connections accepted";
        clients Gauge "accepted sockets open now";
        parked Counter "listeners parked at the limit";
        unparked Counter "listeners put back";
        shed Counter "connections accepted and closed at the limit";
        refused Counter "connections refused by a limit";
        idle_closed Counter "idle clients shut down at the limit";
        outgoing Gauge "outgoing TCP sockets open now; counted while a limit on them is set";
        limited Counter "connects that found TIDEOVER_MAX_CONNECTIONS or TIDEOVER_MAX_PER_ENDPOINT reached";
        connect_timeouts Counter "connects ended by TIDEOVER_CONNECT_TIMEOUT";
        ports_exhausted Counter "connects that found no local port free (EADDRNOTAVAIL)";
        phantom Counter "EMFILE from accept with nobody waiting";
    }
    logs {
        degraded Bool "is a log diverted now?";
        degraded_since Gauge "since when, nanoseconds of CLOCK_REALTIME; else 0";
        enospc Counter "log writes that failed with ENOSPC";
        edquot Counter "log writes that failed with EDQUOT";
        diverted_writes Counter "writes that went elsewhere";
        diverted_bytes Counter "bytes that went elsewhere";
        diverted_lines Counter "lines that went elsewhere";
        dropped_bytes Counter "bytes that could go nowhere";
        recoveries Counter "returns to the file";
        cleaned_files Counter "rotated files removed";
        cleaned_bytes Counter "bytes freed by removing them";
        full_waits Counter "calls that waited for space";
    }
    calls {
        bypassed Counter "failed calls that were passed on untouched (vfork child, nested in a reclaimer, sandboxed, exiting)";
    }
}

/// One thread group's share of the success counters; a cache line.
#[repr(C, align(64))]
pub struct Shard {
    /// Descriptor-making calls that succeeded.
    pub opened: AtomicU64,
    /// Descriptors that were closed.
    pub closed: AtomicU64,
    reserved: [AtomicU64; 6],
}

/// What was collected of one runtime's garbage.
#[repr(C)]
pub struct Collector {
    /// Collections.
    pub runs: AtomicU64,
    /// Nanoseconds spent in them.
    pub ns: AtomicU64,
    /// Descriptors closed meanwhile.
    pub freed: AtomicU64,
    /// Times that it was not run; why is in `skips`.
    pub skipped: AtomicU64,
}

impl Collector {
    /// All zero.
    pub const fn new() -> Collector {
        Collector {
            runs: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

/// What an event is about; the number in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// Usage passed TIDEOVER_FD_WARN.
    Warning = 1,
    /// Usage passed TIDEOVER_FD_CRITICAL.
    Critical = 2,
    /// A call found no descriptor and its error was passed on.
    Exhausted = 3,
    /// A call found no descriptor and then succeeded.
    Recovered = 4,
    /// A log's filesystem is full.
    Degraded = 5,
    /// It has space again.
    Restored = 6,
    /// The soft limit was raised; `fd` is the new one.
    Raised = 7,
    /// A listener is parked: its clients wait for descriptors.
    Parked = 8,
    /// Clients are turned away; `tries` is how many so far, `fd` the listener.
    Shed = 9,
}

/// How a call that found no descriptor ended; the number in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Not about a call.
    None = 0,
    /// Succeeded after the soft limit was raised.
    Raised = 1,
    /// Succeeded after a reclaimer ran.
    Reclaimed = 2,
    /// Succeeded after a wait, or because another thread closed something meanwhile.
    Waited = 3,
    /// The original error was passed on: nothing could be freed, waiting could not help.
    Hopeless = 4,
    /// The original error was passed on after all waits.
    GaveUp = 5,
    /// The original error was passed on at once: the breaker is open.
    BreakerOpen = 6,
    /// The original error was passed on: a signal handler interrupted the wait.
    Interrupted = 7,
    /// The retry failed with another error, which was passed on.
    OtherError = 8,
    /// accept(2) answered EAGAIN: its client waits.
    Parked = 9,
}

/// JSON name of an event kind.
pub fn kind_name(kind: u32) -> &'static str {
    ["?", "warning", "critical", "exhausted", "recovered", "degraded", "restored", "raised", "parked", "shed"]
        .get(kind as usize)
        .unwrap_or(&"?")
}

/// JSON name of an outcome.
pub fn outcome_name(outcome: u32) -> &'static str {
    const NAMES: [&str; 10] = [
        "none",
        "raised",
        "reclaimed",
        "waited",
        "hopeless",
        "gave_up",
        "breaker_open",
        "interrupted",
        "other_error",
        "parked",
    ];
    NAMES.get(outcome as usize).unwrap_or(&"?")
}

/// One event. `sequence` is 0 while it is being written, else the event's number from 1; a reader takes a slot only if it
/// reads the same number before and after.
#[repr(C)]
pub struct Event {
    /// See the type.
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

/// What the process is doing with its page.
pub mod state {
    /// Being filled in: readers skip it.
    pub const NEW: u32 = 0;
    /// In use.
    pub const LIVE: u32 = 1;
}

/// The page.
#[repr(C, align(64))]
pub struct Page {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`LAYOUT`].
    pub layout: AtomicU32,
    /// [`SIZE`].
    pub size: AtomicU32,
    /// Process id in its own namespace.
    pub pid: AtomicU32,
    /// One of [`state`].
    pub state: AtomicU32,
    /// When the page was made: nanoseconds of CLOCK_BOOTTIME. A process of this pid that started later is another one.
    pub started_boot_ns: AtomicU64,
    /// When the page was made: nanoseconds of CLOCK_REALTIME.
    pub started_ns: AtomicU64,
    /// Effective user id.
    pub uid: AtomicU32,
    reserved: AtomicU32,
    /// Version of the library, zero-padded text.
    pub version: [AtomicU8; 16],
    /// Program, zero-padded; not necessarily UTF-8.
    pub program: [AtomicU8; PROGRAM_NAME],
    /// See [`COUNTERS`].
    pub counters: Counters,
    unused: [AtomicU64; 7],
    /// See [`SHARDS`].
    pub shards: [Shard; SHARDS],
    /// Effective values, by index in [`crate::settings::SETTINGS`].
    pub settings: [AtomicU64; MAX_SETTINGS],
    /// [`crate::settings::Source`] of each.
    pub sources: [AtomicU8; MAX_SETTINGS],
    /// How many settings this library knows.
    pub settings_count: AtomicU32,
    reserved2: AtomicU32,
    /// Number of the last event; 0 if there was none.
    pub last_event: AtomicU64,
    /// Event number n is at `(n - 1) % EVENTS`.
    pub events: [Event; EVENTS],
    /// How often a file was not taken for a log after its disk was full, by [`crate::refusal::Refusal`].
    pub refusals: [AtomicU64; MAX_REFUSALS],
    /// By [`crate::collection::Runtime`].
    pub collectors: [Collector; MAX_RUNTIMES],
    /// How often no garbage was collected, by [`crate::collection::Skip`].
    pub skips: [AtomicU64; MAX_SKIPS],
    rest: [AtomicU64; 80],
}

const _: () = {
    assert!(size_of::<Page>() == SIZE);
    assert!(offset_of!(Page, counters) == 128 && offset_of!(Page, shards) == 512);
    assert!(size_of::<Event>() == 64 && size_of::<Shard>() == 64);
    assert!(crate::settings::COUNT <= MAX_SETTINGS);
    assert!(crate::refusal::Refusal::ALL.len() <= MAX_REFUSALS);
    assert!(Runtime::ALL.len() <= MAX_RUNTIMES && Skip::ALL.len() <= MAX_SKIPS);
    assert!(size_of::<Counters>() == COUNTERS.len() * 8);
};

macro_rules! fields {
    ($($field:ident)*) => { &[$((stringify!($field), offset_of!(Page, $field)),)*] };
}

/// Name and offset in bytes of each field of the page, for the check of include/tideover.h.
pub const FIELDS: &[(&str, usize)] = fields!(magic layout size pid state started_boot_ns started_ns uid version program
    counters shards settings sources settings_count last_event events refusals collectors skips);

/// Name and offset in bytes of each field of an event, for the same check.
pub const EVENT_FIELDS: &[(&str, usize)] = &[
    ("sequence", offset_of!(Event, sequence)),
    ("at_ns", offset_of!(Event, at_ns)),
    ("waited_ns", offset_of!(Event, waited_ns)),
    ("kind", offset_of!(Event, kind)),
    ("error", offset_of!(Event, errno)),
    ("fd", offset_of!(Event, fd)),
    ("tries", offset_of!(Event, tries)),
    ("outcome", offset_of!(Event, outcome)),
    ("call", offset_of!(Event, call)),
];

impl Page {
    /// All zero: a page that nobody shares.
    pub const fn new() -> Page {
        Page {
            magic: AtomicU64::new(0),
            layout: AtomicU32::new(0),
            size: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            state: AtomicU32::new(state::NEW),
            started_boot_ns: AtomicU64::new(0),
            started_ns: AtomicU64::new(0),
            uid: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            version: [const { AtomicU8::new(0) }; 16],
            program: [const { AtomicU8::new(0) }; PROGRAM_NAME],
            counters: Counters::new(),
            unused: [const { AtomicU64::new(0) }; 7],
            shards: [const {
                Shard {
                    opened: AtomicU64::new(0),
                    closed: AtomicU64::new(0),
                    reserved: [const { AtomicU64::new(0) }; 6],
                }
            }; SHARDS],
            settings: [const { AtomicU64::new(0) }; MAX_SETTINGS],
            sources: [const { AtomicU8::new(0) }; MAX_SETTINGS],
            settings_count: AtomicU32::new(0),
            reserved2: AtomicU32::new(0),
            last_event: AtomicU64::new(0),
            events: [const {
                Event {
                    sequence: AtomicU64::new(0),
                    at_ns: AtomicU64::new(0),
                    waited_ns: AtomicU64::new(0),
                    kind: AtomicU32::new(0),
                    errno: AtomicI32::new(0),
                    fd: AtomicI32::new(0),
                    tries: AtomicU32::new(0),
                    outcome: AtomicU32::new(0),
                    call: [const { AtomicU32::new(0) }; CALL_NAME / 4],
                }
            }; EVENTS],
            refusals: [const { AtomicU64::new(0) }; MAX_REFUSALS],
            collectors: [const { Collector::new() }; MAX_RUNTIMES],
            skips: [const { AtomicU64::new(0) }; MAX_SKIPS],
            rest: [const { AtomicU64::new(0) }; 80],
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes text into zero-padded bytes, cut to their length.
pub fn store_text(to: &[AtomicU8], text: &[u8]) {
    for (i, byte) in to.iter().enumerate() {
        byte.store(text.get(i).copied().unwrap_or(0), Ordering::Relaxed);
    }
}

/// The content that stands for an empty file: the page of a process that has not had anything to count yet. The program's name
/// is not known to it; a reader finds it in /proc.
pub fn uncounted(pid: u32, uid: u32, started_boot_ns: u64, started_ns: u64, program: &[u8]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |offset: usize, content: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(offset).zip(content) {
            *to = *from;
        }
    };
    put(offset_of!(Page, magic), &MAGIC.to_ne_bytes());
    put(offset_of!(Page, layout), &LAYOUT.to_ne_bytes());
    put(offset_of!(Page, size), &(SIZE as u32).to_ne_bytes());
    put(offset_of!(Page, pid), &pid.to_ne_bytes());
    put(offset_of!(Page, uid), &uid.to_ne_bytes());
    put(offset_of!(Page, state), &state::LIVE.to_ne_bytes());
    put(offset_of!(Page, started_boot_ns), &started_boot_ns.to_ne_bytes());
    put(offset_of!(Page, started_ns), &started_ns.to_ne_bytes());
    put(offset_of!(Page, program), program.get(..PROGRAM_NAME).unwrap_or(program));
    bytes
}

/// A page as a reader sees it: bytes that may be torn, truncated or forged. No method panics on any content.
#[derive(Clone, Copy)]
pub struct View<'a>(&'a [u8; SIZE]);

/// Why bytes are not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAPage {
    /// Fewer or more than [`SIZE`] bytes.
    Size,
    /// The first bytes are not [`MAGIC`].
    Magic,
    /// Another layout version.
    Layout(u32),
    /// Still being filled in.
    New,
}

/// A [`Collector`] as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub struct CollectorView {
    /// Collections.
    pub runs: u64,
    /// Nanoseconds spent in them.
    pub ns: u64,
    /// Descriptors closed meanwhile.
    pub freed: u64,
    /// Times that it was not run.
    pub skipped: u64,
}

/// An event as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub struct EventView<'a> {
    /// Number of the event, from 1.
    pub sequence: u64,
    /// Nanoseconds of CLOCK_REALTIME.
    pub at_ns: u64,
    /// Nanoseconds from the first failure to the outcome.
    pub waited_ns: u64,
    /// [`EventKind`] as a number; see [`kind_name`].
    pub kind: u32,
    /// errno of the first failure.
    pub errno: i32,
    /// Descriptor, or -1.
    pub fd: i32,
    /// Retries.
    pub tries: u32,
    /// [`Outcome`] as a number; see [`outcome_name`].
    pub outcome: u32,
    /// Name of the call, without padding.
    pub call: &'a [u8],
}

impl<'a> View<'a> {
    /// Checks size, magic, layout and state.
    pub fn new(bytes: &'a [u8]) -> Result<View<'a>, NotAPage> {
        let view = View(bytes.try_into().map_err(|_| NotAPage::Size)?);
        if view.u64_at(offset_of!(Page, magic)) != MAGIC {
            return Err(NotAPage::Magic);
        }
        match view.u32_at(offset_of!(Page, layout)) {
            LAYOUT => {}
            other => return Err(NotAPage::Layout(other)),
        }
        if view.state() == state::NEW {
            return Err(NotAPage::New);
        }
        Ok(view)
    }

    fn u64_at(self, offset: usize) -> u64 {
        self.0.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
    }

    fn u32_at(self, offset: usize) -> u32 {
        self.0.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
    }

    fn text_at(self, offset: usize, length: usize) -> &'a [u8] {
        let bytes = self.0.get(offset..offset + length).unwrap_or(&[]);
        bytes.split(|&b| b == 0).next().unwrap_or(&[])
    }

    /// Process id.
    pub fn pid(self) -> u32 {
        self.u32_at(offset_of!(Page, pid))
    }

    /// One of [`state`].
    pub fn state(self) -> u32 {
        self.u32_at(offset_of!(Page, state))
    }

    /// Effective user id.
    pub fn uid(self) -> u32 {
        self.u32_at(offset_of!(Page, uid))
    }

    /// When the page was made, nanoseconds of CLOCK_BOOTTIME.
    pub fn started_boot_ns(self) -> u64 {
        self.u64_at(offset_of!(Page, started_boot_ns))
    }

    /// When the page was made, nanoseconds of CLOCK_REALTIME.
    pub fn started_ns(self) -> u64 {
        self.u64_at(offset_of!(Page, started_ns))
    }

    /// Version of the library.
    pub fn version(self) -> &'a [u8] {
        self.text_at(offset_of!(Page, version), 16)
    }

    /// Name of the program.
    pub fn program(self) -> &'a [u8] {
        self.text_at(offset_of!(Page, program), PROGRAM_NAME)
    }

    /// Value of a counter, by index in [`COUNTERS`].
    pub fn counter(self, index: usize) -> u64 {
        self.u64_at(offset_of!(Page, counters) + index.min(COUNTERS.len() - 1) * 8)
    }

    /// Value of a counter by section and name; 0 if there is no such counter.
    pub fn value(self, section: &str, name: &str) -> u64 {
        COUNTERS.iter().position(|c| c.section == section && c.name == name).map_or(0, |i| self.counter(i))
    }

    /// Descriptor-making calls that succeeded, all threads.
    pub fn opened(self) -> u64 {
        self.shard_sum(offset_of!(Shard, opened))
    }

    /// Descriptors closed, all threads.
    pub fn closed(self) -> u64 {
        self.shard_sum(offset_of!(Shard, closed))
    }

    fn shard_sum(self, field: usize) -> u64 {
        let shard = |i| offset_of!(Page, shards) + i * size_of::<Shard>() + field;
        (0..SHARDS).fold(0, |sum: u64, i| sum.wrapping_add(self.u64_at(shard(i))))
    }

    /// Effective value and source of a setting; None if the process's library does not know it.
    pub fn setting(self, index: usize) -> Option<(u64, crate::settings::Source)> {
        let known = (self.u32_at(offset_of!(Page, settings_count)) as usize).min(MAX_SETTINGS);
        (index < known).then(|| {
            let source = self.0[offset_of!(Page, sources) + index];
            (self.u64_at(offset_of!(Page, settings) + index * 8), crate::settings::Source::from_byte(source))
        })
    }

    /// Reasons for which files were not taken for logs, with their counts, those that occurred.
    pub fn refusals(self) -> impl Iterator<Item = (crate::refusal::Refusal, u64)> {
        let count = move |index: usize| self.u64_at(offset_of!(Page, refusals) + index * 8);
        let all = crate::refusal::Refusal::ALL.iter().enumerate();
        all.map(move |(index, &refusal)| (refusal, count(index))).filter(|&(_, count)| count > 0)
    }

    /// What was done with the garbage of each runtime that the process has had, by runtime.
    pub fn collectors(self) -> impl Iterator<Item = (Runtime, CollectorView)> {
        let view = move |index: usize| {
            let base = offset_of!(Page, collectors) + index * size_of::<Collector>();
            CollectorView {
                runs: self.u64_at(base + offset_of!(Collector, runs)),
                ns: self.u64_at(base + offset_of!(Collector, ns)),
                freed: self.u64_at(base + offset_of!(Collector, freed)),
                skipped: self.u64_at(base + offset_of!(Collector, skipped)),
            }
        };
        let all = Runtime::ALL.iter().enumerate();
        all.map(move |(index, &runtime)| (runtime, view(index))).filter(|(_, view)| view.runs > 0 || view.skipped > 0)
    }

    /// Reasons for which no garbage was collected, with their counts, those that occurred.
    pub fn skips(self) -> impl Iterator<Item = (Skip, u64)> {
        let count = move |index: usize| self.u64_at(offset_of!(Page, skips) + index * 8);
        let all = Skip::ALL.iter().enumerate();
        all.map(move |(index, &skip)| (skip, count(index))).filter(|&(_, count)| count > 0)
    }

    /// The events that are whole, oldest first.
    pub fn events(self) -> impl Iterator<Item = EventView<'a>> {
        let last = self.u64_at(offset_of!(Page, last_event));
        let first = last.saturating_sub(EVENTS as u64 - 1).max(1);
        (first..=last).filter_map(move |number| {
            let slot = ((number - 1) % EVENTS as u64) as usize;
            let base = offset_of!(Page, events) + slot * size_of::<Event>();
            (self.u64_at(base) == number).then(|| EventView {
                sequence: number,
                at_ns: self.u64_at(base + offset_of!(Event, at_ns)),
                waited_ns: self.u64_at(base + offset_of!(Event, waited_ns)),
                kind: self.u32_at(base + offset_of!(Event, kind)),
                errno: self.u32_at(base + offset_of!(Event, errno)) as i32,
                fd: self.u32_at(base + offset_of!(Event, fd)) as i32,
                tries: self.u32_at(base + offset_of!(Event, tries)),
                outcome: self.u32_at(base + offset_of!(Event, outcome)),
                call: self.text_at(base + offset_of!(Event, call), CALL_NAME),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> [u8; SIZE] {
        let mut bytes = [0u8; SIZE];
        bytes[..8].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[8..12].copy_from_slice(&LAYOUT.to_ne_bytes());
        bytes[20..24].copy_from_slice(&state::LIVE.to_ne_bytes());
        bytes
    }

    #[test]
    fn counters_are_found_by_name() {
        let mut bytes = page();
        let at = COUNTERS.iter().position(|c| c.name == "gave_up").unwrap();
        bytes[128 + at * 8] = 7;
        bytes[512] = 3;
        bytes[512 + 64] = 4;
        let view = View::new(&bytes).unwrap();
        assert_eq!(view.value("exhaustion", "gave_up"), 7);
        assert_eq!(view.value("exhaustion", "no such"), 0);
        assert_eq!(view.opened(), 7);
    }

    #[test]
    fn forged_pages_are_refused_or_harmless() {
        assert_eq!(View::new(&[0; 10]).err(), Some(NotAPage::Size));
        assert_eq!(View::new(&[0; SIZE]).err(), Some(NotAPage::Magic));
        let mut random = 1u64;
        for _ in 0..2000 {
            let mut bytes = page();
            for byte in bytes.iter_mut().skip(24) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                *byte = random as u8;
            }
            let view = View::new(&bytes).unwrap();
            assert!(view.events().count() <= EVENTS);
            assert!(view.program().len() <= PROGRAM_NAME);
            let _ = (view.counter(usize::MAX), view.setting(usize::MAX), view.opened());
        }
    }
}
