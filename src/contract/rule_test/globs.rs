//! Files that the user's globs name.

use libc::{O_APPEND, O_DIRECT, O_DSYNC, O_RDWR, O_SYNC, O_WRONLY};

use super::super::{History, Refusal};
use super::case::{Case, appended, opened, redirected, reflog};

/// What the user's globs change, and what they don't.
pub const GLOBS: &[Case] = &[
    appended("/srv/app/app.log").exclude("*.log").is(Refusal::Excluded),
    appended("/srv/app/app.log").exclude("/srv/app/*").include("*.log").is(Refusal::Excluded),
    appended("/srv/app/app.log").exclude("app, /srv/*.txt, "),
    appended("/srv/app/app.log").exclude("/app.log"),
    appended("/srv/app/app.log (deleted)").exclude("/srv/app/app.log").is(Refusal::Excluded),
    appended("/srv/app/trace").is(Refusal::Unlike),
    appended("/srv/app/trace").include("trace"),
    appended("/srv/app/trace").include("/srv/*"),
    appended("/srv/app/trace").include("x,/srv/app/t?ace"),
    appended("/srv/app/trace").include("x, trace , y"),
    appended("/srv/app/trace").include("/srv/app").is(Refusal::Unlike),
    appended("/srv/app/trace").include("srv/app/trace").is(Refusal::Unlike),
    appended("/srv/app/trace").include(" , ").is(Refusal::Unlike),
    // Logs of unusual habits: mode "w", log4j2's RandomAccessFile, a logger that calls fsync, multilog, FIX, copytruncate.
    opened("/srv/app/app.log", O_WRONLY).include("*.log"),
    opened("/srv/app/app.log", O_RDWR).include("*.log"),
    appended("/srv/app/app.log").after(History::FSYNC).include("*.log"),
    opened("/srv/app/app.log", O_WRONLY | O_APPEND | O_SYNC).include("*.log"),
    redirected("/srv/app/app.log").after(History::FDATASYNC).include("*.log"),
    appended("/srv/fix/messages.log").writes(b"8=FIX.4.2\x019=112\x01\n").include("*.log"),
    appended("/srv/app/holes.log").begins(b"\0\0\0\0").include("*.log"),
    appended("/var/log/apt/history.log").include("/var/log/*"),
    appended("/var/log/audit/audit.log").include("/var/log/*"),
    appended("/var/spool/exim/log/mainlog").include("mainlog"),
    appended("/srv/app/mails.log").begins(b"From 10.0.0.1: connected\n").include("*.log"),
    opened("/srv/rocks/LOG", O_WRONLY).beside(&["CURRENT"]).include("LOG"),
    // Both habits together are a write-ahead log's.
    opened("/srv/app/app.log", O_WRONLY).after(History::FSYNC).include("*.log").is(Refusal::Fsync),
    opened("/srv/hsqldb/mydb.log", O_RDWR).after(History::FSYNC).include("*").is(Refusal::Fsync),
    opened("/srv/app/app.log", O_WRONLY | O_DSYNC).include("*.log").is(Refusal::Synchronous),
    opened("/srv/prealloc/app.log", O_WRONLY).after(History::FALLOCATE).include("*").is(Refusal::Fallocate),
    // Databases, repositories, streams.
    opened("/srv/ldb/000003.log", O_WRONLY).include("*").is(Refusal::Segment),
    opened("/srv/zk/log.100000001", O_RDWR).include("*").is(Refusal::Segment),
    appended("/srv/redis/x.aof").include("*").is(Refusal::Database),
    appended("/srv/redis/x.log").begins(b"*2\r\n$6\r\nSELECT\r\n").include("*").is(Refusal::Commands),
    opened("/srv/rocks/x.log", O_WRONLY).beside(&["CURRENT"]).include("*").is(Refusal::DatabaseBeside),
    appended("/srv/x/.git/logs/HEAD").include("*").is(Refusal::Repository),
    appended("/srv/x/.hg/blackbox.log").include("*").is(Refusal::Repository),
    appended("/srv/x/ref").begins(reflog()).include("*").is(Refusal::Reflog),
    appended("/srv/x/.ssh/known_hosts").include("*").is(Refusal::Keys),
    opened("/srv/x.tar.gz", O_WRONLY).include("/srv/*").is(Refusal::Stream),
    opened("/srv/app.pid", O_WRONLY).include("/srv/*").is(Refusal::State),
    opened("/srv/picture", O_WRONLY).writes(b"GIF89a\x01\0\x01\0").include("/srv/*").is(Refusal::Binary),
    appended("/srv/app/app.log").pwrite().include("*").is(Refusal::Positioned),
    opened("/srv/app/app.log", O_WRONLY | O_DIRECT).include("*").is(Refusal::Direct),
    appended("/srv/app/app.log").irregular().include("*").is(Refusal::NotRegular),
];
