//! The C API of include/tideover.h, for programs that link with the library or find it preloaded.

use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use core::mem::offset_of;

use libc::FILE;
use tideover_contract::page::Page;
use tideover_contract::settings::{MILLION, SECOND};

use super::kinds::{descriptor, named, stream, whole};
use super::{composites, files};
use crate::arch;
use crate::engine::backoff::Backoff;
use crate::engine::call::Call;
use crate::engine::reclaim::callbacks::{self, Reclaimer};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::events::{self, Listener};
use crate::state::{page, thread, usage};

/// `struct tideover_fd_usage`.
#[repr(C)]
pub struct FdUsage {
    used: u64,
    soft: u64,
    hard: u64,
    percent: f64,
    available: u64,
}

/// `struct tideover_retry_policy`.
#[repr(C)]
pub struct RetryPolicy {
    max_retries: u32,
    initial_wait_ms: u32,
    max_wait_ms: u32,
    /// Bytes of the struct that the program knows; 0: those up to and with `jitter`.
    size: u32,
    multiplier: f64,
    jitter: f64,
    /// Read only if `size` says that it is there.
    trigger_gc: u32,
}

/// `tideover_operation`.
type Operation = unsafe extern "C" fn(*mut c_void) -> c_long;

/// Version of the library, text.
#[unsafe(no_mangle)]
pub extern "C" fn tideover_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The live page, to be read only.
#[unsafe(no_mangle)]
pub extern "C" fn tideover_page_self() -> *const Page {
    barrier((), page::ensure);
    page::page()
}

/// Fills in how many descriptors are in use; 0, or -1 if the limits can't be read.
///
/// # Safety
/// `to` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_fd_usage(to: *mut FdUsage) -> c_int {
    barrier(-1, || {
        let Ok(limit) = sys::descriptor_limit(0) else { return -1 };
        if to.is_null() {
            return -1;
        }
        let used = usage::used(limit.rlim_cur);
        let percent = if limit.rlim_cur == 0 { 100.0 } else { used as f64 * 100.0 / limit.rlim_cur as f64 };
        let available = limit.rlim_cur.saturating_sub(used);
        // SAFETY: promised by the caller.
        unsafe { to.write(FdUsage { used, soft: limit.rlim_cur, hard: limit.rlim_max, percent, available }) };
        0
    })
}

/// Fills in how many descriptors are in use; 1 if that is at least this part of the soft limit, 0 if it is less, -1 if the limits can't be
/// read.
///
/// # Safety
/// `to` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_check_fd_usage(threshold: f64, to: *mut FdUsage) -> c_int {
    let mut usage = FdUsage { used: 0, soft: 0, hard: 0, percent: 0.0, available: 0 };
    // SAFETY: a place of our own.
    if unsafe { tideover_fd_usage(&raw mut usage) } < 0 {
        return -1;
    }
    let above = usage.percent >= threshold * 100.0;
    if !to.is_null() {
        // SAFETY: promised by the caller.
        unsafe { to.write(usage) };
    }
    c_int::from(above)
}

/// Adds a reclaimer; 0, or -1 when `function` is NULL or there are too many. The name is for the caller's own order.
///
/// # Safety
/// As tideover.h says of reclaimers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_register_reclaimer(
    _name: *const c_char,
    function: Option<Reclaimer>,
    context: *mut c_void,
    priority: c_int,
) -> c_int {
    barrier(-1, || match function {
        Some(function) if callbacks::register(function, context, priority) => 0,
        _ => -1,
    })
}

/// Removes a reclaimer; 0, or -1 when there is none of this function and context.
///
/// # Safety
/// Any arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_unregister_reclaimer(function: Option<Reclaimer>, context: *mut c_void) -> c_int {
    barrier(-1, || match function {
        Some(function) if callbacks::unregister(function, context) => 0,
        _ => -1,
    })
}

/// Adds a listener for events; 0, or -1 when `function` is NULL or there are too many.
///
/// # Safety
/// As tideover.h says of listeners.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_on_event(function: Option<Listener>, context: *mut c_void) -> c_int {
    barrier(-1, || match function {
        Some(function) if events::listen(function, context) => 0,
        _ => -1,
    })
}

