//! The rule over paths and flags of real programs: some seen with strace or run on full disks, some read in source, the rest
//! as the programs are known to name and open their files. Where the flags are a guess, they are the worst: O_APPEND.

use libc::{O_CREAT, O_DSYNC, O_RDWR, O_TRUNC, O_WRONLY};

use super::*;

const LINE: &[u8] = b"2026-01-01 12:00:00,123 INFO started worker 7\n";
const OBJECT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A write to a file as F_GETFL and the others describe it, and what becomes of it.
#[derive(Clone, Copy)]
struct Case {
    facts: Facts<'static>,
    beside: &'static [&'static str],
    expected: Result<(), Refusal>,
}

const fn opened(path: &'static str, flags: i32) -> Case {
    let facts = Facts {
        path: path.as_bytes(),
        flags,
        regular: true,
        standard: false,
        stderr: false,
        history: History::from_bits(0),
        positioned: false,
        payload: LINE,
        head: LINE,
        include: b"",
        exclude: b"",
    };
    Case { facts, beside: &[], expected: Ok(()) }
}

/// Opened as text logs are: fopen "a", Python's FileHandler, the shell's `>>`.
const fn appended(path: &'static str) -> Case {
    opened(path, O_WRONLY | O_APPEND)
}

/// Standard output is the file: `> path`.
const fn redirected(path: &'static str) -> Case {
    opened(path, O_WRONLY).standard()
}

/// `> path 2>&1`, or `2> path`.
const fn messages(path: &'static str) -> Case {
    let mut case = redirected(path);
    case.facts.stderr = true;
    case
}

impl Case {
    const fn standard(mut self) -> Case {
        self.facts.standard = true;
        self
    }
    const fn after(mut self, history: History) -> Case {
        self.facts.history = history;
        self
    }
    const fn pwrite(mut self) -> Case {
        self.facts.positioned = true;
        self
    }
    const fn writes(mut self, payload: &'static [u8]) -> Case {
        self.facts.payload = payload;
        self
    }
    const fn begins(mut self, head: &'static [u8]) -> Case {
        self.facts.head = head;
        self
    }
    const fn beside(mut self, files: &'static [&'static str]) -> Case {
        self.beside = files;
        self
    }
    const fn include(mut self, globs: &'static str) -> Case {
        self.facts.include = globs.as_bytes();
        self
    }
    const fn exclude(mut self, globs: &'static str) -> Case {
        self.facts.exclude = globs.as_bytes();
        self
    }
    const fn irregular(mut self) -> Case {
        self.facts.regular = false;
        self
    }
    const fn is(mut self, refusal: Refusal) -> Case {
        self.expected = Err(refusal);
        self
    }
    fn judged(&self) -> Result<(), Refusal> {
        judge(&self.facts, || self.beside.iter().any(|name| is_database_file(name.as_bytes())))
    }
}

