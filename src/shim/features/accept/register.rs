//! epoll_ctl(2) of a listening socket: answered by the kernel, noted, and masked while the listener is parked.

use core::ffi::c_int;
use core::mem::transmute;

use libc::epoll_event;

use super::table::{self, TABLE};
use super::watch::{EXCLUSIVE, State, Watch};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::descriptors::{self, EPOLL, SHARED};
use crate::state::{process, thread};

type RealControl = unsafe extern "C" fn(c_int, c_int, c_int, *mut epoll_event) -> c_int;

/// epoll_ctl(2). The program's events are kept back while the listener is parked.
///
/// # Safety
/// `real` is the address of epoll_ctl(2). `event` is what the program gave it: if it can be read, it stays so during the call.
pub unsafe extern "C" fn control(
    real: usize,
    epoll: c_int,
    operation: c_int,
    listener: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: the caller promises this function; the event is the program's own, or one of ours.
    let call = |event| unsafe { transmute::<usize, RealControl>(real)(epoll, operation, listener, event) };
    barrier(None, || {
        // SAFETY: promised by the caller.
        let asked = unsafe { asked_for(event) };
        let mut table = if process::may_note() && !thread::is_in_vfork() { TABLE.enter()? } else { return None };
        let inode = sys::fstat(listener).ok()?.st_ino;
        let shared = |epoll| descriptors::marks(epoll) & SHARED != 0;
        if shared(epoll) {
            // One set with several numbers: by which of them a watch was made is not known.
            table.forget(|watch| watch.listener == listener && shared(watch.epoll));
            table::set_incomplete();
            return Some(call(event));
        }
        let known = table.find(epoll, listener).and_then(|place| *place);
        let parked = known.filter(|watch| watch.is_parked_here() && watch.inode == inode);
        let before = table.parked_listeners();
        let answer = match (operation, asked, parked) {
            (libc::EPOLL_CTL_MOD, Some(asked), Some(watch)) if (asked.events | watch.event.events) & EXCLUSIVE == 0 => {
                let mut masked = epoll_event { events: 0, ..asked };
                call(&raw mut masked)
            }
            (libc::EPOLL_CTL_MOD, Some(_), Some(watch)) if watch.has(EXCLUSIVE) => {
                sys::set_errno(libc::EINVAL);
                -1
            }
            _ => call(event),
        };
        if answer == 0 {
            match (operation, asked) {
                (libc::EPOLL_CTL_DEL, _) => {
                    if let Some(place) = table.find(epoll, listener) {
                        *place = None;
                    }
                }
                (_, Some(event)) => {
                    let state = if parked.is_some() { State::Parked { armed: true } } else { State::Open };
                    table.note(Watch { state, ..Watch::open(epoll, listener, inode, event) });
                    descriptors::add(epoll, EPOLL);
                }
                _ => {}
            }
        }
        let errno = sys::errno();
        table.recount(before);
        sys::set_errno(errno);
        Some(answer)
    })
    .unwrap_or_else(|| call(event))
}

/// The program's event, if it can be read.
///
/// # Safety
/// If it can be read, it stays so meanwhile.
unsafe fn asked_for(event: *const epoll_event) -> Option<epoll_event> {
    // SAFETY: it can be read, as the kernel has just said, and stays so, as the caller promises.
    (sys::is_readable(event.cast(), size_of::<epoll_event>())).then(|| unsafe { event.read_unaligned() })
}
