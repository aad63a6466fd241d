//! Numbered lines: what a program was asked to log, and where each line has come to.
//!
//! A line holds a payload, `~00017.text.00017~`, that is recognised whatever a program puts around it. An outage may cut one line
//! in two, its head in the file and its rest elsewhere; the account joins them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

/// What the library's own lines in a log start with.
pub const OURS: &str = "tideover: ";

const PAYLOAD: usize = 74;
/// What stands before the payload of a line.
const BEFORE: &str = "INFO app: request ";

/// The recognisable part of line `n`: 74 characters that may stand in a URL, an SQL string and a user's name.
pub fn payload(n: u32) -> String {
    let text = "the-quick-brown-fox-jumps-over-the-lazy-dog-and-goes-on-from-there";
    format!("~{n:05}.{}.{n:05}~", &text[..PAYLOAD - 14])
}

/// Line `n` for a program that writes what it is given: 99 characters and no newline.
pub fn line(n: u32) -> String {
    format!("{:<99}", format!("{BEFORE}{} ok", payload(n))).replace("  ", "..")
}

/// These lines, each with its newline.
pub fn lines(numbers: RangeInclusive<u32>) -> String {
    numbers.map(|n| line(n) + "\n").collect()
}

/// A line that the library has put into the log when the log came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// All of it.
    pub text: String,
    /// Lines that it says went elsewhere.
    pub lines: u64,
    /// Bytes that it says went elsewhere.
    pub bytes: u64,
}

impl Marker {
    /// Reads one: a number before a word that begins with "line", and one before a word that begins with "byte"; in a log of
    /// JSON lines an object of its own.
    pub fn parse(text: &str) -> Option<Marker> {
        if let Some(object) = text.strip_prefix("{\"tideover\":") {
            let value = |key: &str| {
                let after = object.split_once(&format!("\"{key}\":"))?.1;
                after.split([',', '}']).next()?.parse().ok()
            };
            return Some(Marker { text: text.into(), lines: value("lines")?, bytes: value("bytes")? });
        }
        text.strip_prefix(OURS)?;
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || "()".contains(c)).filter(|w| !w.is_empty()).collect();
        let before = |unit: &str| {
            let at = words.iter().position(|w| w.starts_with(unit))?;
            words.get(at.checked_sub(1)?)?.replace(',', "").parse().ok()
        };
        Some(Marker { text: text.into(), lines: before("line")?, bytes: before("byte")? })
    }
}

impl Marker {
    /// Does it say that lines were put back into the file?
    fn says_put_back(&self) -> bool {
        self.text.contains("put back") || self.text.contains("put_back")
    }
}

/// What is in a log and in the place where the rest went.
#[derive(Debug)]
pub struct Account {
    file: String,
    sink: String,
    /// Numbers of the whole lines in the file, in their order there.
    pub in_file: Vec<u32>,
    /// Numbers of the whole lines elsewhere, in their order there.
    pub in_sink: Vec<u32>,
    /// Numbers of the lines that were cut, head in the file and rest elsewhere.
    pub rejoined: Vec<u32>,
    /// Pieces that belong nowhere.
    pub pieces: Vec<String>,
    /// The library's lines in the file.
    pub markers: Vec<Marker>,
}

impl Account {
    /// Reads the log (its rotated siblings before it, oldest first) and what came out elsewhere.
    pub fn new(file: &str, sink: &str) -> Account {
        let markers: Vec<Marker> = file.lines().filter_map(Marker::parse).collect();
        let body = |text: &str| -> Vec<String> {
            text.lines().filter(|l| Marker::parse(l).is_none()).map(str::to_string).collect()
        };
        let mut lines = body(file);
        if markers.iter().any(Marker::says_put_back) {
            // Another process may also have gone on behind a line that lacks nothing but its newline.
            let is_whole: BTreeSet<String> = lines.iter().cloned().collect();
            let parts = |line: &String| {
                let mut parts = cut_at_heads(line);
                let last = parts.pop();
                parts.retain(|part| !is_whole.contains(*part));
                parts.into_iter().chain(last).map(str::to_string).collect::<Vec<String>>()
            };
            lines = lines.iter().flat_map(parts).collect();
            // The head of a line that was cut, and ended since another process went on behind it: the whole line follows.
            let mut sorted = lines.clone();
            sorted.sort();
            let is_head = |line: &String| {
                let next = sorted.partition_point(|other| other <= line);
                line.contains('~') && sorted.get(next).is_some_and(|other| other.starts_with(line.as_str()))
            };
            lines.retain(|line| !is_head(line));
        }
        let (in_file, heads) = numbers(&lines);
        let (in_sink, rests) = numbers(&body(sink));
        let mut rejoined = vec![];
        let mut pieces = vec![];
        // Outages come one after another, so the k-th head belongs to one of the rests that have not found theirs.
        let mut rests = rests;
        for head in heads {
            let found = rests.iter().position(|rest| joined(&head, rest).is_some());
            match found {
                Some(at) => rejoined.extend(joined(&head, &rests.remove(at))),
                None => pieces.push(format!("file: {head:?}")),
            }
        }
        // Of a line that was cut, the file has the whole once it is put back, and the other place has the rest. A short rest may be that
        // of several lines: of one that the other place does not have otherwise.
        let whole_in_file = |rest: &String, rejoined: &[u32]| {
            let ends_so = |line: &&String| line.ends_with(rest.as_str()) && line.len() > rest.len();
            let found =
                lines.iter().filter(ends_so).filter_map(|line| numbers(std::slice::from_ref(line)).0.last().copied());
            let (first, others) = found.partition::<Vec<u32>, _>(|n| !in_sink.contains(n) && !rejoined.contains(n));
            first.first().or(others.first()).copied()
        };
        for rest in rests {
            match whole_in_file(&rest, &rejoined) {
                Some(n) => rejoined.push(n),
                None => pieces.push(format!("elsewhere: {rest:?}")),
            }
        }
        Account { file: file.into(), sink: sink.into(), in_file, in_sink, rejoined, pieces, markers }
    }

