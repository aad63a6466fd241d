//! The TOML file of `tideover run --config`: a key per setting, refused at the line that is wrong.
#![forbid(unsafe_code)]

use crate::settings::overrides::check;
use crate::settings::suggest::no_setting;
use crate::show::failure::{Failure, cause};
use std::ffi::OsString;
use std::path::Path;
use tideover_contract::settings::{Kind, SETTINGS, by_name};
use toml::de::{DeTable, DeValue};

/// Reads the file: for each setting in it the index in [`SETTINGS`], and the text that its variable will hold.
pub fn read(path: &Path) -> Result<Vec<(usize, OsString)>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("cannot read the settings in {}: {}", path.display(), cause(&error)))
    })?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, path: &str) -> Result<Vec<(usize, OsString)>, Failure> {
    let place = |offset: usize| {
        let line = text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1;
        format!("{path} line {line}")
    };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or_else(|| path.to_string(), |span| place(span.start));
        Failure::usage(format!("{at} is not TOML: {}", error.message().replace('\n', ", ")))
    })?;
    let mut found = Vec::new();
    for (key, value) in table.get_ref() {
        let (key, at) = (key.get_ref(), place(key.span().start));
        let Some(index) = by_name(key) else {
            return Err(Failure::usage(format!("{at}: {}", no_setting(key))));
        };
        let at = format!("{at}: {key}");
        let value = OsString::from(variable(&SETTINGS[index].kind, value.get_ref(), &at)?);
        check(index, &value, &at)?;
        found.push((index, value));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found)
}

/// The text that a setting's variable will hold, from its TOML value.
fn variable(kind: &Kind, value: &DeValue, place: &str) -> Result<String, Failure> {
    match value {
        DeValue::String(text) if text.contains('\0') => Err(Failure::usage(format!("{place} cannot hold a zero byte"))),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Array(items) if matches!(kind, Kind::Globs | Kind::Runtimes) => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            // Patterns are separated by commas in the variable, so none may hold one.
            let items = items.filter(|items| !items.iter().any(|item| item.contains([',', '\0'])));
            items.map(|items| items.join(",")).ok_or_else(|| {
                Failure::usage(format!(
                    "{place} takes a list of texts without commas, such as [\"nginx\", \"redis-*\"]"
                ))
            })
        }
        other => Err(Failure::usage(format!("{place} cannot be of type {}: it takes {kind}", other.type_str()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text, "t.toml").unwrap_err().text
    }

    #[test]
    fn values_may_be_written_as_toml_has_them() {
        let text = "max_retries = 1_0\njitter = 0.5\ninitial-wait = '2s'\npage = false\nonly = ['nginx', 'redis-*']\nexcept = 'a,b'\n";
        let found = parse(text, "t.toml").unwrap();
        let value = |name| found.iter().find(|(i, _)| SETTINGS[*i].name == name).unwrap().1.to_str().unwrap();
        assert_eq!([value("max_retries"), value("jitter"), value("initial_wait")], ["10", "0.5", "2s"]);
        assert_eq!([value("page"), value("only"), value("except")], ["false", "nginx,redis-*", "a,b"]);
        assert!(parse("", "t.toml").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        assert_eq!(
            refusal("\nmax_retry = 3"),
            "t.toml line 2: there is no setting \"max_retry\"; did you mean max_retries?"
        );
        assert!(refusal("[server]\nport = 1").contains("`tideover config` lists"));
        assert_eq!(
            refusal("max_retries = -1"),
            "t.toml line 1: max_retries cannot be \"-1\": it takes a whole number from 0 to 1000"
        );
        assert!(refusal("# x\nraise = [\"off\"]").contains("line 2: raise cannot be of type array"));
        assert!(refusal("only = ['a,b']").contains("without commas"));
        assert!(refusal("jitter = nan").contains("a number from 0.0 to 1.0"));
        assert!(refusal("\n\nmax_retries = = 3").starts_with("t.toml line 3 is not TOML"));
        assert!(refusal("jitter = 0.1\njitter = 0.2").contains("line 2"));
    }

    #[test]
    fn a_missing_file_is_said() {
        let text = read(Path::new("/nonexistent.toml")).unwrap_err().text;
        assert_eq!(text, "cannot read the settings in /nonexistent.toml: no such file or directory");
    }
}
