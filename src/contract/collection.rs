//! The language runtimes whose garbage collectors the library can run to free descriptors, and why it did not run one.

macro_rules! runtimes {
    ($($id:ident $name:literal $usual:literal $text:literal;)*) => {
        /// A runtime; `as usize` is its index in [`Runtime::ALL`] and in the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Runtime { $(#[doc = $text] $id,)* }

        impl Runtime {
            /// All of them, in order.
            pub const ALL: &'static [Runtime] = &[$(Runtime::$id,)*];

            /// Its name in TIDEOVER_GC and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Runtime::$id => $name,)* }
            }

            /// Is its garbage collected unless the user says otherwise?
            pub const fn is_usual(self) -> bool {
                match self { $(Runtime::$id => $usual,)* }
            }
        }
    };
}

runtimes! {
    Python "python" true "CPython 3.6 and later";
    Jvm "jvm" true "OpenJDK 8 and later";
    Ruby "ruby" true "Ruby (MRI)";
    Guile "guile" false "Guile";
    Php "php" false "PHP without threads";
}

impl Runtime {
    /// Finds a runtime by its name.
    pub fn by_name(name: &[u8]) -> Option<Runtime> {
        Runtime::ALL.iter().copied().find(|runtime| runtime.name().as_bytes() == name)
    }

    /// Its bit in a value of `Kind::Runtimes`.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Does a value of `Kind::Runtimes` name it?
    pub const fn is_in(self, value: u64) -> bool {
        value & self.bit() != 0 || (value & AUTO != 0 && self.is_usual())
    }
}

/// The bit of the word `auto` in a value of `Kind::Runtimes`.
pub const AUTO: u64 = 1 << 63;

macro_rules! skips {
    ($($id:ident $name:literal $text:literal;)*) => {
        /// Why a collector was not run; `as usize` is its index in [`Skip::ALL`] and in the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Skip { $(#[doc = $text] $id,)* }

        impl Skip {
            /// All of them, in order.
            pub const ALL: &'static [Skip] = &[$(Skip::$id,)*];

            /// One word, for counters.
            pub const fn name(self) -> &'static str {
                match self { $(Skip::$id => $name,)* }
            }

            /// The reason, as a sentence without its end.
            pub const fn text(self) -> &'static str {
                match self { $(Skip::$id => $text,)* }
            }
        }
    };
}

skips! {
    SwitchedOff "switched_off" "TIDEOVER_GC does not name this runtime";
    Unknown "unknown" "this build of the runtime is not one that is known: functions are missing, or it has threads that are not known";
    NotRunning "not_running" "the runtime is not initialised yet, or is ending";
    ForeignCaller "foreign_caller" "the call came from code that is not the runtime's own input and output, and may hold locks";
    ForeignThread "foreign_thread" "the thread does not belong to the runtime";
    LockHeld "lock_held" "the caller holds the interpreter's lock, so its data may be half changed";
    Interpreters "interpreters" "there is more than one interpreter";
    Forked "forked" "this is the child of a fork that was made without the interpreter's lock, or without the runtime's threads";
    Collecting "collecting" "a collection is under way";
    Disabled "disabled" "the program has switched its collector off";
    Budget "budget" "collections have freed too little for the time they took";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_means_the_usual_ones() {
        let usual: Vec<_> = Runtime::ALL.iter().filter(|r| r.is_in(AUTO)).map(|r| r.name()).collect();
        assert_eq!(usual, ["python", "jvm", "ruby"]);
        assert!(Runtime::Php.is_in(AUTO | Runtime::Php.bit()) && !Runtime::Php.is_in(AUTO | Runtime::Guile.bit()));
        assert!(!Runtime::ALL.iter().any(|r| r.is_in(0)));
    }
}
