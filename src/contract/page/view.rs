//! How a reader interprets the bytes of a page.

use core::mem::offset_of;

use super::counters::COUNTERS;
use super::events::Event;
use super::layout::{
    CALL_NAME, Collector, EVENTS, LAYOUT, MAGIC, MAX_SETTINGS, PROGRAM_NAME, Page, SHARDS, SIZE, Shard, state,
};
use crate::collection::{Runtime, Skip};

/// A page as a reader sees it: bytes that may be torn, truncated or forged. No method panics on any content.
#[derive(Clone, Copy)]
pub struct View<'a>(&'a [u8; SIZE]);

/// Why bytes are not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAPage {
    /// Fewer or more than [`SIZE`] bytes.
    Size,
    /// The first bytes are neither [`MAGIC`] nor zeros.
    Magic,
    /// Another layout version.
    Layout(u32),
    /// Still being filled in.
    New,
}

/// A [`Collector`] as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub struct CollectorView {
    /// How many collections there were.
    pub runs: u64,
    /// Nanoseconds spent in them.
    pub ns: u64,
    /// Descriptors that were closed meanwhile.
    pub freed: u64,
    /// How often the collector was not run.
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
    /// [`EventKind`](super::EventKind) as a number; see [`kind_name`](super::kind_name).
    pub kind: u32,
    /// errno of the first failure.
    pub errno: i32,
    /// Descriptor, or -1.
    pub fd: i32,
    /// How many times the call was tried again.
    pub tries: u32,
    /// [`Outcome`](super::Outcome) as a number; see [`outcome_name`](super::outcome_name).
    pub outcome: u32,
    /// Name of the call, without padding.
    pub call: &'a [u8],
}

