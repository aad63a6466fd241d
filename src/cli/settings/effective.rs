//! The settings in effect in a program, and where each came from.
#![forbid(unsafe_code)]

use crate::processes::process::{self, Environment};
use crate::settings::origin_variable;
use crate::settings::overrides::OverrideSource;
use crate::settings::policy::{self, Given, Policy};
use crate::settings::suggest::nearest;
use crate::show::output::safe;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use tideover_contract::page::View;
use tideover_contract::settings::{Id, Kind, SETTINGS, Shown, Source, by_env, default_value, parse, sink};

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// It is the default.
    Default,
    /// ValueSource the environment.
    Environment,
    /// ValueSource a flag of `tideover run`.
    Flag,
    /// ValueSource the file of `tideover run --config`, with its path if that is known.
    File(Option<String>),
    /// The environment holds a value that is refused ([`Effective::refusal`]); with that value if it is known.
    Refused(Option<String>),
    /// The policy file: its path and the line, if that is known still.
    Policy(Option<(String, u32)>),
    /// The policy file holds a value that is refused: its path, the line and the value, if they are known still.
    PolicyRefused(Option<(String, u32, String)>),
    /// The process's library is older than this setting, and does not know it.
    Unknown,
}

/// A setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Index in [`SETTINGS`].
    pub index: usize,
    /// The value as a user would write it; empty for text that is not set.
    pub value: String,
    /// Where it came from.
    pub from: ValueSource,
}

/// The settings of a program of this name that is started with this environment and this policy; without a name, of any program.
pub fn from_environment(
    get: impl Fn(&str) -> Option<OsString>,
    policy: Option<&Policy>,
    program: Option<&[u8]>,
) -> Vec<Effective> {
    let origin = get(origin_variable::VARIABLE);
    let effective = |(index, setting): (usize, &tideover_contract::settings::Setting)| {
        let Some(given) = get(setting.env) else {
            return match policy.and_then(|policy| Some((policy, policy.find(index, program)?))) {
                None => shown(index, None, default_value(index), ValueSource::Default),
                Some((policy, (given, true))) => {
                    let value = parse(&setting.kind, given.value.as_bytes()).unwrap_or(0);
                    by_policy(policy, given, value)
                }
                Some((policy, (given, false))) => refused_by_policy(policy, given, default_value(index)),
            };
        };
        match parse(&setting.kind, given.as_bytes()) {
            Some(value) => shown(index, Some(&given), value, source(origin.as_deref(), setting.name)),
            None => shown(index, None, default_value(index), ValueSource::Refused(Some(safe(given.as_bytes())))),
        }
    };
    let mut all: Vec<Effective> = SETTINGS.iter().enumerate().map(effective).collect();
    if matches!(all[Id::LogsExcept as usize].from, ValueSource::Refused(_) | ValueSource::PolicyRefused(_)) {
        all[Id::Fallback as usize].value = Shown(&Kind::Sink, sink::OFF).to_string();
    }
    all
}

/// The settings of a guarded process, by its process id here: from its page, and texts, which a page can't hold, from the environment that it was
/// started with, or the policy file that it has read.
pub fn from_page(pid: u32, page: View, environment: Option<&Environment>) -> Vec<Effective> {
    let get = |name: &str| environment.and_then(|environment| environment.get(name));
    let user = process::user(pid).unwrap_or(page.uid());
    if page.version().is_empty() {
        // The process has counted nothing yet, so its page has no content. Its settings are those of its environment and of the file.
        let policy = policy::of_process(pid, user, get(policy::VARIABLE).as_deref());
        return from_environment(get, policy.as_ref(), Some(page.program()));
    }
    let origin = get(origin_variable::VARIABLE);
    let policy =
        (page.policy() != 0).then(|| policy::of_process(pid, user, get(policy::VARIABLE).as_deref())).flatten();
    // The file may have another content by now.
    let policy = policy.filter(|policy| policy.hash == page.policy());
    let line = |index| policy.as_ref().and_then(|policy| Some((policy, policy.find(index, Some(page.program()))?.0)));
    let effective = |(index, setting): (usize, &tideover_contract::settings::Setting)| {
        let given = get(setting.env);
        match page.setting(index) {
            None => Effective { index, value: String::new(), from: ValueSource::Unknown },
            Some((value, Source::Default)) => shown(index, None, value, ValueSource::Default),
            Some((value, Source::Environment)) => {
                shown(index, given.as_deref(), value, source(origin.as_deref(), setting.name))
            }
            Some((value, Source::Refused)) => {
                shown(index, None, value, ValueSource::Refused(given.map(|given| safe(given.as_bytes()))))
            }
            Some((value, Source::Policy)) => line(index).map_or_else(
                || shown(index, None, value, ValueSource::Policy(None)),
                |(policy, given)| by_policy(policy, given, value),
            ),
            Some((value, Source::PolicyRefused)) => line(index).map_or_else(
                || shown(index, None, value, ValueSource::PolicyRefused(None)),
                |(policy, given)| refused_by_policy(policy, given, value),
            ),
        }
    };
    SETTINGS.iter().enumerate().map(effective).collect()
}

