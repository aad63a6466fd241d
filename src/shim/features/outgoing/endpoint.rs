//! Where a connection goes: address and port, in four bytes.

use core::ffi::c_int;
use tideover_contract::hash::fnv1a;

use libc::{sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::os::sys;

/// A hash of address and port, an even number. Two endpoints that happen to have the same share their limit, which does no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint(u32);

/// Bytes of a sockaddr_in6 without its scope, which connect(2) accepts.
const SHORT_IN6: usize = 24;

/// The family of an address that connect(2) was given: AF_INET, AF_INET6 or AF_UNSPEC; None for any other, or one that can't be
/// read.
///
/// # Safety
/// What can be read of the address stays so during the call.
pub unsafe fn family(address: *const sockaddr, length: socklen_t) -> Option<c_int> {
    let length = length as usize;
    if length < 2 || !sys::is_readable(address.cast(), length.min(size_of::<sockaddr_in6>())) {
        return None;
    }
    // SAFETY: the kernel has just said that these two bytes can be read, and the caller promises that they stay so.
    let family = c_int::from(unsafe { address.cast::<u16>().read_unaligned() });
    match family {
        libc::AF_UNSPEC => Some(family),
        libc::AF_INET if length >= size_of::<sockaddr_in>() => Some(family),
        libc::AF_INET6 if length >= SHORT_IN6 => Some(family),
        _ => None,
    }
}

impl Endpoint {
    /// Of an address that connect(2) was given; None where [`family`] gives none.
    ///
    /// # Safety
    /// What can be read of the address stays so during the call.
    pub unsafe fn of(address: *const sockaddr, length: socklen_t) -> Option<Endpoint> {
        let mut bytes = [0u8; size_of::<sockaddr_in6>()];
        // SAFETY: promised by the caller.
        let family = unsafe { family(address, length) }?;
        let length = (length as usize).min(bytes.len());
        // SAFETY: `family` has made sure that as many bytes can be read; the array is at least as long.
        unsafe { core::ptr::copy_nonoverlapping(address.cast(), bytes.as_mut_ptr(), length) };
        let port = [bytes[2], bytes[3]];
        let (mut host, mut scope) = ([0u8; 16], [0u8; 4]);
        if family == libc::AF_INET {
            host[10..12].fill(0xff);
            host[12..].copy_from_slice(&bytes[4..8]);
        } else {
            host.copy_from_slice(&bytes[8..24]);
            if host[0] == 0xfe && host[1] & 0xc0 == 0x80 {
                scope.copy_from_slice(&bytes[24..28]);
            }
        }
        // A connect to 0.0.0.0 or :: goes to this machine.
        if host == [0; 16] {
            host[15] = 1;
        } else if host == *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\0" {
            host[12..].copy_from_slice(&[127, 0, 0, 1]);
        }
        let hash = fnv1a(host.iter().chain(&port).chain(&scope));
        Some(Endpoint(((hash >> 32) ^ hash) as u32 & !1))
    }

    /// The hash, whose lowest bit a table may use for something else.
    pub fn bits(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(host: [u8; 4], port: u16) -> Endpoint {
        let mut bytes = [0u8; 16];
        bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&host);
        // SAFETY: as many bytes as are said.
        unsafe { Endpoint::of(bytes.as_ptr().cast(), 16) }.unwrap()
    }

    fn v6(host: &str, port: u16, scope: u32, length: u32) -> Endpoint {
        let mut bytes = [0u8; 28];
        bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
        bytes[8..24].copy_from_slice(&host.parse::<std::net::Ipv6Addr>().unwrap().octets());
        bytes[24..28].copy_from_slice(&scope.to_ne_bytes());
        // SAFETY: at least as many bytes as are said.
        unsafe { Endpoint::of(bytes.as_ptr().cast(), length) }.unwrap()
    }

    #[test]
    fn one_endpoint_has_one_hash_however_it_is_written() {
        assert_eq!(v4([10, 0, 0, 7], 80), v6("::ffff:10.0.0.7", 80, 0, 28));
        assert_eq!(v4([0, 0, 0, 0], 80), v4([127, 0, 0, 1], 80));
        assert_eq!(v6("::", 80, 0, 28), v6("::1", 80, 0, 24));
        assert_eq!(v6("2001:db8::1", 80, 3, 28), v6("2001:db8::1", 80, 4, 28));
        assert_ne!(v6("fe80::1", 80, 3, 28), v6("fe80::1", 80, 4, 28));
        assert_ne!(v4([10, 0, 0, 7], 80), v4([10, 0, 0, 7], 81));
        assert_ne!(v4([10, 0, 0, 7], 80), v4([10, 0, 0, 8], 80));
    }

    #[test]
    fn what_is_no_internet_address_is_left_to_the_kernel() {
        // SAFETY: the addresses are this test's own, or none that can be read.
        let family = |address: *const sockaddr, length| unsafe { family(address, length) };
        let unix = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
        assert_eq!(family((&raw const unix).cast(), 110), None);
        assert_eq!(family(core::ptr::null(), 16), None);
        assert_eq!(family(8 as *const sockaddr, 16), None);
        let short = (libc::AF_INET as u16).to_ne_bytes();
        assert_eq!(family(short.as_ptr().cast(), 2), None);
        assert_eq!(family([0u8; 16].as_ptr().cast(), 16), Some(libc::AF_UNSPEC));
    }
}
