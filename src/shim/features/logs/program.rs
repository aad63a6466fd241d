//! Does the library handle full disks for this program at all? By its settings, and by what the name of the program says about the
//! lines that it writes.
#![forbid(unsafe_code)]

use once_cell::race::OnceBool;
use tideover_contract::glob;
use tideover_contract::settings::{Id, on_full, sink as sinks};
use tideover_contract::stream::FILTERS;

use crate::os::sys;
use crate::state::process::program as name;
use crate::state::settings::SETTINGS;

/// Programs whose output is data whatever the file is called: `wget -c http://host/server.log`. tee is among them because its lines
/// are on standard output already.
const COPIERS: &[u8] = b"dd, cp, mv, install, tar, bsdtar, cpio, rsync, scp, sftp, wget, curl, aria2c, cat, tee, head, tail, \
    sort, uniq, split, csplit, shuf, cut, tr, grep, egrep, fgrep, zgrep, rg, sed, tac, rev, nl, paste, join, comm, diff, \
    column, expand, unexpand, fold, fmt, pr, iconv, jq, od, xxd, hexdump, strings, sqlite3, psql, mysqldump, \
    pg_dump, lz4, zcat, zip, unzip, gzip, bzip2, xz, zstd, git, nc, ncat, socat, pv, sponge, base64, openssl, gpg";

/// Programs that keep other programs' logs. They have their own answer to a full disk (svlogd and s6-log wait, syslog daemons switch), and
/// what they would send to a sink may come back to them: their standard output may lead to the journal or to themselves.
const LOGGING_DAEMONS: &[u8] = b"svlogd, s6-log, multilog, tinylog, cyclog, metalog, socklog, syslog-ng, rsyslogd, syslogd, klogd, \
    sysklogd, systemd-journal*, auditd, audispd*, fluent-bit, fluentd, vector, filebeat, promtail, logstash, nxlog, conmon, logger";

/// Where syslog daemons and journald listen: a process that has a socket of this name is one.
const ADDRESSES: &[u8] = b"/dev/log, /run/systemd/journal/*";

/// Descriptors below this number are looked at for such a socket.
const SOCKETS: i32 = 64;

/// Is this a program whose lines must never go to the journal or to a syslog daemon, since it is such a daemon, or hands lines to one?
pub fn is_logging_daemon() -> bool {
    glob::any(LOGGING_DAEMONS, name())
        || (0..SOCKETS).any(|fd| {
            let mut path = [0; 108];
            sys::socket_path(fd, false, &mut path).is_ok_and(|path| glob::any(ADDRESSES, path))
        })
}

/// Is what this program writes to its standard output data?
pub fn is_filter() -> bool {
    glob::any(FILTERS, name())
}

/// Are the files that this program writes copies, or logs that it cares for itself? Asked first when the program has a file, not at load,
/// since most programs end before that.
fn has_own_answer() -> bool {
    static HAS_OWN_ANSWER: OnceBool = OnceBool::new();
    HAS_OWN_ANSWER.get_or_init(|| glob::any(COPIERS, name()) || glob::any(LOGGING_DAEMONS, name()))
}

/// May lines of this program be diverted?
pub fn may_divert() -> bool {
    if has_own_answer() {
        SETTINGS.switch_off_fallback();
    }
    SETTINGS.get(Id::Fallback) != sinks::OFF
}

/// Are logs of this program to be rotated by the library (TIDEOVER_ROTATE)?
pub fn may_rotate() -> bool {
    SETTINGS.get(Id::Rotate) != 0 && !has_own_answer()
}

/// May lines be diverted, do other writes wait for space (TIDEOVER_ON_FULL=wait), or are logs rotated?
pub fn may_act_on_writes() -> bool {
    may_divert() || waits_for_space() || may_rotate()
}

/// At load, where the program's name is not looked at: do the settings allow any of these?
pub fn is_set_to_act_on_writes() -> bool {
    SETTINGS.get(Id::Fallback) != sinks::OFF || waits_for_space() || SETTINGS.get(Id::Rotate) != 0
}

fn waits_for_space() -> bool {
    SETTINGS.get(Id::OnFull) == on_full::WAIT
}
