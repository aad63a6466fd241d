//! What this folder says at most so often: one entry for each kind of message.
#![deny(unsafe_code)]

use crate::state::report::Repeated;

/// The kinds of messages.
pub struct Messages {
    /// Lines of a log are diverted from now on.
    pub diverted: Repeated,
    /// Lines are written to the log again.
    pub recovered: Repeated,
    /// There is no sink for the lines of a log.
    pub no_sink: Repeated,
    /// A sink's reader does not read, and lines are lost.
    pub dropped: Repeated,
    /// A cap on what may be diverted is reached.
    pub capped: Repeated,
    /// The file that TIDEOVER_FALLBACK names can't be used.
    pub unusable_path: Repeated,
    /// A log can't be created.
    pub cant_be_created: Repeated,
    /// No hold can be made that outlives the process.
    pub no_hold: Repeated,
    /// Lines of a process that has ended are put back.
    pub put_back: Repeated,
    /// A log can't be rotated.
    pub not_rotated: Repeated,
}

/// When each kind was said last.
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
pub static MESSAGES: Messages = Messages {
    diverted: Repeated::new(),
    recovered: Repeated::new(),
    no_sink: Repeated::new(),
    dropped: Repeated::new(),
    capped: Repeated::new(),
    unusable_path: Repeated::new(),
    cant_be_created: Repeated::new(),
    no_hold: Repeated::new(),
    put_back: Repeated::new(),
    not_rotated: Repeated::new(),
};
