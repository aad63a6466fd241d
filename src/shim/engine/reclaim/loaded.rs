//! Which language runtimes are in this process, and whose code called a hook.
//!
//! Runtimes are found by a function that each of them exports, in whatever object: the executable, a library, one that was loaded
//! with RTLD_LOCAL. dl_iterate_phdr(3) holds the loader's lock for microseconds only, even while another thread is in the
//! constructor of a library that it opens; dlsym(3) and dladdr(3) would wait for that one. What was found is kept until an object
//! comes or goes.

use core::cell::UnsafeCell;
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

/// At most so many functions of one runtime.
pub const FUNCTIONS: usize = 28;
const RUNTIMES: usize = Runtime::ALL.len();

/// The functions of each runtime, by its index.
pub type Names = [&'static [Name]; RUNTIMES];

/// Where a runtime is.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    start: usize,
    end: usize,
    /// Its functions in the order of their names; 0: it has none of that name.
    pub functions: [usize; FUNCTIONS],
}

const NOWHERE: Home = Home { start: 0, end: 0, functions: [0; FUNCTIONS] };

impl Home {
    /// Is this object the runtime's own?
    pub fn is(&self, object: &Range<usize>) -> bool {
        self.start == object.start && self.end == object.end
    }
}

/// The object that a call came from.
#[derive(Debug)]
pub struct Caller {
    /// Where it lies.
    pub span: Range<usize>,
    path: Text<256>,
}

impl Caller {
    /// The file's path; empty for the main executable, and for paths that are too long.
    pub fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// The file's name.
    pub fn name(&self) -> &[u8] {
        self.path().rsplit(|&byte| byte == b'/').next().unwrap_or(&[])
    }
}

/// What is known, and how many objects had come and gone when it was found out.
struct Known {
    generation: Option<(u64, u64)>,
    any: bool,
    homes: [Home; RUNTIMES],
}

struct Table(Mutex<UnsafeCell<Known>>);

// SAFETY: only touched with the lock held.
unsafe impl Sync for Table {}

#[unsafe(link_section = ".tables")]
static TABLE: Table =
    Table(Mutex::new(UnsafeCell::new(Known { generation: None, any: false, homes: [NOWHERE; RUNTIMES] })));
/// A thread other than the one that forked was asking the loader: the loader's lock may be held for ever in this child.
static LOCKED_OUT: AtomicBool = AtomicBool::new(false);

/// One look at the loader's list.
struct Look<'a> {
    known: &'a mut Known,
    names: &'a Names,
    first: bool,
    search: bool,
    address: usize,
    caller: &'a mut Option<Caller>,
}

/// Looks for the runtimes, and for the object that holds `address`, unless there is no runtime. `names` are the functions to look
/// for, the first of which says where a runtime is. False: there is none, or it can't be known now.
pub fn look(names: &Names, address: usize, caller: &mut Option<Caller>) -> bool {
    if LOCKED_OUT.load(Relaxed) {
        return false;
    }
    let (Some(iterate), Some(mut guard)) = (iterate(), lock()) else { return false };
    let known = guard.get_mut();
    let mut look = Look { known, names, first: true, search: false, address, caller };
    // SAFETY: the callback takes what is passed, and neither allocates nor unwinds.
    unsafe { iterate(visit, (&raw mut look).cast()) };
    known.any
}

type Visit = unsafe extern "C" fn(*mut libc::dl_phdr_info, usize, *mut c_void) -> c_int;
type Iterate = unsafe extern "C" fn(Visit, *mut c_void) -> c_int;

/// dl_iterate_phdr(3), libc's own. Found when it is wanted: an import would cost every process a look-up.
fn iterate() -> Option<Iterate> {
    static ADDRESS: OnceNonZeroUsize = OnceNonZeroUsize::new();
    let find = || NonZeroUsize::new(elf::libc()?.find(&Name::new(c"dl_iterate_phdr"))?);
    let address = ADDRESS.get_or_init(|| find().unwrap_or(NonZeroUsize::MIN));
    // SAFETY: that is its type.
    (address != NonZeroUsize::MIN).then(|| unsafe { core::mem::transmute::<usize, Iterate>(address.get()) })
}

/// Has a runtime ever been found? Most processes have none, and are not to write to the table only to read it.
static FOUND: AtomicBool = AtomicBool::new(false);

/// Where this runtime was when somebody last looked.
#[inline(always)]
pub fn home(runtime: Runtime) -> Option<Home> {
    if FOUND.load(Relaxed) { found_home(runtime) } else { None }
}

#[cold]
fn found_home(runtime: Runtime) -> Option<Home> {
    let mut guard = lock()?;
    guard.get_mut().homes.get(runtime as usize).copied().filter(|home| home.end != 0)
}

/// The table is held for microseconds. Bounded, since a signal handler may have interrupted its holder.
fn lock() -> Option<parking_lot::MutexGuard<'static, UnsafeCell<Known>>> {
    (0..200).find_map(|_| {
        let guard = TABLE.0.try_lock();
        if guard.is_none() {
            sys::yield_now();
        }
        guard
    })
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, look: *mut c_void) -> c_int {
    // SAFETY: the loader's own information, and what `look` passed.
    let (info, look) = unsafe { (&*info, &mut *look.cast::<Look<'_>>()) };
    // SAFETY: within the callback.
    let object = unsafe { Object::new(info) };
    if look.first {
        look.first = false;
        let generation = Some((info.dlpi_adds, info.dlpi_subs));
        look.search = look.known.generation != generation;
        if look.search {
            look.known.generation = generation;
            look.known.any = false;
            look.known.homes.fill(NOWHERE);
        } else if !look.known.any {
            return 1;
        }
    }
    if look.search {
        search(look, object);
    }
    if object.holds(look.address) {
        let mut path = Text::new();
        if !info.dlpi_name.is_null() {
            // SAFETY: a C string of the loader's.
            let _ = path.push(unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes());
        }
        *look.caller = Some(Caller { span: object.span(), path });
        return c_int::from(!look.search);
    }
    0
}

/// Looks for the runtimes in one object. The first that has one is its home.
fn search(look: &mut Look<'_>, object: Object<'_>) {
    let Some(exports) = object.exports() else { return };
    for (home, names) in look.known.homes.iter_mut().zip(look.names) {
        let is_here = home.end == 0 && names.first().is_some_and(|marker| exports.find(marker).is_some());
        if is_here {
            let Range { start, end } = object.span();
            *home = Home { start, end, functions: [0; FUNCTIONS] };
            for (function, name) in home.functions.iter_mut().zip(*names) {
                *function = exports.find(name).unwrap_or(0);
            }
            look.known.any = true;
            FOUND.store(true, Relaxed);
        }
    }
}

/// In the child of a fork.
pub fn forked() {
    if TABLE.0.is_locked() {
        LOCKED_OUT.store(true, Relaxed);
        // SAFETY: the thread that held it does not exist in this process.
        unsafe { TABLE.0.force_unlock() };
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
            let home = home(Runtime::Python).unwrap();
            assert!(home.functions[0] != 0 && home.functions[1] == 0 && home.functions[2] != 0);
            assert!(caller.span.contains(&ours) && !home.is(&caller.span));
            assert_eq!(caller.name(), b"", "the main executable has no name");
        }
        assert!(home(Runtime::Jvm).is_none());
        let caller = find(libc::getpid as *const () as usize);
        assert!(home(Runtime::Python).unwrap().is(&caller.span));
        assert!(caller.name().starts_with(b"libc."), "{caller:?}");
    }
}
