//! Parking: the item of a listener in a level-triggered epoll set is told to report no connection, so that a process which can't accept
//! one does not spin; and bringing it back.
//!
//! While it is parked, the item has EPOLLMSG as its mask, which no file of the kernel ever reports and no program asks for. So it is known
//! to be ours; and one that the program has changed meanwhile is left as the program has it.
//!
//! EPOLL_CTL_MOD writes the item's word, too. Between reading and writing it some microseconds pass, in which the program could have
//! put another pointer there. So only items whose word names the descriptor itself are parked: their word can't be another. A change of the
//! mask in these microseconds is lost.
//!
//! EPOLL_CTL_MOD refuses items with EPOLLEXCLUSIVE. EPOLL_CTL_DEL and EPOLL_CTL_ADD would park them, but between the two calls a program that
//! takes its listener out itself gets ENOENT, and then has it back in the set: an error that it would not have seen. So they are not parked.
#![forbid(unsafe_code)]

use crate::before_exec::foreign::{self, Item, change_events};
use crate::guard::state::{Parked, Process};
use crate::processes::each;
use crate::show::failure::cause;
use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{fs, io};

/// What the kernel adds to every mask.
const ALWAYS: u32 = EventFlags::ERR.bits() | EventFlags::HUP.bits();
/// The mask of a parked item.
const MARK: u32 = EventFlags::MSG.bits();
/// What may be in the mask of an item that is parked: none of EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE, EPOLLWAKEUP.
const PLAIN: u32 = ALWAYS
    | EventFlags::IN.bits()
    | EventFlags::RDNORM.bits()
    | EventFlags::PRI.bits()
    | EventFlags::RDHUP.bits()
    | EventFlags::OUT.bits();

/// Does an item wake its program again and again while a connection waits?
pub fn is_level_triggered(item: Item) -> bool {
    item.events & (EventFlags::IN.bits() | EventFlags::RDNORM.bits()) != 0
        && item.events & (EventFlags::ET.bits() | EventFlags::ONESHOT.bits()) == 0
}

/// Can it be parked without any danger?
pub fn is_parkable(item: Item) -> bool {
    why_not(item).is_none()
}

/// Why an item can't be parked, as the end of a sentence.
pub fn why_not(item: Item) -> Option<&'static str> {
    if item.events & EventFlags::EXCLUSIVE.bits() != 0 {
        Some(
            "it is watched with EPOLLEXCLUSIVE, which can't be changed but by taking it out of the set for a moment, in which the program's own epoll_ctl(2) would fail",
        )
    } else if !is_level_triggered(item) || item.events & !PLAIN != 0 {
        Some("it is not watched as plainly level-triggered")
    } else if item.data & 0xffff_ffff != u64::try_from(item.number).unwrap_or(u64::MAX) {
        Some(
            "the program's word for it in the epoll set is no descriptor number but may be a pointer, which could change while it is parked",
        )
    } else {
        None
    }
}

/// The items of an epoll set of a process.
pub fn items(pid: u32, set: i32) -> Vec<Item> {
    foreign::items(&fs::read_to_string(format!("/proc/{pid}/fdinfo/{set}")).unwrap_or_default())
}

/// Another process that has this epoll set, too: it may have room when this one has not.
pub fn shared_with(pid: u32, set: i32) -> Option<u32> {
    let is_set = |other: u32| {
        fs::read_link(format!("/proc/{other}/fd/{set}")).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
    };
    let same = |other: u32| match foreign::share(pid, other, set) {
        Some(same) => same,
        None => !items(pid, set).is_empty() && items(pid, set) == items(other, set),
    };
    each::pids().into_iter().find(|&other| other != pid && is_set(other) && same(other))
}

/// Parks an item that is as it was seen. The caller has written it into the state.
pub fn park(pidfd: &OwnedFd, parked: Parked) -> Result<(), Errno> {
    change_events(pidfd.as_fd(), parked.set, parked.item, MARK)
}

/// What an item is while it is parked.
fn marked(item: Item) -> Item {
    Item { events: MARK | ALWAYS, ..item }
}

/// Brings an item back, if it is parked still: true. False: the program has changed it, closed the listener, or ended. The error says why
/// it is not known, or could not be done.
pub fn bring_back(process: Process, parked: Parked) -> Result<bool, String> {
    let mut places = own_places(process, parked.item).map_err(|error| cause(&error))?;
    if places.is_empty() {
        // A child may have the set that its parent had.
        let has = |&(pid, set): &(u32, i32)| items(pid, set).contains(&marked(parked.item));
        places = each::pids().into_iter().map(|pid| (pid, parked.set)).filter(has).collect();
    }
    let mut rearmed = false;
    for (pid, set) in places {
        match again(pid, set, parked.item) {
            Ok(()) => rearmed = true,
            // It was changed, or its process ended, since it was looked at.
            Err(Errno::STALE | Errno::BADF | Errno::SRCH | Errno::NOENT) => {}
            Err(error) => return Err(cause(&error.into())),
        }
    }
    Ok(rearmed)
}

/// Brings back what is parked in a process's own sets and is in no list, as after a list that was damaged. That such an item is ours is known
/// by its mask; its word and its descriptor are as they were, and a listener reports nothing but EPOLLIN, whatever was in its mask besides.
pub fn bring_back_unlisted(process: Process) -> Result<u64, String> {
    let mut rearmed = 0;
    for set in there(sets(process.pid)).map_err(|error| cause(&error))?.unwrap_or_default() {
        for item in items(process.pid, set).into_iter().filter(|item| *item == marked(*item)) {
            let was = Item { events: EventFlags::IN.bits() | ALWAYS, ..item };
            if is_parkable(was) && process.is_alive() {
                rearmed += u64::from(bring_back(process, Parked { set, item: was })?);
            }
        }
    }
    Ok(rearmed)
}

