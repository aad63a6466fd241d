//! The bytes of the page: its struct, its sizes, and the offsets of its fields.

use core::mem::offset_of;
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::counters::{COUNTERS, Counters};
use super::events::Event;

use crate::collection::{Runtime, Skip};

/// Size of the page in bytes; also the size of its file.
pub const SIZE: usize = 4096;
/// First eight bytes: `TIDEOVER`.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"TIDEOVER");
/// Version of this layout. Readers refuse any other.
pub const LAYOUT: u32 = 2;
/// `calls.opened` and `calls.closed` are counted in so many cache lines, so that threads rarely share one. A reader adds them up.
pub const SHARDS: usize = 8;
/// Events that are kept: the last 16.
pub const EVENTS: usize = 16;
/// How many settings the page has room for.
pub const MAX_SETTINGS: usize = 64;
/// How many runtimes ([`Runtime`]) the page has room for.
pub const MAX_RUNTIMES: usize = 8;
/// How many reasons not to collect garbage ([`Skip`]) the page has room for.
pub const MAX_SKIPS: usize = 24;
/// How many reasons not to take a file for a log ([`crate::refusal::Refusal`]) the page has room for.
pub const MAX_REFUSALS: usize = 64;
/// How many counters and gauges the page has room for.
pub const MAX_COUNTERS: usize = 96;
/// Bytes of a call's name that an event keeps.
pub const CALL_NAME: usize = 20;
/// Bytes of the program's name that the page keeps.
pub const PROGRAM_NAME: usize = 64;

/// A cache line with the calls that succeeded in some of the threads.
#[repr(C, align(64))]
pub struct Shard {
    /// Descriptor-making calls that succeeded.
    pub opened: AtomicU64,
    /// Descriptors that were closed.
    pub closed: AtomicU64,
    reserved: [AtomicU64; 6],
}

/// Collections of one runtime's garbage.
#[repr(C)]
pub struct Collector {
    /// How many there were.
    pub runs: AtomicU64,
    /// Nanoseconds spent in them.
    pub ns: AtomicU64,
    /// Descriptors that were closed meanwhile.
    pub freed: AtomicU64,
    /// How often the collector was not run; the reasons are counted in [`Page::skips`].
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

/// The state of a page.
pub mod state {
    /// Being filled in: readers skip it.
    pub const NEW: u32 = 0;
    /// In use.
    pub const LIVE: u32 = 1;
}

/// What `tideover control` writes into a page, the only part of it that a reader writes. A word holds a number from this module
/// in its lowest byte, and above it a count that makes each word different from the one before, so that `reload` can be said
/// twice. The library looks at it on cold paths, and stores in [`Page::obeyed`] what it has done.
pub mod control {
    /// Nobody has said anything.
    pub const NONE: u8 = 0;
    /// Act again.
    pub const ON: u8 = 1;
    /// Pass everything through, as with TIDEOVER_DISABLE=1.
    pub const OFF: u8 = 2;
    /// Read the policy file again, and act by it.
    pub const RELOAD: u8 = 3;
    /// The words of the command line, by these numbers.
    pub const WORDS: &[&str] = &["", "on", "off", "reload"];

    /// The word that comes after `before` and says `what`.
    pub const fn word(before: u32, what: u8) -> u32 {
        ((before >> 8).wrapping_add(1) << 8) | what as u32
    }

    /// What a word says; [`NONE`] for a number that none has.
    pub const fn what(word: u32) -> u8 {
        let what = word as u8;
        if (what as usize) < WORDS.len() { what } else { NONE }
    }
}

/// The page.
#[repr(C, align(64))]
pub struct Page {
    /// Holds [`MAGIC`].
    pub magic: AtomicU64,
    /// Holds [`LAYOUT`].
    pub layout: AtomicU32,
    /// Holds [`SIZE`].
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
    /// The counters and gauges, in the order of [`COUNTERS`].
    pub counters: Counters,
    unused: [AtomicU64; MAX_COUNTERS - COUNTERS.len()],
    /// Calls that succeeded and descriptors that were closed, in [`SHARDS`] parts.
    pub shards: [Shard; SHARDS],
    /// The values in effect, by index in [`crate::settings::SETTINGS`].
    pub settings: [AtomicU64; MAX_SETTINGS],
    /// [`crate::settings::Source`] of each value.
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
    /// Collections of garbage, by [`crate::collection::Runtime`].
    pub collectors: [Collector; MAX_RUNTIMES],
    /// How often no garbage was collected, by [`crate::collection::Skip`].
    pub skips: [AtomicU64; MAX_SKIPS],
    /// What the process is told to do, by one of [`control`], and how often it was told so: see [`control::word`].
    pub control: AtomicU32,
    /// The word in [`Page::control`] that the library has obeyed last.
    pub obeyed: AtomicU32,
    /// How many descriptors the process can have: the soft limit up to which the library would raise it now, after all that it
    /// has learned of the program. 0: the library has not said so yet, and a reader works it out ([`crate::select`]).
    pub obtainable: AtomicU64,
    /// The hash ([`crate::hash`]) of the policy file whose values are in effect; 0: there was none.
    pub policy: AtomicU64,
    /// Number (inode) of the pid namespace of the process; 0: not known. In another namespace its process id is another's.
    pub pid_namespace: AtomicU64,
    rest: [AtomicU64; 10],
}

const _: () = {
    assert!(size_of::<Page>() == SIZE);
    assert!(offset_of!(Page, counters) == 128 && offset_of!(Page, shards) == 128 + MAX_COUNTERS * 8);
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
    counters shards settings sources settings_count last_event events refusals collectors skips control obeyed obtainable
    policy pid_namespace);

/// Name and offset in bytes of each field of an event, for the check of include/tideover.h.
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
    /// A page of zeros, which no other process sees.
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
            unused: [const { AtomicU64::new(0) }; MAX_COUNTERS - COUNTERS.len()],
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
            control: AtomicU32::new(0),
            obeyed: AtomicU32::new(0),
            obtainable: AtomicU64::new(0),
            policy: AtomicU64::new(0),
            pid_namespace: AtomicU64::new(0),
            rest: [const { AtomicU64::new(0) }; 10],
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
