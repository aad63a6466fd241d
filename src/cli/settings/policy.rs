//! The policy file of the machine as the commands see it: may it be believed, and what is wrong with it?
#![forbid(unsafe_code)]

use crate::processes::root;
use crate::settings::overrides::check;
use crate::settings::steps::{KEY, Steps};
use crate::settings::suggest::{no_alert, no_setting};
use crate::show::failure::{Failure, cause};
use crate::system::alerts::{self, Row};
use crate::system::level::Thresholds;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tideover_contract::glob;
use tideover_contract::hash::fnv1a;
use tideover_contract::policy::{Entry, MAX, PATH, entries, unusable};
use tideover_contract::settings::{MAX_PATH, MAX_TEXT};

/// The variable that names another file.
pub const VARIABLE: &str = "TIDEOVER_CONFIG";

/// A setting that the file gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Index in [`tideover_contract::settings::SETTINGS`].
    pub index: usize,
    /// The value as a user would write it into the environment.
    pub value: String,
    /// The programs that it is for, as a shell pattern; None: all.
    pub program: Option<String>,
    /// Its line, from 1.
    pub line: u32,
}

/// Thresholds of an alert that the file gives.
#[derive(Clone, Debug)]
pub struct GivenAlert {
    /// The alert.
    pub row: &'static Row,
    /// From which values on it is bad; None: it is off.
    pub thresholds: Option<Thresholds>,
    /// As in [`Given`].
    pub value: String,
    /// As in [`Given`].
    pub program: Option<String>,
    /// As in [`Given`].
    pub line: u32,
}

/// What `tideover watch --guard` may do to the programs of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenGuard {
    /// The steps; None: it leaves them alone.
    pub steps: Option<Steps>,
    /// As in [`Given`].
    pub value: String,
    /// The programs, as a shell pattern.
    pub program: Option<String>,
    /// As in [`Given`].
    pub line: u32,
}

/// The thresholds of an alert for a program of this name, by the policy file or else the table; None: it is off. Without a name: those for
/// the system.
pub fn thresholds(policy: Option<&Policy>, alert: &str, program: Option<&str>) -> Option<Thresholds> {
    let is_for = |given: &&GivenAlert| {
        given.row.name == alert
            && given.program.as_ref().is_none_or(|pattern| {
                program.is_some_and(|program| glob::matches(pattern.as_bytes(), program.as_bytes()))
            })
    };
    let given = policy.and_then(|policy| policy.alerts.iter().rev().find(is_for));
    given.map_or_else(|| alerts::by_name(alert)?.thresholds(), |given| given.thresholds)
}

/// What a file gives, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Policy {
    /// What it gives, in its order: of what is for a program, the last counts.
    pub given: Vec<Given>,
    /// Thresholds of alerts that it gives, in its order: of what is for a program, the last counts.
    pub alerts: Vec<GivenAlert>,
    /// What is to be guarded from outside, in its order: of what is for a program, the last counts.
    pub guards: Vec<GivenGuard>,
    /// Settings with a value that they do not take, as `given`.
    pub refused: Vec<Given>,
    /// Mistakes, each with the place and what helps.
    pub mistakes: Vec<String>,
    /// Path of the file.
    pub path: String,
    /// Hash of what stands in it, as the library notes it in the page.
    pub hash: u64,
}

impl Policy {
    /// The line that counts for a setting in a program of this name, and whether its value is taken. Without a name: of those lines that
    /// are for all programs.
    pub fn find(&self, index: usize, program: Option<&[u8]>) -> Option<(&Given, bool)> {
        let is_for = |given: &&Given| {
            given.index == index
                && given
                    .program
                    .as_ref()
                    .is_none_or(|pattern| program.is_some_and(|program| glob::matches(pattern.as_bytes(), program)))
        };
        let last = |list: &'_ [Given]| list.iter().rev().find(is_for).map(|given| given.line);
        let (taken, refused) = (last(&self.given), last(&self.refused));
        let list = if taken >= refused { &self.given } else { &self.refused };
        list.iter().rev().find(is_for).map(|given| (given, taken >= refused))
    }
}

/// Path of the file: TIDEOVER_CONFIG, else /etc/tideover.toml.
pub fn path() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(PATH), PathBuf::from)
}

/// The policy that a program started now by this user gets; None if there is no file, or it is not used ([`read`] says why).
pub fn present() -> Option<Policy> {
    read(&path()).ok()
}

