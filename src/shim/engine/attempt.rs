//! A descriptor when there is none: the way from a failed call to its second chance.
//!
//! A hook that saw EMFILE or ENFILE hands its real call to [`carry`], which alternates between it and [`Attempt::next_move`]. The
//! real call is made with nothing of ours held, so that a cancellation in it finds nothing to clean up. `next_move` is where
//! everything is decided; it ends with the original error when nothing helps.

use core::ffi::{c_int, c_void};
use core::fmt;

use libc::rlimit;
use tideover_contract::collection::Skip;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::{self, Id};

use crate::arch;
use crate::engine::reclaim::collect::{self, Collection, Role};
use crate::engine::reclaim::limit::{self, Remedy};
use crate::engine::reclaim::{self, Climb, Pressure};
use crate::engine::wait::{self, Backoff, Candidate, Refusal, Step, Waiting};
use crate::engine::{breaker, reserve};
use crate::features::accept::{self, Stand};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::process::{self, Phase};
use crate::state::report::{ErrnoName, More, Repeated, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, page, thread, usage};

/// A call that makes descriptors, as far as the engine cares.
#[derive(Clone, Copy)]
pub struct Call {
    /// Name, as in the man page.
    pub name: &'static str,
    /// May it sleep? Not when the host asked for a non-blocking descriptor.
    pub patient: bool,
    /// Does it need more than one descriptor?
    pub greedy: bool,
    /// Its own backoff, instead of that of the settings.
    pub backoff: Option<Backoff>,
    /// For accept(2): where its client waits.
    pub listener: Option<c_int>,
}

/// A climb that frees is followed by a try; more often than this in one attempt, others take what is freed.
const CLIMBS: u32 = 16;
/// What having waited for another thread on the ladder counts: nobody waits for more than two.
const ELSEWHERE: u32 = CLIMBS / 2;

/// What a call lacks. All but descriptors are lacked by connect(2) alone: nothing can be freed for it, but waiting can help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// EMFILE, ENFILE.
    Descriptor,
    /// EADDRNOTAVAIL: no ephemeral port is free.
    Port,
    /// Its turn under TIDEOVER_MAX_CONNECTIONS; EAGAIN.
    Connection,
    /// Its turn under TIDEOVER_MAX_PER_ENDPOINT; EAGAIN.
    EndpointConnection,
}

static GAVE_UP: [Repeated; 4] = [const { Repeated::new() }; 4];
static PARKED: Repeated = Repeated::new();
static RECOVERED: [Repeated; 4] = [const { Repeated::new() }; 4];

/// One failed call on its way.
struct Attempt {
    call: Call,
    lack: Lack,
    errno: c_int,
    /// Where this thread's stack ended when it began.
    foot: usize,
    begun: u64,
    tries: u32,
    climbs: u32,
    /// What a success would be due to now.
    due_to: Outcome,
    /// May this call sleep? Asked once, when the ladder has nothing more.
    refusal: Option<Option<Refusal>>,
    waiting: Waiting,
    slept: bool,
    /// What accept(2) does instead. Asked once, when the ladder has nothing more.
    stand: Option<Stand>,
    /// What it is in its runtime.
    role: Role,
    /// Due, or under way.
    collection: Option<Collection>,
    /// How it went.
    climbed: Option<Climb>,
    /// The reserve was given up for it.
    gave_up_reserve: bool,
}

/// What [`carry_for`] does next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
enum Move {
    /// The real call.
    Try,
    /// A collection.
    Collect,
    /// Nothing more.
    End,
}

/// Is this a lack of descriptors?
pub fn is_exhaustion(errno: c_int) -> bool {
    errno == libc::EMFILE || errno == libc::ENFILE
}

/// How a try went.
#[repr(C)]
pub struct Tried {
    /// errno, or 0 for success.
    pub wrong: c_int,
    /// The descriptor that it made, or -1 if it has none to show.
    pub descriptor: c_int,
}

