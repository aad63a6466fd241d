//! Descriptors that come in messages (SCM_RIGHTS, unix(7)). The kernel drops those for which there is no number, without an error.

use core::ffi::{c_int, c_uint, c_void};

use libc::{cmsghdr, mmsghdr, msghdr, ssize_t, timespec};

use super::hooks;
use crate::engine::call::Call;
use crate::engine::messages;
use crate::engine::reclaim::limit;
use crate::os::barrier::barrier;
use crate::state::{page, process, usage};

hooks! {
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = receiving(message);
    recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int
        = receiving_many(messages);
}

/// recvmsg(2).
///
/// # Safety
/// Once `real` has returned 0 or more, the kernel has filled in `message`.
#[inline(always)]
unsafe fn receiving(_: impl Fn() -> Call, mut real: impl FnMut() -> ssize_t, message: *mut msghdr) -> ssize_t {
    let answer = real();
    // SAFETY: filled in by the kernel, as the caller promises.
    if answer >= 0 && unsafe { (*message).msg_controllen } != 0 {
        // SAFETY: as above.
        unsafe { received(message) };
    }
    answer
}

/// recvmmsg(2).
///
/// # Safety
/// Once `real` has returned a number, the kernel has filled in so many of `messages`.
#[inline(always)]
unsafe fn receiving_many(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, messages: *mut mmsghdr) -> c_int {
    let answer = real();
    for i in 0..answer.max(0) as usize {
        // SAFETY: filled in by the kernel, as the caller promises.
        unsafe {
            let message = &raw mut (*messages.add(i)).msg_hdr;
            if (*message).msg_controllen != 0 {
                received(message);
            }
        }
    }
    answer
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
                    descriptors(header, |fd| page::opened(fd));
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
        // SAFETY: filled in by the kernel.
        let is_cut = unsafe { (*message).msg_flags } & libc::MSG_CTRUNC != 0;
        if is_cut && process::may_act() && (!any || !usage::has_free_number()) && usage::is_tight() {
            page::add(&page::counters().lost_in_messages, 1);
            messages::descriptors_lost();
            limit::raise_for_messages();
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
