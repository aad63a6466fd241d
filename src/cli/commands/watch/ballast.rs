//! `watch --ballast`: gives ballasts up when their filesystems are full, and makes them anew when there is room.
#![forbid(unsafe_code)]

use super::findings::Finding;
use crate::commands::ballast::{look, path_of};
use crate::show::failure::Failure;
use crate::show::units::bytes;
use crate::system::ballast::{Found, Open};
use crate::system::level::Thresholds;
use clap::ArgMatches;
use std::path::{Path, PathBuf};
use tideover_contract::hash::fnv1a;

/// A number that is a warning unless it is 0.
const YES: Thresholds = Thresholds::high(1.0, f64::INFINITY);

/// The ballasts that the command line names.
pub struct Ballasts {
    paths: Vec<PathBuf>,
}

impl Ballasts {
    /// Fails if there is none at one of the paths.
    pub fn of(matches: &ArgMatches) -> Result<Ballasts, Failure> {
        let given = matches.get_many::<PathBuf>("ballast").into_iter().flatten();
        let paths = given.map(|path| path_of(path)).collect::<Result<Vec<_>, _>>()?;
        for path in &paths {
            if !matches!(look(path)?, Found::Ballast(_)) {
                return Err(Failure::failed(format!(
                    "{0}: there is no ballast; tideover ballast {0} SIZE makes one",
                    path.display()
                )));
            }
        }
        Ok(Ballasts { paths })
    }

    /// Looks at each, and does what is due. What is not whole is a finding; `say` gets a line for each that was given up or made anew.
    pub fn look(&self, say: &mut dyn FnMut(&str) -> Result<(), Failure>) -> Result<Vec<Finding>, Failure> {
        let mut findings = Vec::new();
        for path in &self.paths {
            // One that was removed or replaced meanwhile is nobody's, and said to be missing.
            let says = match look(path) {
                Ok(Found::Ballast(open)) => tend(path, &open, say)?,
                Ok(_) => Some("is no ballast any more".to_string()),
                Err(failure) => Some(failure.text),
            };
            findings.push(Finding {
                subject: ("ballast", 0, fnv1a(path.as_os_str().as_encoded_bytes())),
                program: String::new(),
                service: None,
                value: f64::from(u8::from(says.is_some())),
                thresholds: YES,
                says: format!("{} {}", path.display(), says.unwrap_or_else(|| "is there".to_string())),
                remedy: format!("du -xah {} | sort -h | tail -n 20", path.parent().unwrap_or(path).display()),
            });
        }
        Ok(findings)
    }
}

/// Gives the ballast up, or makes it anew, if that is due. Some: it is not there now, and why.
fn tend(path: &Path, open: &Open, say: &mut dyn FnMut(&str) -> Result<(), Failure>) -> Result<Option<String>, Failure> {
    if !open.is_given_up() {
        if !open.is_full() {
            return Ok(None);
        }
        if let Err(error) = open.give_up() {
            return Ok(Some(format!("can't be given up on a full disk: {error}")));
        }
        say(&format!("gave up {} on a full disk, {}\n", path.display(), bytes(open.size)))?;
    } else if open.has_room() {
        if let Err(why) = open.refill() {
            return Ok(Some(format!("can't be made anew: {why}")));
        }
        say(&format!("made {} anew, {}\n", path.display(), bytes(open.size)))?;
        return Ok(None);
    }
    Ok(Some("was given up on a full disk".to_string()))
}
