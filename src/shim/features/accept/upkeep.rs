//! Looking after parked listeners: when a close, or a thread that waits in epoll_wait(2), puts them back. Closes that no hook sees are
//! found within 100 ms by such a thread.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::settings::SECOND;

use super::parking::{self, FIRST_REST, LONGEST_REST, LOOK_INTERVAL, SCHEDULE};
use super::{exhaustion, limits, listener, shed, statistics, table};
use crate::engine::reclaim::{idle, lifetime};
use crate::os::sys;
use crate::state::settings::SETTINGS;
use crate::state::{process, reconcile};

/// A parked listener is put back anyway after this time, nanoseconds, whatever the counts of descriptors say.
const PUT_BACK_ANYWAY: u64 = SECOND;
/// While clients are turned away, they don't wait longer for that, nanoseconds.
const SHED_INTERVAL: u64 = SECOND / 50;

/// The program has closed something while a listener is parked.
pub fn closed() {
    if !process::is_ours() || !limits::admit() {
        return;
    }
    if sys::now() >= SCHEDULE.rest_until.load(Relaxed) {
        parking::put_back_if_room();
    } else {
        SCHEDULE.close_deferred.store(true, Relaxed);
    }
}

/// Looks after what is parked, if that is due. Returns after how many nanoseconds to look again; None: nothing is parked, nor was
/// lately.
pub fn look() -> Option<u64> {
    parking::put_back_inherited();
    let now = sys::now();
    if !table::any_parked() && exhaustion::is_full() {
        parking::park_again();
    }
    if !table::any_parked() {
        if !parking::is_long_ago(now) {
            return Some(LOOK_INTERVAL);
        }
        if parking::end_alert() {
            reconcile::reconcile_now_and_then();
            return None;
        }
    }
    let due = SCHEDULE.look_at.load(Relaxed);
    let next = now + LOOK_INTERVAL;
    if now >= due && SCHEDULE.look_at.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
        attend();
        let last = SCHEDULE.put_back_at.load(Relaxed).max(SCHEDULE.parked_at.load(Relaxed));
        let overdue = now.saturating_sub(last) > PUT_BACK_ANYWAY;
        if limits::admit() && (overdue || exhaustion::has_descriptors()) {
            parking::put_back_if_room();
        }
    }
    let rest = SCHEDULE.rest_until.load(Relaxed).saturating_sub(now);
    if rest == 0 && SCHEDULE.close_deferred.swap(false, Relaxed) && limits::admit() {
        parking::put_back_if_room();
    }
    Some(until_next_look(now, rest))
}

/// After how many nanoseconds to look again, where so many are left of the present rest.
fn until_next_look(now: u64, rest: u64) -> u64 {
    let contended = match (SCHEDULE.fruitless.load(Relaxed), rest) {
        (0, _) => LOOK_INTERVAL,
        (_, 0) => LONGEST_REST,
        _ => rest,
    };
    let due = SCHEDULE.look_at.load(Relaxed).saturating_sub(now);
    let shedding = if SETTINGS.may_shed() && exhaustion::sheds_now() { SHED_INTERVAL } else { u64::MAX };
    due.min(shedding).min(limits::until_admitted()).min(contended).clamp(FIRST_REST, LOOK_INTERVAL)
}

/// Every 100 ms while a listener is parked: forgets what was closed unseen, disconnects idle clients, and turns waiting ones away, as far
/// as the settings ask for that.
fn attend() {
    statistics::tell_if_due();
    reconcile::reconcile_now_and_then();
    if idle::is_wanted() && !exhaustion::has_descriptors() {
        idle::shut_down();
    }
    if lifetime::is_wanted() && !exhaustion::has_descriptors() {
        lifetime::shut_down();
    }
    if SETTINGS.may_shed() && exhaustion::sheds_now() && !exhaustion::has_descriptors() {
        parking::each_parked(|fd| {
            // One that blocks would hold up the caller, if another process took the client.
            if !listener::is_blocking(fd) {
                shed::turn_away(fd, shed::Reason::Exhausted);
            }
        });
    }
}
