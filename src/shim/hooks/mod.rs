//! What is intercepted: one table per family, one line per function, its twins beside it.
//!
//! A line is the C prototype and the kind of answer. It expands to `redhook::hook!` (the exported entry point and its panic
//! barrier) around: call the real function; if it failed for lack of descriptors, give it a [`second_chance`]; else count.
//! exports.txt lists all names; a test compares it with the built library, and another asks the libc for forgotten twins.

pub mod capi;
mod closes;
mod composites;
mod connects;
mod descriptors;
mod files;
mod loops;
mod processes;
mod sandbox;
mod sockets;
mod spaces;
mod syscall;
mod threads;
mod variadic;
mod writes;

use core::ffi::{c_int, c_long, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{DIR, FILE};

use crate::engine::attempt::retry_for;
use crate::engine::call::{Call, Lack, Tried, is_exhaustion};
use crate::engine::wait;
use crate::features::logs::pause;
use crate::os::barrier::barrier;
use crate::os::sys::{errno, set_errno};
use crate::state::{page, process};

/// A family's table. After `=` stands the kind of answer, a function of this module or of the family's; after `if`, the
/// condition under which the call may sleep. A family that begins with `at load:` has functions that [`resolve_common`] finds: their
/// addresses stand with what the start of a process writes anyway, all others apart (layout.ld).
macro_rules! hooks {
    (at load: $($lines:tt)*) => {
        $crate::hooks::hooks_in! { ".data.at_load"; $($lines)* }
    };
    ($($lines:tt)*) => {
        $crate::hooks::hooks_in! { ".tables"; $($lines)* }
    };
}

macro_rules! hooks_in {
    ($section:literal; $($name:ident($($arg:ident: $type:ty),*) -> $answer:ty = $kind:ident($($extra:expr),*) $(if $patient:expr)?;)*) => {
        $(#[allow(non_snake_case)]
        pub mod $name {
            #[allow(unused_imports)]
            use super::*;
            use core::ffi::CStr;
            $crate::hooks::hook! {
                unsafe fn $name($($arg: $type),*) -> $answer => hook {
                    type Function = unsafe extern "C" fn($($type),*) -> $answer;
                    // SAFETY: the arguments are the host's own, handed on as they are.
                    unsafe {
                        let call = move || $crate::engine::call::Call {
                            name: stringify!($name),
                            may_block: true $(&& $patient)?,
                            needs_several: false,
                            backoff: None,
                            last_resort: None,
                        };
                        // Looked at again for each call: kept across it, the address would cost a register to save.
                        $kind(call, move || core::mem::transmute::<usize, Function>(real())($($arg),*) $(, $extra)*)
                    }
                }
            }

            #[unsafe(link_section = $section)]
            static REAL: $crate::os::real::Real = $crate::os::real::Real::new();
            // SAFETY: ends with a NUL, and C identifiers hold none.
            const NAME: &CStr = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };

            /// Address of the real function.
            #[inline(always)]
            #[unsafe(link_section = ".text.at_load")]
            pub fn real() -> usize {
                REAL.address(NAME, $crate::hooks::returns_pointer::<$answer>())
            }

            pub fn resolve() {
                REAL.resolve(NAME);
            }
        })*

        /// Finds the real functions of this family.
        pub fn resolve() {
            $($name::resolve();)*
        }
    };
}
pub(crate) use {hooks, hooks_in, redhook::hook};

/// Does a function of this type return a pointer? Then a missing one answers NULL.
const fn returns_pointer<T: Answer>() -> bool {
    T::POINTER
}

/// What a libc function returns: how failure shows.
pub trait Answer: Copy {
    /// Is it a pointer?
    const POINTER: bool = false;
    /// errno if this is a failure.
    ///
    /// # Safety
    /// Right after the call, on its thread.
    unsafe fn failure(self) -> Option<c_int>;
    /// The descriptor that the event shows, or -1.
    fn descriptor(self) -> c_int {
        -1
    }
}

impl Answer for c_int {
    unsafe fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
    fn descriptor(self) -> c_int {
        self
    }
}

impl Answer for c_long {
    unsafe fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
    fn descriptor(self) -> c_int {
        self as c_int
    }
}

impl Answer for libc::ssize_t {
    unsafe fn failure(self) -> Option<c_int> {
        (self < 0).then(errno)
    }
}

impl<T> Answer for *mut T {
    const POINTER: bool = true;
    unsafe fn failure(self) -> Option<c_int> {
        self.is_null().then(errno)
    }
}

impl Answer for () {
    unsafe fn failure(self) -> Option<c_int> {
        None
    }
}

/// An answer that is itself an errno: posix_spawn(3).
#[derive(Clone, Copy)]
pub struct Code(pub c_int);

