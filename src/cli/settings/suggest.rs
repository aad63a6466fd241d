//! "Did you mean": the most similar of a few names.
#![forbid(unsafe_code)]

use crate::system::alerts::ALERTS;
use tideover_contract::settings::SETTINGS;

/// The name that needs the fewest edits to become `typed`; None if that is too many for a slip.
pub fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = typed.to_lowercase().replace('-', "_");
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, name)| *edits <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Says of a key that no setting is called so, and which may have been meant.
pub fn no_setting(key: &str) -> String {
    let hint = match nearest(key, SETTINGS.iter().map(|setting| setting.name)) {
        Some(near) => format!("did you mean {near}?"),
        None => "`tideover config` lists the settings".to_string(),
    };
    format!("there is no setting {key:?}; {hint}")
}

/// Says of a key that no alert is called so, and which may have been meant.
pub fn no_alert(key: &str) -> String {
    let names: Vec<String> = ALERTS.iter().map(|row| format!("alert_{}", row.name)).collect();
    let hint = match nearest(key, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "docs/policy.md lists them".to_string(),
    };
    format!("there is no alert {key:?}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["max_retries", "max_wait", "raise"];
        assert_eq!(nearest("max_retry", names), Some("max_retries"));
        assert_eq!(nearest("Max-Wiat", names), Some("max_wait"));
        assert_eq!(nearest("listen", names), None);
        assert_eq!(no_setting("max_retry"), "there is no setting \"max_retry\"; did you mean max_retries?");
        assert_eq!(no_setting("server"), "there is no setting \"server\"; `tideover config` lists the settings");
    }
}