/// 1 if this descriptor's file is a log whose lines go elsewhere now, else 0.
#[unsafe(no_mangle)]
pub extern "C" fn tideover_log_degraded(fd: c_int) -> c_int {
    barrier(0, || c_int::from(crate::features::logs::is_degraded(fd)))
}

/// The backoff of a policy.
///
/// # Safety
/// A policy, of any version.
unsafe fn backoff(policy: *const RetryPolicy) -> Backoff {
    let millis = |ms: u32| u64::from(ms.max(1)) * (SECOND / 1000);
    let millionths = |value: f64, low: f64, high: f64| (value.clamp(low, high) * MILLION as f64) as u64;
    // SAFETY: all versions have these fields.
    unsafe {
        Backoff {
            tries: u64::from((*policy).max_retries.min(1000)),
            wait: millis((*policy).initial_wait_ms),
            longest: millis((*policy).max_wait_ms),
            multiplier: millionths((*policy).multiplier, 1.0, 100.0),
            jitter: millionths((*policy).jitter, 0.0, 1.0),
        }
    }
}

/// May garbage be collected for a call with this policy? So it is where the policy does not say.
///
/// # Safety
/// A policy, of any version.
unsafe fn collects(policy: *const RetryPolicy) -> bool {
    let end = offset_of!(RetryPolicy, trigger_gc) + size_of::<u32>();
    // SAFETY: all versions have the size; a struct of this size has the other field.
    unsafe { ((*policy).size as usize) < end || (*policy).trigger_gc != 0 }
}

/// A call with its own policy, or by the settings if that is NULL.
///
/// # Safety
/// `policy` is NULL or points to a policy.
unsafe fn call(name: &'static str, policy: *const RetryPolicy) -> Call {
    // SAFETY: promised by the caller; `backoff` reads no field behind `jitter`.
    let backoff = if policy.is_null() { None } else { Some(unsafe { backoff(policy) }) };
    // SAFETY: the caller's promise; the field is read only where the program's struct is long enough for it.
    let collects = policy.is_null() || unsafe { collects(policy) };
    Call { backoff, collects, ..named(name, true) }
}

/// Calls `operation(context)`, again while it returns less than 0 with errno EMFILE or ENFILE. Returns its last answer and
/// leaves its errno. With no operation: -1 and EINVAL. A NULL policy means the settings.
///
/// # Safety
/// `operation` may be called repeatedly with `context`; `policy` is NULL or points to a policy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_retry(
    operation: Option<Operation>,
    context: *mut c_void,
    policy: *const RetryPolicy,
) -> c_long {
    let Some(operation) = operation else {
        sys::set_errno(libc::EINVAL);
        return -1;
    };
    let once = || {
        let outer = thread::set_retry(arch::stack_pointer());
        // SAFETY: promised by the caller.
        let answer = unsafe { operation(context) };
        thread::set_retry(outer);
        answer
    };
    // SAFETY: promised by the caller.
    whole(|| unsafe { call("tideover_retry", policy) }, once)
}

/// open(2) with its own policy. A NULL policy means the settings.
///
/// # Safety
/// `path` is a C string; `policy` is NULL or points to a policy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_open(
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
    policy: *const RetryPolicy,
) -> c_int {
    let real = files::real_open64();
    // SAFETY: promised by the caller.
    descriptor(|| unsafe { call("tideover_open", policy) }, || unsafe { real(path, flags, mode) })
}

/// fopen(3) with its own policy. A NULL policy means the settings.
///
/// # Safety
/// `path` and `mode` are C strings; `policy` is NULL or points to a policy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tideover_fopen(
    path: *const c_char,
    mode: *const c_char,
    policy: *const RetryPolicy,
) -> *mut FILE {
    let real = composites::real_fopen64();
    // SAFETY: promised by the caller; fopen(3) returns NULL or an open stream.
    unsafe { stream(|| call("tideover_fopen", policy), || real(path, mode)) }
}
