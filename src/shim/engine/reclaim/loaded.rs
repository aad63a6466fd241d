//! Which language runtimes are in this process, and which object a hook was called from.
//!
//! A runtime is found by a function that it exports, in whatever object: the executable, a library, one that was loaded with
//! RTLD_LOCAL. dl_iterate_phdr(3) holds the loader's lock for microseconds only; dlsym(3) and dladdr(3) would wait while another thread
//! is in dlopen(3), running a constructor. What was found is kept until an object is loaded or unloaded.

use core::ffi::{CStr, c_int, c_void};
use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use once_cell::race::OnceNonZeroUsize;
use parking_lot::Mutex;
use tideover_contract::collection::Runtime;

use crate::os::elf::{self, Name, Object};
use crate::os::sys;
use crate::os::text::Text;

/// The library uses at most so many functions of one runtime.
pub const FUNCTIONS: usize = 28;
const RUNTIMES: usize = Runtime::ALL.len();

/// The names of the functions of each runtime, by [`Runtime`].
pub type Names = [&'static [Name]; RUNTIMES];

/// A runtime that is loaded, or is not.
#[derive(Clone, Copy, Debug)]
pub struct LoadedRuntime {
    /// Address of the first byte of its object.
    start: usize,
    /// Address behind the last byte of its object; 0: it is not loaded.
    end: usize,
    /// Addresses of its functions in the order of their names; 0: it has none of that name. Only [`search`] sets them, and `functions!` relies
    /// on that.
    pub(super) functions: [usize; FUNCTIONS],
}

const NOT_LOADED: LoadedRuntime = LoadedRuntime { start: 0, end: 0, functions: [0; FUNCTIONS] };

impl LoadedRuntime {
    /// Is it in the object that lies at these addresses?
    pub fn is(&self, object: &Range<usize>) -> bool {
        self.start == object.start && self.end == object.end
    }
}

/// The object that a call came from.
#[derive(Debug)]
pub struct Caller {
    /// The addresses where it lies.
    pub span: Range<usize>,
    /// See [`Caller::path`].
    path: Text<256>,
}

impl Caller {
    /// The path of its file; empty for the main executable, and for paths longer than 255 bytes.
    pub fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// The name of its file.
    pub fn name(&self) -> &[u8] {
        self.path().rsplit(|&byte| byte == b'/').next().unwrap_or(&[])
    }
}

/// What the last look at the loader's list has found.
struct Known {
    /// How many objects had been loaded and unloaded then; None: nobody has looked.
    generation: Option<(u64, u64)>,
    /// Is any runtime loaded?
    any: bool,
    /// By [`Runtime`].
    runtimes: [LoadedRuntime; RUNTIMES],
}

#[unsafe(link_section = ".tables")]
static KNOWN: Mutex<Known> = Mutex::new(Known { generation: None, any: false, runtimes: [NOT_LOADED; RUNTIMES] });

/// What is known without the lock of [`KNOWN`].
struct State {
    /// In the child of a fork: another thread of the parent was in [`look`], so the loader's lock may be held here for ever.
    loader_is_locked: AtomicBool,
    /// A runtime has been found at some time. Most processes have none; a load of this keeps them from writing to [`KNOWN`], whose page
    /// would have to be copied.
    has_found: AtomicBool,
    /// Address of dl_iterate_phdr(3).
    iterate: OnceNonZeroUsize,
}

static STATE: State = State {
    loader_is_locked: AtomicBool::new(false),
    has_found: AtomicBool::new(false),
    iterate: OnceNonZeroUsize::new(),
};

/// One look at the loader's list.
struct Look<'a> {
    known: &'a mut Known,
    names: &'a Names,
    /// The next object is the first.
    first: bool,
    /// Objects have been loaded or unloaded since the last look: the runtimes are searched for anew.
    search: bool,
    /// The address whose object is wanted.
    address: usize,
    /// That object.
    caller: &'a mut Option<Caller>,
}

/// Searches for the runtimes, if objects have been loaded or unloaded since the last look. If there is one, stores the object that holds
/// `address` in `caller`. `names` are the functions of the runtimes; the object that exports the first is the runtime. False: there is
/// none, or that can't be found out now.
pub fn look(names: &Names, address: usize, caller: &mut Option<Caller>) -> bool {
    if STATE.loader_is_locked.load(Relaxed) {
        return false;
    }
    let (Some(iterate), Some(mut guard)) = (iterate(), lock()) else { return false };
    let known = &mut *guard;
    let mut look = Look { known, names, first: true, search: false, address, caller };
    // SAFETY: `iterate` is dl_iterate_phdr, which calls `visit` with this pointer before it returns. The loader's lock is held in `visit`,
    // which therefore neither allocates nor panics.
    unsafe { iterate(visit, (&raw mut look).cast()) };
    known.any
}

