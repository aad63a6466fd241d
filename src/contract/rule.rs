//! Is the file whose write has just failed for want of space a log? A pure function over facts. In doubt it says no, and the program
//! gets the true error.
//!
//! No fact decides alone. Redis's append-only file, a git reflog and an mbox are opened exactly as a text log is, a
//! reused LevelDB WAL has the flags of LevelDB's own log, and Cassandra appends lines of text to `nb_txn_flush_8af7.log`. So
//! a log's file must satisfy all of these:
//! 1. It is opened to append, or named like a log and written at its end; and not in a way that only data is opened.
//! 2. No call that writers of logs do not make was made with its descriptor, such as fsync(2) after each record ([`History`]).
//! 3. It has no name that other files than logs have ([`DENIED`]).
//! 4. It has a name that logs have ([`log_name`]).
//! 5. It begins with text, and text is to be written, of no kind that data has ([`CONTENTS`]).
//! 6. There are no files of a database in its directory ([`DATABASE_FILES`]).
//! 7. Its writer does not copy it from another file.
//!
//! `command > app.log` without O_APPEND is a result, whatever it is called: whoever started the command takes its exit status as the receipt
//! (`command > app.log && rm source`). With `2>&1`, the file holds messages.
//!
//! The user's globs: a file that TIDEOVER_LOGS_EXCEPT names is never a log. One that TIDEOVER_LOGS names satisfies 4, and each refusal
//! is overruled whose [`Weight`] is `Yields`: those that an unusual log gets for mode "w", fsync(2) per line or control characters.
//! TIDEOVER_LOGS does not overrule
//! - a name or contents that show a file of a database, a file of a repository or a stream without lines: `TIDEOVER_LOGS=/srv/*`
//!   also names /srv/db/000003.log and /srv/backup.tar.gz;
//! - what makes it impossible to divert a write: the file has no name, the write has a position, the buffer must be aligned;
//! - for a file without O_APPEND, that its writer asked for durability. A log may do one of the two; a file that does both is a
//!   write-ahead log (RocksDB, etcd, MariaDB's binlog, LevelDB with sync), also of a database that no table names.
#![forbid(unsafe_code)]

use libc::{O_APPEND, O_DIRECT, O_SYNC, O_TMPFILE};

pub use crate::refusal::{Refusal, Weight};
use crate::{glob, log_name};

/// What is known of a failed write and its file.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Absolute path, as the link /proc/self/fd/N says it; " (deleted)" at its end is not part of it. Empty: not known.
    pub path: &'a [u8],
    /// fcntl(2) F_GETFL.
    pub flags: i32,
    /// fstat(2) says S_ISREG.
    pub regular: bool,
    /// Descriptor 2, or both 1 and 2, were open on this inode when the process started. Counts as O_APPEND, for many logs are made by
    /// `> app.log 2>&1`.
    pub standard: bool,
    /// The file was not opened to append, but its offset is its size, and descriptor 1 was not open on it when the process started.
    pub at_end: bool,
    /// Descriptor 2 was open on this inode when the process started. Counts as a log's name: `2> errors` are messages, while
    /// `sort x > result && rm x` is data.
    pub stderr: bool,
    /// What calls were made with this descriptor so far.
    pub history: History,
    /// The file was synced now and then, but not often enough for that to be in `history`.
    pub synced: bool,
    /// This call is of the pwrite(2) family.
    pub positioned: bool,
    /// What was to be written. The first 4096 bytes are looked at.
    pub payload: &'a [u8],
    /// The first bytes of the file, of which 512 are looked at. Empty: the file is, or it can't be read.
    pub head: &'a [u8],
    /// TIDEOVER_LOGS: comma-separated globs. One with a slash is compared with the whole path, one without with its last component.
    pub include: &'a [u8],
    /// TIDEOVER_LOGS_EXCEPT, in the form of `include`.
    pub exclude: &'a [u8],
    /// Asked when all else is as a log's: does what is to be written stand in another file, at the place that its writer has just read?
    pub copied: Option<&'a dyn Fn() -> bool>,
}

/// Calls with a descriptor that writers of logs don't make. Seven bits: the table of descriptors has a byte for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History(u8);

impl History {
    /// fsync(2)
    pub const FSYNC: History = History(1);
    /// fdatasync(2)
    pub const FDATASYNC: History = History(2);
    /// sync_file_range(2)
    pub const SYNC_FILE_RANGE: History = History(4);
    /// fallocate(2), posix_fallocate(3)
    pub const FALLOCATE: History = History(8);
    /// pwrite(2) and family
    pub const PWRITE: History = History(16);
    /// ftruncate(2) to more than 0: a log is emptied, a database is cut to its last good record
    pub const FTRUNCATE: History = History(32);
    /// mmap(2) shared and writable, or msync(2)
    pub const MAPPED: History = History(64);

