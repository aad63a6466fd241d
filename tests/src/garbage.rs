//! Programs that leak until their runtime collects garbage: run without the library and with it, and what its page told.

use std::path::{Path, PathBuf};
use std::{env, fs};

use tideover_contract::collection::{Runtime, Skip};

pub use crate::programs::TOO_MANY;
use crate::{Outcome, Page, Run, program, workspace};

/// Where nothing can be raised.
pub const LIMIT: u64 = 64;

/// A program in tests/gc.
pub fn source(name: &str) -> PathBuf {
    workspace().join("tests/gc").join(name)
}

/// How often what is dangerous is done: `TIDEOVER_TEST_TIMES`, else this.
pub fn times(usual: u32) -> u32 {
    env::var("TIDEOVER_TEST_TIMES").map_or(usual, |times| times.parse().expect("TIDEOVER_TEST_TIMES is a number"))
}

/// Debian's python3, and those of version 3 that a pyenv has built.
pub fn pythons() -> Vec<PathBuf> {
    let built = Path::new(&env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
    let folders = fs::read_dir(built).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = folders.map(|folder| folder.join("bin/python3")).filter(|path| path.is_file()).collect();
    found.sort();
    found.insert(0, program("python3", "python3"));
    found
}

/// Debian's, the oldest and the newest of these; all of them when more than the usual times are asked for.
pub fn some_pythons() -> Vec<PathBuf> {
    let all = pythons();
    if times(0) > 0 || all.len() <= 3 {
        return all;
    }
    // By name, 3.6 comes after 3.13.
    let release = |path: &PathBuf| {
        let text = path.to_string_lossy().into_owned();
        text.rsplit("/versions/3.").next().and_then(|rest| rest.split('.').next()?.parse::<u32>().ok())
    };
    let oldest = all[1..].iter().min_by_key(|path| release(path)).cloned();
    let newest = all[1..].iter().max_by_key(|path| release(path)).cloned();
    all[..1].iter().cloned().chain(oldest).chain(newest).collect()
}

/// libpython, of Debian's and of the Pythons that a pyenv has built with one: the library, and the folder that is its PYTHONHOME.
pub fn pythons_to_embed() -> Vec<(PathBuf, PathBuf)> {
    let homes = pythons().into_iter().filter_map(|python| Some(python.parent()?.parent()?.to_owned()));
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let library = |home: PathBuf| {
        let folders = [home.join("lib"), home.join("lib").join(&triplet)];
        let mut files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let is_python = |name: &str| name.starts_with("libpython3.") && name.ends_with(".so.1.0");
        let found = files.find(|file| file.file_name().to_str().is_some_and(is_python))?;
        Some((found.path(), home))
    };
    homes.filter_map(library).collect()
}

/// What a page says of collections.
#[derive(Clone, Debug)]
pub struct Told {
    /// How the program ended.
    pub outcome: Outcome,
    /// Its page when it said that it was done.
    pub page: Page,
}

impl Told {
    /// Runs it with the library. It says `word` when it is done, and then waits for the end of its standard input.
    pub fn by(run: &Run, word: &str) -> Told {
        let mut running = run.clone().preload(true).start();
        running.wait_for(word);
        let page = running.page();
        Told { page, outcome: running.finish() }
    }

    /// Collections, and the descriptors that came back.
    pub fn collected(&self, runtime: Runtime) -> (u64, u64) {
        let all = self.page.view().collectors().find(|(found, _)| *found == runtime);
        all.map_or((0, 0), |(_, it)| (it.runs, it.freed))
    }

    /// How often no garbage was collected for this reason.
    pub fn skipped(&self, why: Skip) -> u64 {
        self.page.view().skips().find(|(skip, _)| *skip == why).map_or(0, |(_, count)| count)
    }
}

/// A program that dies of its leak at the limit without the library, and with it goes on to its end, since its garbage was
/// collected.
#[track_caller]
pub fn rescued(run: &Run, word: &str, runtime: Runtime) -> Told {
    let run = run.clone().limit(LIMIT);
    let plain = run.output();
    assert!(!plain.succeeded() && !plain.timed_out, "should have died of its leak: {plain}");
    let told = Told::by(&run, word);
    let outcome = &told.outcome;
    outcome.passes();
    let complaint = outcome.theirs().into_iter().chain(outcome.stdout.lines()).find(|line| line.contains(TOO_MANY));
    assert!(complaint.is_none(), "the program still saw it: {outcome}");
    let (runs, freed) = told.collected(runtime);
    assert!(runs > 0 && freed > runs, "{runs} collections, {freed} descriptors: {outcome}");
    told
}
