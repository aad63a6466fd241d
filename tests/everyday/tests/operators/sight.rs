//! Every process in sight: those of containers, and those without the library.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tideover_tests::{Run, Running, Scratch, fixture, library, needs};

use super::{full, json, of_pages, tell};

/// The fixture ebb in a mount namespace and a pid namespace of its own, with a tmpfs in the place of the folder of pages.
fn contained(pages: &Scratch, before: &str) -> Running {
    let folder = pages.path().display();
    let script = format!(
        "mount -t tmpfs none {folder} && {before} export LD_PRELOAD={} TIDEOVER_PAGE_DIR={folder} && ulimit -n 64 && exec {}",
        library().display(),
        fixture("ebb").display()
    );
    let unshare = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"];
    let mut running = Run::new("unshare").args(unshare).arg(script).start();
    tell(&mut running, "fill");
    running
}

/// The process id that the only child of a process has here.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it has a child");
    children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("it has a child")
}

#[needs(mounts)]
#[test]
fn a_process_in_a_container_is_seen_from_outside() {
    let pages = Scratch::new();
    let outside = full(&pages);
    // Who rules the container writes a page for a process outside of it, and one for a process that it does not have.
    let forge = format!(
        "mkdir -m 700 {0}/tideover.0 && : >{0}/tideover.0/{1} && : >{0}/tideover.0/4242 &&",
        pages.path().display(),
        outside.pid()
    );
    let container = contained(&pages, &forge);
    let inside = child_of(container.pid());
    let all = json(of_pages(&pages, &["ps", "--json"]).output().passes());
    let mut pids: Vec<u64> = all.as_array().unwrap().iter().filter_map(|it| it["pid"].as_u64()).collect();
    pids.sort_unstable();
    let mut expected = [u64::from(outside.pid()), u64::from(inside)];
    expected.sort_unstable();
    assert_eq!(pids, expected, "{all}");
    let stat = json(of_pages(&pages, &["stat", &inside.to_string(), "--json"]).output().passes());
    assert_eq!((&stat["descriptors"]["soft_limit"], &stat["exhaustion"]["gave_up"]), (&64.into(), &1.into()), "{stat}");
    let metrics = of_pages(&pages, &["metrics"]).output();
    let sum: u64 = metrics
        .stdout
        .lines()
        .filter(|line| line.starts_with("tideover_exhaustion_gave_up_total{program=\"ebb\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(sum, 2, "{metrics}");
    // A folder of a container that is gone is no trouble.
    container.signal(libc::SIGTERM);
    container.finish();
    let left = json(of_pages(&pages, &["ps", "--json"]).output().passes());
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    outside.finish().passes();
}

/// The command followed a link of the container in its own root, and asked the process that has the container's number here.
#[needs(mounts)]
#[test]
fn the_policy_of_a_container_is_the_file_that_its_links_mean_inside() {
    let pages = Scratch::new();
    let folder = pages.path().display();
    let before = format!(
        "printf 'max_retries = 0\\nmax_wait = \\'2s\\'\\n' >{folder}/real.toml && ln -s {folder}/real.toml {folder}/link.toml && \
         export TIDEOVER_CONFIG={folder}/link.toml &&"
    );
    let container = contained(&pages, &before.replace("\\'", "\""));
    let inside = child_of(container.pid()).to_string();
    let said = of_pages(&pages, &["config", &inside]).output();
    said.passes().says(&format!("{folder}/link.toml line 2")).says("2s");
    // What the link means out here is another file, of the same contents at that.
    let other = "max_wait = \"2s\"\n";
    fs::write(pages.join("real.toml"), other).unwrap();
    of_pages(&pages, &["config", &inside]).output().passes().says(&format!("{folder}/link.toml line 2"));
    container.signal(libc::SIGTERM);
    container.finish();
}

#[test]
fn processes_without_the_library_are_in_the_metrics_if_asked_for() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    let name = format!("plain{}", std::process::id());
    std::os::unix::fs::symlink(fixture("ebb"), pages.join(&name)).unwrap();
    let mut plain = Run::new(pages.join(&name)).limit(64).start();
    tell(&mut plain, "fill");
    let labels = format!("{{program=\"{name}\",guarded=\"0\"}}");
    let metrics = of_pages(&pages, &["metrics", "--all"]).output();
    for line in ["descriptors_used", "descriptors_soft_limit", "descriptors_hard_limit", "descriptors_obtainable"] {
        metrics.says(&format!("tideover_{line}{labels} 64\n"));
    }
    metrics.says(&format!("tideover_descriptors_used_ratio{labels} 1.000000\n"));
    metrics.says("tideover_descriptors_used{program=\"ebb\"} 64\n");
    of_pages(&pages, &["metrics"]).output().does_not_say(&name);
    plain.finish();
    guarded.finish();
}

/// Many processes that wait for their input to end.
fn crowd(count: usize) -> Child {
    let script = format!("exec 3<&0; i=0; while [ $i -lt {count} ]; do cat <&3 & i=$((i+1)); done; echo there; wait");
    let mut sh = Command::new("sh");
    let mut crowd = sh.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
    let mut there = [0; 6];
    crowd.stdout.as_mut().unwrap().read_exact(&mut there).unwrap();
    crowd
}

#[test]
fn a_scrape_of_two_thousand_processes_takes_no_time() {
    let pages = Scratch::new();
    let mut server = of_pages(&pages, &["metrics", "--all", "--listen", "127.0.0.1:0"]).start();
    let line = server.wait_for("Serving");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.")).expect("an address").to_string();
    let mut crowd = crowd(2000);
    let scrape = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let start = Instant::now();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (start.elapsed(), answer)
    };
    let (_, answer) = scrape();
    let many = answer.lines().filter(|line| line.starts_with("tideover_processes{") && line.contains("guarded=\"0\""));
    let count: u64 = many.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert!(count >= 2000, "{count}");
    // The machine may be busy with other tests: the best of a few, and what the processor has worked for them.
    let before = processor(server.pid());
    let best = (0..20).map(|_| scrape().0).min().unwrap();
    let worked = (processor(server.pid()) - before) / 20;
    println!("2,000 processes: {best:?}, {worked:?} of a processor");
    drop(crowd.stdin.take());
    crowd.wait().unwrap();
    server.signal(libc::SIGTERM);
    server.finish();
    assert!(best.min(worked) < Duration::from_millis(100), "{best:?}, {worked:?} of a processor");
}

/// How long a process has had a processor: fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms.
fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