impl Answer for Code {
    unsafe fn failure(self) -> Option<c_int> {
        (self.0 != 0).then_some(self.0)
    }
}

/// A call failed. If that was for lack of descriptors, it is made again after whatever helps; the answer is the last one, or
/// the first with its errno when nothing helped.
#[cold]
#[inline(never)]
pub(crate) unsafe fn second_chance<R: Answer, F: FnMut() -> R>(first: R, call: impl Fn() -> Call, real: F) -> R {
    // SAFETY: right after the call, as both want.
    unsafe {
        match first.failure() {
            Some(wrong) if is_exhaustion(wrong) => second_chance_for(Lack::Descriptor, first, wrong, call, real),
            _ => first,
        }
    }
}

/// The same for a call that lacks something else, and failed with `wrong` for it.
unsafe fn second_chance_for<R: Answer, F: FnMut() -> R>(
    lack: Lack,
    first: R,
    wrong: c_int,
    call: impl Fn() -> Call,
    real: F,
) -> R {
    let mut trial = Trial { real, answer: first };
    // SAFETY: `again` gets the type that it is for.
    let stands = unsafe { retry_for(lack, call(), wrong, again::<R, F>, (&raw mut trial).cast()) };
    if stands { trial.answer } else { first }
}

/// A call failed. If its disk was full and the user wants that, it waits for space (TIDEOVER_ON_FULL=wait).
#[cold]
#[inline(never)]
pub(crate) unsafe fn when_there_is_space<R: Answer, F: FnMut() -> R>(first: R, name: &'static str, real: F) -> R {
    // SAFETY: right after the call.
    match unsafe { first.failure() } {
        Some(wrong) if pause::is_wanted(wrong) => {
            let mut trial = Trial { real, answer: first };
            // SAFETY: `again` gets the type that it is for.
            let stands = unsafe { pause::carry(name, wrong, again::<R, F>, (&raw mut trial).cast()) };
            if stands { trial.answer } else { first }
        }
        _ => first,
    }
}

/// Answers -1 when its disk is full, and may wait for space.
#[inline(always)]
unsafe fn spacious<R: Answer>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let answer = real();
    // SAFETY: right after the call.
    unsafe { if answer.failure().is_some() { when_there_is_space(answer, call().name, real) } else { answer } }
}

/// A real call with its arguments, and what it answered last.
struct Trial<R, F> {
    real: F,
    answer: R,
}

unsafe extern "C" fn again<R: Answer, F: FnMut() -> R>(trial: *mut c_void) -> Tried {
    // SAFETY: `second_chance` passes its own.
    unsafe {
        let trial = &mut *trial.cast::<Trial<R, F>>();
        trial.answer = (trial.real)();
        match trial.answer.failure() {
            None => Tried { errno: 0, descriptor: trial.answer.descriptor() },
            Some(wrong) => Tried { errno: wrong, descriptor: -1 },
        }
    }
}

/// Answers with a descriptor, or -1.
#[inline(always)]
pub(crate) unsafe fn descriptor(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int) -> c_int {
    let mut fd = real();
    if fd < 0 {
        // SAFETY: right after the call.
        fd = unsafe { second_chance(fd, call, real) };
        if fd < 0 {
            return fd;
        }
    }
    page::opened(fd);
    fd
}

/// Answers 0 with two descriptors in an array, or -1.
#[inline(always)]
unsafe fn pair(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fds: *const c_int) -> c_int {
    let mut answer = real();
    if answer < 0 {
        // SAFETY: right after the call.
        answer = unsafe { second_chance(answer, || Call { needs_several: true, ..call() }, real) };
        if answer < 0 {
            return answer;
        }
    }
    // SAFETY: the call succeeded, so it has filled in both.
    unsafe {
        page::opened(*fds);
        page::opened(*fds.add(1));
    }
    answer
}

/// Answers with a stream, or NULL.
#[inline(always)]
pub(crate) unsafe fn stream(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut FILE) -> *mut FILE {
    let mut stream = real();
    if stream.is_null() {
        // SAFETY: right after the call.
        stream = unsafe { second_chance(stream, call, real) };
    }
    if !stream.is_null() {
        // SAFETY: a stream that libc has just opened.
        page::opened(unsafe { libc::fileno(stream) });
    }
    stream
}

/// Answers with a directory stream, or NULL.
#[inline(always)]
unsafe fn directory(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut DIR) -> *mut DIR {
    let mut stream = real();
    if stream.is_null() {
        // SAFETY: right after the call.
        stream = unsafe { second_chance(stream, call, real) };
    }
    if !stream.is_null() {
        // SAFETY: a stream that libc has just opened.
        page::opened(unsafe { libc::dirfd(stream) });
    }
    stream
}

