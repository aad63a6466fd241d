//! A listening socket in an epoll set, and how its events are masked there.
#![forbid(unsafe_code)]

use core::ffi::c_int;

use libc::epoll_event;

use crate::os::sys::{self, Errno};
use crate::state::process;

/// The watch fires once, and is for the program to arm again.
pub const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
/// Of several sets, one is woken. The kernel refuses to change such a watch.
pub const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
/// Edge-triggered.
pub const EDGE: u32 = libc::EPOLLET as u32;

/// What has become of a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The kernel has it as the program asked for it.
    Open,
    /// Its events are masked.
    Parked {
        /// Are they to be put back? Not for an EPOLLONESHOT watch that has fired: the program arms it again.
        armed: bool,
    },
    /// Its number was closed while the socket lives on under another one. The kernel keeps it, and it can be changed no more.
    Lost,
}

/// See the module.
#[derive(Clone, Copy)]
pub struct Watch {
    /// Descriptor of the epoll set.
    pub epoll: c_int,
    /// Descriptor of the listening socket.
    pub listener: c_int,
    /// Inode number of the socket: its descriptor's number may be another file's by now.
    pub inode: u64,
    /// What the program asked for last.
    pub event: epoll_event,
    /// Number of the process that made it. A set that was inherited may be in use by both.
    pub maker: c_int,
    /// What has become of it.
    pub state: State,
}

impl Watch {
    /// A watch that the kernel has as the program asked for it.
    pub fn open(epoll: c_int, listener: c_int, inode: u64, event: epoll_event) -> Watch {
        Watch { epoll, listener, inode, event, maker: process::pid(), state: State::Open }
    }

    /// Did the program ask for this flag?
    pub fn has(&self, flag: u32) -> bool {
        self.event.events & flag != 0
    }

    /// Are its events masked?
    pub fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked { .. })
    }

    /// Can the kernel no longer be asked to change it?
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Is its number another file's by now, or nobody's?
    pub fn has_lost_its_number(&self) -> bool {
        !sys::fstat(self.listener).is_ok_and(|status| status.st_ino == self.inode)
    }

    /// Was it inherited, with its set, from a process that may still use both?
    pub fn is_inherited(&self) -> bool {
        self.maker != process::pid()
    }

    /// Are its events masked, by this process?
    pub fn is_parked_here(&self) -> bool {
        self.is_parked() && !self.is_inherited()
    }

    /// Masks its events. `wake`: lets it fire a last time, so that a thread that sleeps in epoll_wait(2) returns, and looks every 100 ms
    /// from then on.
    ///
    /// A watch that has fired is in the set's list of those that are ready. As long as it is there, it wakes nobody when its events are
    /// put back, and an edge-triggered set around this one would not hear of it. poll(2) of the set makes the kernel look through that
    /// list, and take it out.
    pub fn park(&mut self, wake: bool) -> Result<(), Errno> {
        if self.has(ONESHOT) {
            if !self.is_parked() {
                // It has fired, so that it is masked, until the program arms it again.
                self.state = State::Parked { armed: false };
            }
            return Ok(());
        }
        let masked = epoll_event { events: 0, ..self.event };
        if self.has(EXCLUSIVE) && !self.is_parked() {
            self.control(libc::EPOLL_CTL_DEL, None)?;
            if let Err(errno) = self.control(libc::EPOLL_CTL_ADD, Some(&masked)) {
                let _ = self.control(libc::EPOLL_CTL_ADD, Some(&self.event));
                return Err(errno);
            }
        } else {
            self.control(libc::EPOLL_CTL_MOD, Some(&masked))?;
        }
        self.state = State::Parked { armed: true };
        let _ = sys::poll_now(&mut [sys::pollfd(self.epoll, libc::POLLIN)]);
        if wake {
            let events = libc::EPOLLIN as u32 | ONESHOT;
            let _ = self.control(libc::EPOLL_CTL_MOD, Some(&epoll_event { events, ..self.event }));
        }
        Ok(())
    }

    /// Puts its events back as the program wants them. An edge-triggered watch fires then if a client waits.
    pub fn put_back(&mut self) -> Result<(), Errno> {
        if self.state == (State::Parked { armed: true }) {
            if self.has(EXCLUSIVE) {
                match self.control(libc::EPOLL_CTL_DEL, None) {
                    Ok(()) | Err(libc::ENOENT) => {}
                    other => return other,
                }
                match self.control(libc::EPOLL_CTL_ADD, Some(&self.event)) {
                    // EEXIST: another process that shares the set was faster.
                    Ok(()) | Err(libc::EEXIST) => {}
                    other => return other,
                }
            } else {
                // The last event of a watch that was to wake somebody may still be in the list.
                self.control(libc::EPOLL_CTL_MOD, Some(&epoll_event { events: 0, ..self.event }))?;
                let _ = sys::poll_now(&mut [sys::pollfd(self.epoll, libc::POLLIN)]);
                self.control(libc::EPOLL_CTL_MOD, Some(&self.event))?;
            }
        }
        self.state = State::Open;
        Ok(())
    }

    fn control(&self, operation: c_int, event: Option<&epoll_event>) -> Result<(), Errno> {
        sys::epoll_control(self.epoll, operation, self.listener, event)
    }
}

/// Does this errno of epoll_ctl(2) say that there is no such watch? EPERM may be a sandbox's.
pub fn is_gone(errno: Errno) -> bool {
    matches!(errno, libc::ENOENT | libc::EBADF | libc::EINVAL)
}
