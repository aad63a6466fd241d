//! Warnings of what is looked at again and again, as `watch` and `top` do: each is said once, and again when its cause has changed.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Mutex;

/// With so many, all are forgotten, and may be said again.
const MOST: usize = 10_000;

/// The state in which each thing was when it was warned of last.
static WARNED: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

/// Warns with `text` of the thing called `what`, unless that was the last warning of it, in this state (such as its inode and times).
pub fn warn(what: &str, state: &str, text: &str) {
    if is_new(what, &format!("{state} {text}")) {
        log::warn!("{text}");
    }
}

fn is_new(what: &str, state: &str) -> bool {
    let Ok(mut warned) = WARNED.lock() else { return true };
    let warned = warned.get_or_insert_default();
    if warned.get(what).is_some_and(|last| last == state) {
        return false;
    }
    if warned.len() >= MOST {
        warned.clear();
    }
    warned.insert(what.to_string(), state.to_string());
    true
}

#[cfg(test)]
mod tests {
    use super::is_new;

    #[test]
    fn a_state_is_new_once_until_it_changes() {
        let said = [("a", "1"), ("a", "1"), ("b", "1"), ("a", "2"), ("a", "2"), ("a", "1")];
        assert_eq!(said.map(|(what, state)| is_new(what, state)), [true, false, true, true, false, true]);
    }
}
