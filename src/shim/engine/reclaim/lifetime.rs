//! Last reclaim step: shuts down accepted connections that are older than TIDEOVER_MAX_LIFETIME, by shutdown(2), the oldest first. As with
//! idle ones (`idle`), the program reads the end of each, and closes it.

#![forbid(unsafe_code)]

use tideover_contract::settings::{Id, Nanoseconds};

use super::idle::{BATCH, longest};
use super::{FailedCall, Gain};
use crate::os::sys;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{clients, page};

/// The messages so far.
static MESSAGES: Repeated = Repeated::new();

/// The reclaim step.
pub fn run(_: &FailedCall) -> Gain {
    if !is_wanted() {
        return Gain::Nothing;
    }
    shut_down();
    Gain::Later
}

/// Has the user set TIDEOVER_MAX_LIFETIME?
pub fn is_wanted() -> bool {
    SETTINGS.get(Id::MaxLifetime) != 0
}

/// Shuts down the oldest connections. Also called every 100 ms while a listener is parked.
pub fn shut_down() {
    let limit = SETTINGS.get(Id::MaxLifetime);
    let age = |fd| {
        let age = sys::now().saturating_sub(clients::accepted_at(fd));
        (age >= limit && sys::is_connected(fd)).then_some(age)
    };
    let shut = longest::<BATCH>(age).iter().flatten().filter(|old| sys::shut_down(old.fd).is_ok()).count() as u64;
    if shut == 0 {
        return;
    }
    page::add(&page::counters().idle_closed, shut);
    if let Some(more) = MESSAGES.due() {
        log::warn!(
            "no descriptor is left: {shut} connections that are older than TIDEOVER_MAX_LIFETIME={} are shut down{}",
            Nanoseconds(limit),
            More(more)
        );
    }
}
