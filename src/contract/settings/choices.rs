//! The words that settings accept, and their numbers: each setting's words stand here once.

macro_rules! choices {
    ($($(#[$meta:meta])* $module:ident {
        $($name:ident $word:literal $help:literal;)*
        $(=> $other:ident $other_help:literal;)?
    })*) => {$(
        $(#[$meta])*
        pub mod $module {
            /// The words; the index of one is its number.
            pub const WORDS: &[&str] = &[$($word,)*];

            #[allow(clippy::upper_case_acronyms, non_camel_case_types)]
            enum Number { $($name,)* }

            $(#[doc = $help] pub const $name: u64 = Number::$name as u64;)*
            $(#[doc = $other_help] pub const $other: u64 = WORDS.len() as u64;)?
        }
    )*};
}

choices! {
    /// Numbers of the words of TIDEOVER_RAISE.
    raise {
        OFF "off" "The soft limit is never raised.";
        AUTO "auto" "It is raised as far as the program bears: see [`crate::select`].";
        FORCE "force" "It is raised whatever functions the program imports.";
    }

    /// Numbers of the words of TIDEOVER_ACCEPT.
    accept {
        PASS "pass" "The error is passed on.";
        PARK "park" "The listener is parked.";
        SHED "shed" "Clients are turned away.";
    }

    /// Numbers of the words of TIDEOVER_SHED_CLOSE.
    shed_close {
        RST "rst" "Clients that are turned away see a reset.";
        FIN "fin" "Clients that are turned away see an orderly end.";
    }

    /// Numbers of the words of TIDEOVER_OVER_LIMIT.
    over_limit {
        WAIT "wait" "Clients over a limit wait in the listener's queue.";
        REFUSE "refuse" "Clients over a limit are turned away.";
    }

    /// Numbers of the words of TIDEOVER_ON_FULL.
    on_full {
        FAIL "fail" "A call that finds its disk full fails.";
        WAIT "wait" "It waits for space.";
    }

    /// Numbers of the words of TIDEOVER_LOG.
    log_level {
        OFF "off" "Nothing is said.";
        ERROR "error" "Errors are said.";
        WARN "warn" "Warnings, too.";
        INFO "info" "What the library did, too.";
        DEBUG "debug" "Why it did nothing else, too.";
    }

    /// Numbers of the words of TIDEOVER_LOG_FORMAT.
    log_format {
        TEXT "text" "A message is a line of text.";
        JSON "json" "A message is a JSON object.";
    }

    /// Numbers of the words of TIDEOVER_FALLBACK ([`Kind::Sink`](super::Kind::Sink)), and of an absolute path, which it accepts besides.
    sink {
        AUTO "auto" "Lines go where messages go: standard output or standard error if it is known to carry messages, else the journal or syslog.";
        STDOUT "stdout" "Lines go to what was standard output at start.";
        STDERR "stderr" "Lines go to what was standard error at start.";
        JOURNAL "journal" "Lines go to journald, by its own protocol.";
        SYSLOG "syslog" "Lines go to the syslog daemon at /dev/log.";
        HOLD "hold" "Lines are held until the file can be written, and go nowhere else.";
        OFF "off" "Lines go nowhere: the true error is returned.";
        => PATH "Lines go to the file of this path.";
    }
}
