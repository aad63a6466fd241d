//! The settings that `tideover run` is given by flags and by its file. A flag overrides the file, and both override the
//! environment that `run` was started in.
#![forbid(unsafe_code)]

use crate::show::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use tideover_contract::settings::{SETTINGS, parse};

/// Where an override comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideSource {
    /// A flag on the command line.
    Flag,
    /// The TOML file of `--config`.
    File,
}

/// A setting with a value that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Index in [`SETTINGS`].
    pub index: usize,
    /// The text that its variable will hold.
    pub value: OsString,
    /// Where it comes from, which `tideover config PID` shows.
    pub source: OverrideSource,
}

/// Checks a value; `place` is how the user wrote the setting: `--max-retries`, `x.toml line 3: max_retries`.
pub fn check(index: usize, value: &OsStr, place: &str) -> Result<(), Failure> {
    let kind = &SETTINGS[index].kind;
    match parse(kind, value.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(Failure::usage(format!("{place} cannot be {:?}: it takes {kind}", value.to_string_lossy()))),
    }
}

/// Joins flags and file, and refuses a bad value, also one in the environment that the program would inherit.
pub fn merge(
    flags: Vec<(usize, OsString)>,
    file: Vec<(usize, OsString)>,
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Override>, Failure> {
    let mut given: Vec<Override> = Vec::new();
    for (index, value) in flags {
        check(index, &value, &flag(index))?;
        given.push(Override { index, value, source: OverrideSource::Flag });
    }
    for (index, value) in file {
        if !given.iter().any(|g| g.index == index) {
            given.push(Override { index, value, source: OverrideSource::File });
        }
    }
    for (index, setting) in SETTINGS.iter().enumerate() {
        if let Some(value) = inherited(setting.env).filter(|_| !given.iter().any(|g| g.index == index)) {
            check(index, &value, setting.env)?;
        }
    }
    given.sort_by_key(|g| g.index);
    Ok(given)
}

/// The flag of a setting: `--max-retries`.
pub fn flag(index: usize) -> String {
    format!("--{}", SETTINGS[index].name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::Id;

    const RETRIES: usize = Id::MaxRetries as usize;
    const RAISE: usize = Id::Raise as usize;

    #[test]
    fn flags_beat_the_file() {
        let flags = vec![(RETRIES, "7".into())];
        let file = vec![(RAISE, "off".into()), (RETRIES, "9".into())];
        let merged = merge(flags, file, |_| None).unwrap();
        let find = |index| merged.iter().find(|g| g.index == index).map(|g| (g.value.to_str().unwrap(), g.source));
        assert_eq!(find(RETRIES), Some(("7", OverrideSource::Flag)));
        assert_eq!(find(RAISE), Some(("off", OverrideSource::File)));
        assert_eq!(merged.len(), 2);
    }

    #[test]
    fn a_refusal_names_setting_value_and_range() {
        let text = merge(vec![(RETRIES, "many".into())], vec![], |_| None).unwrap_err().text;
        assert_eq!(text, "--max-retries cannot be \"many\": it takes a whole number from 0 to 1000");
    }

    #[test]
    fn a_bad_inherited_variable_is_refused_unless_overridden() {
        let bad = |name: &str| (name == "TIDEOVER_RAISE").then(|| "sometimes".into());
        let text = merge(vec![], vec![], bad).unwrap_err().text;
        assert_eq!(text, "TIDEOVER_RAISE cannot be \"sometimes\": it takes one of off, auto, force");
        assert!(merge(vec![(RAISE, "auto".into())], vec![], bad).is_ok());
    }
}
