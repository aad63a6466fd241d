//! accept(2) when it can't or must not be answered: there is no descriptor for the client, or a limit that the user has set is reached.
//!
//! The way of an accept: the hook asks [`admission`] first, where there are `limits`. After a failure for lack of descriptors it asks
//! [`failed`], which has the listener parked (`parking`) or its clients turned away (`shed`). [`upkeep`] puts parked listeners back.
//! [`register`] notes which epoll sets watch which listeners.
//!
//! Inside this folder, each file uses only files further down in this list: `admission`, `failed`, `upkeep`; `register`, `parking`;
//! `table`, `survey`, `watch`; `limits`, `per_client`, `shed`, `pace`, `blocking`, `exhaustion`, `listener`, `request`, `statistics`.

pub mod admission;
mod blocking;
mod exhaustion;
pub mod failed;
mod limits;
mod listener;
mod pace;
pub mod parking;
pub mod per_client;
pub mod register;
pub mod request;
mod shed;
mod statistics;
mod survey;
mod table;
pub mod upkeep;
mod watch;

use tideover_contract::settings::{Id, accept};

use crate::engine::demand;
use crate::os::barrier::barrier;
use crate::state::process;
use crate::state::settings::SETTINGS;

/// Before the first accept(2): must each accept(2) ask [`admission`]? Also makes the reserve ready by which clients are turned away:
/// threads that accept at once may use up the last descriptors between two looks.
pub extern "C" fn begin() -> bool {
    barrier(false, || {
        if limits::are_set() {
            limits::check();
        }
        fill_reserve();
        must_ask()
    })
}

/// Must accept(2) ask [`admission`] now?
pub extern "C" fn must_ask() -> bool {
    barrier(true, || limits::are_set() || per_client::are_noted() || keeps_descriptors_back() && demand::is_any())
}

/// Does accept(2) leave descriptors free that calls for accepted clients lack?
pub fn keeps_descriptors_back() -> bool {
    SETTINGS.get(Id::Accept) != accept::PASS
}

fn fill_reserve() {
    if SETTINGS.may_shed() {
        shed::replenish();
    }
}

/// The limit is near: what may need a descriptor later is done now.
pub fn prepare() {
    if SETTINGS.get(Id::Accept) != accept::PASS {
        parking::prepare();
        fill_reserve();
    }
}

/// Is there a use for closes here? Two loads.
pub fn awaits_closes() -> bool {
    table::any_parked() || shed::lacks_reserve()
}

/// The program has closed something.
pub extern "C" fn closed() {
    barrier((), || {
        if shed::lacks_reserve() && process::is_ours() {
            shed::replenish();
        }
        if table::any_parked() {
            upkeep::closed();
        }
    });
}

/// In the child of a fork.
pub fn forked() {
    parking::forked();
    shed::forked();
    limits::forked();
    per_client::forked();
}