fn by_policy(policy: &Policy, given: &Given, value: u64) -> Effective {
    let from = ValueSource::Policy(Some((policy.path.clone(), given.line)));
    shown(given.index, Some(OsStr::new(&given.value)), value, from)
}

fn refused_by_policy(policy: &Policy, given: &Given, value: u64) -> Effective {
    let from = ValueSource::PolicyRefused(Some((policy.path.clone(), given.line, safe(given.value.as_bytes()))));
    shown(given.index, None, value, from)
}

fn source(origin: Option<&OsStr>, name: &str) -> ValueSource {
    match origin.and_then(|origin| origin_variable::decode(origin, name)) {
        Some((OverrideSource::Flag, _)) => ValueSource::Flag,
        Some((OverrideSource::File, path)) => ValueSource::File(path),
        None => ValueSource::Environment,
    }
}

/// Prints a value. Of a text, a page tells only whether it is set, and a program may have overwritten its environment
/// (setproctitle).
fn shown(index: usize, given: Option<&OsStr>, value: u64, from: ValueSource) -> Effective {
    let setting = &SETTINGS[index];
    // In a program that copies files (cp, tar) the library's own default is `off`.
    let own_default = matches!(setting.kind, Kind::Sink) && value != default_value(index);
    let unset = from == ValueSource::Default || given.is_some_and(OsStr::is_empty);
    let text = match (&setting.kind, given) {
        (Kind::Path | Kind::Globs | Kind::Text | Kind::Sink, _) if unset && !own_default => setting.default.to_string(),
        (Kind::Path | Kind::Globs | Kind::Text | Kind::Sink, Some(given)) => safe(given.as_bytes()),
        (kind, _) => Shown(kind, value).to_string(),
    };
    Effective { index, value: text, from }
}

/// Variables that are named like settings and are none, each with the most similar setting.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<(String, Option<&'static str>)> {
    let known = |name: &[u8]| {
        by_env(name).is_some()
            || matches!(name, b"TIDEOVER_LIB" | b"TIDEOVER_CONFIG")
            || name == origin_variable::VARIABLE.as_bytes()
    };
    names
        .filter(|name| name.as_bytes().starts_with(b"TIDEOVER_") && !known(name.as_bytes()))
        .map(|name| {
            let name = safe(name.as_bytes());
            let near = nearest(&name, SETTINGS.iter().map(|setting| setting.env));
            (name, near)
        })
        .collect()
}

impl Effective {
    /// An element of `settings[]` in the JSON of `tideover config`.
    pub fn json(&self) -> Value {
        let setting = &SETTINGS[self.index];
        let mut value = json!({
            "name": setting.name, "env": setting.env, "value": self.value, "source": self.source(),
            "default": setting.default, "accepts": setting.kind.to_string(), "help": setting.help,
        });
        match &self.from {
            ValueSource::File(Some(path)) => value["file"] = json!(path),
            ValueSource::Refused(Some(text)) => value["refused"] = json!(text),
            ValueSource::Policy(Some((path, line))) => {
                value["file"] = json!(path);
                value["line"] = json!(line);
            }
            ValueSource::PolicyRefused(Some((path, line, text))) => {
                value["file"] = json!(path);
                value["line"] = json!(line);
                value["refused"] = json!(text);
            }
            _ => {}
        }
        value
    }

