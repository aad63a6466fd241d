//! Symbols that Rust can't define: directives of the assembler, which are the same on all 64-bit architectures.

/// `hidden! { "NAME" }`: an exported function of ours is seen by the linker, and by nobody else.
#[cfg(not(test))]
macro_rules! hidden {
    ($name:literal) => {
        core::arch::global_asm!(concat!(".hidden ", $name));
    };
}
#[cfg(not(test))]
pub(crate) use hidden;

/// `hidden_word! { "NAME" = "VALUE" }`: a hidden, read-only word of 64 bits.
#[cfg(not(test))]
macro_rules! hidden_word {
    ($name:literal = $value:literal) => {
        core::arch::global_asm!(
            ".pushsection .rodata,\"a\",@progbits",
            ".p2align 3",
            concat!(".globl ", $name),
            concat!(".hidden ", $name),
            concat!($name, ": .quad ", $value),
            ".popsection",
        );
    };
}
#[cfg(not(test))]
pub(crate) use hidden_word;

/// `weak_addresses! { static TABLE = "SYMBOL": "NAME", ... }`: a table of addresses of libc's functions and variables, which the loader fills
/// in; 0 for a name that this libc lacks. Its own symbol is hidden. It costs a fraction of dlsym(3).
macro_rules! weak_addresses {
    (static $table:ident = $symbol:literal: $($name:literal),+ $(,)?) => {
        core::arch::global_asm!(
            $(concat!(".weak ", $name),)+
            ".pushsection .data.rel.ro.weak_addresses,\"aw\",@progbits",
            ".balign 8",
            concat!(".hidden ", $symbol),
            concat!(".globl ", $symbol),
            concat!($symbol, ":"),
            $(concat!(".quad ", $name),)+
            ".popsection",
        );

        unsafe extern "C" {
            #[link_name = $symbol]
            static $table: [usize; [$($name),+].len()];
        }
    };
}
pub(crate) use weak_addresses;
