//! TIDEOVER_ORIGIN, in which `tideover run` writes for `tideover config PID` where each setting came from.
//!
//! `max_retries=flag,raise=file,config=/etc/tideover.toml`: settings with their sources, by comma. `config=` comes last, and its
//! path goes to the end, since a path may hold commas. A setting that is not named came from the environment that `run`
//! itself was started in.
#![forbid(unsafe_code)]

use crate::settings::overrides::{Override, OverrideSource};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use tideover_contract::settings::SETTINGS;

/// Name of the variable. The library knows it and ignores it.
pub const VARIABLE: &str = "TIDEOVER_ORIGIN";
const CONFIG: &[u8] = b"config=";

/// The variable's value; None if neither a flag nor a file gave a setting.
pub fn encode(overrides: &[Override], file: Option<&Path>) -> Option<OsString> {
    let mut parts: Vec<Vec<u8>> = overrides
        .iter()
        .map(|one| {
            let source = if one.source == OverrideSource::Flag { "flag" } else { "file" };
            format!("{}={source}", SETTINGS[one.index].name).into_bytes()
        })
        .collect();
    if overrides.iter().any(|one| one.source == OverrideSource::File) {
        let path = file.and_then(|path| std::path::absolute(path).ok());
        parts.extend(path.map(|path| [CONFIG, path.as_os_str().as_bytes()].concat()));
    }
    (!parts.is_empty()).then(|| OsString::from_vec(parts.join(&b',')))
}

/// Where a setting came from, and the path of the file if it was one; None if the variable's value does not say.
pub fn decode(origin: &OsStr, name: &str) -> Option<(OverrideSource, Option<String>)> {
    let mut rest = origin.as_bytes();
    let mut source = None;
    while !rest.is_empty() {
        if let Some(path) = rest.strip_prefix(CONFIG) {
            let file = String::from_utf8_lossy(path).into_owned();
            return source.map(|source| (source, (source == OverrideSource::File).then_some(file)));
        }
        let end = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
        match rest[..end].strip_prefix(name.as_bytes()) {
            Some(b"=flag") => source = Some(OverrideSource::Flag),
            Some(b"=file") => source = Some(OverrideSource::File),
            _ => {}
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    source.map(|source| (source, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::{Id, by_name};

    #[test]
    fn what_is_encoded_is_read_back() {
        let overrides = [
            Override { index: Id::MaxRetries as usize, value: "7".into(), source: OverrideSource::Flag },
            Override { index: Id::Raise as usize, value: "off".into(), source: OverrideSource::File },
        ];
        let text = encode(&overrides, Some(Path::new("/etc/a,raise=flag.toml"))).unwrap();
        assert_eq!(text, "max_retries=flag,raise=file,config=/etc/a,raise=flag.toml");
        assert_eq!(decode(&text, "max_retries"), Some((OverrideSource::Flag, None)));
        assert_eq!(decode(&text, "raise"), Some((OverrideSource::File, Some("/etc/a,raise=flag.toml".into()))));
        assert_eq!(decode(&text, "raise_cap"), None);
        assert_eq!(encode(&[], None), None);
    }

    #[test]
    fn nonsense_is_harmless_and_no_setting_is_called_config() {
        for text in ["", ",", "=", "raise", "raise=", "raise=maybe,,", "config="] {
            assert_eq!(decode(text.as_ref(), "raise"), None, "{text}");
        }
        assert_eq!(by_name("config"), None);
    }
}
