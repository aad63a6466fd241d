//! Ruby. It collects by itself when File.open finds no descriptor, but not for pipes, sockets, copies, popen and accept, which it
//! makes with its lock (GVL) held, and not after GC.disable; GC.start, says its manual, works even then. Where Ruby's own code makes a
//! system call, with the lock or without, it expects a collection.

use core::ffi::{CStr, c_char, c_int, c_void};

use tideover_contract::collection::Skip;

use super::collect::{Collector, Role};
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
    error: unsafe extern "C" fn() -> Value = c"rb_errinfo";
    set_error: unsafe extern "C" fn(Value) = c"rb_set_errinfo";
}

pub static COLLECTOR: Collector = Collector { names: NAMES, consider, collect, role, elsewhere: false, lends: true };

/// GC.start, not rb_gc(): only the former runs the finalizers of files at once. A signal or a timeout that arrives meanwhile is for the
/// program, not for a finalizer, which would swallow it: it is kept off, and then sent again, to arrive when the call is over. In a
/// block with parameters, because the program's own variables are in sight.
const START: &CStr = c"proc do |thread, error, tries, done|
  tries = tries.to_i + 1
  Thread.handle_interrupt(Object => :never) { GC.start; done = true }
rescue NoMemoryError
rescue Exception => error
  Thread.new { thread.raise(error) }
  retry unless done || tries > 2
end.call(Thread.current)";
/// The same for a timeout, which throws where it finds its catch, and for a thread that was killed: state of rb_protect, and what is
/// sent.
const AGAIN: [(c_int, &CStr); 2] = [
    (7, c"Thread.new(Thread.current) { |thread| thread.raise(Timeout::Error, 'execution expired') } if defined?(Timeout::Error)"),
    (8, c"Thread.new(Thread.current) { |thread| thread.kill }"),
];

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
    let mut ruby = Functions::of(home);
    let (Some(has_lock), Some(with_lock)) = (ruby.has_lock, ruby.with_lock) else { return Some(Skip::Unknown) };
    let functions = (&raw mut ruby).cast();
    // SAFETY: a Ruby thread, as `consider` has seen; without the lock it is in one of Ruby's blocking regions, which may take it.
    unsafe {
        let done = if has_lock() != 0 { start(functions) } else { with_lock(start, functions) };
        if done.is_null() { Some(Skip::Unknown) } else { None }
    }
}

/// With the lock held.
extern "C" fn start(functions: *mut c_void) -> *mut c_void {
    // SAFETY: what `collect` passes.
    let ruby = unsafe { *functions.cast::<Functions>() };
    let (Some(evaluate), Some(error), Some(set_error)) = (ruby.evaluate, ruby.error, ruby.set_error) else {
        return core::ptr::null_mut();
    };
    let mut state = 0;
    // SAFETY: a Ruby thread with the lock, not in a collection. `$!` is as before afterwards.
    unsafe {
        let before = error();
        evaluate(START.as_ptr(), &raw mut state);
        let ended = state;
        for (_, again) in AGAIN.iter().filter(|(sent, _)| *sent == ended) {
            evaluate(again.as_ptr(), &raw mut state);
            evaluate(START.as_ptr(), &raw mut state);
        }
        set_error(before);
    }
    functions
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
