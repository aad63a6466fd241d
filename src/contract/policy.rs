//! The policy of a machine, /etc/tideover.toml: which settings programs get that nobody has set in their environment.
//!
//! The library reads it while it is loaded into a program, so this reader allocates nothing, makes no system call, and reads at
//! most [`MAX`] bytes that somebody else has read. It takes a part of TOML, in which each line stands for itself:
//!
//! ```toml
//! raise_cap = 65536                 # a setting for all programs
//! logs_except = ["*.csv", '*.tsv']
//!
//! [program."nginx*"]                # for programs of these names; a later table beats an earlier one
//! max_clients = 5000
//! accept = "shed"
//! alert_zombies = 1                 # of `tideover watch`, in the same tables
//! guard = ["park", "idle 5m"]       # of `tideover watch --guard`
//! ```
//!
//! Values are texts in single or double quotes, numbers, `true`, `false`, or lists of texts. A text in double quotes holds no
//! backslash; a value goes over one line. What else TOML has is refused with its line.

use crate::glob;
use crate::settings::{MAX_TEXT, by_key};

/// Longest file that is read, in bytes.
pub const MAX: usize = 64 << 10;
/// Where the file is, unless TIDEOVER_CONFIG names another.
pub const PATH: &str = "/etc/tideover.toml";

/// A line of the file that sets something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number, from 1.
    pub line: u32,
    /// The programs that it is for, as a shell pattern; None: all.
    pub program: Option<&'a [u8]>,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: Value<'a>,
}

/// A value as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text without its quotes, a number or `true` or `false`.
    Text(&'a [u8]),
    /// The inside of a list of texts.
    List(&'a [u8]),
}

/// A line that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its number, from 1.
    pub line: u32,
    /// What is wrong with it, as the end of a sentence.
    pub why: &'static str,
}

impl<'a> Entry<'a> {
    /// Is it for a program of this name?
    pub fn is_for(&self, program: &[u8]) -> bool {
        self.program.is_none_or(|pattern| glob::matches(pattern, program))
    }

    /// Is it about alerts, as `alert_zombies`? `tideover watch` and `doctor` read these.
    pub fn is_alert(&self) -> bool {
        self.key.starts_with(b"alert")
    }

    /// Does it say what `tideover watch --guard` may do to programs?
    pub fn is_guard(&self) -> bool {
        self.key == b"guard"
    }

    /// Is it for commands alone? The library passes over it, and over what is nearly so: `config --check` tells of mistakes. Four bytes are
    /// compared as one number, which takes less room in the library than two texts would.
    pub fn is_for_commands(&self) -> bool {
        matches!(self.key.first_chunk(), Some(b"aler" | b"guar"))
    }

    /// Index in [`crate::settings::SETTINGS`] of its setting; None if there is none of this name.
    pub fn setting(&self) -> Option<usize> {
        by_key(self.key)
    }
}

impl<'a> Value<'a> {
    /// The text that the setting's variable would hold: of a list, its texts with commas between them, for which `room` is used.
    /// None if that is longer than `room`, or a text of a list holds a comma.
    pub fn text<'b>(&self, room: &'b mut [u8; MAX_TEXT]) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        let list = match self {
            Value::Text(text) => return Some(text),
            Value::List(list) => *list,
        };
        let mut used = 0;
        let mut put = |byte: u8| {
            *room.get_mut(used)? = byte;
            used += 1;
            Some(())
        };
        for (i, text) in Texts(list).enumerate() {
            let text = text.ok()?;
            if text.contains(&b',') {
                return None;
            }
            if i > 0 {
                put(b',')?;
            }
            text.iter().try_for_each(|byte| put(*byte))?;
        }
        room.get(..used)
    }
}

/// Why a file is not used, with what helps, or None: of `mode` (stat(2)), that belongs to user `owner` and has `size` bytes, by a process of
/// user `me`. Others than root and that user must not be able to say what programs of this user are to do.
pub fn unusable(mode: u32, owner: u32, size: u64, me: u32) -> Option<&'static str> {
    /// S_IFMT and S_IFREG of stat(2).
    const KIND: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    if mode & KIND != REGULAR {
        Some("it is not a regular file; TIDEOVER_CONFIG names one")
    } else if owner != 0 && owner != me {
        Some("it belongs to another user than root or the one of this process; chown root")
    } else if mode & 0o022 != 0 {
        Some("its group or others may write to it; chmod go-w")
    } else if size > MAX as u64 {
        Some("it is longer than 64 KiB; shorten it")
    } else {
        None
    }
}

