//! CPython. Its own input and output releases the interpreter's lock (GIL) around system calls, always from 3.8 on and nearly always
//! before. While the lock is released, no object of the interpreter's is half changed, and any other thread might collect garbage. For
//! callers that hold the lock, or that are not the interpreter's own code, nothing is collected: they may hold locks that a finalizer
//! takes.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use tideover_contract::collection::{Runtime, Skip};

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{self, Caller, LoadedRuntime};
use crate::engine::call::Role;
use crate::os::elf::{self, Name};
use crate::os::sys;
use crate::state::page;
use crate::state::process::{self, Phase};

/// `PyObject *`, `PyThreadState *` or `PyInterpreterState *`.
type Object = *mut c_void;

functions! {
    collect: unsafe extern "C" fn() -> isize = c"PyGC_Collect";
    is_initialised: unsafe extern "C" fn() -> c_int = c"Py_IsInitialized";
    is_finalizing: unsafe extern "C" fn() -> c_int = c"Py_IsFinalizing"; // 3.13
    is_finalizing_old: unsafe extern "C" fn() -> c_int = c"_Py_IsFinalizing"; // 3.7 to 3.12
    finalizing: &'static AtomicPtr<c_void> = c"_Py_Finalizing"; // 3.6, a variable
    own_state: unsafe extern "C" fn() -> Object = c"PyGILState_GetThisThreadState";
    running_state: unsafe extern "C" fn() -> Object = c"PyThreadState_GetUnchecked"; // 3.13
    running_state_old: unsafe extern "C" fn() -> Object = c"_PyThreadState_UncheckedGet";
    has_lock: unsafe extern "C" fn() -> c_int = c"PyGILState_Check";
    lock: unsafe extern "C" fn() -> c_int = c"PyGILState_Ensure";
    unlock: unsafe extern "C" fn(c_int) = c"PyGILState_Release";
    take_error: unsafe extern "C" fn(*mut Object, *mut Object, *mut Object) = c"PyErr_Fetch";
    put_error: unsafe extern "C" fn(Object, Object, Object) = c"PyErr_Restore";
    first_interpreter: unsafe extern "C" fn() -> Object = c"PyInterpreterState_Head";
    next_interpreter: unsafe extern "C" fn(Object) -> Object = c"PyInterpreterState_Next";
    is_enabled: unsafe extern "C" fn() -> c_int = c"PyGC_IsEnabled"; // 3.10
    modules: unsafe extern "C" fn() -> Object = c"PyImport_GetModuleDict";
    item: unsafe extern "C" fn(Object, *const c_char) -> Object = c"PyDict_GetItemString";
    attribute: unsafe extern "C" fn(Object, *const c_char) -> Object = c"PyObject_GetAttrString";
    call: unsafe extern "C" fn(Object, Object) -> Object = c"PyObject_CallObject";
    is_true: unsafe extern "C" fn(Object) -> c_int = c"PyObject_IsTrue";
    call_method: unsafe extern "C" fn(Object, *const c_char, *const c_char, ...) -> Object = c"PyObject_CallMethod";
    forget: unsafe extern "C" fn(Object) = c"Py_DecRef";
    make_gc: unsafe extern "C" fn() -> Object = c"PyInit_gc";
    make_module: unsafe extern "C" fn(Object, Object, c_int) -> Object = c"PyModule_FromDefAndSpec2"; // 3.5
    free_threaded: unsafe extern "C" fn() = c"PyUnstable_Module_SetGIL"; // only builds without the lock have it
}

/// See [`Collector`].
pub static COLLECTOR: Collector =
    Collector { names: NAMES, may_collect, collect, role, has_finalizer_thread: false, lends_reserve: true };

/// What is known of the interpreter's lock across forks.
struct Lock {
    /// Address of PyGILState_Check in the interpreter that the program was started with; 1: it was started without one; 0: nobody has
    /// looked. It never changes, and to look for it reads a page of each library.
    is_held: AtomicUsize,
    /// This is the child of a fork by a thread that did not hold the lock, or may not have: the thread that held it does not exist
    /// here, so it may never be released.
    is_lost: AtomicBool,
}

static LOCK: Lock = Lock { is_held: AtomicUsize::new(0), is_lost: AtomicBool::new(false) };