    fn source(&self) -> &'static str {
        match self.from {
            ValueSource::Default => "default",
            ValueSource::Environment => "environment",
            ValueSource::Flag => "flag",
            ValueSource::File(_) => "file",
            ValueSource::Policy(_) => "policy",
            ValueSource::Refused(_) | ValueSource::PolicyRefused(_) => "refused",
            ValueSource::Unknown => "unknown",
        }
    }

    /// Where it came from, in words for people.
    pub fn origin(&self) -> String {
        match &self.from {
            ValueSource::Flag => "flag of tideover run".to_string(),
            ValueSource::File(Some(path)) => format!("file {}", safe(path.as_bytes())),
            ValueSource::Policy(Some((path, line))) => format!("{} line {line}", safe(path.as_bytes())),
            ValueSource::Policy(None) => "policy file, which has changed since".to_string(),
            ValueSource::PolicyRefused(_) => "default: the policy file's value is refused".to_string(),
            ValueSource::Refused(_) => "default: the variable is refused".to_string(),
            ValueSource::Unknown => "not known to its library".to_string(),
            _ => self.source().to_string(),
        }
    }

    /// Explains why a variable is refused, and says what is done instead; None if it is not.
    pub fn refusal(&self) -> Option<String> {
        let setting = &SETTINGS[self.index];
        let given = match &self.from {
            ValueSource::Refused(text) => {
                format!("{}{}", setting.env, text.as_ref().map_or_else(String::new, |text| format!("={text:?}")))
            }
            ValueSource::PolicyRefused(Some((path, line, text))) => {
                format!("{} line {line}: {} = {text:?}", safe(path.as_bytes()), setting.name)
            }
            ValueSource::PolicyRefused(None) => format!("the policy file's {}", setting.name),
            _ => return None,
        };
        let instead = if self.index == Id::LogsExcept as usize { "no log is diverted" } else { "the default is used" };
        Some(format!("{given} is refused: it takes {}; {instead}", setting.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use tideover_contract::page::{FIELDS, state};

    fn find(all: &[Effective], id: Id) -> (&str, &ValueSource) {
        let row = &all[id as usize];
        (&row.value, &row.from)
    }

    #[test]
    fn a_new_programs_settings_come_from_defaults_and_environment() {
        let all = from_environment(
            |name| match name {
                "TIDEOVER_MAX_RETRIES" => Some("9".into()),
                "TIDEOVER_RAISE" => Some("sometimes".into()),
                "TIDEOVER_ONLY" => Some("nginx,redis-*".into()),
                "TIDEOVER_ORIGIN" => Some("max_retries=flag,only=file,config=/etc/t.toml".into()),
                _ => None,
            },
            None,
            None,
        );
        assert_eq!(find(&all, Id::MaxRetries), ("9", &ValueSource::Flag));
        assert_eq!(find(&all, Id::Only), ("nginx,redis-*", &ValueSource::File(Some("/etc/t.toml".into()))));
        assert_eq!(find(&all, Id::Raise), ("auto", &ValueSource::Refused(Some("sometimes".into()))));
        assert_eq!(find(&all, Id::MaxWait), ("10s", &ValueSource::Default));
        assert_eq!(find(&all, Id::PageDir), ("/dev/shm", &ValueSource::Default));
        let text = all[Id::Raise as usize].refusal().unwrap();
        assert_eq!(
            text,
            "TIDEOVER_RAISE=\"sometimes\" is refused: it takes one of off, auto, force; the default is used"
        );
    }

    #[test]
    fn what_copies_files_diverts_nothing() {
        let mut bytes = forge(7, state::LIVE, 1);
        let offset = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        bytes[offset("settings_count")] = SETTINGS.len() as u8;
        bytes[offset("settings") + Id::Fallback as usize * 8] = sink::OFF as u8;
        let all = from_page(std::process::id(), View::new(&bytes).unwrap(), None);
        assert_eq!(find(&all, Id::Fallback), ("off", &ValueSource::Default));
    }

    #[test]
    fn exceptions_that_make_no_sense_divert_nothing() {
        let all = from_environment(|name| (name == "TIDEOVER_LOGS_EXCEPT").then(|| "[x".into()), None, None);
        assert_eq!(find(&all, Id::Fallback), ("off", &ValueSource::Default));
        assert!(all[Id::LogsExcept as usize].refusal().unwrap().ends_with("; no log is diverted"));
    }

    #[test]
    fn an_empty_folder_is_the_default() {
        let all = from_environment(|name| (name == "TIDEOVER_PAGE_DIR").then(OsString::new), None, None);
        assert_eq!(find(&all, Id::PageDir), ("/dev/shm", &ValueSource::Environment));
    }

    #[test]
    fn a_process_has_what_its_page_says() {
        let mut bytes = forge(7, state::LIVE, 1);
        let offset = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        bytes[offset("settings_count")] = Id::FdWarn as u8;
        for (id, value, source) in [(Id::MaxRetries, 9, 1), (Id::Only, 1, 1), (Id::Raise, 1, 2)] {
            bytes[offset("settings") + id as usize * 8] = value;
            bytes[offset("sources") + id as usize] = source;
        }
        let all = from_page(std::process::id(), View::new(&bytes).unwrap(), None);
        assert_eq!(find(&all, Id::MaxRetries), ("9", &ValueSource::Environment));
        assert_eq!(find(&all, Id::Only), ("set", &ValueSource::Environment));
        assert_eq!(find(&all, Id::Raise), ("auto", &ValueSource::Refused(None)));
        assert_eq!(find(&all, Id::FdWarn).1, &ValueSource::Unknown);
    }

    #[test]
    fn misspelt_variables_are_noticed() {
        let names = [
            "HOME",
            "TIDEOVER_LIB",
            "TIDEOVER_ORIGIN",
            "TIDEOVER_RAISE",
            "TIDEOVER_MAX_RETRY",
            "TIDEOVER_SPEED_OF_LIGHT",
        ];
        let found = unknown_variables(names.iter().map(OsString::from));
        assert_eq!(
            found,
            [("TIDEOVER_MAX_RETRY".into(), Some("TIDEOVER_MAX_RETRIES")), ("TIDEOVER_SPEED_OF_LIGHT".into(), None)]
        );
    }
}
