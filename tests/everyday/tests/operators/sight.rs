//! Every process in sight: those of containers, and those without the library.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tideover_tests::{Disk, Kind, Run, Running, Scratch, fixture, library, needs, program, tideover};

use super::{command, full, json, of_pages, tell};

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

/// Whatever looks at processes goes on when the folder that a page lay in is gone, and says of the process what can be said.
#[needs(mounts)]
#[test]
fn a_page_folder_of_a_container_that_is_gone_is_no_trouble() {
    let pages = Scratch::new();
    let container = contained(&pages, "");
    let pid = child_of(container.pid()).to_string();
    let inside = |words: &[&str]| {
        let entered =
            Command::new("nsenter").args(["-t", &pid, "-m", "--"]).args(words).status().expect("nsenter runs");
        assert!(entered.success(), "{words:?}");
    };
    let folder = pages.path().to_str().expect("UTF-8").to_string();
    let own = format!("{folder}/tideover.0");
    of_pages(&pages, &["stat", &pid]).output().passes();
    // Without its mount, the folder is the one out here: the process is one of those that have counted nothing there.
    let removed = (vec!["rm", "-rf", &own], 0);
    for (gone, listed) in [removed, (vec!["umount", "-l", &folder], 1)] {
        inside(&gone);
        for words in [["metrics", "--all"], ["events", "--json"], ["clean", "--json"]] {
            of_pages(&pages, &words).output().passes().does_not_say("panicked");
        }
        let rows = json(of_pages(&pages, &["ps", "--json"]).output().passes());
        let pids: Vec<String> = rows.as_array().unwrap().iter().map(|row| row["pid"].to_string()).collect();
        assert_eq!(pids, vec![pid.clone(); listed], "{gone:?}");
        for words in [vec!["stat", &pid], vec!["control", &pid, "off"], vec!["config", &pid]] {
            let said = of_pages(&pages, &words).output();
            said.says(&format!("process {pid}")).does_not_say("panicked");
            assert_eq!(said.code(), Some(i32::from(listed == 0 || words[0] == "control")), "{words:?}: {said}");
        }
        let doctor = of_pages(&pages, &["doctor", &pid]).output();
        assert!(doctor.code().is_some_and(|code| code <= 3), "{doctor}");
        doctor.says("descriptors").does_not_say("panicked");
        let watch = of_pages(&pages, &["watch", "--once", "--only", "ebb"]).output();
        assert_eq!(watch.code(), Some(2), "its usage is seen without a page: {watch}");
    }
    container.signal(libc::SIGTERM);
    container.finish();
}

/// Any name that the kernel takes is a text in each JSON.
#[test]
fn a_name_that_is_no_utf8_is_text_in_every_json() {
    let pages = Scratch::new();
    let name = std::ffi::OsStr::from_bytes(b"n\xff\x01\"\\");
    let path = pages.path().join(name);
    fs::copy(fixture("ebb"), &path).unwrap();
    let run = Run::new(&path).soft(64).hard(128).page_dir(pages.path()).preload(true).env("TIDEOVER_RAISE", "off");
    let mut running = run.start();
    tell(&mut running, "fill");
    let pid = running.pid().to_string();
    // A control character is escaped, or stands as a question mark.
    let expected = ["n\u{fffd}?\"\\", "n\u{fffd}\u{1}\"\\"];
    for words in [
        vec!["ps", "--json"],
        vec!["stat", &pid, "--json"],
        vec!["events", "--json"],
        vec!["config", &pid, "--json"],
        vec!["control", &pid, "on", "--json"],
        vec!["doctor", &pid, "--json"],
        vec!["rescue", &pid, "--json"],
    ] {
        let run = if words[0] == "rescue" { command(&words) } else { of_pages(&pages, &words) };
        let said = run.output();
        let first = said.stdout.lines().next().unwrap_or_default();
        let text = if words[0] == "events" { first } else { &said.stdout };
        let object: serde_json::Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{words:?} {error}: {said}"));
        let object = object.get(0).unwrap_or(&object);
        let program = object["program"].as_str().unwrap_or_default();
        assert!(expected.contains(&program), "{words:?}: {said}");
    }
    let scrape = of_pages(&pages, &["metrics"]).output();
    scrape.passes().says("tideover_processes{program=\"n\u{fffd}?\\\"\\\\\"} 1\n");
    running.finish();
}

