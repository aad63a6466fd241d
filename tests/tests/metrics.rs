//! `tideover metrics`: what Prometheus and its tools make of it, and what people see in their browser.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tideover_tests::browser::Browser;
use tideover_tests::running::tell;
use tideover_tests::{Outcome, Run, Running, Scratch, fixture, program, tideover, workspace};

/// A guarded program at its limit of 64: one call has given up.
fn full(pages: &Scratch, program: &Path) -> Running {
    let mut running = Run::new(program).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut running, "fill");
    running
}

fn metrics(pages: &Scratch, more: &[&str]) -> Run {
    Run::new(tideover()).arg("metrics").args(more).arg("--page-dir").arg(pages.path()).timeout(Duration::from_secs(90))
}

fn stat(pages: &Scratch, pid: u32) -> Value {
    let pid = pid.to_string();
    let run = Run::new(tideover()).args(["stat", &pid, "--json", "--page-dir"]).arg(pages.path());
    serde_json::from_str(&run.output().passes().stdout).expect("JSON")
}

/// A server, and where it is.
fn serve(pages: &Scratch) -> (Running, String) {
    let mut server = metrics(pages, &["--listen", "127.0.0.1:0"]).start();
    let line = server.wait_for("Serving");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.")).expect("an address").to_string();
    (server, address)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map_or_else(|| answer.clone(), |(_, body)| body.to_string())
}

fn end(server: Running) {
    server.signal(libc::SIGTERM);
    server.finish();
}

fn promtool(words: &[&str], stdin: &str) -> Outcome {
    Run::new(program("promtool", "prometheus")).args(words).stdin(stdin).folder(workspace()).output()
}

#[test]
fn promtool_finds_nothing_to_say_about_them() {
    let pages = Scratch::new();
    let odd = pages.join("a \"b\" {c} \\d");
    fs::copy(fixture("ebb"), &odd).unwrap();
    let running = [full(&pages, &fixture("ebb")), full(&pages, &odd)];
    let text = metrics(&pages, &[]).output().passes().stdout.clone();
    let checked = promtool(&["check", "metrics"], &text);
    assert!(checked.succeeded() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked}\n{text}");
    assert!(text.contains("tideover_exhaustion_gave_up_total{program=\"ebb\"} 1\n"), "{text}");
    assert!(text.contains("tideover_descriptors_used{program=\"a \\\"b\\\" {c} \\\\d\"} 64\n"), "{text}");
    // The control: promtool does find fault.
    promtool(&["check", "metrics"], "# TYPE a_ns counter\na_ns 1\n").fails();
    for ebb in running {
        ebb.finish().passes();
    }
}

#[test]
fn prometheus_scrapes_them_and_tells_the_number_that_stat_shows() {
    let (pages, scratch) = (Scratch::new(), Scratch::new());
    let ebb = full(&pages, &fixture("ebb"));
    let (server, address) = serve(&pages);
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: ['{}']\nscrape_configs: [{{job_name: tideover, static_configs: [{{targets: ['{address}']}}]}}]\n",
        workspace().join("contrib/prometheus/tideover.rules.yml").display()
    );
    let config = scratch.write("prometheus.yml", &config);
    let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let prometheus = Run::new(program("prometheus", "prometheus"))
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address={own}"))
        .arg(format!("--storage.tsdb.path={}", scratch.join("data").display()))
        .timeout(Duration::from_secs(90))
        .start();
    let stat = stat(&pages, ebb.pid());
    for (metric, expected) in [
        ("tideover_exhaustion_emfile_total", &stat["exhaustion"]["emfile"]),
        ("tideover_exhaustion_gave_up_total", &stat["exhaustion"]["gave_up"]),
        ("tideover_descriptors_used", &stat["descriptors"]["used"]),
        ("tideover_calls_opened_total", &stat["calls"]["opened"]),
    ] {
        assert!(expected.as_u64() > Some(0), "{stat}");
        assert_eq!(asked(&own, metric), expected.to_string(), "{metric}: {stat}");
    }
    prometheus.signal(libc::SIGTERM);
    prometheus.finish();
    end(server);
    ebb.finish();
}

/// What Prometheus's API answers for the program ebb, once it has scraped.
fn asked(prometheus: &str, metric: &str) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if TcpStream::connect(prometheus).is_ok() {
            let answer = get(prometheus, &format!("/api/v1/query?query={metric}"));
            let value: Value = serde_json::from_str(&answer).unwrap_or_default();
            let found = &value["data"]["result"][0];
            if found["metric"]["program"] == "ebb" {
                return found["value"][1].as_str().unwrap_or_default().to_string();
            }
        }
        assert!(Instant::now() < end, "{metric} was never there");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_an_ended_process_had_counted_is_kept_by_the_server() {
    let pages = Scratch::new();
    let (server, address) = serve(&pages);
    let line = "tideover_exhaustion_gave_up_total{program=\"ebb\"} ";
    let count = || get(&address, "/metrics").lines().find_map(|l| l.strip_prefix(line).map(str::to_string));
    assert_eq!(count(), None);
    let first = full(&pages, &fixture("ebb"));
    assert_eq!(count().as_deref(), Some("1"));
    first.finish();
    assert_eq!(count().as_deref(), Some("1"), "it did not fall, which would look like a restart");
    let second = full(&pages, &fixture("ebb"));
    assert_eq!(count().as_deref(), Some("2"));
    assert!(get(&address, "/metrics").contains("tideover_processes{program=\"ebb\"} 1\n"));
    assert_eq!(get(&address, "/-/healthy"), "tideover is healthy.\n");
    second.finish();
    end(server);
}

