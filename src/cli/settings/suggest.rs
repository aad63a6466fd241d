//! "Did you mean": the most similar of a few names.
#![forbid(unsafe_code)]

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["max_retries", "max_wait", "raise"];
        assert_eq!(nearest("max_retry", names), Some("max_retries"));
        assert_eq!(nearest("Max-Wiat", names), Some("max_wait"));
        assert_eq!(nearest("listen", names), None);
    }
}