/// See [`Collector::may_collect`].
fn may_collect(loaded: &LoadedRuntime, caller: &Caller) -> Result<(), Skip> {
    let python = Functions::of(loaded);
    let (Some(is_initialised), Some(own_state), Some(running_state), Some(has_lock), Some(first), Some(next)) = (
        python.is_initialised,
        python.own_state,
        python.running_state.or(python.running_state_old),
        python.has_lock,
        python.first_interpreter,
        python.next_interpreter,
    ) else {
        return Err(Skip::Unknown);
    };
    if python.free_threaded.is_some() {
        return Err(Skip::Unknown);
    }
    if !loaded.is(&caller.span) && !contains(caller.path(), b"/lib-dynload/") {
        return Err(Skip::ForeignCaller);
    }
    // SAFETY: these functions of the C API only read the runtime's state; any thread may call them at any time.
    unsafe {
        if is_initialised() == 0 || python.is_ending()? {
            return Err(Skip::NotRunning);
        }
        let own = own_state();
        if own.is_null() {
            return Err(Skip::ForeignThread);
        }
        if own == running_state() {
            return Err(Skip::LockHeld);
        }
        let interpreter = first();
        // Once there have been several interpreters, PyGILState_Check always answers 1.
        if interpreter.is_null() || !next(interpreter).is_null() || has_lock() != 0 {
            return Err(Skip::Interpreters);
        }
    }
    if LOCK.is_lost.load(Relaxed) { Err(Skip::Forked) } else { Ok(()) }
}

impl Functions {
    /// Is the interpreter ending?
    ///
    /// # Safety
    /// The functions are those of a runtime that is loaded now.
    unsafe fn is_ending(&self) -> Result<bool, Skip> {
        // SAFETY: the caller promises that the runtime is loaded; the function only reads its state, and may be called at any time.
        unsafe {
            match (self.is_finalizing.or(self.is_finalizing_old), self.finalizing) {
                (Some(is_finalizing), _) => Ok(is_finalizing() != 0),
                (None, Some(finalizing)) => Ok(!finalizing.load(Relaxed).is_null()),
                (None, None) => Err(Skip::Unknown),
            }
        }
    }

    /// Is the collector switched on? PyGC_Collect does not ask before 3.8.
    ///
    /// # Safety
    /// The calling thread holds the interpreter's lock, and no error is set.
    unsafe fn is_collector_on(&self) -> bool {
        // SAFETY: the caller promises the lock, which is all that these functions of the C API ask for. `item` returns a borrowed
        // reference; the new ones (`function`, `answer`) are released once, after their last use.
        unsafe {
            if let Some(is_enabled) = self.is_enabled {
                return is_enabled() != 0;
            }
            let (Some(modules), Some(item), Some(attribute), Some(call), Some(is_true), Some(forget)) =
                (self.modules, self.item, self.attribute, self.call, self.is_true, self.forget)
            else {
                return false;
            };
            let module = item(modules(), c"gc".as_ptr());
            if module.is_null() {
                return true; // never imported: never switched off
            }
            let function = attribute(module, c"isenabled".as_ptr());
            if function.is_null() {
                return false;
            }
            let answer = call(function, core::ptr::null_mut());
            forget(function);
            if answer.is_null() {
                return false;
            }
            let enabled = is_true(answer) == 1;
            forget(answer);
            enabled
        }
    }
}

impl Functions {
    /// Collects the two young generations: what was just dropped is nearly always in them, and most of a large heap is not. False: that
    /// closed nothing. `put_error` is PyErr_Restore.
    ///
    /// # Safety
    /// The calling thread holds the interpreter's lock, and no error is set.
    unsafe fn collect_young(&self, put_error: unsafe extern "C" fn(Object, Object, Object)) -> bool {
        let (Some(modules), Some(item), Some(call_method), Some(forget)) =
            (self.modules, self.item, self.call_method, self.forget)
        else {
            return false;
        };
        let before = page::closes(false);
        // SAFETY: the caller promises the lock, and that no error is set. `imported` is a borrowed reference; the new ones (`made`,
        // `found`) are released once, after their last use. "i" is the format of the one c_int that follows.
        unsafe {
            let imported = item(modules(), c"gc".as_ptr());
            let made = if imported.is_null() { self.own_gc(put_error) } else { core::ptr::null_mut() };
            let module = if imported.is_null() { made } else { imported };
            if module.is_null() {
                return false;
            }
            let found = call_method(module, c"collect".as_ptr(), c"i".as_ptr(), 1 as c_int);
            if !found.is_null() {
                forget(found);
            }
            if !made.is_null() {
                forget(made);
            }
            // An error in any of these is not the program's: it is cleared.
            put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
        }
        page::closes(false) != before
    }
}

