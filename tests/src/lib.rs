//! The harness: runs a program without libtideover.so and with it, under descriptor limits, bounded in time and output.
//!
//! What it promises: limits are set between fork and exec, so the program and its loader live under them from their first
//! instruction; every run has its own process group, which is killed at the timeout and at the end; every run has its own
//! folder of shared pages, so tests neither see nor disturb other guarded processes; nothing of the caller's `LD_PRELOAD` and
//! `TIDEOVER_*` reaches the program.

pub mod browser;
pub mod databases;
pub mod disk;
pub mod fixture;
pub mod garbage;
pub mod load;
pub mod loggers;
pub mod needs;
pub mod network;
pub mod numbered;
pub mod outage;
pub mod outcome;
pub mod page;
pub mod podman;
pub mod programs;
pub mod rights;
pub mod rootfs;
pub mod run;
pub mod running;
pub mod scratch;
pub mod server;
pub mod sinks;
pub mod source;
pub mod survival;
pub mod terminal;

pub use disk::{Disk, Kind};
pub use fixture::{fixture, fixture_by, fixture_source, preload_fixture};
pub use needs::needs;
pub use outcome::{Both, Outcome};
pub use page::Page;
pub use rootfs::Rootfs;
pub use run::Run;
pub use running::Running;
pub use scratch::Scratch;

use std::path::{Path, PathBuf};

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of the workspace")
}

/// libtideover.so: `TIDEOVER_TEST_LIB`, else target/release.
///
/// # Panics
/// If it has not been built.
pub fn library() -> PathBuf {
    artefact("TIDEOVER_TEST_LIB", "libtideover.so")
}

/// The command line tool: `TIDEOVER_TEST_BIN`, else target/release.
///
/// # Panics
/// If it has not been built.
pub fn tideover() -> PathBuf {
    artefact("TIDEOVER_TEST_BIN", "tideover")
}

fn artefact(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| workspace().join("target/release").join(name), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `make` first, or set {variable}", path.display());
    path
}

/// Where a program of this machine is. System folders come before `PATH`: a pyenv or an asdf puts shell scripts in there, and
/// the tests are about the program itself.
///
/// # Panics
/// If it is missing, naming the Debian package that has it.
pub fn program(name: &str, package: &str) -> PathBuf {
    let system = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = system.into_iter().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package} (scripts/deps.sh does)"))
}

/// Where a shared library of this machine is; `name` may give alternatives, `libx.so.2|libx.so.3`.
///
/// # Panics
/// If it is missing, naming the Debian package that has it.
pub fn shared_library(name: &str, package: &str) -> PathBuf {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
        .iter()
        .flat_map(|folder| name.split('|').map(|name| Path::new(folder).join(name)))
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package} (scripts/deps.sh does)"))
}