/// Makes a real call once more. `extern "C"`, as all that [`carry`] calls: nothing unwinds, so there are no landing pads, and
/// a cancellation passes through (DESIGN.md).
pub type Try = unsafe extern "C" fn(*mut c_void) -> Tried;

/// Carries a call over that failed with `wrong` for lack of something. True: the last try's answer stands. False: nothing helped,
/// the first answer stands, and errno is as it was, or EAGAIN for an accept(2) whose client waits.
///
/// # Safety
/// `again` may be called with `context`.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn carry_for(lack: Lack, call: Call, wrong: c_int, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    if let Some(mut attempt) = Attempt::begin(lack, call, wrong, arch::stack_pointer()) {
        loop {
            match attempt.next_move() {
                Move::Try => {}
                Move::Collect => {
                    attempt.collect();
                    continue;
                }
                Move::End => break,
            }
            // SAFETY: promised by the caller.
            let tried = unsafe { again(context) };
            if tried.wrong != wrong && !(lack == Lack::Descriptor && is_exhaustion(tried.wrong)) {
                let kept = sys::errno();
                attempt.ended(&tried);
                sys::set_errno(kept);
                return true;
            }
        }
        if attempt.stand.is_some_and(|stand| stand.quiet) {
            sys::set_errno(libc::EAGAIN);
            return false;
        }
    }
    sys::set_errno(saved);
    false
}

impl Lack {
    /// Is it a limit that the user has set?
    fn is_limit(self) -> bool {
        matches!(self, Lack::Connection | Lack::EndpointConnection)
    }

    /// What a person can do about it; about descriptors there is more to say, see [`Remedy`].
    fn remedy(self) -> &'static str {
        match self {
            Lack::Port => {
                "to help: `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or keep connections open instead of making new ones"
            }
            _ => "to help: a higher limit, or close connections that are no longer used",
        }
    }
}

/// Prints what was not to be had: `no local port was free`.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reached = |id: Id| {
            let name = settings::SETTINGS[id as usize].env;
            format_args!("{name}={} was reached", SETTINGS.get(id)).fmt(f)
        };
        match self {
            Lack::Descriptor => f.write_str("no descriptor was free"),
            Lack::Port => f.write_str("no local port was free"),
            Lack::Connection => reached(Id::MaxConnections),
            Lack::EndpointConnection => reached(Id::MaxPerEndpoint),
        }
    }
}

impl Attempt {
    /// For a call that failed with `errno`. None: pass the error on.
    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(lack: Lack, call: Call, errno: c_int, foot: usize) -> Option<Attempt> {
        barrier(None, || Attempt::new(lack, call, errno, foot))
    }

    fn new(lack: Lack, call: Call, errno: c_int, foot: usize) -> Option<Attempt> {
        if matches!(process::phase(), Phase::Starting | Phase::Dormant | Phase::Sandboxed) {
            page::add(&page::counters().bypassed, 1);
            return None;
        }
        if !process::is_ours() {
            // The memory is the parent's: not even a count.
            return None;
        }
        if thread::is_retrying(foot) {
            return None;
        }
        page::ensure();
        let counters = page::counters();
        if reclaim::is_climbing(foot) {
            page::add(&counters.bypassed, 1);
            return None;
        }
        let counter = match lack {
            Lack::Descriptor if errno == libc::EMFILE => &counters.emfile,
            Lack::Descriptor => &counters.enfile,
            Lack::Port => &counters.ports_exhausted,
            Lack::Connection | Lack::EndpointConnection => &counters.limited,
        };
        page::add(counter, 1);
        Some(Attempt {
            call,
            lack,
            errno,
            foot,
            begun: sys::now(),
            tries: 0,
            climbs: if lack == Lack::Descriptor { 0 } else { CLIMBS },
            due_to: Outcome::Waited,
            refusal: None,
            waiting: Waiting::new(call.backoff.unwrap_or_else(Backoff::from_settings), call.greedy),
            slept: false,
            stand: None,
            role: collect::role(),
            collection: None,
            climbed: None,
            gave_up_reserve: false,
        })
    }