    const REASONS: [(History, Refusal); 7] = [
        (History::FSYNC, Refusal::Fsync),
        (History::FDATASYNC, Refusal::Fdatasync),
        (History::SYNC_FILE_RANGE, Refusal::SyncFileRange),
        (History::FALLOCATE, Refusal::Fallocate),
        (History::PWRITE, Refusal::Pwrite),
        (History::FTRUNCATE, Refusal::Ftruncate),
        (History::MAPPED, Refusal::Mapped),
    ];

    /// From the lower seven bits of a byte; the eighth is the caller's.
    pub const fn from_bits(bits: u8) -> History {
        History(bits & 127)
    }

    /// The seven bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The calls of both.
    #[cfg(test)]
    pub const fn with(self, more: History) -> History {
        History(self.0 | more.0)
    }

    /// Why this is not the history of a log; None: it may be.
    fn reason(self) -> Option<Refusal> {
        History::REASONS.iter().find(|(bit, _)| self.0 & bit.0 != 0).map(|&(_, refusal)| refusal)
    }
}

/// Files of one kind that are no logs.
struct Group {
    /// Why they are none.
    refusal: Refusal,
    /// Their names, as comma-separated globs.
    names: &'static [u8],
    /// Directories in which they are, anywhere in the path, as comma-separated globs.
    directories: &'static [u8],
}

