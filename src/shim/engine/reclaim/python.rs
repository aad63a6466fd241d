//! CPython. Its own input and output releases the interpreter's lock (GIL) around system calls from 3.8 on, nearly always before:
//! then nothing of the interpreter's is half changed, and any other thread might collect garbage now. Callers that hold the lock,
//! or are not the interpreter's own code, are left alone: they may hold locks that a finalizer wants.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use tideover_contract::collection::{Runtime, Skip};

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{self, Caller, Home};
use crate::engine::call::Role;
use crate::os::elf::{self, Name};
use crate::os::sys;
use crate::state::page;
use crate::state::process::{self, Phase};

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

pub static COLLECTOR: Collector = Collector { names: NAMES, consider, collect, role, elsewhere: false, lends: true };

/// This is the child of a fork made without the interpreter's lock, or it could not be told: whoever had the lock does not exist
/// here, and it may never come free.
static ORPHANED: AtomicBool = AtomicBool::new(false);

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let python = Functions::of(home);
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
    if !home.is(&caller.span) && !contains(caller.path(), b"/lib-dynload/") {
        return Err(Skip::ForeignCaller);
    }
    // SAFETY: these only read the runtime's state, and may be called from any thread at any time.
    unsafe {
        if is_initialised() == 0 || python.ends()? {
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
        // Once there have been several, PyGILState_Check always says yes.
        if interpreter.is_null() || !next(interpreter).is_null() || has_lock() != 0 {
            return Err(Skip::Interpreters);
        }
    }
    if ORPHANED.load(Relaxed) { Err(Skip::Forked) } else { Ok(()) }
}

impl Functions {
    /// Is the interpreter ending?
    ///
    /// # Safety
    /// The functions are those of a loaded runtime.
    unsafe fn ends(&self) -> Result<bool, Skip> {
        // SAFETY: as promised.
        unsafe {
            match (self.is_finalizing.or(self.is_finalizing_old), self.finalizing) {
                (Some(is_finalizing), _) => Ok(is_finalizing() != 0),
                (None, Some(finalizing)) => Ok(!finalizing.load(Relaxed).is_null()),
                (None, None) => Err(Skip::Unknown),
            }
        }
    }

    /// Has the program left its collector switched on? PyGC_Collect ignores that before 3.8.
    ///
    /// # Safety
    /// With the lock held.
    unsafe fn is_collected(&self) -> bool {
        // SAFETY: with the lock held; references are given back.
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
    /// Collects the two young generations: what was just dropped is nearly always there, and a large heap is not. False: that
    /// closed nothing.
    ///
    /// # Safety
    /// With the lock held.
    unsafe fn collect_young(&self, put_error: unsafe extern "C" fn(Object, Object, Object)) -> bool {
        let (Some(modules), Some(item), Some(call_method), Some(forget)) =
            (self.modules, self.item, self.call_method, self.forget)
        else {
            return false;
        };
        let before = page::closes(false);
        // SAFETY: with the lock held; references are given back.
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
            // If one of them failed, that is no error of the host's.
            put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
        }
        page::closes(false) != before
    }
}

impl Functions {
    /// A module gc of our own, where the program has imported none. To import it would run Python's code, in which the program's signal
    /// handlers run, and their exceptions would be lost. NULL: not to be had so.
    ///
    /// # Safety
    /// With the lock held, and no error set.
    unsafe fn own_gc(&self, put_error: unsafe extern "C" fn(Object, Object, Object)) -> Object {
        /// PYTHON_API_VERSION, the same since 2006.
        const VERSION: c_int = 1013;
        let (Some(make_gc), Some(make_module), Some(modules), Some(item), Some(attribute), Some(forget)) =
            (self.make_gc, self.make_module, self.modules, self.item, self.attribute, self.forget)
        else {
            return core::ptr::null_mut();
        };
        // SAFETY: as promised; references are given back. All of this is C, and looks nothing up by name but in modules of C.
        unsafe {
            let made = make_gc();
            if made.is_null() {
                put_error(core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
                return made;
            }
            let collect = attribute(made, c"collect".as_ptr());
            if !collect.is_null() {
                forget(collect);
                return made; // before 3.11: a module
            }
            // Its definition, which is static. The module's name does not matter.
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

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn collect(home: &Home) -> Option<Skip> {
    let python = Functions::of(home);
    let (Some(lock), Some(unlock), Some(take_error), Some(put_error), Some(collect)) =
        (python.lock, python.unlock, python.take_error, python.put_error, python.collect)
    else {
        return Some(Skip::Unknown);
    };
    let mut error: [Object; 3] = [core::ptr::null_mut(); 3];
    let [kind, value, trace] = &mut error;
    // SAFETY: `consider` has seen that this thread is one of the only interpreter's, and does not have the lock. If the interpreter
    // ends before it gets the lock, the thread ends here, as it would on its return from the system call.
    unsafe {
        let state = lock();
        take_error(kind, value, trace);
        let enabled = python.is_collected();
        if enabled && !python.collect_young(put_error) {
            collect();
        }
        put_error(*kind, *value, *trace);
        unlock(state);
        if enabled { None } else { Some(Skip::Disabled) }
    }
}

fn role(home: &Home, _: Option<&Caller>) -> Role {
    let python = Functions::of(home);
    let (Some(own_state), Some(running_state)) = (python.own_state, python.running_state.or(python.running_state_old))
    else {
        return Role::Usual;
    };
    // SAFETY: these only read the state of the calling thread.
    unsafe {
        let own = own_state();
        if !own.is_null() && own == running_state() { Role::Locking } else { Role::Usual }
    }
}

/// PyGILState_Check of the interpreter that the program was started with; 1: there is none; 0: nobody has looked. What a program was
/// started with never changes, and to look reads a page of each library.
static HAS_LOCK: AtomicUsize = AtomicUsize::new(0);

/// Before a fork, in the parent: a server's hundredth child should not have to look, as its first has not.
#[unsafe(link_section = ".text.at_fork")]
pub fn before_fork() {
    if HAS_LOCK.load(Relaxed) == 0 {
        let find = |exports: elf::Exports| exports.find(&Name::new(c"PyGILState_Check"));
        HAS_LOCK.store(elf::started_with().find_map(find).unwrap_or(1), Relaxed);
    }
}

/// In the child of a fork: was it made with the lock held, as os.fork does? Where the interpreter is not among the objects that the
/// program was started with, that is known only if somebody has looked for it before.
pub fn forked() {
    before_fork();
    let late = || loaded::home(Runtime::Python).and_then(|home| Functions::of(&home).has_lock);
    let has_lock = match HAS_LOCK.load(Relaxed) {
        1 => {
            late().filter(|&has_lock| process::phase() != Phase::Sandboxed && sys::is_readable(has_lock as *const _, 1))
        }
        // SAFETY: the function of this name has this type.
        address => Some(unsafe { core::mem::transmute::<usize, unsafe extern "C" fn() -> c_int>(address) }),
    };
    // SAFETY: it reads the runtime's state, which is as the parent's was; before it is initialised, it says yes.
    if has_lock.is_none_or(|has_lock| unsafe { has_lock() } == 0) {
        ORPHANED.store(true, Relaxed);
    }
}

/// Is `part` in `path`?
pub fn contains(path: &[u8], part: &[u8]) -> bool {
    path.windows(part.len()).any(|window| window == part)
}