#[test]
fn the_text_file_is_replaced_whole() {
    let (pages, scratch) = (Scratch::new(), Scratch::new());
    let path = scratch.write("tideover.prom", "old");
    let ebb = full(&pages, &fixture("ebb"));
    metrics(&pages, &["--textfile", path.to_str().unwrap()]).output().passes();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("tideover_exhaustion_gave_up_total{program=\"ebb\"} 1\n"), "{text}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left beside it");
    let nowhere = metrics(&pages, &["--textfile", "/nonexistent/tideover.prom"]).output();
    nowhere.fails().says("cannot write /nonexistent/tideover.prom: no such file");
    ebb.finish();
}

#[test]
fn alert_rules_and_dashboard_are_clean_and_ask_for_what_there_is() {
    promtool(&["check", "rules", "contrib/prometheus/tideover.rules.yml"], "").passes().says("SUCCESS");
    promtool(&["test", "rules", "tests/fixtures/tideover.rules.test.yml"], "").passes().says("SUCCESS");
    let pages = Scratch::new();
    let ebb = full(&pages, &fixture("ebb"));
    let text = metrics(&pages, &[]).output().passes().stdout.clone();
    ebb.finish();
    let known: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["contrib/prometheus/tideover.rules.yml", "contrib/grafana/tideover.json"] {
        let asks = fs::read_to_string(workspace().join(file)).unwrap();
        let names: Vec<&str> = asks
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("tideover_"))
            .collect();
        assert!(names.len() > 8);
        for name in names {
            assert!(known.contains(&name), "{file} asks for {name}, which there is not");
        }
    }
    let dashboard = fs::read_to_string(workspace().join("contrib/grafana/tideover.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap().replace("$program", ".*").replace("$instance", ".*");
            // promtool has no check of a query alone: a rule of it is one.
            let rule = format!("groups: [{{name: g, rules: [{{record: r, expr: '{query}'}}]}}]\n");
            let scratch = Scratch::new();
            let path = scratch.write("rule.yml", &rule);
            promtool(&["check", "rules", path.to_str().unwrap()], "").passes();
        }
    }
}

#[test]
fn people_see_a_process_run_out_and_recover_without_a_reload() {
    let pages = Scratch::new();
    let (server, address) = serve(&pages);
    let hostile = pages.join("<img src=x>");
    fs::copy(fixture("ebb"), &hostile).unwrap();
    let mut other = Run::new(&hostile).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut other, "drain");
    // It waits as long as its settings say, whatever is known of closes.
    let ebb = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).env("TIDEOVER_MAX_RETRIES", "5");
    let mut ebb = ebb.preload(true).start();
    tell(&mut ebb, "drain");
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    let pid = ebb.pid();
    let row = format!("(document.querySelector('tr[data-pid=\"{pid}\"]') || {{}}).innerText || ''");
    browser.wait_until(&format!("({row}).includes('3 of 64')"));
    browser.value("window.notReloaded = true");

    tell(&mut ebb, "fill");
    tell(&mut ebb, "wait");
    browser.wait_until(&format!("({row}).includes('64 of 64')"));
    browser.wait_until("document.getElementById('events').innerText.includes('exhausted')");
    assert_eq!(browser.value("document.title.startsWith('100 %')"), true);
    let picture = workspace().join("target/landing-page-exhausted.png");
    browser.screenshot(&picture);
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));

    tell(&mut ebb, "drain");
    browser.wait_until(&format!("({row}).includes('3 of 64')"));
    browser.wait_until("document.getElementById('events').innerText.includes('recovered')");
    browser.screenshot(&workspace().join("target/landing-page-recovered.png"));
    assert_eq!(browser.value("window.notReloaded"), true, "the page was loaded again");
    assert_eq!(browser.value("document.images.length"), 0, "a program's name became markup");
    assert_eq!(browser.value("document.body.innerText.includes('<img src=x>')"), true);
    // Nothing from elsewhere: every request went to the server itself.
    let strangers =
        format!("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('http://{address}/')).length");
    assert_eq!(browser.value(&strangers), 0);

    end(server);
    browser.wait_until("document.getElementById('state').innerText.startsWith('no answer since')");
    drop(browser);
    other.finish();
    ebb.finish();
}
