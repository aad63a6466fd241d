//! Shell patterns over bytes: `*` any run, `?` one byte, `[a-z]` and `[!a-z]` one of a set, `\x` the byte itself.
//!
//! Own code because it runs inside a host's start-up, on bytes that need not be UTF-8, without allocation; libc's
//! fnmatch(3) depends on the host's locale and may allocate.

/// Does `pattern` match the whole of `text`? A `[` that is never closed matches itself.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) if t < text.len() => one(&pattern[p..], text[t]),
            None if t == text.len() => return true,
            _ => None,
        };
        match (step, star) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// Does any pattern of a comma-separated list match? Blanks around a pattern are not part of it.
pub fn any(list: &[u8], text: &[u8]) -> bool {
    list.split(|&b| b == b',').map(<[u8]>::trim_ascii).any(|p| may_begin(p, text) && matches(p, text))
}

/// Can a pattern match this text, by its first byte? Most of a list begin with another letter, and the lists are long.
fn may_begin(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.first() {
        None => false,
        Some(b'*' | b'?' | b'[' | b'\\') => true,
        first => first == text.first(),
    }
}

/// Is every `[` of a list closed, and no `\\` its last byte?
pub fn is_well_formed(list: &[u8]) -> bool {
    list.split(|&b| b == b',').all(|pattern| {
        let mut rest = pattern;
        loop {
            rest = match rest {
                [] => return true,
                [b'\\', after @ ..] => match after {
                    [] => return false,
                    [_, after @ ..] => after,
                },
                [b'[', ..] => match set(rest, 0) {
                    Some((_, used)) => rest.get(used..).unwrap_or(&[]),
                    None => return false,
                },
                [_, after @ ..] => after,
            };
        }
    })
}

/// How many pattern bytes match `byte`, if they do.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(pattern, byte) {
            Some((matched, used)) => matched.then_some(used),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// Reads a `[...]` set: (is the byte in it, how long is it); None when it is never closed.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&h)) if h != b']' => {
                at += 2;
                h
            }
            _ => low,
        };
        found |= (low..=high).contains(&byte);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_shell_does() {
        let yes = [
            ("python3*", "python3.11"),
            ("*", ""),
            ("*.log", "a.log"),
            ("a*b*c", "aXbYbZc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("[", "["),
            ("\\*", "*"),
            ("?", "x"),
        ];
        for (p, t) in yes {
            assert!(matches(p.as_bytes(), t.as_bytes()), "{p} should match {t}");
        }
        let no = [("python3", "python3.11"), ("*.log", "a.log.1"), ("[a-c]", "d"), ("", "x"), ("?", ""), ("a*b", "ac")];
        for (p, t) in no {
            assert!(!matches(p.as_bytes(), t.as_bytes()), "{p} should not match {t}");
        }
    }

    #[test]
    fn patterns_that_end_too_early_are_found() {
        for good in ["", "*", "[a-z]*,?", "[]]", "\\[", "[!a]b"] {
            assert!(is_well_formed(good.as_bytes()), "{good}");
        }
        for bad in ["[", "a,[b", "*.l[o", "x\\", "[]"] {
            assert!(!is_well_formed(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let text = [b'a'; 4000];
        assert!(!matches(b"a*a*a*a*a*a*a*a*a*a*a*b", &text));
    }

    #[test]
    fn lists_are_split_at_commas() {
        assert!(any(b"nginx, redis-*", b"redis-server"));
        assert!(!any(b"", b"redis-server"));
        assert!(!any(b" , ", b""));
        for pattern in ["*s", "?edis", "[r]edis", "\\redis", "redis", "[x, redis"] {
            assert!(any(format!("nginx, {pattern}").as_bytes(), b"redis"), "{pattern}");
        }
        assert!(any(b"[x", b"[x"));
    }
}