/// An answer that names no descriptor, whatever number it is.
#[derive(Clone, Copy)]
struct Whole<R>(R);

impl<R: Answer> Answer for Whole<R> {
    unsafe fn failure(self) -> Option<c_int> {
        // SAFETY: as the caller promised.
        unsafe { self.0.failure() }
    }
}

/// Answers -1 or NULL on failure, and leaves no descriptor that could be named.
#[inline(always)]
pub(crate) unsafe fn whole<R: Answer>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let answer = real();
    // SAFETY: right after the call.
    unsafe { if answer.failure().is_some() { second_chance(Whole(answer), call, || Whole(real())).0 } else { answer } }
}

/// Can't fail for lack of descriptors, or nothing could be done about it.
#[inline(always)]
unsafe fn through<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    real()
}

/// Closes one descriptor: whoever waits for one is woken.
#[inline(always)]
unsafe fn closing(_: impl Fn() -> Call, real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    // SAFETY: as the caller promised.
    unsafe { close_unless(crate::state::descriptors::forget(fd), real) }
}

/// Closes a stream, which writes what is left to it.
#[inline(always)]
unsafe fn closing_stream(_: impl Fn() -> Call, real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    let (ours, history) = crate::state::descriptors::forget_after_flush(fd);
    // SAFETY: as the caller promised.
    let answer = unsafe { close_unless(ours, real) };
    crate::state::descriptors::flushed(fd, history);
    answer
}

/// Closes a descriptor, unless the host does not know of it: a copy of our own.
#[inline(always)]
unsafe fn close_unless(ours: bool, mut real: impl FnMut() -> c_int) -> c_int {
    if ours {
        set_errno(libc::EBADF);
        return -1;
    }
    let answer = real();
    // EINTR, EIO and ENOSPC from close(2) mean that the descriptor is gone.
    if answer == 0 || errno() != libc::EBADF {
        page::closed();
        wait::wake_one();
    }
    answer
}

/// Closes many.
#[inline(always)]
unsafe fn closing_many<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R, first: u32, last: u32) -> R {
    crate::state::descriptors::forget_range(first, last);
    let answer = real();
    wait::wake_all();
    answer
}

/// Did the host ask for a blocking descriptor? The *_NONBLOCK flags of all calls are O_NONBLOCK.
#[inline(always)]
fn blocking(flags: c_int) -> bool {
    flags & libc::O_NONBLOCK == 0
}

/// Is this a file, rather than a question to the kernel? Nobody waits for a place in /proc or /sys: who looks there wants to know
/// how things are now, and can do without. A JVM reads its cgroup while all its threads are stopped, so nobody could close anything
/// (found with Jetty: each reading took 15 s). Asked only after a failure for lack of descriptors: the kernel has read the path.
fn lasting(path: *const core::ffi::c_char) -> bool {
    // SAFETY: the kernel, and fopen(3), read a path to its end before they look for a descriptor.
    let path = unsafe { core::ffi::CStr::from_ptr(path) }.to_bytes();
    !path.starts_with(b"/proc/") && !path.starts_with(b"/sys/")
}

/// Looks up the functions that nearly every program calls, so that no hook has to later.
pub fn resolve_common() {
    let common: [fn() -> usize; 3] = [files::open::real, files::open64::real, closes::close::real];
    for look_up in common {
        look_up();
    }
}

/// The same for all others, when the program has become a server: each child that it forks for a client would look for what it
/// calls, in all its libraries.
#[cold]
#[inline(never)]
pub extern "C" fn resolve_all() {
    #[unsafe(link_section = ".tables")]
    static DONE: AtomicBool = AtomicBool::new(false);
    barrier((), || {
        if !process::may_act() || DONE.swap(true, Relaxed) {
            return;
        }
        closes::resolve();
        composites::resolve();
        connects::resolve();
        descriptors::resolve();
        files::resolve();
        loops::resolve();
        processes::resolve();
        sockets::resolve();
        spaces::resolve();
        syscall::resolve();
        threads::resolve();
        writes::resolve();
    });
}

/// open64(3) without the hook, for the C API's own retry.
pub fn real_open64() -> unsafe extern "C" fn(*const core::ffi::c_char, c_int, libc::mode_t) -> c_int {
    // SAFETY: that is its type; the third argument is ignored unless it is needed.
    unsafe { core::mem::transmute(files::open64::real()) }
}

/// fopen64(3) without the hook.
pub fn real_fopen64() -> unsafe extern "C" fn(*const core::ffi::c_char, *const core::ffi::c_char) -> *mut FILE {
    // SAFETY: that is its type.
    unsafe { core::mem::transmute(composites::fopen64::real()) }
}
