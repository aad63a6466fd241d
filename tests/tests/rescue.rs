//! `tideover rescue`: programs that no library can be preloaded into, at their limit, recover without a restart.

use tideover_tests::programs::go;
use tideover_tests::{Run, Running, Scratch, fixture, tideover};

const TOO_MANY: &str = "still full";

fn rescue(running: &Running, more: &[&str]) -> tideover_tests::Outcome {
    Run::new(tideover()).args(["rescue", &running.pid().to_string()]).args(more).output()
}

/// The control and the test in one: it stays full for as long as nobody rescues it.
fn recovers(mut running: Running, was: u64) {
    running.wait_for("full after");
    for _ in 0..3 {
        running.wait_for(TOO_MANY);
    }
    let said = format!("soft limit was {was}, is 256 (hard limit 4096)");
    rescue(&running, &["--to", "256"]).passes().says(&said);
    running.wait_for("recovered");
    running.finish().passes();
}

#[test]
fn a_static_program_at_its_limit_recovers_without_a_restart() {
    recovers(Run::new(fixture("rescued")).soft(64).hard(4096).start(), 64);
}

#[test]
fn a_go_program_at_its_limit_recovers_without_a_restart() {
    let folder = Scratch::new();
    let program = go("rescued.go", &[], &folder);
    recovers(Run::new(program).hard(4096).start(), 64);
}

#[test]
fn without_a_number_it_goes_to_the_hard_limit() {
    let mut running = Run::new(fixture("rescued")).soft(64).hard(128).start();
    running.wait_for("full after");
    let said = rescue(&running, &["--json"]).passes().stdout.clone();
    assert!(said.contains("\"was\": 64") && said.contains("\"is\": 128") && said.contains("\"used\": 64"), "{said}");
    running.wait_for("recovered");
    running.finish().passes();
}

#[test]
fn a_limit_that_cannot_be_raised_is_refused_with_the_reason_and_the_command() {
    let mut running = Run::new(fixture("rescued")).limit(64).start();
    running.wait_for("full after");
    let pid = running.pid();
    rescue(&running, &[]).fails().says("its soft limit is its hard limit already, 64").says("sudo prlimit --pid");
    let beyond = format!("sudo prlimit --pid {pid} --nofile=9999:9999");
    rescue(&running, &["--to", "9999"]).fails().says("9999 is beyond its hard limit, which is 64").says(&beyond);
    rescue(&running, &["--to", "10"]).fails().says("never lowers");
    running.wait_for(TOO_MANY);
    running.signal(libc::SIGTERM);
    running.finish();
    Run::new(tideover()).args(["rescue", "4194305"]).output().fails().says("there is no process 4194305");
}

#[test]
fn a_program_that_uses_select_is_not_rescued_past_1024_by_itself() {
    let stay = |soft: u64| {
        let mut running = Run::new(fixture("limit_select")).args(["20", "--stay"]).soft(soft).hard(4096).start();
        running.wait_for("limit was");
        running
    };
    let running = stay(64);
    rescue(&running, &[]).passes().says("soft limit was 64, is 1024 (hard limit 4096)");
    rescue(&running, &[]).fails().says("it uses select(2)").says("--to N");
    rescue(&running, &["--to", "2000"]).passes().says("soft limit was 1024, is 2000");
    running.finish();
}
