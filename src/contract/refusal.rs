//! Why a file is not taken for a log: the reasons that the library's rule gives and counts, and that readers name.

/// May the user overrule a refusal?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The user can't overrule it.
    Firm,
    /// TIDEOVER_LOGS overrules it.
    Yields,
}

macro_rules! refusals {
    ($($id:ident $name:literal $weight:ident $text:literal;)*) => {
        /// Why a file is not taken for a log; `as usize` is its index in [`Refusal::ALL`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Refusal { $(#[doc = $text] $id,)* }

        impl Refusal {
            /// All of them, in order.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$id,)*];

            /// One word, for counters.
            pub const fn name(self) -> &'static str {
                match self { $(Refusal::$id => $name,)* }
            }

            /// The reason, to stand after "is not taken for a log:".
            pub const fn text(self) -> &'static str {
                match self { $(Refusal::$id => $text,)* }
            }

            /// May TIDEOVER_LOGS overrule it?
            pub const fn weight(self) -> Weight {
                match self { $(Refusal::$id => Weight::$weight,)* }
            }
        }
    };
}

refusals! {
    NotRegular "not_regular" Firm "it is not a regular file";
    NoPath "no_path" Firm "its path is not known (is /proc mounted?)";
    NotOnDisk "not_on_disk" Firm "it is no file on a disk (/proc, /sys, /dev, memfd)";
    Excluded "excluded" Firm "TIDEOVER_LOGS_EXCEPT names it";
    Nameless "nameless" Firm "it was opened without a name (O_TMPFILE)";
    Direct "direct" Firm "it was opened for unbuffered input and output (O_DIRECT)";
    Positioned "positioned" Firm "the write has a position of its own (pwrite)";
    NotAppended "not_appended" Yields "it was not opened to append (O_APPEND)";
    Synchronous "synchronous" Yields "its writer asked for durability (O_SYNC)";
    Fsync "fsync" Yields "its writer asked for durability (fsync)";
    Fdatasync "fdatasync" Yields "its writer asked for durability (fdatasync)";
    SyncFileRange "sync_file_range" Yields "its writer asked for durability (sync_file_range)";
    Fallocate "fallocate" Yields "its writer reserved space for it (fallocate)";
    Pwrite "pwrite" Yields "its writer has written at positions (pwrite)";
    Ftruncate "ftruncate" Yields "its writer has cut it to a length (ftruncate)";
    Mapped "mapped" Yields "its writer has mapped it (mmap)";
    Database "database" Firm "it is named like a database's file";
    Segment "segment" Firm "it is named like a numbered segment of a database's log";
    Repository "repository" Firm "it is named like a repository's file";
    Keys "keys" Firm "it is named like a list of keys";
    Stream "stream" Firm "it is named like an archive, a dump or a download";
    State "state" Firm "it is named like a program's state (process id, lock, position)";
    Mail "mail" Yields "it is named like mail or another spooled file";
    Typed "typed" Yields "it is named like a history of typed commands";
    Accounting "accounting" Yields "it is named like a record of logins or an audit";
    Unlike "unlike" Yields "nothing in its path says that it is a log";
    Commands "commands" Firm "it holds Redis commands";
    Snapshot "snapshot" Firm "it holds a Redis snapshot";
    Reflog "reflog" Firm "it holds a git reflog";
    Statements "statements" Firm "it holds HSQLDB's statements";
    Mailbox "mailbox" Yields "it holds mail";
    Binary "binary" Firm "what was to be written is not text (NUL bytes)";
    Control "control" Yields "what was to be written is not text (control characters)";
    BinaryHead "binary_head" Yields "the file does not begin as text";
    DatabaseBeside "database_beside" Firm "a database's files lie beside it";
    Copied "copied" Yields "its writer copies it from another file";
}
