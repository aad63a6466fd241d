//! The values of the settings: the constructor reads them from the environment, and they never change after that.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{self, COUNT, Id, Kind, MAX_PATH, MAX_TEXT, Source};

use crate::os::text::Text;

/// Variables whose names begin as those of settings do: they are for `tideover run`, which also notes in one where values came from.
const NOT_SETTINGS: [&[u8]; 2] = [b"TIDEOVER_LIB", b"TIDEOVER_ORIGIN"];

/// A path, with its NUL.
type PathText = Text<{ MAX_PATH + 1 }>;
/// A list of patterns or a line of text, with its NUL.
type LineText = Text<{ MAX_TEXT + 1 }>;

/// Values by [`Id`]. Only the constructor writes them.
pub struct Settings {
    /// As the contract stores them: numbers, nanoseconds, bytes, millionths, choices.
    values: [AtomicU64; COUNT],
    /// A [`Source`] each.
    sources: [AtomicU8; COUNT],
}

/// The values that are texts. Few processes have any, so they are not beside the others, in memory that each start touches (layout.ld).
struct TextTable(UnsafeCell<Texts>);

/// One field for each setting that is a text, and is needed after the constructor; empty: it is not set.
struct Texts {
    page_dir: PathText,
    log_file: PathText,
    fallback: PathText,
    prefix: LineText,
    logs: LineText,
    logs_except: LineText,
    hold_dir: PathText,
}

// SAFETY: only `Settings::read` writes it, whose caller promises that nothing else uses the settings at that time. After that there are
// only shared references.
unsafe impl Sync for TextTable {}

/// The settings in force.
pub static SETTINGS: Settings =
    Settings { values: [const { AtomicU64::new(0) }; COUNT], sources: [const { AtomicU8::new(0) }; COUNT] };

#[unsafe(link_section = ".tables")]
static TABLE: TextTable = TextTable(UnsafeCell::new(Texts {
    page_dir: PathText::new(),
    log_file: PathText::new(),
    fallback: PathText::new(),
    prefix: LineText::new(),
    logs: LineText::new(),
    logs_except: LineText::new(),
    hold_dir: PathText::new(),
}));

/// What only the constructor needs of the environment: the programs to act in, and what was wrong. It borrows from the environment, which
/// the program may overwrite later.
pub struct Read<'a> {
    /// TIDEOVER_ONLY: patterns of program names; empty: all programs.
    pub only: &'a [u8],
    /// TIDEOVER_EXCEPT: patterns of program names.
    pub except: &'a [u8],
    environment: Environment<'a>,
}

impl Settings {
    /// A value as the contract stores it, by its index in the table of settings.
    #[inline]
    pub fn value(&self, index: usize) -> u64 {
        self.values[index].load(Relaxed)
    }

    /// A value as the contract stores it.
    pub fn get(&self, id: Id) -> u64 {
        self.value(id as usize)
    }

    /// Is this setting, which is 0 or 1, on?
    pub fn flag(&self, id: Id) -> bool {
        self.get(id) != 0
    }

    /// Where a value came from, a [`Source`], by its index in the table of settings.
    pub fn source(&self, index: usize) -> u8 {
        self.sources[index].load(Relaxed)
    }

    /// May the library ever turn clients away for lack of descriptors? Then it needs a descriptor for that.
    pub fn may_shed(&self) -> bool {
        let mode = self.get(Id::Accept);
        mode == settings::accept::SHED || mode == settings::accept::PARK && self.get(Id::ShedAfter) != 0
    }

    fn texts(&self) -> &Texts {
        // SAFETY: only `read` writes the texts, and its caller promises that nothing else uses them then.
        unsafe { &*TABLE.0.get() }
    }

    /// TIDEOVER_PAGE_DIR.
    pub fn page_dir(&self) -> &[u8] {
        match self.texts().page_dir.as_bytes() {
            b"" => settings::ROWS[Id::PageDir as usize].default.as_bytes(),
            set => set,
        }
    }

    /// TIDEOVER_HOLD_DIR, or where that is not set, the directory of the pages.
    pub fn hold_dir(&self) -> &[u8] {
        match self.texts().hold_dir.as_bytes() {
            b"" => self.page_dir(),
            set => set,
        }
    }

    /// TIDEOVER_LOG_FILE, if one is set.
    pub fn log_file(&self) -> Option<&CStr> {
        Some(self.texts().log_file.as_c_str()).filter(|path| !path.is_empty())
    }

    /// TIDEOVER_FALLBACK, when it is a path.
    pub fn fallback_path(&self) -> &CStr {
        self.texts().fallback.as_c_str()
    }

    /// TIDEOVER_FALLBACK_PREFIX.
    pub fn fallback_prefix(&self) -> &[u8] {
        self.texts().prefix.as_bytes()
    }

    /// TIDEOVER_LOGS.
    pub fn logs(&self) -> &[u8] {
        self.texts().logs.as_bytes()
    }

    /// TIDEOVER_LOGS_EXCEPT.
    pub fn logs_except(&self) -> &[u8] {
        self.texts().logs_except.as_bytes()
    }