/// The entries of a file, in its order; a mistake in the place of a line that is not understood.
pub fn entries(text: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, Mistake>> {
    let mut program = Some(None);
    let lines = text.split(|&b| b == b'\n').zip(1u32..);
    lines.filter_map(move |(bytes, line)| {
        let mistake = |why| Some(Err(Mistake { line, why }));
        let bytes = bytes.trim_ascii();
        match bytes {
            [] | [b'#', ..] => None,
            _ if line == 1 && text.len() > MAX => mistake("the file is longer than 64 KiB"),
            [b'[', rest @ ..] => match table(rest) {
                Ok(pattern) => {
                    program = Some(Some(pattern));
                    None
                }
                Err(why) => {
                    // What follows is for nobody, rather than for all.
                    program = None;
                    mistake(why)
                }
            },
            _ => match (program, assignment(bytes)) {
                (_, Err(why)) => mistake(why),
                (Some(program), Ok((key, value))) => Some(Ok(Entry { line, program, key, value })),
                (None, Ok(_)) => None,
            },
        }
    })
}

/// `program."nginx*"]`: the pattern.
fn table(rest: &[u8]) -> Result<&[u8], &'static str> {
    const EXPECTED: &str = "a table is [program.\"PATTERN\"]";
    let rest = rest.trim_ascii_start().strip_prefix(b"program").ok_or(EXPECTED)?.trim_ascii_start();
    let rest = rest.strip_prefix(b".").ok_or(EXPECTED)?.trim_ascii_start();
    let (pattern, rest) = match rest {
        [b'"' | b'\'', ..] => quoted(rest)?,
        _ => bare(rest),
    };
    let rest = rest.trim_ascii_start().strip_prefix(b"]").ok_or(EXPECTED)?;
    match pattern {
        _ if !ends(rest) => Err(EXPECTED),
        [] => Err("the pattern of program names is empty"),
        _ if !glob::is_well_formed(pattern) => Err("the pattern of program names has a [ without its ]"),
        _ => Ok(pattern),
    }
}