/// The object that holds this address; None: none does, or that can't be found out now.
pub fn object_at(address: usize) -> Option<Caller> {
    if STATE.loader_is_locked.load(Relaxed) {
        return None;
    }
    let mut search = (address, None);
    // SAFETY: it is dl_iterate_phdr, which calls `find_object` with this pointer before it returns.
    unsafe { iterate()?(find_object, (&raw mut search).cast()) };
    search.1
}

/// Stores the object that holds an address.
///
/// # Safety
/// dl_iterate_phdr(3) calls it, with its `info` of an object, and with a pointer to an address and a place for the object.
unsafe extern "C" fn find_object(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let (info, (address, found)) = unsafe { (&*info, &mut *search.cast::<(usize, Option<Caller>)>()) };
    // SAFETY: within the callback.
    let object = unsafe { Object::new(info) };
    if !object.holds(*address) {
        return 0;
    }
    // SAFETY: within the callback.
    *found = Some(unsafe { caller(info, &object) });
    1
}

/// What is remembered of an object.
///
/// # Safety
/// `info` is what dl_iterate_phdr(3) says of it, within its callback.
unsafe fn caller(info: &libc::dl_phdr_info, object: &Object) -> Caller {
    let mut path = Text::new();
    if !info.dlpi_name.is_null() {
        // SAFETY: a C string of the loader's, which lives as long as the object.
        let _ = path.push(unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes());
    }
    Caller { span: object.span(), path }
}

/// A look for objects that import certain functions.
struct Imports<'a> {
    /// The functions.
    names: &'a [&'a CStr],
    /// Objects whose imports count, by the path of their files.
    counts: fn(&[u8]) -> bool,
    /// How many objects had been loaded when the last look was made; 0: none has been.
    known: u64,
    /// How many have been loaded by now.
    adds: u64,
    /// Does any import any?
    found: bool,
}

/// Does any loaded object whose path `counts` import one of these functions? `known` is how many objects had been loaded at the last
/// look, which found none: None says that none has been loaded since. Else the answer, and how many have been loaded by now.
pub fn imports(names: &[&CStr], counts: fn(&[u8]) -> bool, known: u64) -> Option<(bool, u64)> {
    if STATE.loader_is_locked.load(Relaxed) {
        return None;
    }
    let mut look = Imports { names, counts, known, adds: 0, found: false };
    // SAFETY: it is dl_iterate_phdr, which calls `find_import` with this pointer before it returns.
    let ended = unsafe { iterate()?(find_import, (&raw mut look).cast()) };
    (ended == 0).then_some((look.found, look.adds))
}

