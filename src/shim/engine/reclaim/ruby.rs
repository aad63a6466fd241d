//! Ruby. It collects garbage by itself when File.open finds no descriptor, but not for pipes, sockets, copies, popen and accept, for which
//! it holds its lock (GVL), and not after GC.disable; by its manual, GC.start works even then. Where Ruby's own code makes a system call,
//! with the lock or without, it is prepared for a collection.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use tideover_contract::collection::Skip;

use crate::engine::call::Role;
use crate::os::sys;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, LoadedRuntime};

/// `VALUE`: a reference to a Ruby object.
type Value = usize;

functions! {
    is_native_thread: unsafe extern "C" fn() -> c_int = c"ruby_native_thread_p";
    has_lock: unsafe extern "C" fn() -> c_int = c"ruby_thread_has_gvl_p";
    is_collecting: unsafe extern "C" fn() -> c_int = c"rb_during_gc";
    evaluate: unsafe extern "C" fn(*const c_char, *mut c_int) -> Value = c"rb_eval_string_protect";
    with_lock: unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void) -> *mut c_void, *mut c_void) -> *mut c_void
        = c"rb_thread_call_with_gvl";
    without_lock: unsafe extern "C" fn(
        unsafe extern "C" fn(*mut c_void) -> *mut c_void, *mut c_void, unsafe extern "C" fn(*mut c_void), *mut c_void,
    ) -> *mut c_void = c"rb_thread_call_without_gvl2";
    thread: unsafe extern "C" fn() -> Value = c"rb_thread_current";
    main_thread: unsafe extern "C" fn() -> Value = c"rb_thread_main";
    is_interrupted: unsafe extern "C" fn(Value) -> c_int = c"rb_thread_interrupted";
    jump: unsafe extern "C" fn(c_int) = c"rb_jump_tag";
    error: unsafe extern "C" fn() -> Value = c"rb_errinfo";
    set_error: unsafe extern "C" fn(Value) = c"rb_set_errinfo";
}

/// See [`Collector`].
pub static COLLECTOR: Collector =
    Collector { names: NAMES, may_collect, collect, role, has_finalizer_thread: false, lends_reserve: true };

/// GC.start, not rb_gc(): only the former runs the finalizers of files at once. A Thread#raise or a timeout that arrives meanwhile is meant
/// for the program; a finalizer would swallow it. So it is deferred; it then ends the evaluation of this, and is sent again ([`AGAIN`]).
/// Signals can't be deferred.
const START: &CStr = c"Thread.handle_interrupt(Object => :never) { GC.start }";
/// The state that rb_protect gives when the thread was killed.
const KILLED: c_int = 8;
/// How often that is tried: when something has ended it, it is tried again.
const TRIES: usize = 3;
/// What is sent again, by the state that rb_eval_string_protect returned: 6, an exception; 7, a timeout, which throws to where it is
/// caught; a killed thread can't be killed again, and gets an exception that nothing rescues and nothing reports. The code is in blocks
/// with parameters, because the variables of the program are visible in it.
const AGAIN: [(c_int, &CStr); 3] = [
    (6, c"Thread.new(Thread.current, $!) { |thread, error| thread.raise(error) } unless NoMemoryError === $!"),
    (7, c"Thread.new(Thread.current) { |thread| thread.raise(Timeout::Error, 'execution expired') } if defined?(Timeout::Error)"),
    (KILLED, c"Thread.new(Thread.current) { |thread| thread.report_on_exception = false; thread.raise(Class.new(Exception), 'killed') }"),
];
/// How long the thread waits until that has arrived, nanoseconds: the program must not go on as if nothing had been sent to it.
const ARRIVES: u64 = 1_000_000_000;

/// See [`Collector::may_collect`].
fn may_collect(loaded: &LoadedRuntime, caller: &Caller) -> Result<(), Skip> {
    let ruby = Functions::of(loaded);
    let (Some(is_native_thread), Some(has_lock), Some(is_collecting)) =
        (ruby.is_native_thread, ruby.has_lock, ruby.is_collecting)
    else {
        return Err(Skip::Unknown);
    };
    if !loaded.is(&caller.span) && !is_extension(caller.path()) {
        return Err(Skip::ForeignCaller);
    }
    // SAFETY: the first may be called by any thread; the others only read the state of a thread of Ruby's, which this is if the first says
    // so.
    unsafe {
        if is_native_thread() == 0 {
            return Err(Skip::ForeignThread);
        }
        if has_lock() != 0 && is_collecting() != 0 {
            return Err(Skip::Collecting);
        }
    }
    Ok(())
}

/// Is this the path of an extension that comes with Ruby? Those are in a folder named by its version: .../ruby/3.1.0/socket.so.
fn is_extension(path: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/ruby/";
    path.windows(FOLDER.len() + 1).any(|window| window.starts_with(FOLDER) && window[FOLDER.len()].is_ascii_digit())
}

