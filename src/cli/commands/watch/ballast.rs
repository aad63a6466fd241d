//! `watch --ballast`: what is not whole is an alert.
#![forbid(unsafe_code)]

use super::findings::Finding;
use crate::show::failure::Failure;
use crate::system::ballasts::{Ballasts, Tended};
use crate::system::level::Thresholds;
use tideover_contract::hash::fnv1a;

/// A number that is a warning unless it is 0.
const YES: Thresholds = Thresholds::high(1.0, f64::INFINITY);

/// Looks at each ballast, and does what is due. What is not whole is a finding; `say` gets a line for each that was given up or made anew.
pub fn look(ballasts: &Ballasts, say: &mut dyn FnMut(&str) -> Result<(), Failure>) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for Tended { path, done, missing } in ballasts.tend() {
        if let Some(done) = done {
            say(&format!("{}\n", done.text(&path)))?;
        }
        findings.push(Finding {
            subject: ("ballast", 0, fnv1a(path.as_os_str().as_encoded_bytes())),
            program: String::new(),
            service: None,
            value: f64::from(u8::from(missing.is_some())),
            thresholds: YES,
            says: format!("{} {}", path.display(), missing.unwrap_or_else(|| "is there".to_string())),
            remedy: format!("du -xah {} | sort -h | tail -n 20", path.parent().unwrap_or(&path).display()),
        });
    }
    Ok(findings)
}
