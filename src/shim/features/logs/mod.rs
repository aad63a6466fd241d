//! Log lines survive a full disk.
//!
//! The way of a failed write: [`hooks::writes`](crate::hooks) or [`stdio`] -> [`calls`]: the real write fails -> [`decide`], by the
//! [`rule`]: is this a log? -> [`divert`]: the remainder goes to the [`sink`] -> ... -> [`space`]: there is room again -> back to
//! the file. [`files`] knows what is diverted, [`cap`] bounds it.
//!
//! Decided only after a write has failed: nothing is tracked but a byte per descriptor. Bytes that reached the file are never
//! sent twice; the host gets its full count.

pub mod calls;
mod cap;
mod cleanup;
pub mod copies;
mod decide;
mod divert;
pub mod dprintf;
pub mod files;
mod opened;
pub mod pause;
pub mod payload;
pub mod pipe;
pub mod rule;
pub mod sink;
pub mod space;
pub mod standin;
pub mod stdio;
pub mod streams;

use once_cell::race::OnceBool;
use tideover_contract::glob;
use tideover_contract::settings::{Id, on_full, sink as sinks};

use crate::os::sys;
use crate::state::settings::SETTINGS;
use files::Key;

/// Programs whose output is somebody's data whatever the file is called: `wget -c http://host/server.log`. tee has its lines on
/// standard output already.
const COPIERS: &[u8] = b"dd, cp, mv, install, tar, bsdtar, cpio, rsync, scp, sftp, wget, curl, aria2c, cat, tee, head, tail, \
    sort, uniq, split, csplit, shuf, cut, tr, grep, egrep, fgrep, zgrep, rg, sed, tac, rev, nl, paste, join, comm, diff, \
    column, expand, unexpand, fold, fmt, pr, iconv, jq, od, xxd, hexdump, strings, sqlite3, psql, mysqldump, \
    pg_dump, lz4, zcat, zip, unzip, gzip, bzip2, xz, zstd, git, nc, ncat, socat, pv, sponge, base64, openssl, gpg";

/// Programs whose standard output is such data, but not what they append to by name.
const FILTERS: &[u8] = b"awk, gawk, mawk, original-awk";

/// Is what this program writes to its standard output data?
fn is_filter() -> bool {
    glob::any(FILTERS, crate::state::process::program())
}

/// At load. `to_file`: a standard stream is a file.
pub fn start(to_file: bool) {
    if SETTINGS.get(Id::Fallback) == sinks::OFF && SETTINGS.get(Id::OnFull) != on_full::WAIT {
        return;
    }
    if !stdio::find() {
        log::info!("this libc's stdio is not as expected: logs written through it are not diverted");
    } else if to_file {
        stdio::install();
    }
}

/// Are no lines of this program's diverted? Asked when it has a file, not at load: most programs end before.
fn is_off() -> bool {
    static COPIES: OnceBool = OnceBool::new();
    if COPIES.get_or_init(|| glob::any(COPIERS, crate::state::process::program())) {
        SETTINGS.switch_off_fallback();
    }
    SETTINGS.get(Id::Fallback) == sinks::OFF
}

/// Is there anything to do for a program that writes a file?
fn may_divert_or_wait() -> bool {
    !is_off() || SETTINGS.get(Id::OnFull) == on_full::WAIT
}

/// In the child of a fork.
pub fn forked() {
    files::forked();
    pipe::changed();
    copies::forked();
}

/// Is this descriptor's file diverted now?
pub fn is_degraded(fd: libc::c_int) -> bool {
    files::any() && sys::fstat(fd).is_ok_and(|status| files::find(Key::of_file(&status)).is_some())
}