impl Functions {
    /// Makes a module gc of our own, for a program that has not imported it. An import would run Python code, in which the program's signal
    /// handlers run, and their exceptions would be lost. NULL: it can't be made this way. `put_error` is PyErr_Restore.
    ///
    /// # Safety
    /// The calling thread holds the interpreter's lock, and no error is set.
    unsafe fn own_gc(&self, put_error: unsafe extern "C" fn(Object, Object, Object)) -> Object {
        /// PYTHON_API_VERSION, which has not changed since 2006.
        const VERSION: c_int = 1013;
        let (Some(make_gc), Some(make_module), Some(modules), Some(item), Some(attribute), Some(forget)) =
            (self.make_gc, self.make_module, self.modules, self.item, self.attribute, self.forget)
        else {
            return core::ptr::null_mut();
        };
        // SAFETY: the caller promises the lock, and that no error is set; it is cleared after each function that may set one. PyInit_gc
        // returns a module or, with multi-phase initialisation, its static definition, which is no counted reference. `sys` is a borrowed
        // reference; the new ones (`collect`, `spec`) are released once, after their last use.
        unsafe {
            let made = make_gc();
            if made.is_null() {
                put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
                return made;
            }
            let collect = attribute(made, c"collect".as_ptr());
            if !collect.is_null() {
                forget(collect);
                return made; // before 3.11 it is a module
            }
            // From 3.11 on it is the definition of one. The module takes its name from the spec, which does not matter.
            put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
            let sys = item(modules(), c"sys".as_ptr());
            let spec = if sys.is_null() { sys } else { attribute(sys, c"__spec__".as_ptr()) };
            let module = if spec.is_null() { spec } else { make_module(made, spec, VERSION) };
            if !spec.is_null() {
                forget(spec);
            }
            put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
            module
        }
    }
}

/// Collects, see [`Collector::collect`].
///
/// # Safety
/// [`may_collect`] has answered Ok for the same call, on the same thread.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn collect(loaded: &LoadedRuntime) -> Option<Skip> {
    let python = Functions::of(loaded);
    let (Some(lock), Some(unlock), Some(take_error), Some(put_error), Some(collect)) =
        (python.lock, python.unlock, python.take_error, python.put_error, python.collect)
    else {
        return Some(Skip::Unknown);
    };
    let mut error: [Object; 3] = [core::ptr::null_mut(); 3];
    let [kind, value, trace] = &mut error;
    // SAFETY: the caller promises that `may_collect` has answered Ok: the thread is one of the only interpreter's, and does not hold the
    // lock, so it may take it. The error that is set is taken away before anything else is called, and put back. If the interpreter ends
    // before the lock is taken, the thread ends here, as it would when it returns from its system call.
    unsafe {
        let state = lock();
        take_error(kind, value, trace);
        let is_on = python.is_collector_on();
        if is_on && !python.collect_young(put_error) {
            collect();
        }
        put_error(*kind, *value, *trace);
        unlock(state);
        if is_on { None } else { Some(Skip::Disabled) }
    }
}

/// See [`Collector::role`].
fn role(loaded: &LoadedRuntime, _: Option<&Caller>) -> Role {
    let python = Functions::of(loaded);
    let (Some(own_state), Some(running_state)) = (python.own_state, python.running_state.or(python.running_state_old))
    else {
        return Role::Usual;
    };
    // SAFETY: both only read the state of the calling thread, which any thread may do at any time.
    unsafe {
        let own = own_state();
        if !own.is_null() && own == running_state() { Role::Locking } else { Role::Usual }
    }
}

/// Before a fork, in the parent: looks for the interpreter, so that no child of a server has to.
#[unsafe(link_section = ".text.at_fork")]
pub fn before_fork() {
    if LOCK.is_held.load(Relaxed) == 0 {
        let find = |exports: elf::Exports| exports.find(&Name::new(c"PyGILState_Check"));
        LOCK.is_held.store(elf::started_with().find_map(find).unwrap_or(1), Relaxed);
    }
}

/// In the child of a fork: did its thread hold the interpreter's lock at the fork, as it does in os.fork()? If the interpreter is not
/// among the objects that the program was started with, that is known only if it has been looked for before.
pub fn forked() {
    before_fork();
    let loaded_later = || loaded::find(Runtime::Python).and_then(|loaded| Functions::of(&loaded).has_lock);
    let has_lock = match LOCK.is_held.load(Relaxed) {
        1 => loaded_later()
            .filter(|&has_lock| process::phase() != Phase::Sandboxed && sys::is_readable(has_lock as *const _, 1)),
        // SAFETY: 0 was replaced by `before_fork`, and 1 is the other arm, so this is the address of PyGILState_Check, which has this type
        // and is in an object that the program was started with: such an object is never unloaded.
        address => Some(unsafe { core::mem::transmute::<usize, unsafe extern "C" fn() -> c_int>(address) }),
    };
    // SAFETY: PyGILState_Check only reads the runtime's state, and may be called at any time; before the runtime is initialised, it answers
    // 1. One that was loaded later was found to be mapped.
    if has_lock.is_none_or(|has_lock| unsafe { has_lock() } == 0) {
        LOCK.is_lost.store(true, Relaxed);
    }
}

/// Is `part` in `path`?
fn contains(path: &[u8], part: &[u8]) -> bool {
    path.windows(part.len()).any(|window| window == part)
}
