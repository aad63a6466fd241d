//! Terminals: ioctl_tty(2).

use core::ffi::c_int;

use super::{Errno, call};

/// What a process may know of a terminal.
pub struct Terminal {
    /// A process group that is not in the foreground is stopped when it writes (stty tostop).
    pub stops_background: bool,
    /// The calling process is in the foreground process group, or this is not its terminal.
    pub is_foreground: bool,
}

/// The terminal that this descriptor is open on; ENOTTY if it is none.
pub fn terminal(fd: c_int) -> Result<Terminal, Errno> {
    /// The kernel's struct termios, which is not libc's: c_iflag, c_oflag, c_cflag, c_lflag, and then more, of which there are at most 60
    /// bytes on any architecture.
    #[repr(C)]
    struct Termios([u32; 4], [u8; 64]);
    let mut modes = Termios([0; 4], [0; 64]);
    call!(SYS_ioctl, fd, libc::TCGETS, &raw mut modes)?;
    let mut foreground: c_int = 0;
    let known = call!(SYS_ioctl, fd, libc::TIOCGPGRP, &raw mut foreground);
    let own = call!(SYS_getpgid, 0).map_or(0, |group| group as c_int);
    Ok(Terminal {
        stops_background: modes.0[3] & libc::TOSTOP != 0,
        is_foreground: known.is_err() || foreground == own,
    })
}