/// Collects, see [`Collector::collect`].
///
/// # Safety
/// [`may_collect`] has answered Ok for the same call, on the same thread.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn collect(loaded: &LoadedRuntime) -> Option<Skip> {
    let mut request = Request { ruby: Functions::of(loaded), has_lock: false };
    let (Some(has_lock), Some(with_lock)) = (request.ruby.has_lock, request.ruby.with_lock) else {
        return Some(Skip::Unknown);
    };
    // SAFETY: the caller promises that `may_collect` has answered Ok: this is a thread of Ruby's, and Ruby's own code made the call. So
    // if it does not hold the lock, it is in one of Ruby's blocking regions, where it may take it. `request` lives until both return.
    unsafe {
        request.has_lock = has_lock() != 0;
        let context = (&raw mut request).cast();
        let done = if request.has_lock { start(context) } else { with_lock(start, context) };
        if done.is_null() { Some(Skip::Unknown) } else { None }
    }
}

/// What [`start`] is passed.
#[derive(Clone, Copy)]
struct Request {
    ruby: Functions,
    /// The call was made with the lock held.
    has_lock: bool,
}

/// Collects. NULL: it could not; else what it was passed.
///
/// # Safety
/// The calling thread is one of Ruby's, holds the lock, and is not in a collection; `request` points to a [`Request`].
unsafe extern "C" fn start(request: *mut c_void) -> *mut c_void {
    // SAFETY: the caller promises that it points to a Request, which is copied.
    let Request { ruby, has_lock } = unsafe { *request.cast::<Request>() };
    let (Some(evaluate), Some(error), Some(set_error)) = (ruby.evaluate, ruby.error, ruby.set_error) else {
        return core::ptr::null_mut();
    };
    let (Some(thread), Some(main_thread), Some(is_interrupted)) = (ruby.thread, ruby.main_thread, ruby.is_interrupted)
    else {
        return core::ptr::null_mut();
    };
    // SAFETY: the caller promises a thread of Ruby's with the lock, outside of a collection, which is what these functions ask for. No
    // exception leaves them: `evaluate` catches it. `$!` is set back to what it was. `jump` unwinds frames of ours that have nothing to
    // clean up, see `Collector::collect`. `arrived` lives until `without_lock` has returned.
    unsafe {
        // An interrupt that came before is for the program to handle. The main thread can't be killed, and signals come to it often.
        if thread() != main_thread() && is_interrupted(thread()) != 0 {
            return core::ptr::null_mut();
        }
        let before = error();
        let mut sent = false;
        for _ in 0..TRIES {
            let mut state = 0;
            evaluate(START.as_ptr(), &raw mut state);
            // The thread goes on dying from here, by longjmp(3) out of the collection. It must not out of a region without the lock.
            if state == KILLED
                && has_lock
                && let Some(jump) = ruby.jump
            {
                super::thread_ends();
                jump(state);
            }
            let Some((_, again)) = AGAIN.iter().find(|(ended, _)| *ended == state) else { break };
            evaluate(again.as_ptr(), &raw mut state);
            sent = true;
        }
        if sent && let Some(without_lock) = ruby.without_lock {
            let arrived = AtomicU32::new(0);
            let arrived = (&raw const arrived).cast_mut().cast();
            without_lock(wait, arrived, arrive, arrived);
        }
        set_error(before);
    }
    request
}

/// Sleeps until [`arrive`] is called. Ruby calls this without the lock, so that the thread that sends can run. Nothing is raised here: the
/// program's own code handles what was sent.
///
/// # Safety
/// `arrived` points to an AtomicU32.
unsafe extern "C" fn wait(arrived: *mut c_void) -> *mut c_void {
    // SAFETY: promised by the caller; `start` keeps it until Ruby has returned.
    let arrived = unsafe { &*arrived.cast::<AtomicU32>() };
    let _ = sys::futex_wait(arrived, 0, ARRIVES);
    core::ptr::null_mut()
}

/// Ruby calls this when something was sent to the thread that is in [`wait`].
///
/// # Safety
/// `arrived` points to the AtomicU32 that `wait` sleeps on.
unsafe extern "C" fn arrive(arrived: *mut c_void) {
    // SAFETY: promised by the caller; `start` keeps it until Ruby has returned.
    let arrived = unsafe { &*arrived.cast::<AtomicU32>() };
    arrived.store(1, Ordering::Relaxed);
    sys::futex_wake(arrived, 1);
}

/// See [`Collector::role`].
fn role(loaded: &LoadedRuntime, _: Option<&Caller>) -> Role {
    let ruby = Functions::of(loaded);
    let (Some(is_native_thread), Some(has_lock)) = (ruby.is_native_thread, ruby.has_lock) else { return Role::Usual };
    // SAFETY: the first may be called by any thread, the second by a thread of Ruby's, which this is if the first says so; both only read.
    if unsafe { is_native_thread() != 0 && has_lock() != 0 } { Role::Locking } else { Role::Usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extensions_that_come_with_ruby_are_its_own() {
        assert!(is_extension(b"/usr/lib/x86_64-linux-gnu/ruby/3.1.0/socket.so"));
        assert!(is_extension(b"/opt/rbenv/versions/3.3.0/lib/ruby/3.3.0/x86_64-linux/socket.so"));
        assert!(!is_extension(b"/usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0/sqlite3/sqlite3_native.so"));
        assert!(!is_extension(b"/var/lib/gems/3.1.0/extensions/x86_64-linux/3.1.0/pg-1.5/pg_ext.so"));
        assert!(!is_extension(b""));
    }
}
