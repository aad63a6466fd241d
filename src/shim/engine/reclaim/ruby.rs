//! Ruby. It collects by itself when File.open finds no descriptor, but not for pipes, sockets, copies, popen and accept, which it
//! makes with its lock (GVL) held, and not after GC.disable; GC.start, says its manual, works even then. Where Ruby's own code makes a
//! system call, with the lock or without, it expects a collection.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use tideover_contract::collection::Skip;

use crate::engine::call::Role;
use crate::os::sys;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, Home};

type Value = usize;

functions! {
    is_native_thread: unsafe extern "C" fn() -> c_int = c"ruby_native_thread_p";
    has_lock: unsafe extern "C" fn() -> c_int = c"ruby_thread_has_gvl_p";
    is_collecting: unsafe extern "C" fn() -> c_int = c"rb_during_gc";
    evaluate: unsafe extern "C" fn(*const c_char, *mut c_int) -> Value = c"rb_eval_string_protect";
    with_lock: unsafe extern "C" fn(extern "C" fn(*mut c_void) -> *mut c_void, *mut c_void) -> *mut c_void
        = c"rb_thread_call_with_gvl";
    without_lock: unsafe extern "C" fn(
        extern "C" fn(*mut c_void) -> *mut c_void, *mut c_void, extern "C" fn(*mut c_void), *mut c_void,
    ) -> *mut c_void = c"rb_thread_call_without_gvl2";
    thread: unsafe extern "C" fn() -> Value = c"rb_thread_current";
    main_thread: unsafe extern "C" fn() -> Value = c"rb_thread_main";
    is_interrupted: unsafe extern "C" fn(Value) -> c_int = c"rb_thread_interrupted";
    jump: unsafe extern "C" fn(c_int) = c"rb_jump_tag";
    error: unsafe extern "C" fn() -> Value = c"rb_errinfo";
    set_error: unsafe extern "C" fn(Value) = c"rb_set_errinfo";
}

pub static COLLECTOR: Collector = Collector { names: NAMES, consider, collect, role, elsewhere: false, lends: true };

/// GC.start, not rb_gc(): only the former runs the finalizers of files at once. A Thread#raise or a timeout that arrives meanwhile is for
/// the program, not for a finalizer, which would swallow it: it is kept off, ends this call instead, and is sent again. Signals can't
/// be kept off.
const START: &CStr = c"Thread.handle_interrupt(Object => :never) { GC.start }";
/// The state that rb_protect gives when the thread was killed.
const KILLED: c_int = 8;
/// How often that is tried: whatever ended it was not lost.
const TRIES: usize = 3;
/// What is sent again, by that state: an exception; a timeout, which throws where it finds its catch; to a thread that was killed,
/// which can't be done twice, an exception that nothing rescues and nobody reports. In blocks with parameters, because the program's
/// own variables are in sight.
const AGAIN: [(c_int, &CStr); 3] = [
    (6, c"Thread.new(Thread.current, $!) { |thread, error| thread.raise(error) } unless NoMemoryError === $!"),
    (7, c"Thread.new(Thread.current) { |thread| thread.raise(Timeout::Error, 'execution expired') } if defined?(Timeout::Error)"),
    (KILLED, c"Thread.new(Thread.current) { |thread| thread.report_on_exception = false; thread.raise(Class.new(Exception), 'killed') }"),
];
/// How long we wait for the thread that sends it, in ns: the program shall not go on as if nothing had come.
const SENT: u64 = 1_000_000_000;

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let ruby = Functions::of(home);
    let (Some(is_native_thread), Some(has_lock), Some(is_collecting)) =
        (ruby.is_native_thread, ruby.has_lock, ruby.is_collecting)
    else {
        return Err(Skip::Unknown);
    };
    if !home.is(&caller.span) && !is_extension(caller.path()) {
        return Err(Skip::ForeignCaller);
    }
    // SAFETY: these only read the state of the calling thread.
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

/// Is this one of the extensions that come with Ruby? They lie in a folder of its version: .../ruby/3.1.0/socket.so.
fn is_extension(path: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/ruby/";
    path.windows(FOLDER.len() + 1).any(|window| window.starts_with(FOLDER) && window[FOLDER.len()].is_ascii_digit())
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn collect(home: &Home) -> Option<Skip> {
    let mut asked = Asked { ruby: Functions::of(home), has_lock: false };
    let (Some(has_lock), Some(with_lock)) = (asked.ruby.has_lock, asked.ruby.with_lock) else {
        return Some(Skip::Unknown);
    };
    // SAFETY: a Ruby thread, as `consider` has seen; without the lock it is in one of Ruby's blocking regions, which may take it.
    unsafe {
        asked.has_lock = has_lock() != 0;
        let to = (&raw mut asked).cast();
        let done = if asked.has_lock { start(to) } else { with_lock(start, to) };
        if done.is_null() { Some(Skip::Unknown) } else { None }
    }
}

/// What [`start`] is told.
#[derive(Clone, Copy)]
struct Asked {
    ruby: Functions,
    /// The call was made with the lock held.
    has_lock: bool,
}

/// With the lock held.
extern "C" fn start(asked: *mut c_void) -> *mut c_void {
    // SAFETY: what `collect` passes.
    let Asked { ruby, has_lock } = unsafe { *asked.cast::<Asked>() };
    let (Some(evaluate), Some(error), Some(set_error)) = (ruby.evaluate, ruby.error, ruby.set_error) else {
        return core::ptr::null_mut();
    };
    let (Some(thread), Some(main_thread), Some(is_interrupted)) = (ruby.thread, ruby.main_thread, ruby.is_interrupted)
    else {
        return core::ptr::null_mut();
    };
    // SAFETY: a Ruby thread with the lock, not in a collection. `$!` is as before afterwards.
    unsafe {
        // What came before is for the program to meet. The main thread can't be killed, and signals come to it all the time.
        if thread() != main_thread() && is_interrupted(thread()) != 0 {
            return core::ptr::null_mut();
        }
        let before = error();
        let mut sent = false;
        for _ in 0..TRIES {
            let mut state = 0;
            evaluate(START.as_ptr(), &raw mut state);
            // The death of the thread goes on from here, as any longjmp(3) out of a collection; out of a region without the lock
            // it must not.
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
    asked
}

/// Without the lock, so that the thread that sends can run. Nothing is raised here: the program's own code meets it.
extern "C" fn wait(arrived: *mut c_void) -> *mut c_void {
    // SAFETY: `start`'s, which waits for us.
    let arrived = unsafe { &*arrived.cast::<AtomicU32>() };
    let _ = sys::futex_wait(arrived, 0, SENT);
    core::ptr::null_mut()
}

/// Ruby calls this when something was sent to the thread that waits.
extern "C" fn arrive(arrived: *mut c_void) {
    // SAFETY: as above.
    let arrived = unsafe { &*arrived.cast::<AtomicU32>() };
    arrived.store(1, Ordering::Relaxed);
    sys::futex_wake(arrived, 1);
}

fn role(home: &Home, _: Option<&Caller>) -> Role {
    let ruby = Functions::of(home);
    let (Some(is_native_thread), Some(has_lock)) = (ruby.is_native_thread, ruby.has_lock) else { return Role::Usual };
    // SAFETY: these only read the state of the calling thread.
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
