//! The result of a check: what was checked, how bad it is, and what helps.
#![forbid(unsafe_code)]

use crate::show::output::safe;
use crate::system::Share;
use crate::system::level::{Level, Thresholds};
use serde_json::{Value, json};

/// A line of the report, and the commands that help.
#[derive(Debug)]
pub struct Check {
    /// What was checked, in one or two words.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub says: String,
    /// Commands and configuration lines; only where something is not OK.
    pub remedy: Vec<String>,
}

impl Check {
    /// A result of any level. If that is OK, the remedy is dropped.
    pub fn new(name: &'static str, level: Level, says: impl Into<String>, remedy: Vec<String>) -> Check {
        let remedy = if level == Level::Ok { Vec::new() } else { remedy };
        Check { name, level, says: says.into(), remedy }
    }

    /// A result that is OK.
    pub fn ok(name: &'static str, says: impl Into<String>) -> Check {
        Check::new(name, Level::Ok, says, Vec::new())
    }

    /// How much of something limited is in use; [`Thresholds::usage`] says how bad that is.
    pub fn share(name: &'static str, share: Share, what: &str, remedy: Vec<String>) -> Check {
        let Share { used, max } = share;
        let percent = share.percent();
        // fs.file-max is often the highest number there is, which is no limit.
        let says = if max > 1 << 62 {
            format!("{used} {what}, no limit")
        } else {
            format!("{used} of {max} {what} ({percent:.1} %)")
        };
        Check::new(name, Thresholds::usage().level(percent), says, remedy)
    }

    /// `WARNING   zombies       ...`, and below it a line for each command that helps.
    pub fn text(&self) -> String {
        let mut text =
            format!("{:9} {:13} {}\n", self.level.name().to_uppercase(), self.name, safe(self.says.as_bytes()));
        for line in &self.remedy {
            text.push_str(&format!("{:23} > {}\n", "", safe(line.as_bytes())));
        }
        text
    }

    /// An element of `checks[]` in the JSON.
    pub fn json(&self) -> Value {
        json!({ "check": self.name, "status": self.level.name(), "says": self.says, "remedy": self.remedy })
    }
}

/// The command that sets a kernel parameter now, and the one that sets it at every boot.
pub fn set(name: &str, value: u64) -> Vec<String> {
    vec![
        format!("sudo sysctl -w {name}={value}"),
        format!("for good: echo '{name} = {value}' | sudo tee -a /etc/sysctl.d/90-tideover.conf"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_warn_in_time() {
        let level = |used| Check::share("x", Share { used, max: 1000 }, "things", vec!["mend it".into()]).level;
        assert_eq!([level(699), level(700), level(900)], [Level::Ok, Level::Warning, Level::Critical]);
        let endless = Check::share("x", Share { used: 5, max: u64::MAX }, "things", vec![]);
        assert_eq!(endless.text(), "OK        x             5 things, no limit\n");
        assert!(Level::Ok < Level::Critical);
    }

    #[test]
    fn what_is_ok_needs_no_remedy() {
        assert!(Check::new("x", Level::Ok, "", vec!["y".into()]).remedy.is_empty());
        let text = Check::new("leaks", Level::Warning, "a\x1b[2J", vec!["mend \n it".into()]).text();
        assert_eq!(text, format!("WARNING   leaks         a?[2J\n{:23} > mend ? it\n", ""));
    }
}