    /// What is to be done next? Frees and sleeps as needed. After [`Move::End`] the attempt is over, counted and told.
    #[cold]
    #[inline(never)]
    extern "C" fn next_move(&mut self) -> Move {
        if process::phase() == Phase::Sandboxed {
            return Move::End;
        }
        barrier(Move::End, || match self.next() {
            Ok(next) => {
                self.tries += u32::from(next == Move::Try);
                next
            }
            Err(outcome) => {
                self.failed(outcome);
                Move::End
            }
        })
    }

    /// Runs the collection that is due. The host's code in it may end this thread by a forced unwind (Python does, when the
    /// interpreter ends meanwhile): like the real call, it is made with nothing of ours around it that needs cleaning up, and not
    /// behind the barrier.
    #[inline(always)]
    fn collect(&mut self) {
        if let Some(collection) = &self.collection {
            reclaim::collecting();
            let skipped = collection.run();
            self.collected(skipped);
        }
    }

    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn collected(&mut self, skipped: Option<Skip>) {
        barrier((), || {
            if let Some(collection) = self.collection.take() {
                self.climbed = Some(reclaim::collected(collection, skipped, &self.pressure()));
            }
        });
    }

    fn pressure(&self) -> Pressure {
        let patient = self.call.patient && !thread::is_event_loop();
        Pressure { call: self.call.name, errno: self.errno, role: self.role, patient, foot: self.foot }
    }

    fn next(&mut self) -> Result<Move, Outcome> {
        loop {
            if self.climbs < CLIMBS || self.climbed.is_some() {
                self.climbs += 1;
                let climbed = self.climbed.take();
                match climbed.unwrap_or_else(|| reclaim::climb(&self.pressure())) {
                    Climb::Freed(outcome) => {
                        self.due_to = outcome;
                        return Ok(Move::Try);
                    }
                    Climb::Elsewhere => {
                        self.climbs += ELSEWHERE;
                        return Ok(Move::Try);
                    }
                    Climb::Collect(collection) => {
                        self.collection = Some(collection);
                        return Ok(Move::Collect);
                    }
                    Climb::Nothing => self.climbs = CLIMBS,
                }
            }
            let may_give_up = !self.gave_up_reserve && self.lack == Lack::Descriptor && self.role != Role::Internal;
            if may_give_up && reserve::give_up() {
                self.gave_up_reserve = true;
                self.due_to = Outcome::Reclaimed;
                return Ok(Move::Try);
            }
            if let Some(listener) = self.call.listener {
                let stand = match self.stand {
                    Some(stand) => Stand { again: false, ..stand },
                    None => accept::stand_by(listener, self.errno),
                };
                self.stand = Some(stand);
                if stand.again {
                    return Ok(Move::Try);
                }
                if stand.quiet || stand.sheds {
                    return Err(Outcome::Parked);
                }
            }
            if self.refusal.is_none() {
                let candidate = Candidate {
                    within: self.errno == libc::EMFILE || self.lack.is_limit(),
                    patient: self.call.patient,
                    waits: self.waiting.has_any(),
                    breaker: breaker::of(self.lack),
                    role: self.role,
                };
                self.refusal = Some(wait::refusal(&candidate));
            }
            if let Some(Some(refusal)) = self.refusal {
                return Err(refusal.outcome);
            }
            self.slept = true;
            self.due_to = Outcome::Waited;
            match self.waiting.step() {
                Step::Try => {
                    page::catch_up();
                    return Ok(Move::Try);
                }
                Step::StartOver if self.lack == Lack::Descriptor => self.climbs = 0,
                Step::StartOver => {}
                Step::End(outcome) => return Err(outcome),
            }
        }
    }

