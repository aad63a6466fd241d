//! Names and directories that make no log.

use super::super::{Facts, Refusal, judge};
use super::case::appended;

/// Names that make no log even in a log directory.
const NAMES: &[(Refusal, &str)] = &[
    (Refusal::Database, "dump.rdb 00000000000000000007.xlog 0007.snap 0007.vylog"),
    (Refusal::Database, "a.db a.db3 a.db-wal a.sqlite a.sqlite-journal a-journal a-wal a-shm a.jnl a.wal a.wal.1"),
    (Refusal::Database, "a.mdb a.fdb a.duckdb a.couch a.nedb virtuoso.trx a.dat a.idx a.index a.bin a.bin.zst"),
    (Refusal::Database, "mysql-bin.100001 mysqlbin.000001 binlog.1 relay.000001 ib_logfile1 #ib_redo12 ibdata1 ibtmp1"),
    (Refusal::Database, "aria_log_control undo_001 redo02.log ddl-recovery.log ddl_log.log a.ibd a.frm a.MYD a.MAI"),
    (Refusal::Database, "MANIFEST-1 CURRENT 1.sst 1.ldb 1.raftlog OPTIONS-000007"),
    (Refusal::Database, "Recycled-CommitLog-2-7.log db.redo tlog.0001 btm1.tlog howl_1.log log.ctrl"),
    (Refusal::Database, "edits_inprogress_0000000000000000001 7.txnindex 7.snapshot replication-offset-checkpoint"),
    (Refusal::Database, "WiredTigerLog.0000000001 a.wt user-1000.journal system@1.journal~ 0.rdq journal.qi 7.segment"),
    (Refusal::Database, "LATEST.LOG PREVIOUS.LOG DECISION_TAB.LOG a.DCD a.DCL dhcpd.leases~ dhcpd.leases6 eth0.lease"),
    (
        Refusal::Database,
        "journal journal.12 journal-000001.log wal.log wal-000001.log wal_log aof.log raft.log edits.log",
    ),
    (Refusal::Database, "detail-20260101 sql-relay"),
    (Refusal::Segment, "1.log 00001.log"),
    (Refusal::Database, "dovecot.index.log.2 dovecot-uidlist dovecot-keywords cyrus.index cyrus.cache cyrus.header"),
    (
        Refusal::Stream,
        "a.xz a.zst a.bz2 a.lz4 a.lzma a.Z a.zip a.7z a.tgz a.dump a.partial a.crdownload a.aria2 a.pcapng",
    ),
    (Refusal::Stream, "core a.core a.dmp java_pid7.hprof a.jfr"),
    (Refusal::State, "a.pid a.lock a.lck lock state a.state a.sock a.pos a.offset offset.access .sincedb_7 sincedb"),
    (Refusal::Mail, "mbox a.mbox a.mbx inbox INBOX dead.letter"),
    (Refusal::Typed, ".psql_history 00000002.history .lesshst .histfile ConsoleHost_history.txt"),
    (Refusal::Accounting, "wtmp.1 btmp-20260101 utmp lastlog faillog tallylog pacct audit.log.1"),
];

/// Directories below which nothing is a log.
const DIRECTORIES: &[(Refusal, &str)] = &[
    (Refusal::Database, "appendonlydir appendonlydir-6380 wal WAL wals WALs oldWALs binlog binlogs"),
    (Refusal::Database, "radacct cdr-csv cdr-custom"),
    (Refusal::Database, "pg_wal pg_xlog pg_xact pg_clog pg_replslot commitlog translog tlog kahadb journals journal"),
    (Refusal::Repository, ".git x.git reftable .hg .svn .bzr CVSROOT .jj"),
    (Refusal::Keys, ".ssh .gnupg"),
    (Refusal::Mail, "mail Mail spool Maildir .maildir Maildir-old"),
];

#[test]
fn names_and_directories_that_are_no_logs_are_none_anywhere() {
    let judged = |path: String| judge(&Facts { path: path.as_bytes(), ..appended("/").facts }, || false);
    for &(refusal, names) in NAMES {
        for name in names.split(' ') {
            assert_eq!(judged(format!("/srv/app/logs/{name}")), Err(refusal), "{name}");
        }
    }
    for &(refusal, directories) in DIRECTORIES {
        for directory in directories.split(' ') {
            assert_eq!(judged(format!("/srv/{directory}/log/app.log")), Err(refusal), "{directory}");
            // These are names of the file, too.
            let both = matches!(directory, "wal" | "binlog" | "commitlog");
            let expected = if both { Err(Refusal::Database) } else { Ok(()) };
            assert_eq!(judged(format!("/srv/app/{directory}.log")), expected, "{directory}.log");
        }
    }
}
