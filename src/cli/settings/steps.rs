//! What a guard may do to a process besides raising its limit: the flags of `tideover guard`, and the key `guard` of the policy file.
#![forbid(unsafe_code)]

use std::time::Duration;
use tideover_contract::settings::{Kind, SECOND, parse};

/// The key of the policy file.
pub const KEY: &str = "guard";

/// The steps besides raising, which is always one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Clients that have been idle for so long may be ended.
    pub idle: Option<Duration>,
    /// Listeners of a target that spins may be parked.
    pub park: bool,
}

impl Steps {
    /// Reads a value of the key: `raise`, `park`, `idle TIME`, several of them with commas between, or `off`, which is None. The error says
    /// what it takes.
    pub fn parse(text: &str) -> Result<Option<Steps>, String> {
        const TIME: Kind = Kind::Duration(0, 365 * 24 * 3600 * SECOND);
        if text.trim() == "off" {
            return Ok(None);
        }
        let mut steps = Steps::default();
        for word in text.split(',').map(str::trim) {
            let idle = word.strip_prefix("idle").filter(|rest| rest.starts_with([' ', '=']));
            match (word, idle) {
                ("raise", _) => {}
                ("park", _) => steps.park = true,
                (_, Some(time)) => match parse(&TIME, time[1..].trim().as_bytes()) {
                    Some(ns) => steps.idle = Some(Duration::from_nanos(ns)),
                    None => return Err(takes()),
                },
                _ => return Err(takes()),
            }
        }
        Ok(Some(steps))
    }
}

fn takes() -> String {
    "it takes off, or raise, park and idle TIME (such as \"idle 5m\"), as one text or a list".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_steps_or_none() {
        let minutes = |n: u64| Some(Duration::from_secs(60 * n));
        assert_eq!(Steps::parse("raise"), Ok(Some(Steps::default())));
        assert_eq!(Steps::parse("off"), Ok(None));
        assert_eq!(Steps::parse("idle 5m, park"), Ok(Some(Steps { idle: minutes(5), park: true })));
        assert_eq!(Steps::parse("raise,idle=1m"), Ok(Some(Steps { idle: minutes(1), park: false })));
        for bad in ["", "true", "idle", "idle 5", "idle5m", "park,off", "swap"] {
            assert!(Steps::parse(bad).unwrap_err().contains("it takes off"), "{bad}");
        }
    }
}