/// Rule 3. A file in two groups is refused by the first, so that groups which TIDEOVER_LOGS can't overrule come before the others.
const DENIED: &[Group] = &[
    // Redis, Valkey, KeyDB: the append-only file is opened and written as a text log is. Tarantool: its WAL and snapshots.
    Group {
        refusal: Refusal::Database,
        names: b"*.aof, *.rdb, *.xlog, *.snap, *.vylog",
        directories: b"appendonlydir, appendonlydir-*",
    },
    // SQLite, and whatever else keeps a database in one file: names of the file, of its journal and its WAL. NeDB appends
    // lines of JSON to *.db.
    Group {
        refusal: Refusal::Database,
        names: b"*.db, *.db-*, *.db[0-9], *.sqlite*, *-journal, *-wal, *-shm, *.jnl, *.wal, *.wal.*, *.mdb, *.fdb, *.duckdb, \
            *.couch, *.nedb, *.trx, *.dat, *.idx, *.index, *.bin, *.bin.*",
        directories: b"wal, WAL, wals, WALs, oldWALs",
    },
    // MySQL, MariaDB: binlogs and relay logs, InnoDB's and Aria's redo and undo, and three that end in .log: the
    // transaction coordinator's and the two DDL journals. Oracle: redo01.log.
    Group {
        refusal: Refusal::Database,
        names: b"*-bin.[0-9]*, *bin.0[0-9]*, binlog.[0-9]*, relay*.[0-9]*, ib_logfile*, *ib_redo*, ibdata*, ibtmp*, \
            aria_log*, undo*, redo*, tc.log, ddl*recovery*.log, ddl_log.log, *.ibd, *.frm, *.MY[DI], *.MA[DI]",
        directories: b"binlog, binlogs",
    },
    // PostgreSQL: the WAL and the states of transactions. Its collector's files lie in log/ or pg_log/ and stay allowed.
    Group { refusal: Refusal::Database, names: b"", directories: b"pg_wal, pg_xlog, pg_xact, pg_clog, pg_replslot" },
    // LevelDB, RocksDB and their kin beside their NNNNNN.log, which `is_segment` knows. LOG is theirs too, and is a log.
    Group {
        refusal: Refusal::Database,
        names: b"MANIFEST-*, CURRENT, *.sst, *.ldb, *.raftlog, OPTIONS-[0-9]*",
        directories: b"",
    },
    // Java's: Cassandra's and Scylla's commit log, and Cassandra's list of what a compaction replaces, which is appended
    // text; KahaDB; Solr, Elasticsearch; RocketMQ; Atomikos; HOWL; HDFS. Derby and braft keep theirs in a directory named
    // log.
    Group {
        refusal: Refusal::Database,
        names: b"*CommitLog-*, *_txn_*.log, db-[0-9]*.log, db.redo, tlog.[0-9]*, *.tlog, tmlog*.log, \
            howl_[0-9]*.log, log*.ctrl, log_inprogress_*, edits_inprogress_*, *.timeindex, *.txnindex, *.snapshot, \
            *-checkpoint",
        directories: b"commitlog, translog, tlog, kahadb, journals",
    },
    // What others call the log that they recover from, by its bare name; Perforce's journal.
    Group {
        refusal: Refusal::Database,
        names: b"journal, journal.[0-9]*, journal-[0-9]*.log, wal.log, wal-*.log, wal_log, commitlog.log, aof.log, \
            binlog.log, raft.log, oplog.log, edits.log",
        directories: b"",
    },
    // Records that somebody bills by: FreeRADIUS, Asterisk.
    Group { refusal: Refusal::Database, names: b"detail-[0-9]*, sql-relay*", directories: b"radacct, cdr-csv, cdr-custom" },
    // MongoDB (journal/, WiredTigerLog.N), systemd (*.journal), RabbitMQ and Mnesia (LATEST.LOG).
    Group {
        refusal: Refusal::Database,
        names: b"WiredTiger*, *.wt, *.journal, *.journal~, *.rdq, *.qi, *.segment, LATEST.LOG, PREVIOUS.LOG, DECISION*.LOG, \
            *.DCD, *.DCL",
        directories: b"journal",
    },
    // Leases of ISC dhcpd and dnsmasq: appended text, and addresses are given out twice if lines are missing.
    Group { refusal: Refusal::Database, names: b"*.leases, *.leases~, *.leases6, *.lease", directories: b"" },
    // Dovecot's and Cyrus's indexes: dovecot.index.log is a journal; dovecot.log and dovecot-info.log are logs.
    Group {
        refusal: Refusal::Database,
        names: b"dovecot*index*, dovecot.mailbox.log*, dovecot-uidlist*, dovecot-keywords*, \
            cyrus.index*, cyrus.cache*, cyrus.header",
        directories: b"",
    },
    // git (`*.git` is also `.git`; `is_reflog` knows the bare ones), Mercurial, Subversion, Bazaar, CVS, Jujutsu: nothing in
    // them is a log of messages.
    Group {
        refusal: Refusal::Repository,
        names: b"",
        directories: b"*.git, reftable, .hg, .svn, .bzr, CVSROOT, .jj",
    },
    // OpenSSH appends to known_hosts. A key that seems to be added and is not locks somebody out, or keeps asking.
    Group { refusal: Refusal::Keys, names: b"known_hosts*, authorized_keys*", directories: b".ssh, .gnupg" },
    // No lines in them, or lines that only count together: compressed rotations, archives, database dumps, downloads that
    // are continued (wget -c, curl -C -), captures, dumps of a process.
    Group {
        refusal: Refusal::Stream,
        names: b"*.gz, *.xz, *.zst, *.bz2, *.lz4, *.lzma, *.Z, *.zip, *.7z, *.tar, *.tgz, *.iso, *.sql, *.dump, *.part, \
            *.partial, *.crdownload, *.aria2, *.pcap*, core, core.[0-9]*, *.core, *.dmp, *.hprof, *.jfr",
        directories: b"",
    },
    // What stands beside logs in a log directory: process ids, locks (java.util.logging, s6-log), sockets, and how far a
    // shipper has read (Fluentd, logtail, Filebeat, Logstash).
    Group {
        refusal: Refusal::State,
        names: b"*.pid, *.lock, *.lck, lock, state, *.state, *.sock, *.pos, *.offset, offset.*, .sincedb*, sincedb*",
        directories: b"",
    },
    // Mailboxes, and the spools of mail, printing, cron and news.
    Group {
        refusal: Refusal::Mail,
        names: b"mbox, *.mbox, *.mbx, inbox, INBOX, dead.letter",
        directories: b"mail, Mail, spool, Maildir, .maildir, Maildir-*",
    },
    // bash, zsh, fish, Python, psql, mysql, less, PowerShell. PostgreSQL's timeline history is caught as well.
    Group { refusal: Refusal::Typed, names: b"*history*, .histfile, .*hst", directories: b"" },
    // login and its like, auditd: evidence, in files of their own making; auditd has its own answer to a full disk.
    Group {
        refusal: Refusal::Accounting,
        names: b"wtmp*, btmp*, utmp*, lastlog*, faillog*, tallylog*, pacct*, audit.log*",
        directories: b"",
    },
];

/// Names that `2>` does not make a log's.
const RESULTS: &[u8] = b"*.csv, *.tsv, *.json, *.jsonl, *.ndjson, *.xml, *.html, *.yaml, *.yml, *.toml, *.conf";

