//! CPython programs that drop files without closing them, in cycles: plain they die at their limit, preloaded they go on.

use std::time::Duration;

use tideover_contract::collection::{Runtime, Skip};
use tideover_tests::garbage::{LIMIT, Told, pythons, pythons_to_embed, rescued, some_pythons, source, times};
use tideover_tests::programs::TOO_MANY;
use tideover_tests::{Run, Scratch, fixture, preload_fixture, program};

fn python(name: &str) -> Run {
    Run::new(program("python3", "python3")).arg(source(name)).timeout(Duration::from_secs(60))
}

#[test]
fn every_kind_of_descriptor_comes_back() {
    for kind in ["file", "socket", "pair", "pipe", "popen", "temporary", "scandir", "epoll", "dup"] {
        rescued(&python("cycles.py").args([kind, "200"]), "done 200", Runtime::Python);
    }
}

#[test]
fn event_loops_that_were_not_closed_come_back() {
    // What remains of a loop that found no descriptor complains in its own words.
    rescued(&python("cycles.py").args(["loop", "100"]), "done 100", Runtime::Python);
}

#[test]
fn every_python_of_this_machine_goes_on_with_its_usual_thresholds() {
    for interpreter in pythons() {
        let run = Run::new(&interpreter).arg(source("cycles.py")).args(["file", "1000"]);
        let told = rescued(&run, "done 1000", Runtime::Python);
        let (runs, freed) = told.collected(Runtime::Python);
        println!("{}: {runs} collections, {freed} descriptors", interpreter.display());
        assert!(freed / runs >= 50, "each collection brings nearly all back");
    }
}

#[test]
fn a_python_that_a_program_loads_late_for_itself_only_and_unloads() {
    let all = pythons_to_embed();
    assert!(!all.is_empty(), "gdb brings a libpython");
    for (library, home) in all {
        let run = Run::new(fixture("embedder")).arg(&library).env("PYTHONHOME", home.to_str().expect("UTF-8"));
        rescued(&run, "done", Runtime::Python).outcome.says("unloaded: yes");
    }
}

#[test]
fn eight_threads_open_2000_files_each_and_none_fails() {
    for pool in ["", "pool"] {
        rescued(&python("threads.py").arg(pool), "opened 16000", Runtime::Python);
    }
}

#[test]
fn imports_forks_processes_coroutines_and_exits_go_on() {
    let cases = ["imports", "fork_child", "processes", "coroutines", "streams", "atexit_handler", "exceptions"];
    for case in cases {
        let run = python("circumstances.py").arg(case).limit(LIMIT);
        run.output().fails();
        run.preload(true).output().passes().says("done");
    }
}

#[test]
fn finalizers_may_open_take_locks_raise_and_be_interrupted() {
    let cases = ["opens", "locks", "tries", "interrupts", "raises"].map(|what| format!("finalizer_{what}"));
    for case in cases.iter().map(String::as_str).chain(["warnings_are_errors"]) {
        let run = python("circumstances.py").arg(case).limit(LIMIT);
        run.output().fails().says(TOO_MANY);
        run.preload(true).output().passes().says("done").does_not_say(TOO_MANY);
    }
}

#[test]
fn threads_that_collect_while_the_interpreter_ends_end_with_it() {
    // Natively most of these runs abort: "libgcc_s.so.1 must be installed for pthread_exit to work".
    for interpreter in some_pythons() {
        for _ in 0..times(5) {
            let run = Run::new(&interpreter).arg(source("circumstances.py")).arg("daemons").limit(LIMIT);
            run.preload(true).output().passes().says("done");
        }
    }
}

/// The same answers without the library and with it, at once; and the reason is counted.
fn dangerous(case: &str, why: Option<Skip>) {
    let count = times(20);
    let mut answered = 0;
    for interpreter in some_pythons() {
        let run = Run::new(&interpreter)
            .arg(source("hazards.py"))
            .args([case, &count.to_string()])
            .arg(preload_fixture("gc_helper"))
            // The programs have several threads, one of which might close something.
            .env("TIDEOVER_MAX_RETRIES", "0")
            .timeout(Duration::from_secs(60))
            .limit(LIMIT);
        let plain = run.output();
        if plain.stderr.contains("No module named '_interpreters'") {
            continue;
        }
        answered += 1;
        let answers = format!("answers {{'EMFILE': {count}}}");
        plain.passes().says(&answers);
        let told = Told::by(&run, "answers");
        told.outcome.passes().says(&answers);
        if let Some(why) = why {
            // That it is switched off is found out by trying, after which it rests.
            let least = if why == Skip::Disabled { 1 } else { u64::from(count) };
            let reasons: Vec<_> = told.page.view().skips().collect();
            assert!(told.skipped(why) >= least, "{}: {reasons:?}", told.outcome);
            assert_eq!(told.collected(Runtime::Python), (0, 0));
        }
    }
    assert!(answered > 0, "no Python here has what {case} needs");
}

#[test]
fn a_c_extension_that_holds_the_interpreters_lock_gets_the_native_error() {
    dangerous("extension_with_lock", Some(Skip::ForeignCaller));
}

#[test]
fn a_library_that_may_hold_locks_of_its_own_gets_the_native_error() {
    dangerous("library_without_lock", Some(Skip::ForeignCaller));
    dangerous("library_with_own_lock", Some(Skip::ForeignCaller));
}

#[test]
fn a_thread_that_is_not_pythons_gets_the_native_error() {
    dangerous("thread_without_lock", Some(Skip::ForeignCaller));
    dangerous("thread_joined_with_lock", Some(Skip::ForeignCaller));
}

#[test]
fn children_of_a_fork_in_c_get_the_native_error() {
    // The child counts in a page of its own, which is gone.
    for case in ["fork_without_lock", "fork_with_lock", "fork_beside_running", "vfork"] {
        dangerous(case, None);
    }
}

#[test]
fn several_interpreters_are_left_alone() {
    dangerous("interpreters", Some(Skip::Interpreters));
}

#[test]
fn a_collector_that_the_program_has_switched_off_stays_off() {
    // Also where PyGC_Collect would not mind: before 3.8.
    dangerous("disabled", Some(Skip::Disabled));
}

#[test]
fn nothing_is_collected_when_the_user_says_so() {
    let run = python("cycles.py").args(["file", "200"]).limit(LIMIT).preload(true);
    for value in ["off", "jvm,ruby"] {
        run.clone().env("TIDEOVER_GC", value).output().fails().says(TOO_MANY);
    }
    run.env("TIDEOVER_GC", "python").output().passes();
}

#[test]
fn gitpython_that_leaks_its_git_processes_goes_on() {
    let scratch = Scratch::new();
    let git = |args: &[&str]| {
        let run = Run::new(program("git", "git")).folder(scratch.path()).env("HOME", scratch.path());
        run.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).output().passes();
    };
    scratch.write("repository/file", "content\n");
    git(&["init", "-q", "repository"]);
    git(&["-C", "repository", "add", "."]);
    git(&["-C", "repository", "commit", "-q", "-m", "all"]);
    let run = python("package.py").arg(scratch.join("repository")).env("HOME", scratch.path()).limit(LIMIT);
    run.both().rescued(TOO_MANY).preloaded.says("read 60");
}
