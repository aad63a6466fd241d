//! What is called when: the order in which the parts of the library hear of a fork, a close, a new descriptor.

#![forbid(unsafe_code)]

use crate::engine::reclaim::limit;
use crate::engine::{breaker, demand, line, reclaim, reserve, sleepers, wait};
use crate::features::accept::{self, parking};
use crate::features::logs::{self, copies, pipe, stdio};
use crate::features::outgoing::{self, turns};
use crate::os::barrier::barrier;
use crate::state::descriptors::{EPOLL, LISTENER, OUTGOING, PIPE};
use crate::state::handlers::Handlers;
use crate::state::{control, descriptors, late_messages, page, process, reconcile, report, thread};

/// The functions of upper layers that lower ones call.
pub static HANDLERS: Handlers = Handlers {
    on_close: &[(PIPE, pipe_changes), (LISTENER | EPOLL, parking::closing)],
    on_close_undone: &[(LISTENER | EPOLL, parking::close_undone)],
    on_copy: &[(OUTGOING, turns::copied)],
    on_new_descriptor: new_descriptor,
    on_near_limit: accept::prepare,
    on_lack: clients_come_after,
    on_page_made: logs::put_back_what_is_left,
    on_unseen_close: reconcile::reconcile_now_and_then,
    on_told: told,
    is_own_copy: copies::is_ours,
    on_stream_closed: stream_closed,
    await_close: || {
        wait::expect_closes();
    },
    awaits_closes,
    on_awaited_close: awaited_close,
};

/// `tideover control` has told the library something: what it has begun is ended, or begun anew by the present settings.
fn told(is_off: bool) {
    if is_off {
        parking::put_back();
        parking::put_back_inherited();
        reserve::release_for_good();
        wait::wake_all();
    } else {
        outgoing::start();
        limit::look_again();
        reclaim::make_all_due();
        #[cfg(not(test))]
        if accept::must_ask() {
            crate::hooks::sockets::ask_before_accept();
        }
    }
    logs::told(is_off);
}

fn pipe_changes(_: i32, _: u32) {
    logs::catch_up();
    pipe::changes();
}

fn awaits_closes() -> bool {
    accept::awaits_closes() || late_messages::any() || control::waits()
}

/// The descriptor is first of all for threads and clients that wait for one.
extern "C" fn awaited_close() {
    if control::waits() {
        barrier(false, control::look);
    }
    if accept::awaits_closes() {
        accept::closed();
    } else {
        barrier((), || {
            if !line::is_waiting() && process::may_act() {
                report::catch_up();
            }
        });
    }
}

extern "C" fn stream_closed() {
    pipe::changed();
}

/// The program may soon write to a log by stdio(3). With the highest number so far, raises the limit and warns as usage grows; near the
/// limit, prepares for accept(2) without a descriptor.
fn new_descriptor(fd: i32) {
    descriptors::reach(fd);
    if page::note_highest(fd) {
        stdio::install_if_wanted(fd, true);
        limit::reached(fd as u64 + 1);
    } else {
        stdio::install_if_wanted(fd, false);
    }
}

fn clients_come_after() {
    #[cfg(not(test))]
    if accept::keeps_descriptors_back() {
        crate::hooks::sockets::ask_before_accept();
    }
}

/// In the parent, before a fork.
#[inline(always)]
pub fn before_fork() {
    reclaim::before_fork();
    logs::catch_up();
}

/// In the child of a fork, in this order: it is a process of its own; locks that other threads held are free; no thread waits; the page
/// is the parent's and must not be written any more; then what depends on these. These are calls and not a table of functions, because
/// the compiler makes one function of them, which is beside the little other code that each child runs.
#[inline(always)]
pub fn on_fork() {
    process::forked();
    control::forked();
    late_messages::forked();
    thread::forked();
    reclaim::forked();
    reserve::forked();
    wait::forked();
    demand::forked();
    sleepers::forked();
    breaker::forked();
    accept::forked();
    page::forked();
    logs::forked();
    outgoing::forked();
}