    /// Were the lines that went elsewhere put back into the file?
    pub fn is_put_back(&self) -> bool {
        self.markers.iter().any(Marker::says_put_back)
    }

    /// Numbers that are nowhere; if lines were put back, those that are not in the file.
    pub fn lost(&self, all: RangeInclusive<u32>) -> Vec<u32> {
        let mut seen = count(&[&self.in_file]);
        if !self.is_put_back() {
            seen.extend(count(&[&self.in_sink, &self.rejoined]));
        }
        all.filter(|n| !seen.contains_key(n)).collect()
    }

    /// Numbers that are there more than once; if lines were put back, more than once in one of the two places.
    pub fn doubled(&self) -> Vec<u32> {
        let twice = |seen: BTreeMap<u32, u32>| seen.into_iter().filter(|&(_, times)| times > 1).map(|(n, _)| n);
        if self.is_put_back() {
            let mut all: Vec<u32> = twice(count(&[&self.in_file])).collect();
            all.extend(twice(count(&[&self.in_sink, &self.rejoined])));
            return all;
        }
        twice(count(&[&self.in_file, &self.in_sink, &self.rejoined])).collect()
    }

    /// Asserts that the file by itself holds every line once, in order.
    #[track_caller]
    pub fn file_is_whole(&self, all: RangeInclusive<u32>) -> &Account {
        assert_eq!(self.in_file, all.collect::<Vec<u32>>(), "the file\n{self}");
        self
    }

    /// Asserts that every number is there exactly once and that no piece is left over; at most `outages` lines were cut.
    #[track_caller]
    pub fn complete(&self, all: RangeInclusive<u32>, outages: usize) -> &Account {
        let (lost, doubled) = (self.lost(all), self.doubled());
        assert!(lost.is_empty(), "lost {lost:?}\n{self}");
        assert!(doubled.is_empty(), "doubled {doubled:?}\n{self}");
        assert!(self.pieces.is_empty(), "left over {:?}\n{self}", self.pieces);
        assert!(self.rejoined.len() <= outages, "cut {:?} in {outages} outages\n{self}", self.rejoined);
        self
    }

    /// Asserts that the numbers stand in order in each of the two places.
    #[track_caller]
    pub fn in_order(&self) -> &Account {
        assert!(self.in_file.is_sorted(), "in the file: {:?}\n{self}", self.in_file);
        assert!(self.in_sink.is_sorted(), "elsewhere: {:?}\n{self}", self.in_sink);
        self
    }

