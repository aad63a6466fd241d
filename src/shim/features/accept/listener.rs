//! What can be asked about a listening socket.
#![forbid(unsafe_code)]

use core::ffi::c_int;

use tideover_contract::settings::{Id, accept};

use crate::os::sys;
use crate::state::process;
use crate::state::settings::SETTINGS;

/// Does the library do anything at all for this socket? Not with TIDEOVER_ACCEPT=pass.
pub fn is_ours(listener: c_int) -> bool {
    SETTINGS.get(Id::Accept) != accept::PASS && process::may_act() && sys::is_listening(listener)
}

/// Does a client wait in its queue? Also true when the kernel can't be asked.
pub fn has_clients(listener: c_int) -> bool {
    let mut ready = [sys::pollfd(listener, libc::POLLIN)];
    sys::poll_now(&mut ready) != Ok(0)
}

/// Is it in blocking mode?
pub fn is_blocking(listener: c_int) -> bool {
    sys::status_flags(listener).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0)
}