/// The policy file of a process, by its process id here, its user, and the path that its TIDEOVER_CONFIG names, which is followed within
/// the root of the process; None if there is none that it would use.
pub fn of_process(pid: u32, user: u32, named: Option<&OsStr>) -> Option<Policy> {
    let path = named.filter(|path| !path.is_empty()).map_or(Path::new(PATH), Path::new);
    let read = |file: File| {
        let metadata = file.metadata().ok()?;
        let mut bytes = Vec::new();
        let reads = || file.take(MAX as u64 + 1).read_to_end(&mut bytes).is_ok();
        (unbelievable(&metadata, user).is_none() && reads()).then_some(bytes)
    };
    let inside = || root::open_within(&root::open(pid)?, path, OFlags::RDONLY).ok().map(File::from);
    // Who may not look into the root of the process may still have that file in the own one.
    let own = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok();
    let bytes = inside().and_then(read).or_else(|| read(own()?))?;
    Some(parse(&bytes, &path.display().to_string()))
}

/// Reads a file. A failure if there is none, or it is not to be believed, in which case the library ignores it, too.
pub fn read(path: &Path) -> Result<Policy, Failure> {
    let failed = |why: &str| Failure::failed(format!("cannot use the policy in {}: {why}", path.display()));
    if !path.is_absolute() || path.as_os_str().len() > MAX_PATH {
        return Err(failed(&format!("{VARIABLE} takes an absolute path of at most {MAX_PATH} bytes")));
    }
    let metadata = path.metadata().map_err(|error| failed(&cause(&error)))?;
    if let Some(why) = unbelievable(&metadata, geteuid().as_raw()) {
        return Err(failed(why));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&cause(&error)))?;
    Ok(parse(&bytes, &path.display().to_string()))
}

/// Why a file is not used by a process of user `me`; the library has this from the contract, too.
fn unbelievable(file: &Metadata, me: u32) -> Option<&'static str> {
    unusable(file.mode(), file.uid(), file.size(), me)
}

fn parse(bytes: &[u8], path: &str) -> Policy {
    let mut policy = Policy { path: path.to_string(), hash: fnv1a(bytes).max(1), ..Policy::default() };
    for entry in entries(bytes) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(mistake) => {
                policy.mistakes.push(format!("{path} line {}: {}", mistake.line, mistake.why));
                continue;
            }
        };
        let key = String::from_utf8_lossy(entry.key);
        if entry.is_alert() {
            match alert(&entry, &key) {
                Ok(given) => policy.alerts.push(given),
                Err(why) => policy.mistakes.push(format!("{path} line {}: {why}", entry.line)),
            }
            continue;
        }
        if entry.is_guard() {
            match guard(&entry) {
                Ok(given) => policy.guards.push(given),
                Err(why) => policy.mistakes.push(format!("{path} line {}: {why}", entry.line)),
            }
            continue;
        }
        let Some(index) = entry.setting() else {
            policy.mistakes.push(format!("{path} line {}: {}", entry.line, no_setting(&key)));
            continue;
        };
        let mut room = [0; MAX_TEXT];
        let Some(value) = entry.value.text(&mut room) else {
            policy.mistakes.push(format!("{path} line {}: {key} takes a list of texts without commas", entry.line));
            continue;
        };
        let given = Given {
            index,
            value: String::from_utf8_lossy(value).into_owned(),
            program: entry.program.map(|pattern| String::from_utf8_lossy(pattern).into_owned()),
            line: entry.line,
        };
        match check(index, OsStr::from_bytes(value), &format!("{path} line {}: {key}", entry.line)) {
            Err(failure) => {
                policy.mistakes.push(failure.text);
                policy.refused.push(given);
            }
            Ok(()) => policy.given.push(given),
        }
    }
    policy
}

/// A line about an alert; the error says what is wrong with it.
fn alert(entry: &Entry<'_>, key: &str) -> Result<GivenAlert, String> {
    let row = alerts::by_key(key).ok_or_else(|| no_alert(key))?;
    let mut room = [0; MAX_TEXT];
    let value = entry.value.text(&mut room).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    let thresholds = row.parse(&value).map_err(|takes| format!("{key} cannot be {value:?}: {takes}"))?;
    let program = entry.program.map(|pattern| String::from_utf8_lossy(pattern).into_owned());
    Ok(GivenAlert { row, thresholds, value, program, line: entry.line })
}