/// Looks at the imports of one object.
///
/// # Safety
/// dl_iterate_phdr(3) calls it, with its `info` of an object, and with a pointer to an [`Imports`].
unsafe extern "C" fn find_import(info: *mut libc::dl_phdr_info, _: usize, look: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let (info, look) = unsafe { (&*info, &mut *look.cast::<Imports<'_>>()) };
    look.adds = info.dlpi_adds;
    if look.known == info.dlpi_adds {
        return 1;
    }
    // SAFETY: a C string of the loader's, or null.
    let path = if info.dlpi_name.is_null() { c"" } else { unsafe { CStr::from_ptr(info.dlpi_name) } };
    // SAFETY: within the callback.
    look.found |= (look.counts)(path.to_bytes()) && unsafe { Object::new(info) }.imports(look.names);
    0
}

/// The type of the callback of dl_iterate_phdr(3).
type Visit = unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> c_int;
/// The type of dl_iterate_phdr(3).
type Iterate = unsafe extern "C" fn(Visit, *mut c_void) -> c_int;

/// dl_iterate_phdr(3) of libc. Looked up when it is needed: an import would cost every process a look-up at its start.
fn iterate() -> Option<Iterate> {
    let find = || NonZeroUsize::new(elf::libc()?.find(&Name::new(c"dl_iterate_phdr"))?);
    let address = STATE.iterate.get_or_init(|| find().unwrap_or(NonZeroUsize::MIN));
    // SAFETY: the address is that of libc's function of this name, whose type is Iterate; it stays where it is, as libc does.
    (address != NonZeroUsize::MIN).then(|| unsafe { core::mem::transmute::<usize, Iterate>(address.get()) })
}

/// This runtime, if it was loaded at the last look.
#[inline(always)]
pub fn find(runtime: Runtime) -> Option<LoadedRuntime> {
    if STATE.has_found.load(Relaxed) { find_again(runtime) } else { None }
}

#[cold]
fn find_again(runtime: Runtime) -> Option<LoadedRuntime> {
    lock()?.runtimes.get(runtime as usize).copied().filter(|loaded| loaded.end != 0)
}

/// The lock is held for microseconds. It is not waited for without end, since a signal handler may have interrupted its holder.
fn lock() -> Option<parking_lot::MutexGuard<'static, Known>> {
    (0..200).find_map(|_| {
        let guard = KNOWN.try_lock();
        if guard.is_none() {
            sys::yield_now();
        }
        guard
    })
}

/// Called for each object.
///
/// # Safety
/// dl_iterate_phdr(3) calls it, with its `info` of an object, and with a pointer to a [`Look`] that nothing else uses meanwhile.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, look: *mut c_void) -> c_int {
    // SAFETY: the caller promises that both are valid, and the Look not used elsewhere.
    let (info, look) = unsafe { (&*info, &mut *look.cast::<Look<'_>>()) };
    // SAFETY: this is the callback, so the loader keeps the object mapped until it returns.
    let object = unsafe { Object::new(info) };
    if look.first {
        look.first = false;
        let generation = Some((info.dlpi_adds, info.dlpi_subs));
        look.search = look.known.generation != generation;
        if look.search {
            look.known.generation = generation;
            look.known.any = false;
            look.known.runtimes.fill(NOT_LOADED);
        } else if !look.known.any {
            return 1;
        }
    }
    if look.search {
        search(look, object);
    }
    if object.holds(look.address) {
        // SAFETY: within the callback.
        *look.caller = Some(unsafe { caller(info, &object) });
        return c_int::from(!look.search);
    }
    0
}

/// Searches one object for the runtimes that have not been found yet.
fn search(look: &mut Look<'_>, object: Object<'_>) {
    let Some(exports) = object.exports() else { return };
    for (runtime, names) in look.known.runtimes.iter_mut().zip(look.names) {
        let is_here = runtime.end == 0 && names.first().is_some_and(|marker| exports.find(marker).is_some());
        if is_here {
            let Range { start, end } = object.span();
            *runtime = LoadedRuntime { start, end, functions: [0; FUNCTIONS] };
            for (function, name) in runtime.functions.iter_mut().zip(*names) {
                *function = exports.find(name).unwrap_or(0);
            }
            look.known.any = true;
            STATE.has_found.store(true, Relaxed);
        }
    }
}

/// In the child of a fork: a thread that was in [`look`] does not exist here.
pub fn forked() {
    if KNOWN.is_locked() {
        STATE.loader_is_locked.store(true, Relaxed);
        // SAFETY: the thread that holds the lock does not exist in this process, so no guard of it will be used or dropped. The one that
        // forked did not hold it: `look` calls nothing that forks.
        unsafe { KNOWN.force_unlock() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_found_once_and_the_caller_each_time() {
        // libc stands for a runtime.
        static NAMES: Names =
            [&[Name::new(c"getpid"), Name::new(c"no_such_function"), Name::new(c"getppid")], &[], &[], &[], &[]];
        let find = |address| {
            let mut caller = None;
            assert!(look(&NAMES, address, &mut caller));
            caller.unwrap()
        };
        let ours = what_is_loaded_is_found_once_and_the_caller_each_time as *const () as usize;
        for _ in 0..2 {
            let caller = find(ours);
            let runtime = super::find(Runtime::Python).unwrap();
            assert!(runtime.functions[0] != 0 && runtime.functions[1] == 0 && runtime.functions[2] != 0);
            assert!(caller.span.contains(&ours) && !runtime.is(&caller.span));
            assert_eq!(caller.name(), b"", "the main executable has no name");
        }
        assert!(super::find(Runtime::Jvm).is_none());
        let caller = find(libc::getpid as *const () as usize);
        assert!(super::find(Runtime::Python).unwrap().is(&caller.span));
        assert!(caller.name().starts_with(b"libc."), "{caller:?}");
    }
}