/// Servers, runtimes and shells whose lines were lost on a full disk.
const LOGS: &[Case] = &[
    appended("/var/log/nginx/access.log"),
    appended("/var/log/nginx/error.log"),
    appended("/var/log/apache2/other_vhosts_access.log"),
    appended("/var/log/httpd/ssl_request_log"),
    appended("/etc/httpd/access_log.1767225600"),
    appended("/var/log/redis/redis-server.log"),
    appended("/srv/redis/redis.log").beside(&["appendonlydir", "dump.rdb", "redis.conf"]),
    appended("/var/lib/postgresql/15/main/log/postgresql-2026-01-01_000000.log"),
    appended("/var/lib/postgresql/15/main/log/postgresql-2026-01-01_000000.csv"),
    appended("/var/lib/postgresql/15/main/log/postgresql-2026-01-01_000000.json"),
    appended("/var/lib/pgsql/9.6/data/pg_log/postgresql-Thu.log"),
    appended("/var/lib/mysql/host.err").beside(&["ibdata1", "mysql-bin.000001", "mysql-bin.index"]),
    appended("/var/lib/mysql/host.log").beside(&["ibdata1", "host-bin.index", "binlog.index"]),
    appended("/var/lib/mysql/host-slow.log").beside(&["host-relay-bin.index"]),
    messages("/var/log/mysql/error.log"),
    appended("/var/log/mongodb/mongod.log"),
    appended("/var/log/rabbitmq/rabbit@host.log"),
    appended("/opt/couchdb/var/log/couch.log"),
    appended("/opt/kafka/logs/server.log"),
    messages("/opt/kafka/logs/kafkaServer.out"),
    appended("/opt/zookeeper/logs/zookeeper-root-server-host.out"),
    appended("/opt/hadoop/logs/hdfs-audit.log"),
    messages("/opt/tomcat/logs/catalina.out"),
    appended("/opt/tomcat/logs/localhost_access_log.2026-01-01.txt"),
    appended("/var/lib/tomcat10/logs/localhost_access_log.2026-01-01.txt"),
    appended("/var/log/cassandra/system.log"),
    appended("/home/u/.bitcoin/debug.log").beside(&["blocks", "chainstate", "peers.dat"]),
    appended("/var/lib/leveldb/LOG").beside(&["CURRENT", "MANIFEST-000002", "000003.log", "000005.ldb"]),
    appended("/var/log/dovecot.log"),
    appended("/var/log/dovecot-info.log"),
    appended("/var/log/exim4/mainlog"),
    appended("/var/log/exim4/paniclog"),
    appended("/srv/exim/rejectlog"),
    appended("/var/log/mail.err"),
    appended("/var/log/maillog"),
    appended("/var/log/syslog"),
    appended("/var/log/messages"),
    appended("/var/log/auth.log"),
    appended("/var/log/kern.log"),
    appended("/var/log/cron"),
    opened("/var/log/squid/cache.log", O_RDWR | O_APPEND),
    appended("/var/log/squid/access.log"),
    appended("/var/log/samba/log.smbd"),
    appended("/var/log/samba/log.192.168.0.7.lan"),
    appended("/var/log/dpkg.log"),
    appended("/var/log/apt/term.log"),
    appended("/var/log/php8.2-fpm.log"),
    appended("/srv/www/wp-content/debug.log"),
    appended("/srv/laravel/storage/logs/laravel-2026-01-01.log"),
    appended("/srv/ci/application/logs/log-2026-01-01.php"),
    appended("/srv/rails/log/production.log").writes(b"\x1b[1m\x1b[36mUser Load (0.4ms)\x1b[0m  SELECT 1\n"),
    appended("/srv/java/java0.log").beside(&["java0.log.lck"]),
    appended("/srv/app/gc.log"),
    appended("/srv/app/node-error.log"),
    appended("/srv/app/logs/app.json").writes(b"{\"level\":\"info\",\"msg\":\"hi\"}\n"),
    appended("/tmp/prog.host.user.log.INFO.20260101-120000.4711"),
    appended("/srv/app/app.log.1"),
    appended("/srv/app/app.log.2026-01-01"),
    appended("/srv/app/app.log-20260101"),
    appended("/srv/app/app-log"),
    appended("/srv/service/x/log/main/current"),
    appended("/var/lib/service/x/log/main/current"),
    appended("/srv/app/app.stderr"),
    appended("/srv/app/facade.log"),
    appended("/dev/shm/app.log"),
    appended("/srv/app/latin1.log").writes(b"M\xfcller hat ge\xf6ffnet\r\n"),
    appended("/srv/app/empty.log").begins(b""),
    appended("/srv/app/progress.log").writes(b"\r 99 %\x08\x08"),
    appended("/srv/app/rotated.log (deleted)"),
    appended("/srv/app/line\nfeed.log"),
    redirected("/srv/app/app.log"),
    redirected("/home/u/nohup.out"),
    messages("/srv/app/serverlog"),
    messages("/var/lib/postgresql/logfile"),
    messages("/home/u/cron/nightly.txt"),
    // A download appended to something that is called a log can't be told from a log.
    appended("/home/u/access.log").writes(b"10.0.0.1 - - [01/Jan/2026] \"GET /\" 200 12\n"),
];

