//! Services are told apart by their names, also when all of them are called python3.

use tideover_tests::{Run, Running, Scratch, program};

use super::{json, of_pages};

/// A guarded script that has failed for lack of descriptors so often.
fn script(pages: &Scratch, folder: &Scratch, name: &str, failures: u32) -> Running {
    let text = format!(
        "import sys\nkept = []\ntry:\n    while True: kept.append(open('/dev/null'))\nexcept OSError: pass\n\
         for _ in range({failures} - 1):\n    try: open('/dev/null')\n    except OSError: pass\n\
         print('full', flush=True)\nsys.stdin.read()"
    );
    let path = folder.write(name, &text);
    let run = Run::new(program("python3", "python3")).arg(path).limit(64).env("TIDEOVER_MAX_RETRIES", "0");
    let mut running = run.page_dir(pages.path()).preload(true).start();
    running.wait_for("full");
    running
}

#[test]
fn five_scripts_of_one_interpreter_are_five_services() {
    let (pages, folder) = (Scratch::new(), Scratch::new());
    let names = ["billing.py", "crawl.py", "mail.py", "report.py", "sync.py"];
    let running: Vec<Running> =
        names.iter().zip(1..).map(|(name, failures)| script(&pages, &folder, name, failures)).collect();
    let metrics = of_pages(&pages, &["metrics"]).output();
    for (name, failures) in names.iter().zip(1..) {
        let end = format!("service=\"{name}\"}} {failures}");
        let line = metrics.stdout.lines().find(|line| {
            line.starts_with("tideover_exhaustion_gave_up_total{program=\"python3") && line.ends_with(&end)
        });
        assert!(line.is_some(), "{end}: {metrics}");
    }
    let sum = metrics
        .stdout
        .lines()
        .find(|line| line.starts_with("tideover_") && line.contains("python3") && !line.contains("service="));
    assert_eq!(sum, None, "no sum over them");
    let all = json(of_pages(&pages, &["ps", "--json"]).output().passes());
    for (one, name) in running.iter().zip(names) {
        let found = all.as_array().unwrap().iter().find(|it| it["pid"] == one.pid()).unwrap();
        assert_eq!((&found["service"], &found["schema"]), (&name.into(), &1.into()), "{found}");
        assert!(found["command"].as_str().unwrap().ends_with(name) && found["user"] != "", "{found}");
        of_pages(&pages, &["stat", &one.pid().to_string()]).output().passes().says(&format!("service  {name}"));
    }
    of_pages(&pages, &["ps"]).output().passes().says("SERVICE").says("billing.py");
    let mut watch = of_pages(&pages, &["watch", "--interval", "50ms", "--only", "python3*"]).start();
    let pid = running[2].pid();
    watch.wait_for(&format!("(process {pid}, mail.py): 64 of 64 descriptors in use"));
    watch.signal(libc::SIGTERM);
    watch.finish();
    for one in running {
        one.finish().passes();
    }
}
