//! Is the file whose write has just failed for want of space a log? A pure function over facts; in doubt it says no, and the
//! host gets its true error.
//!
//! No fact decides alone. Redis's append-only file, a git reflog and an mbox are opened exactly as a text log is, a
//! reused LevelDB WAL has the flags of LevelDB's own log, and Cassandra appends lines of text to `nb_txn_flush_8af7.log`. So
//! all of these must hold: how it was opened (1), what was asked of it (2), what it is not called (3), what it is called (4,
//! [`log_name`]),
//! what is in it (5), and what lies beside it (6).
//!
//! The user's globs: TIDEOVER_LOGS_EXCEPT beats everything. TIDEOVER_LOGS stands for (4) and overrules each refusal whose
//! [`Weight`] is `Yields`: those that a log of unusual habits runs into, such as mode "w", fsync per line, control
//! characters. It does not overrule
//! - what makes a file a database's, a repository's or a stream without lines, by name or by content: `TIDEOVER_LOGS=/srv/*`
//!   also covers /srv/db/000003.log and /srv/backup.tar.gz;
//! - what can't be diverted: no name, a position of its own, a buffer that must be aligned;
//! - a file that lacks O_APPEND and was asked to be durable. One of the two is a log's habit, both are a WAL's
//!   (RocksDB, etcd, MariaDB's binlog, LevelDB with sync), also of the databases that no table names.
#![forbid(unsafe_code)]

use libc::{O_APPEND, O_DIRECT, O_SYNC, O_TMPFILE};
pub use tideover_contract::refusal::{Refusal, Weight};
use tideover_contract::{glob, log_name};

/// What is known of a failed write and its file.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Absolute, as the link /proc/self/fd/N says it; " (deleted)" at its end is not part of it. Empty: not known.
    pub path: &'a [u8],
    /// fcntl(2) F_GETFL.
    pub flags: i32,
    /// fstat(2) says S_ISREG.
    pub regular: bool,
    /// Descriptor 1 or 2 was this inode when the process started. Stands for O_APPEND: `> app.log` is how many logs are made.
    pub standard: bool,
    /// Descriptor 2 was. Stands for a log's name: `2> errors` are messages, but `sort x > result && rm x` is data.
    pub stderr: bool,
    /// What was asked of this descriptor so far.
    pub history: History,
    /// This call is of the pwrite(2) family.
    pub positioned: bool,
    /// What was to be written; the first 4096 bytes are looked at.
    pub payload: &'a [u8],
    /// How the file begins; 512 bytes are looked at. Empty: an empty file, or one that can't be read.
    pub head: &'a [u8],
    /// TIDEOVER_LOGS: comma-separated globs; with a slash for the whole path, without for its last component.
    pub include: &'a [u8],
    /// TIDEOVER_LOGS_EXCEPT: the same.
    pub exclude: &'a [u8],
}

/// What a descriptor's writer did that writers of logs don't do. Seven bits: the table of descriptors has a byte for each.
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

    /// Both.
    #[cfg(test)]
    pub const fn with(self, more: History) -> History {
        History(self.0 | more.0)
    }

    /// Why this is not the history of a log.
    fn reason(self) -> Option<Refusal> {
        History::REASONS.iter().find(|(bit, _)| self.0 & bit.0 != 0).map(|&(_, refusal)| refusal)
    }
}

/// Rule 3. Names and directories as comma-separated globs; a directory counts wherever it stands in the path.
struct Group {
    refusal: Refusal,
    names: &'static [u8],
    directories: &'static [u8],
}

/// Firm groups before those that yield: a file in two of them is refused by the first.
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

/// Rule 6. What a directory holds in which a *.log is not a log: LevelDB, RocksDB; Kafka; HSQLDB, whose log is appended text;
/// BookKeeper; Berkeley DB.
const DATABASE_FILES: &[u8] =
    b"MANIFEST-*, CURRENT, *.sst, *.ldb, *.index, *.timeindex, *.txnindex, *.script, lastMark, __db.[0-9]*";

/// Not counted among them: the list of MariaDB's binlogs, which are refused by name, lies beside its general and slow logs.
const BINLOG_INDEXES: &[u8] = b"*bin.index, *binlog.index";

type Recognise = fn(&[u8]) -> bool;

/// Rule 5. Contents that look like text and are not a log's; in what is written, or at the beginning of the file.
const CONTENTS: &[(Recognise, Refusal)] = &[
    (is_commands, Refusal::Commands),
    (is_snapshot, Refusal::Snapshot),
    (is_ref_change, Refusal::Reflog),
    (is_statement, Refusal::Statements),
    (|bytes| bytes.starts_with(b"From "), Refusal::Mailbox),
];

const PAYLOAD_LOOK: usize = 4096;
const HEAD_LOOK: usize = 512;

