//! The environment, as the constructor finds it, without getenv(3): no lock, and each variable is looked at once.

use core::ffi::{CStr, c_char};

/// The value of an environment variable; the first, if there are several.
///
/// # Safety
/// `environment` is a NULL-terminated array of C strings, which stay as they are while `'a` lasts.
#[unsafe(link_section = ".text.at_load")]
pub unsafe fn variable<'a>(mut environment: *const *const c_char, name: &[u8]) -> Option<&'a [u8]> {
    loop {
        // SAFETY: promised by the caller, and not yet past the NULL.
        let entry = unsafe { *environment };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not yet at the NULL.
        environment = unsafe { environment.add(1) };
        // SAFETY: reads no further than the first difference, so never past the NUL, which no name has.
        let is_named = name.iter().enumerate().all(|(i, &byte)| unsafe { *entry.add(i) } as u8 == byte);
        if !is_named {
            continue;
        }
        // SAFETY: a C string, which has at least as many bytes as the name.
        if let [b'=', value @ ..] = unsafe { CStr::from_ptr(entry.add(name.len())) }.to_bytes() {
            return Some(value);
        }
    }
}

/// Iterates over the variables whose names begin with TIDEOVER_, as (name, value).
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The entry that is looked at next, in the array that [`Environment::new`] was given; NULL: there is no array.
    next: *const *const c_char,
    /// For the lifetime: the strings are borrowed from the environment.
    life: &'a [u8],
}

impl<'a> Environment<'a> {
    /// Begins before the first variable. NULL instead of an environment has none.
    ///
    /// # Safety
    /// `environment` is NULL, or a NULL-terminated array of C strings, which stay as they are while `'a` lasts.
    pub unsafe fn new(environment: *const *const c_char) -> Environment<'a> {
        Environment { next: environment, life: &[] }
    }
}

impl<'a> Iterator for Environment<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[unsafe(link_section = ".text.at_load")]
    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.life;
        if self.next.is_null() {
            return None;
        }
        loop {
            // SAFETY: `next` is in the array that `Environment::new` was given: its caller promises that it is one of C strings, with a NULL at
            // its end, which has not been passed yet.
            let entry = unsafe { *self.next };
            if entry.is_null() {
                return None;
            }
            // SAFETY: this entry is not the NULL, so there is another one behind it.
            self.next = unsafe { self.next.add(1) };
            // SAFETY: `all` stops at the first byte that differs, so the bytes before this one are no NUL, and this one is still within the C
            // string.
            let ours = (0..9).all(|i| unsafe { *entry.add(i) } as u8 == b"TIDEOVER_"[i]);
            if !ours {
                continue;
            }
            // SAFETY: a C string, as the caller of `Environment::new` promises.
            let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
            if let Some(equals) = entry.iter().position(|&b| b == b'=') {
                return Some((&entry[..equals], &entry[equals + 1..]));
            }
        }
    }
}
