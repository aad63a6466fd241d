//! The settings: one table that reads as a manual and yields the environment variables, the flags of `tideover run`, the
//! keys of its TOML file, the defaults, the ranges and the documents.
//!
//! A value is kept as one u64, so that the values in effect fit the shared page: a duration in nanoseconds, a size in bytes,
//! a ratio in millionths, a word as its index, a text as 1 if it is set.

mod choices;
mod kind;
mod shown;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use choices::{accept, log_format, log_level, on_full, over_limit, raise, shed_close, sink};
pub use kind::{Kind, MAX_PATH, MAX_TEXT, MILLION, SECOND, rotation};
pub use shown::{Nanoseconds, Shown};
pub use table::{
    COUNT, Id, PREFIX, ROWS, Row, SETTINGS, Setting, Source, by_env, by_key, by_name, default_percent, default_text,
    default_value,
};
pub(crate) use value::decimal;
pub use value::parse;