/// Is this file a log, so that its lines may go elsewhere? `database_beside` lists the file's directory with
/// [`is_database_file`]; it is called last, and only if all else says yes.
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
    // O_SYNC has the bits of O_DSYNC.
    let synchronous = (facts.flags & O_SYNC != 0).then_some(Refusal::Synchronous);
    match (facts.flags & O_APPEND != 0 || facts.standard, synchronous.or(facts.history.reason())) {
        (false, Some(durable)) if included => return Err(durable),
        (false, _) => unless_included(true, Refusal::NotAppended)?,
        (true, Some(durable)) => unless_included(true, durable)?,
        (true, None) => {}
    }

    unless_included(is_segment(name.base), Refusal::Segment)?;
    unless_included(name.is_reflog(), Refusal::Repository)?;
    for group in DENIED {
        unless_included(name.is_of(group), group.refusal)?;
    }
    let surely = log_name::is_certain(name.base);
    let like = surely
        || log_name::is_likely(name.base)
        || log_name::is_in_log_directory(name.directory, name.base)
        || (facts.stderr && !glob::any(RESULTS, name.base));
    unless_included(!like, Refusal::Unlike)?;

    let payload = facts.payload.get(..PAYLOAD_LOOK).unwrap_or(facts.payload);
    let head = facts.head.get(..HEAD_LOOK).unwrap_or(facts.head);
    for &(is_content, refusal) in CONTENTS {
        unless_included(is_content(payload) || is_content(head), refusal)?;
    }
    unless_included(payload.contains(&0), Refusal::Binary)?;
    unless_included(payload.iter().any(is_control), Refusal::Control)?;
    // Overruled: copytruncate under a writer without O_APPEND leaves a log that begins with NUL bytes.
    unless_included(head.iter().any(is_control), Refusal::BinaryHead)?;
    unless_included(!surely && database_beside(), Refusal::DatabaseBeside)
}

/// Does a file of this name say that the logs of its directory belong to a database?
pub fn is_database_file(name: &[u8]) -> bool {
    glob::any(DATABASE_FILES, name) && !glob::any(BINLOG_INDEXES, name)
}

fn refuse(refused: bool, refusal: Refusal) -> Result<(), Refusal> {
    if refused { Err(refusal) } else { Ok(()) }
}

struct Name<'a> {
    path: &'a [u8],
    /// With the slash at its end.
    directory: &'a [u8],
    /// Not empty.
    base: &'a [u8],
}

impl<'a> Name<'a> {
    fn of(link: &'a [u8]) -> Option<Name<'a>> {
        let path = link.strip_suffix(b" (deleted)").unwrap_or(link);
        let base = path.rsplit(|&byte| byte == b'/').next().filter(|base| !base.is_empty())?;
        let directory = path.strip_suffix(base)?;
        directory.starts_with(b"/").then_some(Name { path, directory, base })
    }

    /// /dev/shm is a filesystem like others.
    fn is_virtual(&self) -> bool {
        let under = |root: &[u8]| self.path.starts_with(root);
        under(b"/proc/") || under(b"/sys/") || under(b"/memfd:") || (under(b"/dev/") && !under(b"/dev/shm/"))
    }

    /// Does a list of the user's name it?
    fn is_in(&self, globs: &[u8]) -> bool {
        globs.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|glob| {
            let text = if glob.contains(&b'/') { self.path } else { self.base };
            glob::matches(glob, text)
        })
    }

    fn is_of(&self, group: &Group) -> bool {
        glob::any(group.names, self.base) || self.components().any(|c| glob::any(group.directories, c))
    }

    /// logs/HEAD and logs/refs/ lie in a directory named logs; in a bare repository nothing else tells.
    fn is_reflog(&self) -> bool {
        let below = self.components().skip(1).chain([self.base]);
        self.components().zip(below).any(|(c, below)| c == b"logs" && (below == b"HEAD" || below == b"refs"))
    }

    fn components(&self) -> impl Iterator<Item = &'a [u8]> {
        self.directory.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }
}

/// NNNNNN.log of LevelDB, RocksDB, Kafka and, in hex digits, BookKeeper; log.N of ZooKeeper (hex) and Berkeley DB. Words of
/// hex digits only (facade.log) are names: one decimal digit must be there.
fn is_segment(base: &[u8]) -> bool {
    let hex = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let decimal = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = |stem: &[u8]| decimal(stem) || stem.len() >= 6 && hex(stem) && stem.iter().any(u8::is_ascii_digit);
    base.strip_suffix(b".log").is_some_and(number) || base.strip_prefix(b"log.").is_some_and(hex)
}

/// Tab, newline, form feed, return, backspace and the escape of colours are text; so are bytes of any encoding above 127.
fn is_control(byte: &u8) -> bool {
    *byte < 32 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 8 | 12 | 27)
}

/// `*3\r\n$3\r\n`, or the time stamp before it: `#TS:1767225600\r\n`.
fn is_commands(bytes: &[u8]) -> bool {
    let count = |rest: &[u8], end: &[u8]| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with(end))
    };
    bytes.strip_prefix(b"*").is_some_and(|rest| count(rest, b"\r\n$"))
        || bytes.strip_prefix(b"#TS:").is_some_and(|rest| count(rest, b"\r\n"))
}

/// `REDIS0011`, `VALKEY080`.
fn is_snapshot(bytes: &[u8]) -> bool {
    let version = bytes.strip_prefix(b"REDIS").or(bytes.strip_prefix(b"VALKEY"));
    version.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

/// Two object names, of SHA-1 or SHA-256.
fn is_ref_change(bytes: &[u8]) -> bool {
    let mut words = bytes.splitn(3, |&byte| byte == b' ');
    let mut object =
        || words.next().is_some_and(|word| matches!(word.len(), 40 | 64) && word.iter().all(u8::is_ascii_hexdigit));
    object() && object()
}

/// HSQLDB names the session before each statement: `/*C5*/INSERT INTO`.
fn is_statement(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"/*C").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
#[path = "rule_test.rs"]
mod rule_test;