/// Has a log open, twelve zombies, three inotify instances and seven connections to a peer of its own, and a limit on address space.
const MEASURED: &str = "import ctypes, os, resource, socket, sys\n\
    log = open(sys.argv[1], 'a')\n\
    listener = socket.create_server(('127.0.0.1', 0))\n\
    ours = [socket.create_connection(listener.getsockname()) for _ in range(7)]\n\
    for _ in range(12):\n    if not os.fork(): os._exit(0)\n\
    watching = [ctypes.CDLL(None).inotify_init1(0) for _ in range(3)]\n\
    ctypes.CDLL(None).inotify_add_watch(watching[0], b'/', 2)\n\
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))\n\
    print('measured', min(watching), flush=True)\nsys.stdin.read()\n";

/// Prometheus knew nothing of what `watch` alerts on: space and inodes under logs, address space, connections, zombies, inotify.
#[needs(mounts)]
#[test]
fn what_watch_measures_is_in_the_metrics() {
    let (pages, folder, disk) = (Scratch::new(), Scratch::new(), Disk::new(Kind::Tmpfs));
    let script = folder.write("measured.py", MEASURED);
    let policy = folder.write("tideover.toml", "alert_connections = '5,100'\n");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    for preload in [false, true] {
        let run = Run::new(program("python3", "python3")).arg(&script).arg(disk.log());
        let mut running = run.page_dir(pages.path()).preload(preload).start();
        running.wait_for("measured");
        disk.fill();
        let metrics = of_pages(&pages, &["metrics", "--all"]).env("TIDEOVER_CONFIG", &policy).output();
        disk.free();
        let value = |metric: &str| -> Option<f64> {
            let is_it = |line: &&str| {
                line.starts_with(&format!("{metric}{{"))
                    && line.contains("service=\"measured.py\"")
                    && line.contains("guarded=\"0\"") != preload
            };
            metrics.stdout.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
        };
        let has = |metric: &str, is: &dyn Fn(f64) -> bool| {
            assert!(value(metric).is_some_and(is), "{preload}: {metric} is {:?}: {metrics}", value(metric));
        };
        has("tideover_log_space_free_ratio", &|ratio| ratio < 0.03);
        has("tideover_log_space_free_bytes", &|bytes| bytes < 65536.0);
        has("tideover_log_inodes_free_ratio", &|ratio| (0.1..1.0).contains(&ratio));
        has("tideover_address_space_used_ratio", &|ratio| (0.0001..0.5).contains(&ratio));
        has("tideover_tcp_connections", &|count| count == 7.0);
        has("tideover_tcp_connections_warning", &|count| count == 5.0);
        has("tideover_tcp_connections_critical", &|count| count == 100.0);
        has("tideover_zombies", &|count| count == 12.0);
        // SAFETY: it only asks for a number.
        let user = format!("{{user=\"{}\"}}", unsafe { libc::geteuid() });
        let of_user = |metric: &str| {
            let line = metrics.stdout.lines().find(|line| line.starts_with(&format!("{metric}{user} ")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        assert!(of_user("tideover_inotify_instances") >= 3 && of_user("tideover_inotify_watches") >= 1, "{metrics}");
        metrics.says("\ntideover_inotify_instances_limit ").says("\ntideover_inotify_watches_limit ");
        // `watch` says of it what the rules for Prometheus do.
        disk.fill();
        let watch = Run::new(tideover()).args(["watch", "--once", "--only", "python3*", "--page-dir"]);
        let told = watch.arg(pages.path()).env("TIDEOVER_CONFIG", &policy).output();
        disk.free();
        for alert in ["critical log_space", "warning zombies", "warning connections"] {
            let line =
                told.stdout.lines().find(|line| line.contains(alert) && line.contains(&running.pid().to_string()));
            assert!(line.is_some(), "{preload}: {alert}: {told}");
        }
        running.finish().passes();
        let gone = of_pages(&pages, &["metrics", "--all"]).output();
        gone.does_not_say("tideover_zombies{program=\"python3\",service=\"measured.py\"");
    }
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