/// Names of logs that somebody may rely on as records. A writer that ever syncs such a file wants it on the disk.
const RECORDS: &[u8] =
    b"*transaction*, *ledger*, *payment*, *billing*, *invoice*, *order*, *journal*, *audit*, *replay*, *commit*";

/// Rule 6. What a directory holds in which a *.log is not a log: LevelDB, RocksDB; Kafka; HSQLDB, whose log is appended text;
/// BookKeeper; Berkeley DB.
const DATABASE_FILES: &[u8] =
    b"MANIFEST-*, CURRENT, *.sst, *.ldb, *.index, *.timeindex, *.txnindex, *.script, lastMark, __db.[0-9]*";

/// Not counted among them: the list of MariaDB's binlogs. It lies beside the general and the slow log, and the binlogs themselves are
/// refused by name.
const BINLOG_INDEXES: &[u8] = b"*bin.index, *binlog.index";

/// Do these bytes begin as contents of one kind do?
type Recognise = fn(&[u8]) -> bool;

/// Rule 5. Contents that look like text and are not a log's, in what is written or at the beginning of the file.
const CONTENTS: &[(Recognise, Refusal)] = &[
    (is_commands, Refusal::Commands),
    (is_snapshot, Refusal::Snapshot),
    (is_ref_change, Refusal::Reflog),
    (is_statement, Refusal::Statements),
    (|bytes| bytes.starts_with(b"From "), Refusal::Mailbox),
];

/// How many bytes of the payload are looked at.
const PAYLOAD_LOOK: usize = 4096;
/// How many of the file's first bytes are looked at.
const HEAD_LOOK: usize = 512;

/// Is this file a log, so that its lines may go elsewhere? If not, the error is the first reason that was found. `database_beside` says
/// whether [`is_database_file`] is true of a name in the file's directory; it is called last, and only if all else is as a log's.
pub fn judge(facts: &Facts<'_>, database_beside: impl FnOnce() -> bool) -> Result<(), Refusal> {
    refuse(!facts.regular, Refusal::NotRegular)?;
    let name = Name::of(facts.path).ok_or(Refusal::NoPath)?;
    refuse(name.is_virtual(), Refusal::NotOnDisk)?;
    refuse(name.is_in(facts.exclude), Refusal::Excluded)?;
    let included = name.is_in(facts.include);
    let unless_included =
        |refused: bool, refusal: Refusal| refuse(refused && !(included && refusal.weight() == Weight::Yields), refusal);

    unless_included(facts.flags & O_TMPFILE == O_TMPFILE, Refusal::Nameless)?;
    unless_included(facts.flags & O_DIRECT != 0, Refusal::Direct)?;
    unless_included(facts.positioned, Refusal::Positioned)?;
    // The bits of O_SYNC include O_DSYNC.
    let synchronous = (facts.flags & O_SYNC != 0).then_some(Refusal::Synchronous);
    let record = (facts.synced && glob::any(RECORDS, name.base)).then_some(Refusal::Fsync);
    let durable = synchronous.or(facts.history.reason()).or(record);
    match (facts.flags & O_APPEND != 0 || facts.standard, durable) {
        (false, Some(durable)) if included => return Err(durable),
        (false, None) if facts.at_end && log_name::says_log(name.base) => {}
        (false, _) => unless_included(true, Refusal::NotAppended)?,
        (true, Some(durable)) => unless_included(true, durable)?,
        (true, None) => {}
    }

    unless_included(is_segment(name.base), Refusal::Segment)?;
    unless_included(name.is_reflog(), Refusal::Repository)?;
    for group in DENIED {
        unless_included(name.is_of(group), group.refusal)?;
    }
    let certain = log_name::is_certain(name.base);
    let named_like_a_log = certain
        || log_name::is_likely(name.base)
        || log_name::is_in_log_directory(name.directory, name.base)
        || (facts.stderr && !glob::any(RESULTS, name.base));
    unless_included(!named_like_a_log, Refusal::Unlike)?;

    let payload = facts.payload.get(..PAYLOAD_LOOK).unwrap_or(facts.payload);
    let head = facts.head.get(..HEAD_LOOK).unwrap_or(facts.head);
    for &(is_content, refusal) in CONTENTS {
        unless_included(is_content(payload) || is_content(head), refusal)?;
    }
    unless_included(payload.contains(&0), Refusal::Binary)?;
    unless_included(payload.iter().any(is_control), Refusal::Control)?;
    // TIDEOVER_LOGS overrules this: logrotate's copytruncate under a writer without O_APPEND leaves a log that begins with NUL bytes.
    unless_included(head.iter().any(is_control), Refusal::BinaryHead)?;
    unless_included(facts.copied.is_some_and(|copied| copied()), Refusal::Copied)?;
    unless_included(!certain && database_beside(), Refusal::DatabaseBeside)
}