/// A line about guarding from outside; the error says what is wrong with it.
fn guard(entry: &Entry<'_>) -> Result<GivenGuard, String> {
    let Some(pattern) = entry.program else {
        return Err(format!("{KEY} stands in a table of programs, [program.\"PATTERN\"]: no guard has all programs"));
    };
    let mut room = [0; MAX_TEXT];
    let value = entry.value.text(&mut room).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    let steps = Steps::parse(&value).map_err(|takes| format!("{KEY} cannot be {value:?}: {takes}"))?;
    let program = Some(String::from_utf8_lossy(pattern).into_owned());
    Ok(GivenGuard { steps, value, program, line: entry.line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::SETTINGS;

    #[test]
    fn mistakes_are_said_and_the_rest_counts() {
        let text = "raise_cap = 4096\nmax_retry = 3\nraise = 'sometimes'\n[program.'nginx*']\nraise = 'off'\nonly = ['a,b']\nodd\n";
        let policy = parse(text.as_bytes(), "t.toml");
        let given: Vec<_> = policy
            .given
            .iter()
            .map(|it| (SETTINGS[it.index].name, &*it.value, it.program.as_deref(), it.line))
            .collect();
        assert_eq!(given, [("raise_cap", "4096", None, 1), ("raise", "off", Some("nginx*"), 5)]);
        assert_eq!(
            policy.mistakes,
            [
                "t.toml line 2: there is no setting \"max_retry\"; did you mean max_retries?",
                "t.toml line 3: raise cannot be \"sometimes\": it takes one of off, auto, force",
                "t.toml line 6: only takes a list of texts without commas",
                "t.toml line 7: it is no key = value",
            ]
        );
    }

    #[test]
    fn thresholds_of_alerts_are_given_by_program() {
        let text = "alert_zombies = 1\nalert_log_space = ['20', '5']\nalert_zombie = 2\nalert_usage = '90,70'\n[program.'nginx*']\nalert-zombies = 'off'\nalert_connections = \"100,200\"\n";
        let policy = parse(text.as_bytes(), "t.toml");
        let of = |alert, program| thresholds(Some(&policy), alert, program).map(|it| (it.warning, it.critical));
        assert_eq!(of("zombies", Some("bash")), Some((1.0, 100.0)));
        assert_eq!((of("zombies", Some("nginx")), of("zombies", None)), (None, Some((1.0, 100.0))));
        assert_eq!((of("connections", Some("nginx")), of("connections", Some("x"))), (Some((100.0, 200.0)), None));
        assert_eq!((of("log_space", Some("x")), of("usage", Some("x"))), (Some((20.0, 5.0)), Some((70.0, 90.0))));
        let mistakes = [
            "t.toml line 3: there is no alert \"alert_zombie\"; did you mean alert_zombies?",
            "t.toml line 4: alert_usage cannot be \"90,70\": it takes off, or WARNING,CRITICAL, percent in use from 0 to 100, the first not above the second (descriptors that a process has open, of those that it can have)",
        ];
        assert_eq!(policy.mistakes, mistakes);
        assert!(policy.given.is_empty() && policy.refused.is_empty());
    }

    #[test]
    fn guards_are_given_by_program_alone() {
        let text = "guard = 'raise'\n[program.'my*']\nguard = ['park', 'idle 5m']\n[program.mysql]\nguard = 'off'\n[program.x]\nguard = 'swap'\n";
        let policy = parse(text.as_bytes(), "t.toml");
        let given: Vec<_> = policy.guards.iter().map(|it| (it.steps.is_some(), &*it.value, it.line)).collect();
        assert_eq!(given, [(true, "park,idle 5m", 3), (false, "off", 5)]);
        let mistakes = [
            "t.toml line 1: guard stands in a table of programs, [program.\"PATTERN\"]: no guard has all programs",
            "t.toml line 7: guard cannot be \"swap\": it takes off, or raise, park and idle TIME (such as \"idle 5m\"), as one text or a list",
        ];
        assert_eq!(policy.mistakes, mistakes);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        assert!(read(&path).unwrap_err().text.contains("no such file"));
        std::fs::write(&path, "raise = 'off'\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        assert!(read(&path).unwrap_err().text.contains("chmod go-w"));
        mode(0o644);
        assert_eq!(read(&path).unwrap().given.len(), 1);
        let stranger = unbelievable(&path.metadata().unwrap(), geteuid().as_raw() + 1);
        assert_eq!(stranger.is_none(), geteuid().is_root());
        assert!(read(folder.path()).unwrap_err().text.contains("not a regular file"));
        std::fs::write(&path, "#".repeat(tideover_contract::policy::MAX + 1)).unwrap();
        assert!(read(&path).unwrap_err().text.contains("longer than 64 KiB"));
    }
}
