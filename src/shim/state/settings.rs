//! The values of the settings: the constructor reads them from the environment and the policy file, and they change only when the policy
//! file is read again, because `tideover control` said so.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering::*};

use tideover_contract::glob;
use tideover_contract::settings::{self, COUNT, Id, Kind, MAX_PATH, MAX_TEXT, Source};

use crate::os::sys;
use crate::os::text::Text;
use crate::state::environment::Environment;
use crate::state::policy::{self, Trouble};

/// Variables whose names begin as those of settings do: they are for `tideover run`, which also notes in one where values came from.
const NOT_SETTINGS: [&[u8]; 3] = [b"TIDEOVER_LIB", b"TIDEOVER_ORIGIN", CONFIG];
/// The variable that names another policy file.
const CONFIG: &[u8] = b"TIDEOVER_CONFIG";

/// A path, with its NUL.
type PathText = Text<{ MAX_PATH + 1 }>;
/// A list of patterns or a line of text, with its NUL.
type LineText = Text<{ MAX_TEXT + 1 }>;

/// Values by [`Id`]. Only [`Settings::read`] and [`Settings::reload`] write them.
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
    /// TIDEOVER_CONFIG, which is no setting; `?`: it is no path.
    config: PathText,
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
    config: PathText::new(),
}));

/// The texts since the policy was read again; null: it was not.
static RELOADED: AtomicPtr<Texts> = AtomicPtr::new(core::ptr::null_mut());
/// See [`Settings::policy`].
static POLICY: AtomicU64 = AtomicU64::new(0);
/// Has the constructor read the settings?
static IS_LOADED: AtomicBool = AtomicBool::new(false);
/// Settings that stay as they were at load.
const FIXED: [Id; 3] = [Id::Page, Id::PageDir, Id::HoldDir];

/// What only the constructor needs to know: whether the library is to act in this program, and what was wrong. It borrows from the
/// environment, which the program may overwrite later.
pub struct Read<'a> {
    /// Is this program one of TIDEOVER_ONLY, and none of TIDEOVER_EXCEPT?
    pub is_meant: bool,
    environment: Environment<'a>,
    trouble: Option<Trouble>,
}

/// What the two lists of programs say of this one.
struct Lists<'a> {
    program: &'a [u8],
    is_left_out: bool,
    is_excepted: bool,
}

impl Lists<'_> {
    fn note(&mut self, index: usize, value: &[u8]) {
        if index == Id::Only as usize {
            self.is_left_out = !value.trim_ascii().is_empty() && !glob::any(value, self.program);
        } else if index == Id::Except as usize {
            self.is_excepted = glob::any(value, self.program);
        }
    }
}

