//! What differs between processor architectures, behind one interface: nothing outside this folder names a register, an instruction or a
//! system call that only some architectures have.
//!
//! An architecture is a folder that supplies the items below, under these names and with these promises. They are its assembly, because
//! Rust can't say it or says it too slowly (raw system calls, a thread-local word without a function call, functions with `...`, the
//! entries of write(2) and accept(2)), and the few layouts and numbers of the kernel that differ.
//!
//! The assembly that is no architecture's own, nothing but directives, is in [`symbols`].

pub mod symbols;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("tideover knows x86-64 and AArch64: src/shim/arch/mod.rs says what another architecture supplies");

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(target_arch = "x86_64")]
use x86_64 as machine;

/// `fn thread_word() -> *mut u64`: address of this thread's word (see [`crate::state::thread`]), which is zero in a new thread. It is in the
/// initial-exec model of thread-local storage, which is legal in a library that is loaded at start-up. Rust's own thread locals reach a
/// preloaded library through `__tls_get_addr`, which may allocate when a program has called dlopen(3) since; hooks run inside malloc.
pub use machine::thread::thread_word;

/// `fn thread_pointer() -> usize`: a number other than 0 that is this thread's alone while it lives, and stays so in the child of a fork.
pub use machine::thread::thread_pointer;

/// `fn thread_spread() -> usize`: as [`thread_pointer`], and its lowest bits differ between threads whose stacks are neighbours. Which of a
/// few cache lines a thread counts in is chosen by these.
pub use machine::thread::thread_spread;

/// `fn stack_pointer() -> usize`: about where this thread's stack ends now. It is inlined, so it is the stack pointer of its caller.
pub use machine::thread::stack_pointer;

/// `fn is_on_valgrind() -> bool`: does valgrind run this program? It then answers a client request (valgrind.h, RUNNING_ON_VALGRIND), which
/// is a sequence of instructions that do nothing otherwise.
pub use machine::thread::is_on_valgrind;

/// `unsafe fn syscall(number: c_long, arguments: [usize; 6]) -> isize`: syscall(2) without libc. It does not touch errno, is no cancellation
/// point, and does not come back through our own hook. The answer is the kernel's: -4095..=-1 is an errno, negated.
pub use machine::syscall::syscall;

/// Numbers of the system calls that newer architectures lack, `c_long`, for patterns. An architecture without one of them gives it a negative
/// number of its own, which no system call has.
#[cfg_attr(test, allow(unused_imports))]
pub use machine::calls;

/// `struct KernelAction`: the kernel's `struct sigaction`, which is not libc's, with the fields `handler: usize`, `flags: u64` and
/// `mask: u64`, and a `const fn new()` that makes one of zeros.
pub use machine::kernel::KernelAction;

/// `CLOCK_GETTIME: &CStr`: name of clock_gettime(2) in the vDSO, the library that the kernel maps into each process.
pub use machine::kernel::CLOCK_GETTIME;

/// Bytes of the smallest page of memory that Linux has on any architecture. Where pages are larger, it divides them.
pub const SMALLEST_PAGE: usize = 4096;

/// `struct VaList`: what a C function gets the address of when it is passed a `va_list`. `Copy`: each function that walks it uses up a copy.
pub use machine::variadic::VaList;

/// `weak!("NAME") -> usize`: address of a function of libc that not every libc has; 0 where it is missing.
pub(crate) use machine::weak::weak;

/// What exported functions that Rust can't define, or defines with too many instructions, consist of. Unit tests export nothing.
///
/// - `write_entry! { NAME: diverted = D, real = R, short = S, care = C }` defines an exported `NAME(fd, data, count) -> ssize_t`. While the
///   `u32` in the static `D` is 0, it calls the function whose address is in the static `R` with its three arguments, and returns the answer if
///   that is `count`. Another answer goes to `S(fd, data, count, answer)`, and if `D` is not 0, the call goes to `C(fd, data, count)`: these
///   return in its place.
/// - `accept_entry! { NAME: real = R, welcome = W, failed = F }` defines an exported `NAME(listener, address, length, flags) -> c_int`. It calls
///   the function whose address is in the static `R` with its four arguments. An answer of 0 or more goes to `W(answer)`, a negative one to
///   `F(listener, address, length, flags, answer)`: these return in its place.
/// - `vfork_entry! { NAME: mark = M, failed = F }` defines an exported `NAME() -> pid_t` that is vfork(2). While the child runs on this thread's
///   memory, the bits of the constant `M` are set in its [`thread_word`]. If there is no child, `F(errno)` returns in its place.
/// - `exec_list! { NAME => C }` defines an exported `NAME(path, ...)`: it calls `C(path, arguments)` with the address of an array of all
///   arguments behind the first, and returns its answer.
/// - `prepared! { NAME => P }` defines an exported `NAME(...)`: it calls `P() -> usize`, and goes on at the address that this returns, with
///   all arguments as they came. `prepared! { NAME => P, unless K }`: if the `usize` in the static `K` is not 0, it goes on there at once.
/// - `listed! { NAME => L, N }` defines a `NAME(...)` with `N` arguments (2 or 3) before its `...`: it calls `L` with these and the address of a
///   [`VaList`] of the others, and returns its answer.
///
/// A thread may be cancelled, or jump away, in what they call: all have unwind tables, and none holds anything.
#[cfg(not(test))]
pub(crate) use machine::{
    entries::{accept_entry, write_entry},
    variadic::{exec_list, listed, prepared},
    vfork::vfork_entry,
};

/// What the Rust runtime finds at link time instead of importing it from libc (see [`crate::os::unused`]).
///
/// - `refuse! { "ANSWER": "NAME" ... }` defines hidden functions that do nothing but return an answer.
/// - Besides, hidden: `memcpy`, `memmove`, `memset`, `bcmp` and `strlen`, short rather than fast, since they are used on cold paths; and what else
///   the runtime refers to on this architecture alone.
#[cfg(not(test))]
pub(crate) use machine::runtime::refuse;
