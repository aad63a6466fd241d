//! PostgreSQL and MariaDB, as far as several tests need the same of them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Run, Scratch, program};

/// Where a program of PostgreSQL's is: Debian keeps the server's in a folder for each version.
///
/// # Panics
/// If it is missing, naming the Debian package that has it.
pub fn postgres_program(name: &str, package: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.is_file()).max();
    found.unwrap_or_else(|| program(name, package))
}

/// A program of PostgreSQL's server, as the user that it insists on; the library is preloaded there too.
pub fn as_postgres(name: &str) -> Run {
    Run::new(program("setpriv", "util-linux"))
        .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"])
        .arg(postgres_program(name, "postgresql"))
        .timeout(Duration::from_secs(60))
}

/// An empty database of MariaDB's, in `data` of a fresh folder.
///
/// # Panics
/// If it can't be made.
pub fn mariadb_data() -> Scratch {
    let folder = Scratch::new();
    let made = Run::new(program("mariadb-install-db", "mariadb-server-core"))
        .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        // Two at a time in one folder have taken each other's temporary tables for theirs.
        .env("TMPDIR", folder.path())
        .timeout(Duration::from_secs(60))
        .output();
    made.passes();
    folder
}
