//! Names of libc's that may be missing.

/// Reads the word of the GOT that the loader fills in.
macro_rules! weak {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: reads a word that the loader has filled in.
        unsafe {
            core::arch::asm!(concat!(".weak ", $name), concat!("adrp {0}, :got:", $name), concat!("ldr {0}, [{0}, :got_lo12:", $name, "]"),
                out(reg) address, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}
pub(crate) use weak;
