//! The unit for systemd.

use tideover_tests::{Run, Scratch, program, tideover, workspace};

#[test]
fn systemd_takes_the_unit() {
    let unit = workspace().join("contrib/systemd/tideover-guard.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    let start =
        text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/tideover ")).expect("it starts us");
    let options = text.lines().find_map(|line| line.strip_prefix("Environment=TIDEOVER_GUARD=")).expect("options");
    let words: Vec<&str> =
        start.split(' ').map(|word| if word == "$TIDEOVER_GUARD" { options } else { word }).collect();
    Run::new(tideover()).args(words).arg("--help").output().passes();
    // The unit as it would be installed, with the built command in the place of /usr/local/bin/tideover.
    let scratch = Scratch::new();
    let here = text.replace("/usr/local/bin/tideover", tideover().to_str().unwrap()).replace("Documentation=", "#");
    let here = scratch.write("tideover-guard.service", &here);
    let verified = Run::new(program("systemd-analyze", "systemd")).arg("verify").arg(here).output();
    assert!(verified.succeeded() && !verified.stderr.contains("tideover-guard"), "{verified}");
}
