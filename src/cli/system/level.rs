//! How bad a number is that should stay low, or high: the thresholds of `doctor`, `watch` and `top`.
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
    /// First value that is a warning.
    pub warning: f64,
    /// First value that is critical.
    pub critical: f64,
    /// Low values are bad, as of free space, and not high ones.
    pub low: bool,
}

impl Thresholds {
    /// Percent of memory in use.
    pub const MEMORY: Thresholds = Thresholds::high(90.0, 97.0);

    /// Thresholds of a number of which high values are bad.
    pub const fn high(warning: f64, critical: f64) -> Thresholds {
        Thresholds { warning, critical, low: false }
    }

    /// Percent of descriptors in use, and of other limits on numbers of things: the defaults of TIDEOVER_FD_WARN and
    /// TIDEOVER_FD_CRITICAL.
    pub fn usage() -> Thresholds {
        Thresholds::high(default_percent(Id::FdWarn), default_percent(Id::FdCritical))
    }

    /// How bad a value is.
    pub fn level(self, value: f64) -> Level {
        let reaches = |bound: f64| if self.low { value <= bound } else { value >= bound };
        if reaches(self.critical) {
            Level::Critical
        } else if reaches(self.warning) {
            Level::Warning
        } else {
            Level::Ok
        }
    }

    /// Those that are reached sooner: a number that does not even reach these is well away from the thresholds. `part` is below 1.
    pub fn sooner(self, part: f64) -> Thresholds {
        let of = |bound: f64| if self.low { bound / part } else { bound * part };
        Thresholds { warning: of(self.warning), critical: of(self.critical), ..self }
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
