//! What users and dying processes may hand to the parsers: any bytes. TIDEOVER_FUZZ=COUNT tries more than the usual 200,000 of each.
//!
//! The same bytes each time: a failure can be looked at.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use tideover_contract::page::{SIZE, View, uncounted};
use tideover_contract::settings::{Kind, SETTINGS, parse};
use tideover_contract::{glob, random, settings};
use tideover_tests::{Run, Scratch, tideover};

struct Random(random::Random);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// Up to `most` parts, put together.
    fn made_of(&mut self, parts: &[&str], most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).flat_map(|_| self.one_of(parts).bytes()).collect()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }
}

fn rounds() -> usize {
    std::env::var("TIDEOVER_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000)
}

#[test]
fn patterns_match_what_fnmatch_says() {
    let mut random = Random(random::Random::new(1));
    let parts = ["a", "b", ".", "*", "?", "[ab]", "[!ab]", "[a-c]", "[^.]", "\\*", "\\a", "**"];
    let mut matched = 0;
    for _ in 0..rounds() {
        let (pattern, text) = (random.made_of(&parts, 8), random.made_of(&["a", "b", ".", "*", "c"], 8));
        let [c_pattern, c_text] = [&pattern, &text].map(|bytes| CString::new(bytes.clone()).expect("no NUL"));
        // SAFETY: two C strings; the locale of this program is "C".
        let native = unsafe { libc::fnmatch(c_pattern.as_ptr(), c_text.as_ptr(), 0) } == 0;
        assert_eq!(glob::matches(&pattern, &text), native, "{c_pattern:?} {c_text:?}");
        matched += usize::from(native);
    }
    assert!(matched > rounds() / 50, "{matched} matched");
}

#[test]
fn any_pattern_is_answered() {
    let mut random = Random(random::Random::new(2));
    for _ in 0..rounds() {
        let (pattern, text) = (random.bytes(12), random.bytes(12));
        let _ = (glob::any(&pattern, &text), glob::is_well_formed(&pattern));
    }
    // No pattern takes exponential time.
    assert!(!glob::matches(&b"a*".repeat(200), &b"a".repeat(1000)[..199]));
    assert!(!glob::matches(&[b"*a".repeat(300), b"b".to_vec()].concat(), &b"a".repeat(3000)));
}

#[test]
fn settings_are_in_their_range_or_refused() {
    let mut random = Random(random::Random::new(3));
    let parts = [
        "0",
        "1",
        "9",
        "99999999999",
        ".",
        "-",
        "+",
        "e",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "K",
        "M",
        "G",
        "T",
        "/",
        "min",
        " ",
        ",",
        "off",
    ];
    let parts = [
        &parts[..],
        &["auto", "stdout", "=", "\u{e9}", "\0", "nan", "inf", "0x", "_", "us", "ns", "B", "%", "force", "park"],
    ]
    .concat();
    let mut taken = 0;
    for _ in 0..rounds() {
        let text = if random.below(8) == 0 { random.bytes(20) } else { random.made_of(&parts, 4) };
        let setting = &SETTINGS[random.below(SETTINGS.len())];
        let value = parse(&setting.kind, &text);
        taken += usize::from(value.is_some());
        if let (Kind::Count(low, high) | Kind::Ratio(low, high), Some(value)) = (&setting.kind, value) {
            assert!((*low..=*high).contains(&value), "{}={text:?}: {value}", setting.name);
        }
        let _ = (settings::by_env(&text), String::from_utf8(text).map(|name| settings::by_name(&name)));
    }
    assert!(taken > 100, "{taken} taken");
}

fn read_all(bytes: &[u8]) -> bool {
    let Ok(view) = View::new(bytes) else { return false };
    let _ = (
        view.pid(),
        view.state(),
        view.uid(),
        view.started_boot_ns(),
        view.started_ns(),
        view.version(),
        view.program(),
    );
    let _ = (view.opened(), view.closed(), view.refusals().count(), view.collectors().count(), view.skips().count());
    let _: u64 = (0..99)
        .map(|i| view.counter(i).wrapping_add(view.setting(i).map_or(0, |(value, _)| value)))
        .fold(0, u64::wrapping_add);
    view.events().count() <= 64
}

#[test]
fn a_torn_or_forged_page_is_read_without_harm() {
    let mut random = Random(random::Random::new(4));
    let whole = uncounted(1, 0, 1, 1, b"program");
    assert_eq!(whole.len(), SIZE);
    let mut read = 0;
    for _ in 0..rounds() / 10 {
        let mut page = whole.to_vec();
        for _ in 0..random.below(200) {
            // The first bytes are the magic, which a forger would get right.
            let at = 16 + random.below(SIZE - 16);
            page[at] = random.below(256) as u8;
        }
        read += usize::from(read_all(&page));
        page.truncate(random.below(SIZE));
        assert!(!read_all(&page), "a page that was cut");
        read_all(&random.bytes(64));
    }
    assert!(read > 100, "{read} read");
}

#[test]
fn the_command_shows_forged_pages_without_a_panic() {
    let mut random = Random(random::Random::new(5));
    let pages = Scratch::new();
    let folder = pages.join("tideover.0");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
    let mine = folder.join(std::process::id().to_string());
    for round in 0..8 {
        let mut page = uncounted(std::process::id(), 0, u64::from(round == 0), 1, b"forged").to_vec();
        for _ in 0..random.below(3000) {
            let at = 16 + random.below(SIZE - 16);
            page[at] = random.below(256) as u8;
        }
        fs::write(&mine, &page).expect("a page");
        let pid = std::process::id().to_string();
        for args in [
            vec!["ps", "--json"],
            vec!["ps"],
            vec!["stat", &pid],
            vec!["stat", &pid, "--json"],
            vec!["config", &pid],
            vec!["metrics"],
        ] {
            let outcome = Run::new(tideover()).args(&args).env("TIDEOVER_PAGE_DIR", pages.path()).output();
            assert!(outcome.code().is_some_and(|code| code < 100), "{args:?}: {outcome}");
            outcome.does_not_say("panicked");
        }
    }
}