/// Does a file of this name show that the logs in its directory are a database's?
pub fn is_database_file(name: &[u8]) -> bool {
    glob::any(DATABASE_FILES, name) && !glob::any(BINLOG_INDEXES, name)
}

fn refuse(refused: bool, refusal: Refusal) -> Result<(), Refusal> {
    if refused { Err(refusal) } else { Ok(()) }
}

/// The path of a file, and its parts.
struct Name<'a> {
    /// Absolute.
    path: &'a [u8],
    /// The directory, with the slash at its end.
    directory: &'a [u8],
    /// The last component; not empty.
    base: &'a [u8],
}

impl<'a> Name<'a> {
    fn of(link: &'a [u8]) -> Option<Name<'a>> {
        let path = link.strip_suffix(b" (deleted)").unwrap_or(link);
        let base = path.rsplit(|&byte| byte == b'/').next().filter(|base| !base.is_empty())?;
        let directory = path.strip_suffix(base)?;
        directory.starts_with(b"/").then_some(Name { path, directory, base })
    }

    /// Is this no file on a disk? (/dev/shm counts as a disk.)
    fn is_virtual(&self) -> bool {
        let under = |root: &[u8]| self.path.starts_with(root);
        under(b"/proc/") || under(b"/sys/") || under(b"/memfd:") || (under(b"/dev/") && !under(b"/dev/shm/"))
    }

    /// Does one of these globs of the user's match?
    fn is_in(&self, globs: &[u8]) -> bool {
        globs.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|glob| {
            let text = if glob.contains(&b'/') { self.path } else { self.base };
            glob::matches(glob, text)
        })
    }

    fn is_of(&self, group: &Group) -> bool {
        glob::any(group.names, self.base) || self.components().any(|c| glob::any(group.directories, c))
    }

    /// Is this git's logs/HEAD, or below logs/refs/? In a bare repository nothing else in the path shows what it is.
    fn is_reflog(&self) -> bool {
        let below = self.components().skip(1).chain([self.base]);
        self.components().zip(below).any(|(c, below)| c == b"logs" && (below == b"HEAD" || below == b"refs"))
    }

    fn components(&self) -> impl Iterator<Item = &'a [u8]> {
        self.directory.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }
}

/// Is this a numbered segment: NNNNNN.log of LevelDB, RocksDB, Kafka and, in hexadecimal digits, BookKeeper; log.N of ZooKeeper
/// (hexadecimal) and Berkeley DB? A word of hexadecimal digits (facade.log) is none: one decimal digit must be there.
fn is_segment(base: &[u8]) -> bool {
    let hex = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let decimal = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = |stem: &[u8]| decimal(stem) || stem.len() >= 6 && hex(stem) && stem.iter().any(u8::is_ascii_digit);
    base.strip_suffix(b".log").is_some_and(number) || base.strip_prefix(b"log.").is_some_and(hex)
}

/// Is this byte no text? Text are tab, newline, carriage return, backspace, form feed and the escape character of colours, and all
/// bytes above 127, which may be of any encoding.
fn is_control(byte: &u8) -> bool {
    *byte < 32 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 8 | 12 | 27)
}

/// Redis's commands: `*3\r\n$3\r\n`, or the time stamp before one: `#TS:1767225600\r\n`.
fn is_commands(bytes: &[u8]) -> bool {
    let count = |rest: &[u8], end: &[u8]| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with(end))
    };
    bytes.strip_prefix(b"*").is_some_and(|rest| count(rest, b"\r\n$"))
        || bytes.strip_prefix(b"#TS:").is_some_and(|rest| count(rest, b"\r\n"))
}

/// Redis's snapshot: `REDIS0011`, `VALKEY080`.
fn is_snapshot(bytes: &[u8]) -> bool {
    let version = bytes.strip_prefix(b"REDIS").or(bytes.strip_prefix(b"VALKEY"));
    version.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

/// A change in git's reflog: it begins with two object names, of SHA-1 or SHA-256.
fn is_ref_change(bytes: &[u8]) -> bool {
    let mut words = bytes.splitn(3, |&byte| byte == b' ');
    let mut object =
        || words.next().is_some_and(|word| matches!(word.len(), 40 | 64) && word.iter().all(u8::is_ascii_hexdigit));
    object() && object()
}

/// A statement of HSQLDB, which puts the session's number before each: `/*C5*/INSERT INTO`.
fn is_statement(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"/*C").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
#[path = "rule_test/mod.rs"]
mod rule_test;
