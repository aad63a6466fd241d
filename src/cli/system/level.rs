//! How bad a number is that should stay low: the thresholds of `doctor`, `watch` and `top`.
#![forbid(unsafe_code)]

use tideover_contract::settings::{Id, default_percent};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is nothing to do.
    Ok,
    /// It will be trouble.
    Warning,
    /// It could not be seen, so it may be anything: worse than a warning that is known.
    Unknown,
    /// It is trouble, or will be within minutes.
    Critical,
}

impl Level {
    /// Its name in JSON and in the lines of `watch`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Unknown => "unknown",
            Level::Critical => "critical",
        }
    }
}

/// The values from which on a number is bad.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Lowest value that is a warning.
    pub warning: f64,
    /// Lowest value that is critical.
    pub critical: f64,
}

impl Thresholds {
    /// Percent of memory in use.
    pub const MEMORY: Thresholds = Thresholds { warning: 90.0, critical: 97.0 };

    /// Percent of descriptors in use, and of other limits on numbers of things: the defaults of TIDEOVER_FD_WARN and
    /// TIDEOVER_FD_CRITICAL.
    pub fn usage() -> Thresholds {
        Thresholds { warning: default_percent(Id::FdWarn), critical: default_percent(Id::FdCritical) }
    }

    /// How bad a value is.
    pub fn level(self, value: f64) -> Level {
        if value >= self.critical {
            Level::Critical
        } else if value >= self.warning {
            Level::Warning
        } else {
            Level::Ok
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_judged_as_the_library_judges_it() {
        let level = |percent| Thresholds::usage().level(percent);
        assert_eq!([level(69.9), level(70.0), level(90.0)], [Level::Ok, Level::Warning, Level::Critical]);
        assert!(Level::Ok < Level::Warning && Level::Warning < Level::Critical);
    }
}