/// Settings that are not in force yet.
struct Draft {
    values: [u64; COUNT],
    sources: [u8; COUNT],
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
        let reloaded = RELOADED.load(Acquire);
        // SAFETY: only `read` writes the texts, and its caller promises that nothing else uses them then; or these are what `reload` has
        // put there, which nobody writes to any more, and which are never unmapped.
        unsafe { if reloaded.is_null() { &*TABLE.0.get() } else { &*reloaded } }
    }

    /// TIDEOVER_PAGE_DIR.
    pub fn page_dir(&self) -> &[u8] {
        match self.texts().page_dir.as_bytes() {
            b"" => settings::default_text(Id::PageDir as usize).as_bytes(),
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

    /// Reads the environment, and the policy file for what that does not set. `trusted` is false in set-uid programs: no variable counts
    /// there, and the only file is root's own, under its default name. `program` is the name of the program.
    ///
    /// # Safety
    /// Nothing else uses the settings meanwhile, or has a text of theirs. `environment` is a NULL-terminated array of C strings, which stay
    /// as they are for as long as the result is used.
    pub unsafe fn read<'a>(&self, environment: *const *const c_char, trusted: bool, program: &[u8]) -> Read<'a> {
        // SAFETY: promised by the caller.
        let environment = unsafe { Environment::new(if trusted { environment } else { core::ptr::null() }) };
        for (index, value) in self.values.iter().enumerate() {
            value.store(settings::default_value(index), Relaxed);
        }
        // SAFETY: nothing else uses the settings, as the caller promises.
        let texts = unsafe { &mut *TABLE.0.get() };
        let mut lists = Lists { program, is_left_out: false, is_excepted: false };
        for (name, value) in environment {
            let Some(index) = settings::by_env(name) else {
                if name == CONFIG && !value.is_empty() {
                    texts.config.set(if is_path(value) { value } else { b"?" });
                }
                continue;
            };
            match settings::parse(&settings::ROWS[index].kind, value) {
                Some(parsed) => {
                    self.values[index].store(parsed, Relaxed);
                    self.sources[index].store(Source::Environment as u8, Relaxed);
                    texts.put(index, value);
                    lists.note(index, value);
                }
                None => self.sources[index].store(Source::Refused as u8, Relaxed),
            }
        }
        let me = if trusted { sys::geteuid() } else { 0 };
        let trouble = match texts.policy(me) {
            None => None,
            Some(Ok(file)) => {
                let mut draft = self.draft();
                let trouble = draft.take(&file, texts, &mut lists);
                self.put_in_force(&draft);
                POLICY.store(file.hash(), Relaxed);
                trouble
            }
            Some(Err(trouble)) => Some(trouble),
        };
        self.mind_refusals();
        Read { is_meant: !lists.is_left_out && !lists.is_excepted, environment, trouble }
    }

    /// Reads the policy file again, for the settings that the environment has not set. Returns whether the library is to act in this program,
    /// None if nothing has changed, and what was wrong. In any thread, one at a time.
    pub fn reload(&self, program: &[u8]) -> (Option<bool>, Option<Trouble>) {
        let old = self.texts();
        let me = if sys::is_secure() { 0 } else { sys::geteuid() };
        let (file, trouble) = match old.policy(me) {
            Some(Ok(file)) => (Some(file), None),
            // What can't be read changes nothing.
            Some(Err(trouble)) => return (None, Some(trouble)),
            None => (None, None),
        };
        let Ok(fresh) = sys::map_private(size_of::<Texts>()) else {
            return (None, Some(Trouble::Unreadable(libc::ENOMEM)));
        };
        // SAFETY: fresh memory of this size, which nobody else knows; the bytes of texts are texts. It is never unmapped: other threads may
        // have a text of the former one.
        let texts = unsafe {
            let fresh = fresh.cast::<Texts>();
            core::ptr::copy_nonoverlapping(old, fresh, 1);
            &mut *fresh
        };
        let mut draft = self.draft();
        for index in 0..COUNT {
            if !draft.may_change(index) {
                continue;
            }
            draft.values[index] = settings::default_value(index);
            draft.sources[index] = Source::Default as u8;
            texts.put(index, b"");
        }
        let mut lists = Lists { program, is_left_out: false, is_excepted: false };
        let trouble = file.as_ref().map_or(trouble, |file| draft.take(file, texts, &mut lists));
        RELOADED.store(texts, Release);
        self.put_in_force(&draft);
        POLICY.store(file.map_or(0, |file| file.hash()), Relaxed);
        self.mind_refusals();
        (Some(!lists.is_left_out && !lists.is_excepted && !self.flag(Id::Disable)), trouble)
    }

    fn draft(&self) -> Draft {
        Draft {
            values: core::array::from_fn(|index| self.value(index)),
            sources: core::array::from_fn(|index| self.source(index)),
        }
    }

    fn put_in_force(&self, draft: &Draft) {
        for index in 0..COUNT {
            self.values[index].store(draft.values[index], Relaxed);
            self.sources[index].store(draft.sources[index], Relaxed);
        }
    }

    /// A list of exceptions that can't be parsed must not lead to one of these files being taken for a log.
    fn mind_refusals(&self) {
        let source = self.source(Id::LogsExcept as usize);
        if source == Source::Refused as u8 || source == Source::PolicyRefused as u8 {
            self.switch_off_fallback();
        }
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
}

impl Draft {
    /// May the policy set this one? Not what the environment has set.
    fn may_change(&self, index: usize) -> bool {
        let source = Source::from_byte(self.sources[index]);
        let is = |ids: &[Id]| ids.iter().any(|&id| id as usize == index);
        // What the page and the hold are called is known by their files, once there are any; a set-uid program stays silent.
        let is_fixed = || IS_LOADED.load(Relaxed) && (is(&FIXED) || is(&[Id::Fallback, Id::Log]) && sys::is_secure());
        source != Source::Environment && source != Source::Refused && !is_fixed()
    }

    /// Takes what a policy gives.
    #[cold]
    #[inline(never)]
    fn take(&mut self, file: &policy::File, texts: &mut Texts, lists: &mut Lists<'_>) -> Option<Trouble> {
        let program = lists.program;
        file.apply(program, |index, value| {
            if !self.may_change(index) {
                return true;
            }
            let parsed = settings::parse(&settings::ROWS[index].kind, value);
            let source = if parsed.is_some() { Source::Policy } else { Source::PolicyRefused };
            self.values[index] = parsed.unwrap_or_else(|| settings::default_value(index));
            self.sources[index] = source as u8;
            let value = if parsed.is_some() { value } else { b"" };
            texts.put(index, value);
            lists.note(index, value);
            parsed.is_some()
        })
    }
}

impl Texts {
    /// Stores a setting, if it is a text.
    fn put(&mut self, index: usize, value: &[u8]) {
        let exact = matches!(settings::ROWS[index].kind, Kind::Text);
        let value = if exact { value } else { value.trim_ascii() };
        match index {
            i if i == Id::PageDir as usize => self.page_dir.set(value),
            i if i == Id::LogFile as usize => self.log_file.set(value),
            i if i == Id::Fallback as usize => self.fallback.set(value),
            i if i == Id::FallbackPrefix as usize => self.prefix.set(value),
            i if i == Id::Logs as usize => self.logs.set(value),
            i if i == Id::LogsExcept as usize => self.logs_except.set(value),
            i if i == Id::HoldDir as usize => self.hold_dir.set(value),
            _ => {}
        }
    }

    /// Path of the policy file.
    fn config(&self) -> &CStr {
        let path = self.config.as_c_str();
        if path.is_empty() { policy::DEFAULT } else { path }
    }

    /// The policy file; None if there is none, and none was named.
    #[unsafe(link_section = ".text.at_load")]
    fn policy(&self, me: u32) -> Option<Result<policy::File, Trouble>> {
        let path = self.config();
        if path == c"?" {
            return Some(Err(Trouble::Path));
        }
        let is_named = !self.config.as_bytes().is_empty();
        policy::open(path, me).or_else(|| is_named.then_some(Err(Trouble::Unreadable(libc::ENOENT))))
    }
}

/// Can this be the path of a policy file?
fn is_path(value: &[u8]) -> bool {
    value.first() == Some(&b'/') && value.len() <= MAX_PATH
}

impl Settings {
    /// Logs what is wrong with the policy file.
    pub fn say(&self, trouble: &Trouble) {
        let path = crate::os::display::Printable(self.texts().config().to_bytes());
        log::warn!("the policy file {path}{trouble} (`tideover config --check` checks it)");
    }

    /// The hash of the policy file whose values are in effect; 0: there was none.
    pub fn policy(&self) -> u64 {
        POLICY.load(Relaxed)
    }

    /// The constructor has read the settings: what follows is [`Settings::reload`].
    pub fn are_read(&self) {
        IS_LOADED.store(true, Relaxed);
    }
}

impl Read<'_> {
    /// Logs a warning for what is wrong with the policy file, for each variable whose value can't be parsed, and for each whose name is not known.
    pub fn complain(&self) {
        self.trouble.as_ref().inspect(|trouble| SETTINGS.say(trouble));
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
                    } else {
                        Some(settings::default_text(index)).filter(|default| !default.is_empty()).unwrap_or("none")
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