/// Is an item parked now in a set of its own process?
pub fn is_parked(process: Process, item: Item) -> bool {
    own_places(process, item).is_ok_and(|places| !places.is_empty())
}

fn again(pid: u32, set: i32, item: Item) -> Result<(), Errno> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(id, PidfdFlags::empty())?;
    change_events(pidfd.as_fd(), set, marked(item), item.events & !ALWAYS)
}

/// The sets of a process in which this item is parked, each with the process id; none if it has ended.
fn own_places(process: Process, item: Item) -> io::Result<Vec<(u32, i32)>> {
    let mut places = Vec::new();
    for set in there(sets(process.pid))?.unwrap_or_default() {
        let text = there(fs::read_to_string(format!("/proc/{}/fdinfo/{set}", process.pid)))?.unwrap_or_default();
        if foreign::items(&text).contains(&marked(item)) && process.is_alive() {
            places.push((process.pid, set));
        }
    }
    Ok(places)
}

fn sets(pid: u32) -> io::Result<Vec<i32>> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Some(entry) = there(entry)? else { continue };
        let is_set =
            there(fs::read_link(entry.path()))?.is_some_and(|link| link.as_os_str() == "anon_inode:[eventpoll]");
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        sets.extend(number.filter(|_| is_set));
    }
    Ok(sets)
}

/// None: the process, or the descriptor, is gone. Any other error does not say whether something is there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::epoll;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn what_cannot_be_looked_at_is_no_proof_that_nothing_is_parked() {
        assert!(matches!(there(Err::<(), _>(io::Error::from_raw_os_error(libc::ESRCH))), Ok(None)));
        assert!(there(Err::<(), _>(io::Error::from_raw_os_error(libc::EACCES))).is_err());
        assert!(sets(u32::MAX).is_err() && there(sets(u32::MAX)).unwrap().is_none());
    }

    #[test]
    fn only_what_cannot_change_its_word_is_parked() {
        let item = Item { number: 5, inode: 7, events: 0x19, data: 5 };
        assert!(is_parkable(item) && is_parkable(Item { data: 0x7fff_0000_0005, ..item }));
        assert!(why_not(Item { data: 0x5555_0000_1230, ..item }).unwrap().contains("pointer"));
        assert!(why_not(Item { events: 0x1000_0019, ..item }).unwrap().contains("EPOLLEXCLUSIVE"));
        for flag in [EventFlags::ET, EventFlags::ONESHOT, EventFlags::WAKEUP] {
            assert!(!is_parkable(Item { events: 0x19 | flag.bits(), ..item }));
        }
        assert!(!is_parkable(Item { events: 0x18, ..item }), "it watches for nothing");
    }

    /// Why EPOLLEXCLUSIVE is refused: each of these calls is one that a program makes of its own listener, and the answer one that it would not
    /// have got. If a kernel changes that, it can be parked.
    #[test]
    fn an_exclusive_item_can_only_be_parked_in_sight_of_its_program() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let word = || epoll::EventData::new_u64(u64::try_from(listener.as_raw_fd()).unwrap());
        let exclusive = EventFlags::IN | EventFlags::EXCLUSIVE;
        epoll::add(&set, &listener, word(), exclusive).unwrap();
        let me = Process::now(std::process::id()).unwrap();
        let pidfd = pidfd_open(Pid::from_raw(me.pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
        let parked = Parked { set: set.as_raw_fd(), item: items(me.pid, set.as_raw_fd())[0] };
        assert!(why_not(parked.item).is_some_and(|why| why.contains("EPOLLEXCLUSIVE")));
        assert_eq!(park(&pidfd, parked), Err(Errno::INVAL), "EPOLL_CTL_MOD");
        epoll::delete(&set, &listener).unwrap();
        assert_eq!(epoll::delete(&set, &listener), Err(Errno::NOENT), "what the program would get");
        epoll::add(&set, &listener, word(), EventFlags::MSG).unwrap();
        assert_eq!(epoll::add(&set, &listener, word(), exclusive), Err(Errno::EXIST), "or this");
    }

    #[test]
    fn a_parked_listener_wakes_nobody_and_is_brought_back_unless_its_program_did() {
        let me = Process::now(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let word = || epoll::EventData::new_u64(u64::try_from(listener.as_raw_fd()).unwrap());
        epoll::add(&set, &listener, word(), epoll::EventFlags::IN).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wakes = || {
            let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: word() }; 4];
            let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&set, &mut events[..], Some(&zero)).unwrap()
        };
        assert_eq!(wakes(), 1);
        let pidfd = pidfd_open(Pid::from_raw(me.pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
        let parked = Parked { set: set.as_raw_fd(), item: items(me.pid, set.as_raw_fd())[0] };
        park(&pidfd, parked).unwrap();
        assert_eq!(wakes(), 0);
        assert_eq!(bring_back(me, parked), Ok(true));
        assert_eq!((wakes(), bring_back(me, parked)), (1, Ok(false)));
        park(&pidfd, parked).unwrap();
        epoll::modify(&set, &listener, word(), epoll::EventFlags::OUT).unwrap();
        assert_eq!(bring_back(me, parked), Ok(false), "what the program has asked for stays");
        assert_eq!(items(me.pid, set.as_raw_fd())[0].events, 0x1c);
    }
}
