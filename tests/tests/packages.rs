//! What scripts/deps.sh installs: few packages for the demo and the everyday tests, and none that this machine's apt does not know.

use std::collections::BTreeSet;
use std::process::Command;

use tideover_tests::programs::passes;
use tideover_tests::{program, workspace};

/// The packages of a set, as `scripts/deps.sh --list SET` prints them.
fn listed(set: &str) -> Vec<String> {
    let mut deps = Command::new(program("sh", "dash"));
    deps.arg(workspace().join("scripts/deps.sh")).args(["--list", set]);
    passes(&deps.output().expect("sh runs")).lines().map(String::from).collect()
}

#[test]
fn the_demo_and_the_everyday_tests_need_few_packages() {
    for (set, most) in [("demo", 8), ("test", 30)] {
        let packages = listed(set);
        assert!((1..=most).contains(&packages.len()), "{set}: {} packages, at most {most}", packages.len());
    }
}

#[test]
fn apt_knows_every_package() {
    let mut packages = BTreeSet::new();
    for set in ["test", "check", "bench", "compat", "field", "servers", "deb", "release", "arm64"] {
        let listed = listed(set);
        let distinct: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(distinct.len(), listed.len(), "{set} names each once: {listed:?}");
        packages.extend(distinct);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let wrong: Vec<&String> = packages.iter().filter(|name| name.len() < 2 || !name.chars().all(allowed)).collect();
    assert!(wrong.is_empty(), "{wrong:?} are no names of packages");
    // A paragraph for each that can be installed, or is.
    let mut apt = Command::new(program("apt-cache", "apt"));
    let told = apt.args(["--no-all-versions", "show"]).args(&packages).env("LC_ALL", "C").output();
    let told = String::from_utf8_lossy(&told.expect("apt-cache runs").stdout).into_owned();
    let known: BTreeSet<&str> = told.lines().filter_map(|line| line.strip_prefix("Package: ")).collect();
    let unknown: Vec<&String> = packages.iter().filter(|package| !known.contains(package.as_str())).collect();
    assert!(unknown.is_empty(), "apt on this machine does not know {unknown:?} (has apt-get update been run?)");
}
