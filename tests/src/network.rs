//! A network of the test's own.

/// Gives the calling thread, and what it starts, a network namespace of its own, with nothing but a loopback: no name server answers or
/// keeps anybody waiting.
///
/// # Panics
/// If the test has not declared by `#[needs(netns)]` that it wants to.
#[track_caller]
pub fn own_network() {
    // SAFETY: unshare(2) touches no memory; CLONE_NEWNET concerns the calling thread, and what it starts.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace can be made");
    // SAFETY: socket(2) takes numbers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: all zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: an open socket and a request of ours; closed by nobody else.
    let up = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    // SAFETY: made above.
    unsafe { libc::close(socket) };
    assert_eq!(up, 0, "the loopback can be used");
}
