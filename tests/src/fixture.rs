//! The C programs in fixtures/, one per hazard, compiled at first use into target/fixtures.
//!
//! Parts of a long one are in headers of its name. A fixture's first line may hold what the compiler needs beyond the usual: `/* cc: -fsanitize=address */`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;
use std::{fs, process};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where fixtures/NAME is.
///
/// # Panics
/// If its path is not UTF-8.
pub fn fixture_source(name: &str) -> String {
    let path = crate::workspace().join("tests/fixtures").join(name);
    path.to_str().expect("UTF-8").to_string()
}

/// Compiles fixtures/NAME.c by another compiler, or otherwise than usual, into a folder.
///
/// # Panics
/// If it does not compile.
pub fn fixture_by(compiler: &Path, flags: &[&str], name: &str, into: &Path) -> PathBuf {
    let built = into.join(name);
    let mut command = Command::new(compiler);
    command.args(["-std=gnu11", "-O1", "-w", "-D_GNU_SOURCE", "-pthread"]).args(flags).arg("-I");
    command.arg(crate::workspace().join("include")).arg("-o").arg(&built).arg(fixture_source(&format!("{name}.c")));
    crate::programs::passes(&command.output().expect("the compiler runs"));
    built
}

/// The program fixtures/NAME.c, compiled.
///
/// # Panics
/// If it does not compile.
pub fn fixture(name: &str) -> PathBuf {
    built(name, name, &["-pthread"])
}

/// fixtures/NAME.c as a shared library to preload.
///
/// # Panics
/// If it does not compile.
pub fn preload_fixture(name: &str) -> PathBuf {
    built(name, &format!("{name}.so"), &["-shared", "-fPIC"])
}

fn built(name: &str, output: &str, usual: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let source = folder.join(format!("{name}.c"));
    let into = crate::workspace().join("target/fixtures");
    let target = into.join(output);

    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let headers = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let headers = headers.filter(|path| path.extension().is_some_and(|end| end == "h"));
    let newest = modified(&source).max(headers.filter_map(|path| modified(&path)).max());
    if newest.is_some() && modified(&target) >= newest {
        return target;
    }
    fs::create_dir_all(&into).expect("target/fixtures can be made");
    let text = fs::read_to_string(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    let own = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("/* cc: ")?.strip_suffix(" */"))
        .unwrap_or_default()
        .split_whitespace();
    // Compiled beside and renamed: two test programs may want the same fixture at once.
    let fresh = into.join(format!("{output}.{}", process::id()));
    let (before, after): (Vec<&str>, Vec<&str>) = own.partition(|flag| !flag.starts_with("-l"));
    let result = Command::new(crate::program("cc", "gcc"))
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"])
        .args(usual)
        .args(before)
        .arg(&source)
        .arg("-I")
        .arg(crate::workspace().join("include"))
        .arg("-o")
        .arg(&fresh)
        .args(after)
        .output()
        .expect("cc runs");
    assert!(
        result.status.success(),
        "{} does not compile:\n{}",
        source.display(),
        String::from_utf8_lossy(&result.stderr)
    );
    fs::rename(&fresh, &target).expect("a fixture can be put in place");
    target
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}