    /// The retry succeeded, or failed for another reason, which is the true answer.
    #[cold]
    #[inline(never)]
    extern "C" fn ended(&mut self, tried: &Tried) {
        barrier((), || match tried.wrong {
            0 => self.recovered(tried.descriptor),
            _ => self.emit(EventKind::Recovered, -1, self.end(), Outcome::OtherError),
        });
    }

    fn recovered(&self, fd: c_int) {
        let waited = self.end();
        if self.stand.is_some() {
            accept::go_on();
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().recovered, 1);
        }
        if self.slept {
            breaker::of(self.lack).succeeded();
            if let Some(more) = RECOVERED[self.lack as usize].due() {
                // A limit that the user set has only done what it is for.
                let level = if self.lack.is_limit() { log::Level::Info } else { log::Level::Warn };
                log::log!(
                    level,
                    "{}: {} ({}), waited {} for one{}",
                    self.call.name,
                    self.lack,
                    ErrnoName(self.errno),
                    Seconds(waited),
                    More(more)
                );
            }
        }
        self.emit(EventKind::Recovered, fd, waited, self.due_to);
    }

    fn failed(&mut self, outcome: Outcome) {
        let waited = self.end();
        if let (Some(listener), Some(Stand { paced: true, .. })) = (self.call.listener, self.stand) {
            accept::pace(listener);
        }
        if outcome == Outcome::Parked {
            if let Some(more) = PARKED.due() {
                self.lament(outcome, waited, more);
            }
            return;
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().gave_up, 1);
        }
        if outcome == Outcome::GaveUp {
            breaker::of(self.lack).gave_up();
        }
        self.emit(EventKind::Exhausted, -1, waited, outcome);
        if let Some(more) = GAVE_UP[self.lack as usize].due() {
            descriptors::reconcile(descriptors::CLIENT | descriptors::OUTGOING);
            self.lament(outcome, waited, more);
        }
    }

    /// What it was doing, what is used, what was tried, what would help.
    fn lament(&self, outcome: Outcome, waited: u64, more: u32) {
        let limit = limit::look().unwrap_or(rlimit { rlim_cur: 0, rlim_max: 0 });
        let used = usage::used(limit.rlim_cur);
        let (name, errno) = (self.call.name, ErrnoName(self.errno));
        let tried = match (self.refusal, outcome) {
            (Some(Some(refusal)), _) => refusal.why,
            (_, Outcome::Interrupted) => "waited until a signal came",
            (_, Outcome::Parked) if accept::sheds_now() => "clients are turned away",
            (_, Outcome::Parked) => "clients wait until one is free",
            _ => "waited in vain",
        };
        if self.lack != Lack::Descriptor {
            log::warn!(
                "{name}: {} ({errno}); {tried} ({}){}; {}",
                self.lack,
                Seconds(waited),
                More(more),
                self.lack.remedy()
            );
        } else if self.errno == libc::ENFILE {
            log::warn!(
                "{name}: the system is out of descriptors ({errno}); {tried} {}{}; to help: `sysctl -w fs.file-max=...`, see /proc/sys/fs/file-nr",
                Seconds(waited),
                More(more)
            );
        } else {
            let soft = limit::ceiling(limit);
            log::warn!(
                "{name}: no descriptor left ({errno}): {used} in use, soft limit {}, hard limit {}; {tried} ({}){}; {}",
                limit.rlim_cur,
                limit.rlim_max,
                Seconds(waited),
                More(more),
                Remedy { soft, hard: limit.rlim_max }
            );
        }
    }

    fn end(&self) -> u64 {
        if self.slept {
            wait::leave();
        }
        wait::over();
        sys::now().saturating_sub(self.begun)
    }

    fn emit(&self, kind: EventKind, fd: c_int, waited: u64, outcome: Outcome) {
        events::emit(&Event { kind, call: self.call.name, errno: self.errno, fd, tries: self.tries, waited, outcome });
    }
}