    /// Asserts that the file and the other place together hold, byte for byte, the lines that were given to the program, but
    /// for the library's own lines and a newline that ends a torn one.
    #[track_caller]
    pub fn byte_for_byte(&self, all: RangeInclusive<u32>) -> &Account {
        let torn = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|l| Marker::parse(l).is_none());
            lines.filter(|l| !whole(l)).map(str::to_string).collect()
        };
        let (heads, rests) = (torn(&self.file), torn(&self.sink));
        // A head that is a whole line has an empty rest: its newline.
        let rests: Vec<&String> = rests.iter().filter(|r| !r.is_empty()).collect();
        if self.is_put_back() {
            assert!(heads.is_empty(), "not a line in the file: {heads:?}\n{self}");
            let in_file = |rest: &&String| self.file.lines().any(|line| line.ends_with(rest.as_str()));
            assert!(rests.iter().all(in_file), "not of a line in the file: {rests:?}\n{self}");
            return self.complete(all, usize::MAX);
        }
        assert_eq!(heads.len(), rests.len(), "heads {heads:?}, rests {rests:?}\n{self}");
        for (head, rest) in heads.iter().zip(&rests) {
            let cut = format!("{head}{rest}");
            assert!(whole(&cut), "not a line: {cut:?}\n{self}");
        }
        self.complete(all, usize::MAX)
    }

    /// Asserts that the library's lines in the file say how many lines and bytes went elsewhere: all that did.
    #[track_caller]
    pub fn markers_tell_all(&self) -> &Account {
        let lines: u64 = self.markers.iter().map(|m| m.lines).sum();
        let bytes: u64 = self.markers.iter().map(|m| m.bytes).sum();
        let (told, seen) = ((lines, bytes), (self.sink.lines().count() as u64, self.sink.len() as u64));
        assert_eq!(told, seen, "lines and bytes, told and seen: {:?}\n{self}", self.markers);
        self
    }

    /// Asserts that from the last of the library's lines in the file on, the numbers are these.
    #[track_caller]
    pub fn back_in_the_file(&self, numbers: RangeInclusive<u32>) -> &Account {
        let after = self.file.rfind(&format!("\n{OURS}")).or_else(|| self.file.starts_with(OURS).then_some(0));
        let after = after.unwrap_or_else(|| panic!("no line starts with {OURS:?}: {self}"));
        let (seen, _) = self::numbers(&[self.file[after..].to_string()]);
        assert_eq!(seen, numbers.collect::<Vec<u32>>(), "after the library's line\n{self}");
        self
    }

    /// The pieces that belong nowhere, but for the ends of lines that stand whole in the file, too: where somebody wrote in the middle of a line
    /// while it was put back.
    pub fn pieces_of_no_line(&self) -> Vec<&String> {
        let is_end = |piece: &str| {
            let mut lines = self.file.lines();
            lines.any(|line| whole(line) && line.len() > piece.len() && line.ends_with(piece))
        };
        let text = |piece: &String| piece.strip_prefix("file: ").map(|text| text.trim_matches('"').to_string());
        self.pieces.iter().filter(|piece| text(piece).is_none_or(|text| !is_end(&text))).collect()
    }

    /// How many bytes came out elsewhere.
    pub fn sink_bytes(&self) -> u64 {
        self.sink.len() as u64
    }

    /// For a table: how many are in the file, elsewhere, and cut.
    pub fn places(&self) -> String {
        format!("file {:3}, elsewhere {:3}, cut {}", self.in_file.len(), self.in_sink.len(), self.rejoined.len())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(12);
            let odd = |l: &&&str| numbers(&[(**l).to_string()]).0.len() != 1;
            let odd: Vec<&&str> = lines[..from].iter().filter(odd).take(12).collect();
            format!("{} lines; unusual: {odd:#?}; last: {:#?}", lines.len(), &lines[from..])
        };
        writeln!(f, "{}, lines of ours {:?}", self.places(), self.markers)?;
        write!(f, "--- file: {}\n--- elsewhere: {}", show(&self.file), show(&self.sink))
    }
}

/// How often each number is there.
fn count(places: &[&[u32]]) -> BTreeMap<u32, u32> {
    let mut seen = BTreeMap::new();
    for &n in places.iter().copied().flatten() {
        *seen.entry(n).or_default() += 1;
    }
    seen
}

/// What stands in one line of a file: a line, perhaps behind the head of another one that was cut there.
fn cut_at_heads(text: &str) -> Vec<&str> {
    let mut cuts: Vec<usize> = text.match_indices(BEFORE).map(|(at, _)| at).filter(|&at| at > 0).collect();
    cuts.push(text.len());
    let mut from = 0;
    cuts.into_iter().map(|at| &text[std::mem::replace(&mut from, at)..at]).collect()
}

/// Is it exactly a line that [`line()`] makes?
fn whole(text: &str) -> bool {
    let at = text.find('~').and_then(|at| text.get(at + 1..at + 6));
    at.and_then(|digits| digits.parse().ok()).is_some_and(|n| text == line(n))
}

/// The numbers of whole payloads in these lines, and the lines in which a payload is cut.
fn numbers(lines: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut found = vec![];
    let mut cut = vec![];
    for text in lines {
        let mut left = text.as_str();
        let mut torn = false;
        while let Some(at) = left.find('~') {
            let tail = &left[at..];
            match tail.get(1..6).and_then(|digits| digits.parse().ok()) {
                Some(n) if tail.starts_with(&payload(n)) => {
                    found.push(n);
                    left = &tail[PAYLOAD..];
                }
                _ => {
                    torn = true;
                    left = &tail[1..];
                }
            }
        }
        if torn {
            // Another process may have gone on behind the head of a line before that could be ended.
            let next = text.match_indices(BEFORE).map(|(at, _)| at).find(|&at| at > 0);
            let head = next.map_or(text.as_str(), |at| &text[..at]);
            cut.push(if head.contains('~') { head } else { text }.to_string());
        }
    }
    (found, cut)
}

/// The number of the payload that a head and a rest make together, and neither has alone.
fn joined(head: &str, rest: &str) -> Option<u32> {
    let (mut all, cut) = numbers(&[format!("{head}{rest}")]);
    if all.len() == 1 && cut.is_empty() { all.pop() } else { None }
}