    /// Reads the environment. `trusted` is false in set-uid programs: then all settings have their defaults.
    ///
    /// # Safety
    /// Nothing else uses the settings meanwhile, or has a text of theirs. `environment` is a NULL-terminated array of C strings, which stay
    /// as they are for as long as the result is used.
    pub unsafe fn read<'a>(&self, environment: *const *const c_char, trusted: bool) -> Read<'a> {
        let environment = Environment { next: if trusted { environment } else { core::ptr::null() }, life: &[] };
        for (index, value) in self.values.iter().enumerate() {
            value.store(settings::default_value(index), Relaxed);
        }
        let mut read = Read { only: &[], except: &[], environment };
        let mut excepted = false;
        for (name, value) in environment {
            let Some(index) = settings::by_env(name) else { continue };
            match settings::parse(&settings::ROWS[index].kind, value) {
                Some(parsed) => {
                    self.values[index].store(parsed, Relaxed);
                    self.sources[index].store(Source::Environment as u8, Relaxed);
                    let exact = matches!(settings::ROWS[index].kind, Kind::Text);
                    // SAFETY: nothing else uses the settings, as the caller promises.
                    unsafe { self.put_text(index, if exact { value } else { value.trim_ascii() }) };
                    if index == Id::Only as usize {
                        read.only = value;
                    } else if index == Id::Except as usize {
                        read.except = value;
                    }
                }
                None => {
                    self.sources[index].store(Source::Refused as u8, Relaxed);
                    // A list of exceptions that can't be parsed must not lead to one of these files being taken for a log.
                    if index == Id::LogsExcept as usize {
                        excepted = true;
                    }
                }
            }
        }
        if excepted {
            self.switch_off_fallback();
        }
        read
    }

    /// Nothing is diverted in this process.
    pub fn switch_off_fallback(&self) {
        self.values[Id::Fallback as usize].store(settings::sink::OFF, Relaxed);
    }

    /// Nothing is diverted in this process, and nothing is said.
    pub fn be_silent(&self) {
        self.switch_off_fallback();
        self.values[Id::Log as usize].store(settings::log_level::OFF, Relaxed);
    }

    /// Stores a setting that is a text.
    ///
    /// # Safety
    /// Nothing else uses the settings meanwhile, or has a text of theirs.
    unsafe fn put_text(&self, index: usize, value: &[u8]) {
        // SAFETY: the caller promises that there is no other reference to the texts.
        let texts = unsafe { &mut *TABLE.0.get() };
        match index {
            i if i == Id::PageDir as usize => texts.page_dir.set(value),
            i if i == Id::LogFile as usize => texts.log_file.set(value),
            i if i == Id::Fallback as usize => texts.fallback.set(value),
            i if i == Id::FallbackPrefix as usize => texts.prefix.set(value),
            i if i == Id::Logs as usize => texts.logs.set(value),
            i if i == Id::LogsExcept as usize => texts.logs_except.set(value),
            i if i == Id::HoldDir as usize => texts.hold_dir.set(value),
            _ => {}
        }
    }
}

impl Read<'_> {
    /// Logs a warning for each variable whose value can't be parsed, and for each whose name is not known.
    pub fn complain(&self) {
        for (name, value) in self.environment {
            let shown = |bytes| crate::os::display::Printable(bytes);
            match settings::by_env(name).map(|index| (&settings::ROWS[index], index)) {
                Some((setting, index)) if settings::parse(&setting.kind, value).is_none() => log::warn!(
                    "{}={} is not {}; using {}",
                    setting.env,
                    shown(value),
                    setting.kind,
                    if index == Id::LogsExcept as usize {
                        "the safe way: no log is diverted"
                    } else if setting.default.is_empty() {
                        "none"
                    } else {
                        settings::ROWS[index].default
                    }
                ),
                None if !NOT_SETTINGS.contains(&name) => {
                    log::warn!(
                        "{} is not a setting of this version; ignored (`tideover config` lists them)",
                        shown(name)
                    );
                }
                _ => {}
            }
        }
    }
}

/// The value of an environment variable; the first, if there are several.
///
/// # Safety
/// `environment` is a NULL-terminated array of C strings, which stay as they are while `'a` lasts.
#[unsafe(link_section = ".text.at_load")]
pub unsafe fn variable<'a>(mut environment: *const *const c_char, name: &[u8]) -> Option<&'a [u8]> {
    loop {
        // SAFETY: promised by the caller, and not yet past the NULL.
        let entry = unsafe { *environment };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not yet at the NULL.
        environment = unsafe { environment.add(1) };
        // SAFETY: reads no further than the first difference, so never past the NUL, which no name has.
        let is_named = name.iter().enumerate().all(|(i, &byte)| unsafe { *entry.add(i) } as u8 == byte);
        if !is_named {
            continue;
        }
        // SAFETY: a C string, which has at least as many bytes as the name.
        if let [b'=', value @ ..] = unsafe { CStr::from_ptr(entry.add(name.len())) }.to_bytes() {
            return Some(value);
        }
    }
}

/// Iterates over the variables whose names begin with TIDEOVER_, as (name, value).
#[derive(Clone, Copy)]
struct Environment<'a> {
    /// The entry that is looked at next, in the array that [`Settings::read`] was given; NULL: there is no array.
    next: *const *const c_char,
    /// For the lifetime: the strings are borrowed from the environment.
    life: &'a [u8],
}

impl<'a> Iterator for Environment<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[unsafe(link_section = ".text.at_load")]
    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.life;
        if self.next.is_null() {
            return None;
        }
        loop {
            // SAFETY: `next` is in the array that `Settings::read` was given: its caller promises that it is one of C strings, with a NULL at
            // its end, which has not been passed yet.
            let entry = unsafe { *self.next };
            if entry.is_null() {
                return None;
            }
            // SAFETY: this entry is not the NULL, so there is another one behind it.
            self.next = unsafe { self.next.add(1) };
            // SAFETY: `all` stops at the first byte that differs, so the bytes before this one are no NUL, and this one is still within the C
            // string.
            let ours = (0..9).all(|i| unsafe { *entry.add(i) } as u8 == b"TIDEOVER_"[i]);
            if !ours {
                continue;
            }
            // SAFETY: a C string, as the caller of `Settings::read` promises.
            let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
            if let Some(equals) = entry.iter().position(|&b| b == b'=') {
                return Some((&entry[..equals], &entry[equals + 1..]));
            }
        }
    }
}
