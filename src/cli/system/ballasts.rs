//! The ballasts of a command that runs on: `watch --ballast` and `guard --ballast` give them up when their filesystems are full, and make them
//! anew when there is room.
#![forbid(unsafe_code)]

use crate::show::failure::{Failure, cause};
use crate::show::units::bytes;
use crate::system::ballast::{self, Found, Open};
use std::path::{Path, PathBuf};
use tideover_contract::ballast::NAME;

/// The ballasts that a command line names.
#[derive(Debug, Default)]
pub struct Ballasts {
    paths: Vec<PathBuf>,
}

/// What was done with a ballast, and how it is now.
#[derive(Debug, PartialEq, Eq)]
pub struct Tended {
    /// Its path.
    pub path: PathBuf,
    /// What was done just now.
    pub done: Option<Done>,
    /// Why it is not there now, as the end of a sentence that begins with its path; None: it is.
    pub missing: Option<String>,
}

/// Something that was done with a ballast of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was given up on a full disk.
    GaveUp(u64),
    /// It was made anew.
    MadeAnew(u64),
}

impl Done {
    /// A sentence, without the name of the command.
    pub fn text(self, path: &Path) -> String {
        match self {
            Done::GaveUp(size) => format!("gave up {} on a full disk, {}", path.display(), bytes(size)),
            Done::MadeAnew(size) => format!("made {} anew, {}", path.display(), bytes(size)),
        }
    }
}

impl Ballasts {
    /// The ballasts at these paths, each that of the folder or that of the file. Fails if there is none at one of them.
    pub fn at<'a>(given: impl IntoIterator<Item = &'a PathBuf>) -> Result<Ballasts, Failure> {
        let paths = given.into_iter().map(|path| path_of(path)).collect::<Result<Vec<_>, _>>()?;
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

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Looks at each, and does what is due.
    pub fn tend(&self) -> Vec<Tended> {
        let tend = |path: &PathBuf| {
            // One that was removed or replaced meanwhile is nobody's, and said to be missing.
            let (done, missing) = match look(path) {
                Ok(Found::Ballast(open)) => tend(&open),
                Ok(_) => (None, Some("is no ballast any more".to_string())),
                Err(failure) => (None, Some(failure.text)),
            };
            Tended { path: path.clone(), done, missing }
        };
        self.paths.iter().map(tend).collect()
    }
}

/// Gives the ballast up, or makes it anew, if that is due. What was done, and why it is not there now.
fn tend(open: &Open) -> (Option<Done>, Option<String>) {
    let given_up = || Some("was given up on a full disk".to_string());
    if !open.is_given_up() {
        if !open.is_full() {
            return (None, None);
        }
        return match open.give_up() {
            Ok(()) => (Some(Done::GaveUp(open.size)), given_up()),
            Err(error) => (None, Some(format!("can't be given up on a full disk: {error}"))),
        };
    }
    if !open.has_room() {
        return (None, given_up());
    }
    match open.refill() {
        Ok(()) => (Some(Done::MadeAnew(open.size)), None),
        Err(why) => (None, Some(format!("can't be made anew: {why}"))),
    }
}

/// The path of the ballast that an argument means: a folder, or the file.
pub fn path_of(given: &Path) -> Result<PathBuf, Failure> {
    if given.file_name().is_some_and(|name| name == NAME) && !given.is_dir() {
        return Ok(given.to_path_buf());
    }
    if given.is_dir() {
        return Ok(given.join(NAME));
    }
    Err(Failure::usage(format!(
        "{}: PATH is a folder, or a file called {NAME}: by that name programs find it",
        given.display()
    )))
}

/// What is at the path of a ballast.
pub fn look(path: &Path) -> Result<Found, Failure> {
    ballast::look(path).map_err(|error| failed(path, &cause(&error)))
}

/// A failure about the ballast at a path.
pub fn failed(path: &Path, why: &str) -> Failure {
    Failure::failed(format!("{}: {why}", path.display()))
}
