//! Names to be looked up.

use core::ffi::CStr;

/// A name to be looked up, with its hash. It holds the text itself, padded with zeros: a pointer would be relocated at the start of every
/// process.
pub struct Name {
    /// As in DT_GNU_HASH.
    pub(super) hash: u32,
    text: [u8; 36],
}

impl Name {
    /// Hashes a name of at most 35 bytes.
    #[unsafe(link_section = ".text.at_load")]
    pub const fn new(text: &CStr) -> Name {
        let bytes = text.to_bytes();
        let mut name = Name { hash: 5381, text: [0; 36] };
        let mut i = 0;
        while i < bytes.len() {
            name.hash = name.hash.wrapping_mul(33).wrapping_add(bytes[i] as u32);
            name.text[i] = bytes[i];
            i += 1;
        }
        assert!(i < name.text.len(), "too long");
        name
    }

    pub(super) fn text(&self) -> &CStr {
        // SAFETY: `new`, which alone makes one, leaves at least one zero at the end.
        unsafe { CStr::from_ptr(self.text.as_ptr().cast()) }
    }
}