fn assignment(line: &[u8]) -> Result<(&[u8], Value<'_>), &'static str> {
    let (key, rest) = match line {
        [b'"' | b'\'', ..] => quoted(line)?,
        _ => bare(line),
    };
    if key.is_empty() {
        return Err("it is no key = value");
    }
    let rest = rest.trim_ascii_start().strip_prefix(b"=").ok_or("it is no key = value")?.trim_ascii_start();
    let (value, rest) = match rest {
        [b'"' | b'\'', ..] => quoted(rest).map(|(text, rest)| (Value::Text(text), rest))?,
        [b'[', inside @ ..] => list(inside).map(|(list, rest)| (Value::List(list), rest))?,
        _ => {
            let end = rest.iter().position(|b| matches!(b, b'#' | b' ' | b'\t')).unwrap_or(rest.len());
            let (word, rest) = rest.split_at(end);
            let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_');
            let number = word.first().is_some_and(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'));
            if !(matches!(word, b"true" | b"false") || number && word.iter().all(plain)) {
                return Err("the value is no number, true, false, or text in quotes");
            }
            (Value::Text(word), rest)
        }
    };
    if ends(rest) { Ok((key, value)) } else { Err("something follows the value") }
}

/// Nothing but a comment is left.
#[inline(never)]
fn ends(rest: &[u8]) -> bool {
    matches!(rest.trim_ascii_start(), [] | [b'#', ..])
}

#[inline(never)]
fn bare(text: &[u8]) -> (&[u8], &[u8]) {
    let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    text.split_at(text.iter().position(|b| !part(b)).unwrap_or(text.len()))
}

/// A text in quotes, and what follows it.
#[inline(never)]
fn quoted(text: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let [quote, inside @ ..] = text else { return Err("a text is not in quotes") };
    if inside.starts_with(&[*quote, *quote]) {
        return Err("a text goes over one line, in one quote at each end");
    }
    let end = inside.iter().position(|b| b == quote).ok_or("a text lacks the quote at its end")?;
    let (text, rest) = inside.split_at(end);
    if text.contains(&b'\\') && *quote == b'"' {
        return Err("a text with a backslash stands in single quotes");
    }
    if text.contains(&0) {
        return Err("a text holds a zero byte");
    }
    Ok((text, &rest[1..]))
}

/// The inside of a list, and what follows it.
fn list(inside: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    const EXPECTED: &str = "a list is [\"one\", \"two\"], on one line";
    let mut rest = inside.trim_ascii_start();
    loop {
        if let [b']', after @ ..] = rest {
            let length = inside.len() - rest.len();
            return Ok((&inside[..length], after));
        }
        if !matches!(rest, [b'"' | b'\'', ..]) {
            return Err(EXPECTED);
        }
        rest = quoted(rest)?.1.trim_ascii_start();
        rest = match rest {
            [b',', after @ ..] => after.trim_ascii_start(),
            [b']', ..] => rest,
            _ => return Err(EXPECTED),
        };
    }
}

/// The texts of a list.
struct Texts<'a>(&'a [u8]);

impl<'a> Iterator for Texts<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_ascii_start();
        if rest.is_empty() {
            return None;
        }
        let (text, rest) = match quoted(rest) {
            Ok(found) => found,
            Err(why) => {
                self.0 = &[];
                return Some(Err(why));
            }
        };
        let rest = rest.trim_ascii_start();
        self.0 = rest.strip_prefix(b",").unwrap_or(rest);
        Some(Ok(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SETTINGS;

    fn read(text: &str) -> Vec<String> {
        let mut room = [0; MAX_TEXT];
        entries(text.as_bytes())
            .map(|entry| match entry {
                Ok(entry) => {
                    let program = entry.program.map_or("*", |pattern| std::str::from_utf8(pattern).unwrap());
                    let value = entry.value.text(&mut room).map_or("(none)".into(), String::from_utf8_lossy);
                    let name = entry.setting().map_or("?", |index| SETTINGS[index].name);
                    format!("{} {program} {name} {value}", entry.line)
                }
                Err(mistake) => format!("{} {}", mistake.line, mistake.why),
            })
            .collect()
    }

    #[test]
    fn a_policy_is_read_line_by_line() {
        let text = "# all\nraise-cap = 65_536\nlogs_except = [\"*.csv\", '*.tsv',]  # data\npage = true\r\n\n\
                    [ program . \"nginx*\" ] # web\nmax_clients = 5000\naccept = 'shed'\n[program.redis-server]\njitter = 0.5\nno_such = 1\n";
        assert_eq!(
            read(text),
            [
                "2 * raise_cap 65_536",
                "3 * logs_except *.csv,*.tsv",
                "4 * page true",
                "7 nginx* max_clients 5000",
                "8 nginx* accept shed",
                "10 redis-server jitter 0.5",
                "11 redis-server ? 1",
            ]
        );
        let all: Vec<Entry> = entries(text.as_bytes()).flatten().collect();
        assert!(all[0].is_for(b"anything") && all[3].is_for(b"nginx-debug") && !all[3].is_for(b"redis-server"));
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_line() {
        for (text, why) in [
            ("x", "1 it is no key = value"),
            ("= 1", "1 it is no key = value"),
            ("raise = auto", "1 the value is no number, true, false, or text in quotes"),
            ("raise = \"auto", "1 a text lacks the quote at its end"),
            ("raise = \"au\\\\to\"", "1 a text with a backslash stands in single quotes"),
            ("raise = \"\"\"auto\"\"\"", "1 a text goes over one line, in one quote at each end"),
            ("raise = 'auto' x", "1 something follows the value"),
            ("only = ['a' 'b']", "1 a list is [\"one\", \"two\"], on one line"),
            ("only = ['a',", "1 a list is [\"one\", \"two\"], on one line"),
            ("[server]", "1 a table is [program.\"PATTERN\"]"),
            ("[program]", "1 a table is [program.\"PATTERN\"]"),
            ("[program.'a[']", "1 the pattern of program names has a [ without its ]"),
            ("[program.\"\"]", "1 the pattern of program names is empty"),
        ] {
            assert_eq!(read(text), [why], "{text}");
        }
        // What stands in a table that is not understood is for nobody.
        assert_eq!(
            read("[server]\nraise = 'off'\n[program.a]\nraise = 'off'"),
            ["1 a table is [program.\"PATTERN\"]", "4 a raise off"]
        );
        assert_eq!(read("only = ['a,b']"), ["1 * only (none)"]);
        let long = format!("x = 1\n{}", "#".repeat(MAX));
        assert_eq!(read(&long)[0], "1 the file is longer than 64 KiB");
        let list = format!("only = [{}]", "'aaaaaaaa', ".repeat(200));
        assert_eq!(read(&list), ["1 * only (none)"], "longer than a setting may be");
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let mut random = crate::random::Random::new(7);
        let letters = b"[]\"'=#,.\\\n \tprogram.raise0\xff\x00";
        for _ in 0..20_000 {
            let text: Vec<u8> = (0..40).map(|_| letters[random.below(letters.len() as u64) as usize]).collect();
            let mut room = [0; MAX_TEXT];
            for entry in entries(&text).flatten() {
                let _ = (entry.value.text(&mut room).map(<[u8]>::len), entry.is_for(b"x"), entry.setting());
            }
        }
    }
}
