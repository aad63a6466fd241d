//! The rule over paths and flags of real programs: some seen with strace or run on full disks, some read in source, the rest
//! as the programs are known to name and open their files. Where the flags are a guess, they are the worst: O_APPEND.

mod bytes;
mod case;
mod databases;
mod document;
mod globs;
mod logs;
mod names;
mod others;

use super::*;
use case::{Case, OBJECT, appended, check, reflog};
use databases::DATABASES;
use globs::GLOBS;
use logs::LOGS;
use others::OTHERS;

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