/// Never a log, however it is opened: write-ahead logs and databases.
const DATABASES: &[Case] = &[
    opened("/srv/ldb/000003.log", O_WRONLY).is(Refusal::NotAppended),
    appended("/srv/ldb/000003.log").is(Refusal::Segment),
    appended("/srv/rocksdb-wal/001234.log").after(History::FALLOCATE).is(Refusal::Fallocate),
    appended("/srv/rocksdb-wal/001234.log").after(History::SYNC_FILE_RANGE).is(Refusal::SyncFileRange),
    opened("/srv/rocks/LOG", O_WRONLY).is(Refusal::NotAppended),
    appended("/srv/rocks/MANIFEST-000004").is(Refusal::Database),
    appended("/srv/rocks/audit-trail.log").beside(&["CURRENT", "000012.sst"]).is(Refusal::DatabaseBeside),
    appended("/srv/rocks/x.log").beside(&["000012.ldb"]).is(Refusal::DatabaseBeside),
    opened("/srv/kafka/t-0/00000000000000000000.log", O_RDWR).is(Refusal::NotAppended),
    appended("/srv/kafka/t-0/00000000000000000000.log").is(Refusal::Segment),
    appended("/srv/kafka/logs/t-0/00000000000000000000.timeindex").is(Refusal::Database),
    appended("/srv/kafka/logs/t-0/notes").beside(&["00000000000000000000.index"]).is(Refusal::DatabaseBeside),
    appended("/srv/kafka/logs/t-0/leader-epoch-checkpoint").is(Refusal::Database),
    appended("/srv/zookeeper/version-2/log.100000001").is(Refusal::Segment),
    appended("/srv/zookeeper/logs/version-2/log.1").is(Refusal::Segment),
    appended("/srv/bdb/log.0000000001").is(Refusal::Segment),
    appended("/srv/bookkeeper/current/1f03a2.log").is(Refusal::Segment),
    appended("/srv/bookkeeper/current/0.log").beside(&["lastMark"]).is(Refusal::Segment),
    opened("/srv/cassandra/commitlog/CommitLog-7-1.log", O_RDWR).after(History::MAPPED).is(Refusal::NotAppended),
    appended("/srv/cassandra/x/CommitLog-7-1.log").is(Refusal::Database),
    appended("/srv/cassandra/data/ks/t-1/nb_txn_flush_8af7.log")
        .writes(b"ADD:[/srv/nb-1-big,0,8][123]\n")
        .is(Refusal::Database),
    opened("/srv/hsqldb/mydb.log", O_RDWR).is(Refusal::NotAppended),
    appended("/srv/hsqldb/mydb.log").after(History::FSYNC).is(Refusal::Fsync),
    appended("/srv/hsqldb/mydb.log").writes(b"/*C5*/INSERT INTO T VALUES(1)\n").is(Refusal::Statements),
    appended("/srv/hsqldb/mydb.log").beside(&["mydb.script", "mydb.properties"]).is(Refusal::DatabaseBeside),
    appended("/srv/activemq/data/kahadb/db-1.log").is(Refusal::Database),
    appended("/srv/activemq/data/q/db-1.log").is(Refusal::Database),
    appended("/srv/derby/db/log/log1.dat").is(Refusal::Database),
    appended("/srv/derby/db/log/logmirror.ctrl").is(Refusal::Database),
    appended("/srv/raft/log/log_inprogress_00000000000000000001").is(Refusal::Database),
    appended("/srv/clickhouse/coordination/log/changelog_1_100000.bin").is(Refusal::Database),
    appended("/var/lib/clickhouse/coordination/log/changelog_1").is(Refusal::Unlike),
    appended("/srv/atomikos/tmlog1.log").is(Refusal::Database),
    appended("/srv/solr/data/tlog/tlog.0000000000000000001").is(Refusal::Database),
    appended("/srv/es/indices/x/0/translog/translog-1.tlog").is(Refusal::Database),
    appended("/srv/rocketmq/store/commitlog/00000000000000000000").is(Refusal::Database),
    appended("/var/lib/redis/appendonly.aof").is(Refusal::Database),
    appended("/var/lib/redis/appendonlydir/appendonly.aof.1.incr.aof").after(History::FDATASYNC).is(Refusal::Fdatasync),
    appended("/var/lib/redis/appendonlydir/own.log").is(Refusal::Database),
    appended("/srv/redis/redis.log").writes(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n").is(Refusal::Commands),
    appended("/srv/redis/redis.log").writes(b"$1\r\na\r\n").begins(b"*2\r\n$6\r\nSELECT\r\n").is(Refusal::Commands),
    appended("/srv/redis/redis.log").begins(b"#TS:1767225600\r\n*2\r\n").is(Refusal::Commands),
    appended("/srv/redis/redis.log").begins(b"REDIS0011\xfa\x09redis-ver").is(Refusal::Snapshot),
    appended("/srv/redis/redis.log").begins(b"VALKEY080\xfa").is(Refusal::Snapshot),
    opened("/srv/sqlite/app.db-wal", O_RDWR).pwrite().is(Refusal::Positioned),
    appended("/srv/sqlite/app.db-journal").is(Refusal::Database),
    appended("/srv/sqlite/log/app.sqlite3").is(Refusal::Database),
    appended("/srv/nedb/logs.db").writes(b"{\"_id\":\"1\"}\n").is(Refusal::Database),
    opened("/var/lib/mysql/mysql-bin.000001", O_RDWR).after(History::FDATASYNC).is(Refusal::NotAppended),
    appended("/var/log/mysql/mysql-bin.000001").is(Refusal::Database),
    appended("/var/log/mysql/mariadb-bin.index").is(Refusal::Database),
    appended("/var/log/mysql/binlog.000002").is(Refusal::Database),
    appended("/var/log/mysql/host-relay-bin.000003").is(Refusal::Database),
    appended("/var/log/mysql/relay-log.000003").is(Refusal::Database),
    opened("/var/lib/mysql/ib_logfile0", O_RDWR | O_DIRECT).pwrite().is(Refusal::Direct),
    appended("/var/log/mysql/ib_logfile0").is(Refusal::Database),
    appended("/var/lib/mysql/aria_log.00000001").is(Refusal::Database),
    appended("/var/lib/mysql/tc.log").is(Refusal::Database),
    appended("/var/lib/mysql/ddl_recovery.log").is(Refusal::Database),
    appended("/u01/oradata/redo01.log").is(Refusal::Database),
    opened("/var/lib/postgresql/15/main/pg_wal/000000010000000000000001", O_RDWR).pwrite().is(Refusal::Positioned),
    appended("/var/lib/postgresql/15/main/pg_wal/00000002.log").is(Refusal::Segment),
    appended("/var/lib/postgresql/15/main/pg_wal/x.log").is(Refusal::Database),
    appended("/srv/mongo/journal/WiredTigerLog.0000000001").is(Refusal::Database),
    opened("/srv/etcd/member/wal/0000000000000000-0000000000000000.wal", O_WRONLY).is(Refusal::NotAppended),
    appended("/srv/etcd/member/wal/etcd.log").is(Refusal::Database),
    appended("/srv/couchdb/data/logs.couch").is(Refusal::Database),
    appended("/srv/rabbitmq/mnesia/msg_store/0.rdq").is(Refusal::Database),
    appended("/srv/mnesia/log/LATEST.LOG").is(Refusal::Database),
    appended("/var/log/journal/4711/system.journal").is(Refusal::Database),
    opened("/var/log/journal/4711/system.journal", O_RDWR).after(History::MAPPED).is(Refusal::NotAppended),
    appended("/home/u/Maildir/dovecot.index.log").is(Refusal::Database),
    appended("/home/u/mdbox/dovecot.list.index.log").is(Refusal::Database),
    appended("/home/u/mdbox/dovecot.mailbox.log").is(Refusal::Database),
    appended("/var/lib/dhcp/dhcpd.leases").is(Refusal::Database),
    appended("/var/log/dnsmasq.leases").is(Refusal::Database),
];

/// Text that is appended and would be missed: repositories, keys, mail, histories, state, streams.
const OTHERS: &[Case] = &[
    appended("/home/u/src/.git/logs/HEAD").is(Refusal::Repository),
    appended("/home/u/src/.git/logs/refs/heads/main").is(Refusal::Repository),
    appended("/home/u/src/.git/worktrees/w/logs/HEAD").is(Refusal::Repository),
    appended("/srv/git/x.git/logs/HEAD").is(Refusal::Repository),
    appended("/srv/git/x.git/gc.log").is(Refusal::Repository),
    appended("/srv/git/bare/logs/HEAD").is(Refusal::Repository),
    appended("/srv/git/bare/logs/refs/heads/fix.log").is(Refusal::Repository),
    appended("/srv/x/logs/ORIG").writes(reflog()).is(Refusal::Reflog),
    appended("/srv/x/logs/ORIG").begins(reflog()).is(Refusal::Reflog),
    appended("/home/u/src/.hg/store/undo.log").is(Refusal::Database),
    appended("/home/u/src/.hg/blackbox.log").is(Refusal::Repository),
    appended("/home/u/src/.svn/entries.log").is(Refusal::Repository),
    appended("/home/u/.ssh/known_hosts").is(Refusal::Keys),
    appended("/etc/logs/authorized_keys2").is(Refusal::Keys),
    messages("/home/u/known_hosts.new").is(Refusal::Keys),
    appended("/home/u/.bash_history").is(Refusal::Typed),
    appended("/home/u/.zsh_history").is(Refusal::Typed),
    appended("/home/u/.histfile").is(Refusal::Typed),
    appended("/home/u/logs/.python_history").is(Refusal::Typed),
    appended("/home/u/.local/share/fish/fish_history").is(Refusal::Typed),
    appended("/home/u/.lesshst").is(Refusal::Typed),
    appended("/var/log/apt/history.log").is(Refusal::Typed),
    appended("/var/spool/mail/root").is(Refusal::Mail),
    appended("/var/mail/root").is(Refusal::Mail),
    appended("/home/u/Maildir/new/1767225600.V1.log").is(Refusal::Mail),
    appended("/home/u/mbox").is(Refusal::Mail),
    appended("/home/u/logs/INBOX").is(Refusal::Mail),
    appended("/var/spool/exim/log/mainlog").is(Refusal::Mail),
    appended("/home/u/sent.log").writes(b"From u@host Thu Jan  1 00:00:00 2026\nTo: v\n").is(Refusal::Mailbox),
    appended("/home/u/sent.log").begins(b"From u@host Thu Jan  1 00:00:00 2026\nTo: v\n").is(Refusal::Mailbox),
    appended("/var/log/wtmp").is(Refusal::Accounting),
    appended("/var/log/btmp").is(Refusal::Accounting),
    opened("/var/log/lastlog", O_RDWR).pwrite().is(Refusal::Positioned),
    appended("/var/log/faillog").is(Refusal::Accounting),
    appended("/var/log/audit/audit.log").is(Refusal::Accounting),
    appended("/var/log/app/app.pid").is(Refusal::State),
    appended("/var/log/app/app.lock").is(Refusal::State),
    appended("/var/log/s6/lock").is(Refusal::State),
    appended("/srv/java/java0.log.lck").is(Refusal::State),
    appended("/var/log/td-agent/access.log.pos").is(Refusal::State),
    appended("/var/log/app/app.sock").irregular().is(Refusal::NotRegular),
    appended("/srv/app/app.log.1.gz").is(Refusal::Stream),
    appended("/var/log/app.log-20260101.xz").is(Refusal::Stream),
    redirected("/srv/backup/logs/all.tar").is(Refusal::Stream),
    redirected("/srv/backup/logs/dump.sql").is(Refusal::Stream),
    appended("/home/u/logs/debian.iso").is(Refusal::Stream),
    appended("/home/u/logs/big.part").is(Refusal::Stream),
    redirected("/var/log/eth0.pcap").is(Refusal::Stream),
    opened("/var/log/core.4711", O_RDWR).is(Refusal::NotAppended),
    redirected("/var/log/core.4711").is(Refusal::Stream),
    // wget -c, curl -C -, tee -a, cat >>: appended, and nothing says that it is a log.
    appended("/home/u/debian.img").is(Refusal::Unlike),
    appended("/home/u/page.html").is(Refusal::Unlike),
    appended("/home/u/notes.txt").is(Refusal::Unlike),
    appended("/home/u/typescript").is(Refusal::Unlike),
    appended("/home/u/catalog/items").is(Refusal::Unlike),
    appended("/home/u/login").is(Refusal::Unlike),
    appended("/var/lib/x/log/records").is(Refusal::Unlike),
    appended("/var/lib/jenkins/jobs/x/builds/1/log").is(Refusal::Unlike),
    redirected("/home/u/result").is(Refusal::Unlike),
    redirected("/home/u/out.csv").is(Refusal::Unlike),
    messages("/home/u/out.csv").is(Refusal::Unlike),
    messages("/home/u/out.json").is(Refusal::Unlike),
    // How it is opened and what is in it.
    opened("/srv/app/app.log", O_WRONLY | O_CREAT | O_TRUNC).is(Refusal::NotAppended),
    opened("/home/u/a.out", O_RDWR).writes(b"\x7fELF\x02\x01\x01\0\0\0").is(Refusal::NotAppended),
    redirected("/home/u/a.out").writes(b"\x7fELF\x02\x01\x01\0\0\0").is(Refusal::Binary),
    redirected("/home/u/image.log").writes(b"\x89PNG\r\n\x1a\n").is(Refusal::Control),
    appended("/srv/ldb-like/records.log").writes(b"\xa1\xb2\xc3\xd4\x0c\x01\x01key").is(Refusal::Control),
    appended("/srv/app/holes.log").begins(b"\0\0\0\0\0\0\0\0").is(Refusal::BinaryHead),
    appended("/srv/fix/messages.log").writes(b"8=FIX.4.2\x019=112\x0135=A\x01\n").is(Refusal::Control),
    opened("/srv/app/app.log", O_WRONLY | O_APPEND | O_SYNC).is(Refusal::Synchronous),
    opened("/srv/app/app.log", O_WRONLY | O_APPEND | O_DSYNC).is(Refusal::Synchronous),
    opened("/srv/app/app.log", O_WRONLY | O_APPEND | O_DIRECT).is(Refusal::Direct),
    opened("/tmp/#4711 (deleted)", O_RDWR | O_APPEND | O_TMPFILE).is(Refusal::Nameless),
    appended("/srv/app/app.log").pwrite().is(Refusal::Positioned),
    appended("/srv/app/app.log").after(History::FSYNC).is(Refusal::Fsync),
    appended("/srv/app/app.log").after(History::PWRITE).is(Refusal::Pwrite),
    appended("/srv/app/app.log").after(History::FTRUNCATE).is(Refusal::Ftruncate),
    appended("/srv/app/app.log").after(History::MAPPED).is(Refusal::Mapped),
    appended("/srv/app/app.log").after(History::FDATASYNC.with(History::PWRITE)).is(Refusal::Fdatasync),
    redirected("/srv/app/app.log").after(History::FSYNC).is(Refusal::Fsync),
    // No file on a disk, or none that can be named.
    appended("pipe:[4711]").irregular().is(Refusal::NotRegular),
    messages("/dev/null").irregular().is(Refusal::NotRegular),
    messages("").is(Refusal::NoPath),
    messages("app.log").is(Refusal::NoPath),
    messages("(unreachable)/srv/app.log").is(Refusal::NoPath),
    messages("/").is(Refusal::NoPath),
    messages("/srv/log/").is(Refusal::NoPath),
    messages(" (deleted)").is(Refusal::NoPath),
    appended("/memfd:app.log (deleted)").is(Refusal::NotOnDisk),
    appended("/proc/4711/log").is(Refusal::NotOnDisk),
    appended("/sys/kernel/debug/x.log").is(Refusal::NotOnDisk),
    appended("/dev/mqueue/x.log").is(Refusal::NotOnDisk),
    appended("/tmp/tmpfABCdef (deleted)").is(Refusal::Unlike),
];

/// What the user's globs change, and what they don't.
const GLOBS: &[Case] = &[
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

/// One line of a reflog.
const fn reflog() -> &'static [u8] {
    b"0000000000000000000000000000000000000000 0123456789abcdef0123456789abcdef01234567 U <u@h> 1767225600 +0000\tcommit: x\n"
}

fn check(cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| case.judged() != case.expected)
        .map(|case| {
            let path = String::from_utf8_lossy(case.facts.path);
            format!("{path} (0{:o}): {:?}, not {:?}", case.facts.flags, case.judged(), case.expected)
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn logs_of_real_programs_are_logs() {
    check(LOGS);
}

#[test]
fn no_database_is_a_log() {
    check(DATABASES);
}

#[test]
fn nothing_else_that_is_appended_is_a_log() {
    check(OTHERS);
}

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

#[test]
fn the_users_globs_have_the_last_word_but_for_databases() {
    check(GLOBS);
}

#[test]
fn every_reason_is_reached_and_named() {
    let cases: Vec<&Case> = [LOGS, DATABASES, OTHERS, GLOBS].concat().leak().iter().collect();
    assert!(cases.len() >= 140, "{}", cases.len());
    for (at, &refusal) in Refusal::ALL.iter().enumerate() {
        assert_eq!(refusal as usize, at);
        assert!(cases.iter().any(|case| case.expected == Err(refusal)), "no case for {refusal:?}");
        assert!(refusal.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", refusal.name());
        assert!(!refusal.text().ends_with('.'), "{}", refusal.text());
        let same = Refusal::ALL.iter().filter(|r| r.name() == refusal.name() || r.text() == refusal.text()).count();
        assert_eq!(same, 1, "{}", refusal.name());
    }
}

#[test]
fn no_database_is_diverted_under_a_broad_glob() {
    // Those without a glob are refused by name, content or neighbour, whatever the flags, unless a fact of the call does it.
    use Refusal::{Fallocate, Fdatasync, Fsync, NotAppended, SyncFileRange};
    for case in DATABASES {
        let refusal = case.expected.unwrap_err();
        let by_habit = matches!(refusal, NotAppended | Fsync | Fdatasync | Fallocate | SyncFileRange);
        if !by_habit && refusal != Refusal::Unlike {
            assert_eq!(case.include("*").judged(), Err(refusal), "{}", String::from_utf8_lossy(case.facts.path));
        }
    }
}

#[test]
fn an_exclusion_beats_everything_that_was_a_log() {
    for case in LOGS {
        assert_eq!(case.include("*").judged(), Ok(()), "{}", String::from_utf8_lossy(case.facts.path));
        assert_eq!(case.include("*").exclude("*").judged(), Err(Refusal::Excluded));
        assert_eq!(case.irregular().judged(), Err(Refusal::NotRegular));
        assert_eq!(case.pwrite().judged(), Err(Refusal::Positioned));
    }
}

#[test]
fn the_directory_is_listed_last_and_only_for_names_that_need_it() {
    let listed = |case: &Case| {
        let mut listed = false;
        let _ = judge(&case.facts, || {
            listed = true;
            false
        });
        listed
    };
    assert!(listed(&appended("/srv/app/app.log")));
    for case in DATABASES.iter().chain(OTHERS) {
        assert!(!listed(case) || case.expected == Err(Refusal::DatabaseBeside));
    }
    for path in ["/var/lib/mysql/host.err", "/srv/ldb/LOG", "/srv/exim/mainlog"] {
        assert!(!listed(&appended(path)), "{path}");
    }
}

#[test]
fn files_of_databases_are_known_in_a_listing() {
    for name in ["MANIFEST-000001", "CURRENT", "000004.sst", "000005.ldb", "00000000000000000000.index", "mydb.script"]
    {
        assert!(is_database_file(name.as_bytes()), "{name}");
    }
    for name in
        ["app.log", "current", "mysql-bin.index", "binlog.index", "index.html", "MANIFEST", "LOCK", "", "app.log.lck"]
    {
        assert!(!is_database_file(name.as_bytes()), "{name}");
    }
}

#[test]
fn contents_are_known_by_their_shape_only() {
    let almost: &[&[u8]] = &[
        b"*",
        b"*3",
        b"*3\r\n",
        b"*\r\n$",
        b"** started **\n",
        b"* 3\r\n$",
        b"#TS:",
        b"#TS:x\r\n",
        b"# comment\n",
        b"REDIS",
        b"REDIS is up\n",
        b"VALKEY",
        b"From: u\n",
        b"From",
        b"/*C",
        b"/* C1 */\n",
        b"",
    ];
    for text in almost {
        assert_eq!(
            Case { facts: Facts { payload: text, head: text, ..appended("/a.log").facts }, ..LOGS[0] }.judged(),
            Ok(())
        );
    }
    let one = format!("{OBJECT} is one object name, and a line of text\n");
    let long = format!("{OBJECT}{OBJECT}{OBJECT} {OBJECT} u\n");
    assert!(!is_ref_change(one.as_bytes()) && !is_ref_change(long.as_bytes()) && is_ref_change(reflog()));
    let sha256 = format!("{0}{1} {0}{1} u\n", OBJECT, &OBJECT[..24]);
    assert!(is_ref_change(sha256.as_bytes()));
}

#[test]
fn only_the_beginning_is_looked_at() {
    let mut payload = vec![b'x'; PAYLOAD_LOOK + 1];
    payload[PAYLOAD_LOOK] = 0;
    let mut head = vec![b'x'; HEAD_LOOK + 1];
    head[HEAD_LOOK] = 0;
    let judged = |payload: &[u8], head: &[u8]| judge(&Facts { payload, head, ..appended("/a.log").facts }, || false);
    assert_eq!(judged(&payload, &head), Ok(()));
    assert_eq!(judged(&payload[1..], &head), Err(Refusal::Binary));
    assert_eq!(judged(&payload, &head[1..]), Err(Refusal::BinaryHead));
}

#[test]
fn a_history_keeps_its_bits_and_leaves_the_eighth() {
    assert_eq!(History::from_bits(255).bits(), 127);
    assert_eq!(History::from_bits(128), History::default());
    assert_eq!(History::from_bits(128).reason(), None);
    let all = History::REASONS.iter().fold(History::default(), |all, &(bit, _)| all.with(bit));
    assert_eq!(all.bits(), 127);
    for bit in 0..7 {
        let (expected, refusal) = History::REASONS[bit];
        assert_eq!((expected.bits(), History::from_bits(1 << bit).reason()), (1 << bit, Some(refusal)));
    }
}

/// xorshift: the same bytes on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that are drawn from what the rule looks for, or any.
    fn bytes(&mut self, most: u64, alphabet: &[u8]) -> Vec<u8> {
        let any = self.next() & 3 == 0;
        let one = |random: &mut Random| {
            let drawn = random.next() >> 20;
            if any { drawn as u8 } else { alphabet[drawn as usize % alphabet.len()] }
        };
        (0..self.next() % most).map(|_| one(self)).collect()
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut logs = 0;
    for _ in 0..50_000 {
        let mut path = random.bytes(40, b"//..logs-_0169afgitHED*()[]\n");
        if random.next() & 7 != 0 {
            path.insert(0, b'/');
        }
        if random.next() & 7 == 0 {
            path.extend_from_slice(b" (deleted)");
        }
        let payload = random.bytes(30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let head = random.bytes(30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let include = random.bytes(12, b"*?[]!-\\,/log. ");
        let exclude = random.bytes(12, b"*?[]!-\\,/log. ");
        let bits = random.next();
        let facts = Facts {
            path: &path,
            flags: random.next() as i32 & random.next() as i32 & random.next() as i32 | O_APPEND,
            regular: true,
            standard: bits & 1 != 0,
            stderr: bits & 2 != 0,
            history: History::from_bits((bits >> 8) as u8 & (bits >> 16) as u8 & (bits >> 24) as u8),
            positioned: bits & 12 == 12,
            payload: &payload,
            head: &head,
            include: &include,
            exclude: &exclude,
        };
        let judged = judge(&facts, || false);
        // Whatever is a log is one by these.
        if judged.is_ok() {
            logs += 1;
            assert!(
                path.starts_with(b"/") && !facts.positioned && !payload.contains(&0) && facts.flags & O_DIRECT == 0
            );
            assert!(judge(&facts, || true).is_ok() || judge(&facts, || true) == Err(Refusal::DatabaseBeside));
            assert_eq!(judge(&Facts { exclude: b"*", ..facts }, || false), Err(Refusal::Excluded));
        }
        is_database_file(&path);
    }
    assert!(logs > 500, "{logs}");
}

#[test]
fn paths_of_any_length_and_encoding_are_judged() {
    let judged = |path: &[u8]| judge(&Facts { path, ..appended("/").facts }, || false);
    assert_eq!(judged(b"/srv/\xff\xfe/\xc3.log"), Ok(()));
    assert_eq!(judged(b"/srv/\xff\xfe/\xc3"), Err(Refusal::Unlike));
    assert_eq!(judged(b"/srv/app.log (deleted) (deleted)"), Err(Refusal::Unlike));
    let deep = "/a".repeat(2046) + ".log";
    assert_eq!((deep.len(), judged(deep.as_bytes())), (4096, Ok(())));
    let deep = "/a".repeat(2048);
    assert_eq!(judged(deep.as_bytes()), Err(Refusal::Unlike));
    assert_eq!(judged(&[b'/'; 4096]), Err(Refusal::NoPath));
    let name = format!("/{}", "9".repeat(4091)) + ".log";
    assert_eq!(judged(name.as_bytes()), Err(Refusal::Segment));
}

/// The part of docs/logs.md that is made from this file's tables. `UPDATE_DOCS=1 cargo test -p tideover-shim` writes it.
#[test]
fn the_document_names_what_the_tables_name() {
    use std::fmt::Write;

    let shown = |globs: &[u8]| {
        let globs = String::from_utf8_lossy(globs).into_owned();
        let globs: Vec<String> =
            globs.split(',').map(str::trim).filter(|g| !g.is_empty()).map(|g| format!("`{g}`")).collect();
        globs.join(" ")
    };
    let mut text = String::from("| reason | counted as | `TIDEOVER_LOGS` overrules it |\n|---|---|---|\n");
    for refusal in Refusal::ALL {
        let yields = if refusal.weight() == Weight::Yields { "yes" } else { "no" };
        let _ = writeln!(text, "| {} | `{}` | {yields} |", refusal.text(), refusal.name());
    }
    text.push_str("\nNames that are never a log's, or only if `TIDEOVER_LOGS` says so (see above):\n\n");
    text.push_str("| counted as | names | in folders named |\n|---|---|---|\n");
    for group in DENIED {
        let _ =
            writeln!(text, "| `{}` | {} | {} |", group.refusal.name(), shown(group.names), shown(group.directories));
    }
    text.push_str("\nNames that are a log's:\n\n| names | provided that |\n|---|---|\n");
    for (names, provided) in [
        (log_name::CERTAIN, "nothing else speaks against it"),
        (log_name::LIKELY, "no database's files lie beside it"),
        (
            log_name::BELOW_LIB,
            "it is in a folder `log` or `logs` below one named `lib`; elsewhere in such folders any name will do",
        ),
    ] {
        let _ = writeln!(text, "| {} | {provided} |", shown(names));
    }
    let _ = writeln!(text, "| anything but {} | the file is standard error (`2> errors`) |", shown(RESULTS));

    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/logs.md");
    let there = std::fs::read_to_string(&path).expect("docs/logs.md is there");
    let (begin, end) = ("<!-- made from src/shim/logs/rule.rs -->\n", "<!-- to here -->");
    let (before, rest) = there.split_once(begin).expect("the mark is there");
    let (_, after) = rest.split_once(end).expect("the mark is there");
    let wanted = format!("{before}{begin}{text}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("it can be written");
    } else {
        assert!(there == wanted, "docs/logs.md is out of date: UPDATE_DOCS=1 cargo test -p tideover-shim");
    }
}