impl<'a> View<'a> {
    /// Checks size, magic, layout and state.
    pub fn new(bytes: &'a [u8]) -> Result<View<'a>, NotAPage> {
        let view = View(bytes.try_into().map_err(|_| NotAPage::Size)?);
        // The counters are in the file before its header: a process may be killed in between.
        match view.u64_at(offset_of!(Page, magic)) {
            MAGIC => {}
            0 => return Err(NotAPage::New),
            _ => return Err(NotAPage::Magic),
        }
        match view.u32_at(offset_of!(Page, layout)) {
            LAYOUT => {}
            0 => return Err(NotAPage::New),
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

    /// How many descriptors the process can have, as its library says; 0 if that has not said so.
    pub fn obtainable(self) -> u64 {
        self.u64_at(offset_of!(Page, obtainable))
    }

    /// Number of the pid namespace of the process; 0: not known.
    pub fn pid_namespace(self) -> u64 {
        self.u64_at(offset_of!(Page, pid_namespace))
    }

    /// The word that the process was told last, and the one that its library has obeyed: see [`super::control`].
    pub fn control(self) -> (u32, u32) {
        (self.u32_at(offset_of!(Page, control)), self.u32_at(offset_of!(Page, obeyed)))
    }

    /// The hash of the policy file whose values are in effect; 0: there was none.
    pub fn policy(self) -> u64 {
        self.u64_at(offset_of!(Page, policy))
    }

    /// Value of a counter, by index in [`COUNTERS`].
    pub fn counter(self, index: usize) -> u64 {
        self.u64_at(offset_of!(Page, counters) + index.min(COUNTERS.len() - 1) * 8)
    }

    /// Value of a counter by section and name; 0 if there is no such counter.
    pub fn value(self, section: &str, name: &str) -> u64 {
        COUNTERS.iter().position(|c| c.section == section && c.name == name).map_or(0, |i| self.counter(i))
    }

    /// How many calls of all threads made a descriptor.
    pub fn opened(self) -> u64 {
        self.shard_sum(offset_of!(Shard, opened))
    }

    /// How many descriptors all threads closed.
    pub fn closed(self) -> u64 {
        self.shard_sum(offset_of!(Shard, closed))
    }

    fn shard_sum(self, field: usize) -> u64 {
        let shard = |i| offset_of!(Page, shards) + i * size_of::<Shard>() + field;
        (0..SHARDS).fold(0, |sum: u64, i| sum.wrapping_add(self.u64_at(shard(i))))
    }

    /// The value of a setting that is in effect, and its source; None if the process's library does not know the setting.
    pub fn setting(self, index: usize) -> Option<(u64, crate::settings::Source)> {
        let known = (self.u32_at(offset_of!(Page, settings_count)) as usize).min(MAX_SETTINGS);
        (index < known).then(|| {
            let source = self.0[offset_of!(Page, sources) + index];
            (self.u64_at(offset_of!(Page, settings) + index * 8), crate::settings::Source::from_byte(source))
        })
    }

    /// The reasons that occurred for not taking a file for a log, with their counts.
    pub fn refusals(self) -> impl Iterator<Item = (crate::refusal::Refusal, u64)> {
        let count = move |index: usize| self.u64_at(offset_of!(Page, refusals) + index * 8);
        let all = crate::refusal::Refusal::ALL.iter().enumerate();
        all.map(move |(index, &refusal)| (refusal, count(index))).filter(|&(_, count)| count > 0)
    }

    /// The collections of each runtime that the process has had.
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

    /// The reasons that occurred for not collecting garbage, with their counts.
    pub fn skips(self) -> impl Iterator<Item = (Skip, u64)> {
        let count = move |index: usize| self.u64_at(offset_of!(Page, skips) + index * 8);
        let all = Skip::ALL.iter().enumerate();
        all.map(move |(index, &skip)| (skip, count(index))).filter(|&(_, count)| count > 0)
    }

    /// The events, the oldest first, without those that are just being written.
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
    use crate::page::layout::MAX_COUNTERS;

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
        bytes[128 + MAX_COUNTERS * 8] = 3;
        bytes[128 + MAX_COUNTERS * 8 + 64] = 4;
        let view = View::new(&bytes).unwrap();
        assert_eq!(view.value("exhaustion", "gave_up"), 7);
        assert_eq!(view.value("exhaustion", "no such"), 0);
        assert_eq!(view.opened(), 7);
    }

    #[test]
    fn a_word_of_control_differs_from_the_one_before() {
        use crate::page::control::{OFF, RELOAD, what, word};
        let first = word(0, RELOAD);
        let second = word(first, RELOAD);
        assert_ne!(first, second);
        assert_eq!((what(second), what(word(second, OFF)), what(0), what(0xff)), (RELOAD, OFF, 0, 0));
        assert_eq!(what(word(u32::MAX, OFF)), OFF, "the count goes round");
        let mut bytes = page();
        let at = crate::page::FIELDS.iter().find(|field| field.0 == "control").unwrap().1;
        bytes[at..at + 4].copy_from_slice(&first.to_ne_bytes());
        let view = View::new(&bytes).unwrap();
        assert_eq!((view.control(), view.obtainable(), view.pid_namespace()), ((first, 0), 0, 0));
    }

    #[test]
    fn forged_pages_are_refused_or_harmless() {
        assert_eq!(View::new(&[0; 10]).err(), Some(NotAPage::Size));
        assert_eq!(View::new(&[0; SIZE]).err(), Some(NotAPage::New));
        assert_eq!(View::new(&[1; SIZE]).err(), Some(NotAPage::Magic));
        let mut random = crate::random::Random::new(1);
        for _ in 0..2000 {
            let mut bytes = page();
            for byte in bytes.iter_mut().skip(24) {
                *byte = random.number() as u8;
            }
            let view = View::new(&bytes).unwrap();
            assert!(view.events().count() <= EVENTS);
            assert!(view.program().len() <= PROGRAM_NAME);
            let _ = (view.counter(usize::MAX), view.setting(usize::MAX), view.opened());
        }
    }
}
