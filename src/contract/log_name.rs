//! What logs are called: the part of the library's rule that looks at the path alone, also for readers, which know no more.

use crate::glob;

/// Names that no database gives its data. Whatever lies beside such a file, it is a log: `LOG` of LevelDB beside its
/// MANIFEST, MariaDB's `host.err` in its data directory, standard streams, exim, syslog.
pub const CERTAIN: &[u8] = b"LOG, *.err, *.errlog, *.stderr, *.stdout, mainlog, rejectlog, paniclog, syslog, messages";

/// Names that are a log's if no database lies beside it: also rotated by logrotate (app.log.1, app.log-20260101), rotatelogs
/// (access_log.1767225600) and glog (app.host.user.log.INFO.20260101-120000.4711).
pub const LIKELY: &[u8] = b"*.log, *.log.[0-9]*, *.log-*, *_log, *_log.[0-9]*, *-log, *.out, \
    *.log.INFO.*, *.log.WARNING.*, *.log.ERROR.*, *.log.FATAL.*";

/// Directories that make any name a log's.
pub const DIRECTORIES: &[u8] = b"log, logs";

/// Below a `lib` directory programs keep data, also in directories named log (ClickHouse Keeper, Kafka); there only these
/// names are logs: PostgreSQL's collector, Tomcat, multilog and svlogd.
pub const BELOW_LIB: &[u8] = b"*.csv, *.json, *.jsonl, *.txt, current";

/// Names of results, which are a log's in a directory of logs only if the name says so: `logs/events.log.csv`.
pub const RESULTS: &[u8] = b"*.csv, *.tsv, *.jsonl, *.ndjson, *.xml, *.html, *.yaml, *.yml, *.toml, *.conf, *.parquet";

/// Words that say that a file is a log.
const WORDS: &[u8] = b"[Ll][Oo][Gg], [Ll][Oo][Gg][Ss], LOG, errlog, errorlog, accesslog, eventlog, syslog, weblog";

/// Does one of the words of this name, without its directory, say that it is a log: `app.log`, `access_log`, `log-7.jsonl`?
pub fn says_log(name: &[u8]) -> bool {
    name.split(|byte| matches!(byte, b'.' | b'-' | b'_')).any(|word| glob::any(WORDS, word))
}

/// Is a file of this name, without its directory, a log whatever lies beside it?
pub fn is_certain(name: &[u8]) -> bool {
    glob::any(CERTAIN, name)
}

/// Is a file of this name, without its directory, a log if no database lies beside it?
pub fn is_likely(name: &[u8]) -> bool {
    glob::any(LIKELY, name)
}

/// Does a directory of the path make a file of this name a log? `directory` is the path up to the name.
pub fn is_in_log_directory(directory: &[u8], name: &[u8]) -> bool {
    let components = || directory.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
    components().any(|component| glob::any(DIRECTORIES, component))
        && match components().any(|component| component == b"lib") {
            true => glob::any(BELOW_LIB, name),
            false => !glob::any(RESULTS, name) || says_log(name),
        }
}

/// Does anything in this path say that the file is a log? An empty path is none.
pub fn is_like_a_log(path: &[u8]) -> bool {
    let start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, name) = path.split_at(start);
    is_certain(name) || is_likely(name) || is_in_log_directory(directory, name)
}

#[cfg(test)]
mod tests {
    use super::is_like_a_log;

    #[test]
    fn logs_are_known_by_their_paths() {
        for path in [
            "/var/log/x",
            "/a/app.log",
            "app.log",
            "/a/app.log.1",
            "/a/app.log-20250101",
            "/a/error_log",
            "/srv/logs/a/b",
            "/var/lib/db/LOG",
            "/var/lib/postgresql/log/today.csv",
            "/var/lib/x/app.log",
            "/run/app.stderr",
            "/srv/logs/app.json",
            "/srv/logs/app-log.jsonl",
            "/srv/logs/access.log.csv",
        ] {
            assert!(is_like_a_log(path.as_bytes()), "{path}");
        }
        for path in ["/a/catalog", "/data/base.db", "/a/blog", "/a/log4j.xml", "/var/lib/kafka/logs/0.index", "", "/"] {
            assert!(!is_like_a_log(path.as_bytes()), "{path}");
        }
        for path in ["/srv/logs/run7.csv", "/srv/logs/catalog.tsv", "/srv/logs/metrics.jsonl", "/srv/logs/blog.ndjson"]
        {
            assert!(!is_like_a_log(path.as_bytes()), "{path}");
        }
    }
}
