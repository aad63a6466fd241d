//! The policy file of the machine as the commands see it: may it be believed, and what is wrong with it?
#![forbid(unsafe_code)]

use crate::settings::overrides::check;
use crate::settings::suggest::no_setting;
use crate::show::failure::{Failure, cause};
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tideover_contract::policy::{MAX, PATH, entries};
use tideover_contract::settings::MAX_TEXT;

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

/// What a file gives, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Policy {
    /// What it gives, in its order: of what is for a program, the last counts.
    pub given: Vec<Given>,
    /// Mistakes, each with the place and what helps.
    pub mistakes: Vec<String>,
}

/// Path of the file: TIDEOVER_CONFIG, else /etc/tideover.toml.
pub fn path() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(PATH), PathBuf::from)
}

/// Reads a file. A failure if there is none, or it is not to be believed, in which case the library ignores it, too.
pub fn read(path: &Path) -> Result<Policy, Failure> {
    let failed = |why: &str| Failure::failed(format!("cannot use the policy in {}: {why}", path.display()));
    let metadata = path.metadata().map_err(|error| failed(&cause(&error)))?;
    if let Some(why) = unbelievable(&metadata, geteuid().as_raw()) {
        return Err(failed(&why));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&cause(&error)))?;
    Ok(parse(&bytes, &path.display().to_string()))
}

/// Why a file is not believed: others than root and this user could write what programs of this user are to do.
fn unbelievable(file: &Metadata, me: u32) -> Option<String> {
    if !file.is_file() {
        Some("it is not a regular file".to_string())
    } else if file.uid() != 0 && file.uid() != me {
        Some(format!("it belongs to user {}; chown root", file.uid()))
    } else if file.mode() & 0o022 != 0 {
        Some("its group or others may write to it; chmod go-w".to_string())
    } else if file.size() > MAX as u64 {
        Some(format!("it is longer than {} KiB", MAX >> 10))
    } else {
        None
    }
}

fn parse(bytes: &[u8], path: &str) -> Policy {
    let mut policy = Policy::default();
    for entry in entries(bytes) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(mistake) => {
                policy.mistakes.push(format!("{path} line {}: {}", mistake.line, mistake.why));
                continue;
            }
        };
        let key = String::from_utf8_lossy(entry.key);
        let Some(index) = entry.setting() else {
            policy.mistakes.push(format!("{path} line {}: {}", entry.line, no_setting(&key)));
            continue;
        };
        let mut room = [0; MAX_TEXT];
        let Some(value) = entry.value.text(&mut room) else {
            policy.mistakes.push(format!("{path} line {}: {key} takes a list of texts without commas", entry.line));
            continue;
        };
        match check(index, OsStr::from_bytes(value), &format!("{path} line {}: {key}", entry.line)) {
            Err(failure) => policy.mistakes.push(failure.text),
            Ok(()) => policy.given.push(Given {
                index,
                value: String::from_utf8_lossy(value).into_owned(),
                program: entry.program.map(|pattern| String::from_utf8_lossy(pattern).into_owned()),
                line: entry.line,
            }),
        }
    }
    policy
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
        std::fs::write(&path, "#".repeat(MAX + 1)).unwrap();
        assert!(read(&path).unwrap_err().text.contains("longer than 64 KiB"));
    }
}
