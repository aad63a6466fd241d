//! The effective settings: read once from the environment, by the constructor.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{self, COUNT, Id, Kind, MAX_PATH, MAX_TEXT, Source};

use crate::os::text::Text;

/// Variables that are ours without being settings: for `tideover run`, and its note of where values came from.
const NOT_SETTINGS: [&[u8]; 2] = [b"TIDEOVER_LIB", b"TIDEOVER_ORIGIN"];

type PathText = Text<{ MAX_PATH + 1 }>;
type LineText = Text<{ MAX_TEXT + 1 }>;

/// Values by [`Id`]. Written by the constructor only.
pub struct Settings {
    values: [AtomicU64; COUNT],
    sources: [AtomicU8; COUNT],
}

/// Their texts, which hardly anybody sets: elsewhere, so that no process touches them (layout.ld).
struct TextTable(UnsafeCell<Texts>);

struct Texts {
    page_dir: PathText,
    log_file: PathText,
    fallback: PathText,
    prefix: LineText,
    logs: LineText,
    logs_except: LineText,
}

// SAFETY: written before the constructor sets the phase that lets anybody read it.
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
}));

/// What the environment says about who is meant, and what was wrong with it. Borrowed from the environment, which a host may
/// overwrite later.
pub struct Read<'a> {
    /// TIDEOVER_ONLY.
    pub only: &'a [u8],
    /// TIDEOVER_EXCEPT.
    pub except: &'a [u8],
    environment: Environment<'a>,
}

impl Settings {
    /// A value as the contract stores it.
    #[inline]
    pub fn value(&self, index: usize) -> u64 {
        self.values[index].load(Relaxed)
    }

    /// A value by name.
    pub fn get(&self, id: Id) -> u64 {
        self.value(id as usize)
    }

    /// Is this flag on?
    pub fn flag(&self, id: Id) -> bool {
        self.get(id) != 0
    }

    /// Where a value came from.
    pub fn source(&self, index: usize) -> u8 {
        self.sources[index].load(Relaxed)
    }

    /// May the library ever turn clients away for lack of descriptors? Then it needs a descriptor for that.
    pub fn may_shed(&self) -> bool {
        let mode = self.get(Id::Accept);
        mode == settings::accept::SHED || mode == settings::accept::PARK && self.get(Id::ShedAfter) != 0
    }

    fn texts(&self) -> &Texts {
        // SAFETY: written only by `read`, before anybody reads.
        unsafe { &*TABLE.0.get() }
    }

    /// TIDEOVER_PAGE_DIR.
    pub fn page_dir(&self) -> &[u8] {
        match self.texts().page_dir.as_bytes() {
            b"" => settings::ROWS[Id::PageDir as usize].default.as_bytes(),
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

    /// Reads the environment. `trusted` is false in set-uid programs: then all is as if nothing were set.
    ///
    /// # Safety
    /// Once, before any other use, from a single thread; `environment` is a NULL-terminated array of C strings.
    pub unsafe fn read<'a>(&self, environment: *const *const c_char, trusted: bool) -> Read<'a> {
        // SAFETY: promised by the caller.
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
                    self.put_text(index, if exact { value } else { value.trim_ascii() });
                    if index == Id::Only as usize {
                        read.only = value;
                    } else if index == Id::Except as usize {
                        read.except = value;
                    }
                }
                None => {
                    self.sources[index].store(Source::Refused as u8, Relaxed);
                    // An exception that can't be understood must not make a log of what it was to except.
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

    fn put_text(&self, index: usize, value: &[u8]) {
        // SAFETY: called by `read` only, see there.
        let texts = unsafe { &mut *TABLE.0.get() };
        match index {
            i if i == Id::PageDir as usize => texts.page_dir.set(value),
            i if i == Id::LogFile as usize => texts.log_file.set(value),
            i if i == Id::Fallback as usize => texts.fallback.set(value),
            i if i == Id::FallbackPrefix as usize => texts.prefix.set(value),
            i if i == Id::Logs as usize => texts.logs.set(value),
            i if i == Id::LogsExcept as usize => texts.logs_except.set(value),
            _ => {}
        }
    }
}

impl Read<'_> {
    /// One warning for each variable that was refused or is not known.
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

/// The variables that begin with TIDEOVER_, as (name, value).
#[derive(Clone, Copy)]
struct Environment<'a> {
    next: *const *const c_char,
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
            // SAFETY: promised to `Settings::read`: NULL-terminated, each entry a C string.
            let entry = unsafe { *self.next };
            if entry.is_null() {
                return None;
            }
            // SAFETY: not yet at the NULL.
            self.next = unsafe { self.next.add(1) };
            // SAFETY: reads no further than the first difference, so never past the NUL.
            let ours = (0..9).all(|i| unsafe { *entry.add(i) } as u8 == b"TIDEOVER_"[i]);
            if !ours {
                continue;
            }
            // SAFETY: a C string.
            let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
            if let Some(equals) = entry.iter().position(|&b| b == b'=') {
                return Some((&entry[..equals], &entry[equals + 1..]));
            }
        }
    }
}
