//! Descriptors that come in messages (SCM_RIGHTS, unix(7)). The kernel drops those for which there is no number, without an error.

use core::ffi::{c_int, c_uint, c_void};

use core::sync::atomic::Ordering::Relaxed;

use libc::{cmsghdr, mmsghdr, msghdr, ssize_t, timespec};

use super::hooks;
use crate::engine::call::Call;
use crate::engine::messages;
use crate::engine::reclaim::limit;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::{page, process, usage};

hooks! {
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = receiving(message);
    recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int
        = receiving_many(messages, count);
}

/// recvmsg(2).
///
/// # Safety
/// Once `real` has returned 0 or more, the kernel has filled in `message`.
#[inline(always)]
unsafe fn receiving(_: impl Fn() -> Call, mut real: impl FnMut() -> ssize_t, message: *mut msghdr) -> ssize_t {
    if is_near(SCM_MAX_FD) {
        expect(message, 1);
    }
    let answer = real();
    // SAFETY: filled in by the kernel, as the caller promises.
    if answer >= 0 && unsafe { has_control(message) } {
        // SAFETY: `message` was filled in by the kernel, as the caller promises.
        unsafe { received(message) };
    }
    answer
}

/// recvmmsg(2).
///
/// # Safety
/// Once `real` has returned a number, the kernel has filled in so many of `messages`.
#[inline(always)]
unsafe fn receiving_many(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    messages: *mut mmsghdr,
    count: c_uint,
) -> c_int {
    if is_near(SCM_MAX_FD * u64::from(count)) {
        expect(messages.cast(), count);
    }
    let answer = real();
    for i in 0..answer.max(0) as usize {
        // SAFETY: filled in by the kernel, as the caller promises.
        unsafe {
            let message = &raw mut (*messages.add(i)).msg_hdr;
            if has_control(message) {
                received(message);
            }
        }
    }
    answer
}

/// Did the message come with anything besides data, or was it cut?
///
/// # Safety
/// The kernel has filled in `message`.
#[inline(always)]
unsafe fn has_control(message: *const msghdr) -> bool {
    // SAFETY: promised by the caller.
    unsafe { (*message).msg_controllen != 0 || (*message).msg_flags & libc::MSG_CTRUNC != 0 }
}

/// Descriptors that a message can carry (the kernel's SCM_MAX_FD).
const SCM_MAX_FD: u64 = 253;

/// Is the limit so near that so many more descriptors might not find a number? Two loads.
#[inline(always)]
fn is_near(descriptors: u64) -> bool {
    let counters = page::counters();
    counters.high_water.load(Relaxed).saturating_add(descriptors) >= counters.soft_limit.load(Relaxed)
}

/// Makes room for what the first of so many messages has room for in its buffer; the others are taken to be like it.
#[cold]
#[inline(never)]
extern "C" fn expect(message: *const msghdr, count: c_uint) {
    let errno = sys::errno();
    barrier((), || {
        // The kernel has not looked at the message yet: it may not be readable.
        if !process::may_act() || !sys::is_readable(message.cast(), size_of::<msghdr>()) {
            return;
        }
        // SAFETY: it can be read, and all bytes are a valid msghdr.
        let (control, length) = unsafe { ((*message).msg_control, (*message).msg_controllen) };
        let room = length.saturating_sub(size_of::<cmsghdr>()) / size_of::<c_int>();
        if !control.is_null() && room > 0 {
            limit::make_room_for((room as u64).min(SCM_MAX_FD).saturating_mul(u64::from(count)));
        }
    });
    sys::set_errno(errno);
}

/// A message has come with something besides data.
///
/// # Safety
/// The kernel has filled in `message`.
#[cold]
#[inline(never)]
unsafe extern "C" fn received(message: *const msghdr) {
    barrier((), || {
        let mut any = false;
        // SAFETY: the kernel has written a chain of headers, each with so many bytes of data behind it, into the buffer that the
        // message names, and its length into the message. CMSG_NXTHDR ends at that length.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                    any = true;
                    descriptors(header, page::opened);
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        // SAFETY: filled in by the kernel.
        let is_cut = unsafe { (*message).msg_flags } & libc::MSG_CTRUNC != 0;
        if is_cut && usage::is_tight() && process::may_act() && (!any || !usage::has_free_number()) {
            page::add(&page::counters().lost_in_messages, 1);
            messages::descriptors_lost();
        }
    });
}

/// Calls `each` for the descriptors behind a header of SCM_RIGHTS.
///
/// # Safety
/// The kernel has written the header and what is behind it.
unsafe fn descriptors(header: *const cmsghdr, each: impl Fn(c_int)) {
    // SAFETY: the header's length counts itself and the numbers behind it.
    unsafe {
        let data = libc::CMSG_DATA(header).cast::<c_void>().cast::<c_int>();
        let bytes = (*header).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
        for i in 0..bytes / size_of::<c_int>() {
            each(data.add(i).read_unaligned());
        }
    }
}
