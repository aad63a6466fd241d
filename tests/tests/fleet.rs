//! contrib/ and docs/fleet.md: what is written there is accepted by the tools it is for, and a pod made of it works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tideover_contract::page::COUNTERS;
use tideover_tests::programs::passes;
use tideover_tests::source::read;
use tideover_tests::{Run, Scratch, needs, program, tideover, workspace};

fn contrib(name: &str) -> PathBuf {
    workspace().join("contrib").join(name)
}

/// Python with kubernetes-validate, which brings Kubernetes' published schemas: pip installs it once, in /var/tmp.
fn python_with_schemas() -> Command {
    let kept = Path::new("/var/tmp/tideover-tools/kubernetes-validate-1.37.0");
    if !kept.is_dir() {
        let fresh = kept.with_extension(std::process::id().to_string());
        let mut pip = Command::new("/usr/bin/python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&fresh).arg("kubernetes-validate==1.37.0");
        let done = pip.output().expect("python3 runs");
        let installed = done.status.success() && (fs::rename(&fresh, kept).is_ok() || kept.is_dir());
        assert!(installed, "kubernetes-validate can't be installed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    let mut python = Command::new("/usr/bin/python3");
    python.env("PYTHONPATH", kept);
    python
}

#[needs(network)]
#[test]
fn kubernetes_manifests_fit_the_published_schemas() {
    let scratch = Scratch::new();
    let manifest = contrib("kubernetes/deployment.yaml");
    let wrong = scratch.write("wrong.yaml", &read(&manifest).replace("mountPath: /run", "mountpath: /run"));
    for version in ["1.28.0", "1.37.0"] {
        let validate = |file: &Path| {
            let mut python = python_with_schemas();
            python.args(["-m", "kubernetes_validate", "--strict", "-k", version]).arg(file);
            python.output().expect("python3 runs")
        };
        let output = validate(&manifest);
        assert!(output.status.success(), "{version}: {output:?}");
        assert!(!validate(&wrong).status.success(), "a misspelt key is refused");
    }
}

#[test]
fn systemd_takes_the_units_and_the_drop_in() {
    let verify = |drop_in: &str| {
        let scratch = Scratch::new();
        let unit = read(&contrib("systemd/tideover-metrics.service"));
        let unit = scratch.write("tideover-metrics.service", &unit.replace("/usr/local/bin/tideover", "/bin/true"));
        scratch.write("tideover-metrics.service.d/50-tideover.conf", drop_in);
        let mut analyze = Command::new(program("systemd-analyze", "systemd"));
        let path = format!("{}:/lib/systemd/system", scratch.path().display());
        analyze.args(["verify", "--man=no"]).arg(unit).env("SYSTEMD_UNIT_PATH", path).output().expect("it runs")
    };
    let drop_in = read(&contrib("systemd/50-tideover.conf"));
    let right = verify(&drop_in);
    assert!(right.status.success() && right.stderr.is_empty(), "{right:?}");
    let wrong = verify(&drop_in.replace("LimitNOFILE", "LimitNOFILES"));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("LimitNOFILES"), "{wrong:?}");
}

#[test]
fn compose_takes_the_file() {
    let scratch = Scratch::new();
    let file = contrib("compose/compose.yaml");
    let config = |file: &Path| {
        let mut compose = Command::new(program("docker-compose", "docker-compose"));
        compose.arg("-f").arg(file).args(["config"]).output().expect("docker-compose runs")
    };
    let said = passes(&config(&file));
    assert!(said.contains("service_completed_successfully") && said.contains("ipc: service:web"), "{said}");
    let wrong = scratch.write("compose.yaml", &read(&file).replace("ulimits:", "ulimit:"));
    assert!(!config(&wrong).status.success(), "a misspelt key is refused");
}

#[test]
fn prometheus_takes_the_configuration() {
    let scratch = Scratch::new();
    scratch.write("tideover.rules.yml", "groups: []\n");
    let text = read(&contrib("kubernetes/prometheus.yml"));
    let ours = text.replace("/etc/prometheus/", &format!("{}/", scratch.path().display()));
    // Debian's build has no Kubernetes in it; what is done with its labels can be checked all the same.
    let ours = ours.replace("kubernetes_sd_configs:\n      - role: pod", "static_configs:\n      - targets: [pod]");
    assert!(!ours.contains("kubernetes_sd"), "{ours}");
    let check = |text: &str| {
        let mut promtool = Command::new(program("promtool", "prometheus"));
        promtool.args(["check", "config"]).arg(scratch.write("prometheus.yml", text)).output().expect("promtool runs")
    };
    passes(&check(&ours));
    assert!(!check(&ours.replace("relabel_configs", "relabel_config")).status.success(), "a misspelt key is refused");
}

/// An hour of three services: `web` leaks two descriptors a minute, `db` is steady at its limit, `cron` is well.
const SERIES: &[(&str, &str)] = &[
    ("tideover_descriptors_used{service='web',program='web'}", "400+2x60"),
    ("tideover_descriptors_available{service='web',program='web'}", "504-2x60"),
    ("tideover_descriptors_hard_limit{service='web',program='web'}", "1000x60"),
    ("tideover_descriptors_used{service='db',program='postgres'}", "1000x60"),
    ("tideover_descriptors_available{service='db',program='postgres'}", "24x60"),
    ("tideover_descriptors_hard_limit{service='db',program='postgres'}", "1024x60"),
    ("tideover_descriptors_high_water{service='web',program='web'}", "400+2x60"),
    ("tideover_descriptors_high_water{service='db',program='postgres'}", "1024x60"),
    ("tideover_exhaustion_recovered_total{service='db',program='postgres'}", "0+60x60"),
    ("tideover_exhaustion_recovered_total{service='cron',program='sh'}", "7x60"),
    ("tideover_exhaustion_gave_up_total{service='db',program='postgres'}", "0+1x60"),
    ("tideover_exhaustion_wait_seconds_total{service='db',program='postgres'}", "0+30x60"),
    ("tideover_logs_degraded{node='n1',program='postgres'}", "2x60"),
    ("tideover_logs_degraded{node='n1',program='web'}", "1x60"),
    ("tideover_logs_degraded{node='n2',program='web'}", "0x60"),
    ("tideover_build_info{version='0.1.0',pod='a'}", "1x60"),
    ("tideover_build_info{version='0.1.0',pod='b'}", "1x60"),
];

/// What the queries of docs/fleet.md answer to that after an hour, in the order of the document.
const ANSWERS: &[&[(&str, &str)]] = &[
    &[("{service='web',program='web'}", "4")],
    &[("{service='web',program='web'}", "-96")],
    &[("{service='db'}", "1")],
    &[("{service='db',program='postgres'}", "60")],
    &[("{service='db'}", "0.5")],
    &[("{node='n1'}", "2")],
    &[("{service='web'}", "780"), ("{service='db'}", "1536")],
    &[("{version='0.1.0'}", "2")],
];

#[test]
fn the_documented_queries_answer_what_they_are_said_to() {
    let text = read(&workspace().join("docs/fleet.md"));
    let queries: Vec<&str> = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), ANSWERS.len(), "each query of docs/fleet.md has its answer here");

    let mut tests = String::from("evaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n");
    for (series, values) in SERIES {
        tests += &format!("      - series: \"{series}\"\n        values: '{values}'\n");
    }
    tests += "    promql_expr_test:\n";
    for (query, answers) in queries.iter().zip(ANSWERS) {
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        tests += &format!("      - expr: '{query}'\n        eval_time: 60m\n        exp_samples:\n");
        for (labels, value) in *answers {
            tests += &format!("          - labels: \"{labels}\"\n            value: {value}\n");
        }
    }
    let scratch = Scratch::new();
    let mut promtool = Command::new(program("promtool", "prometheus"));
    let told = promtool.args(["test", "rules"]).arg(scratch.write("test.yml", &tests)).output().expect("promtool runs");
    assert!(
        told.status.success(),
        "{}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
}

#[test]
fn the_documented_metrics_exist() {
    let mut known: Vec<String> =
        ["processes", "descriptors_used", "descriptors_available", "build_info"].map(String::from).into();
    for counter in COUNTERS {
        let name = counter.name.strip_suffix("_ns").map_or(counter.name.to_string(), |stem| format!("{stem}_seconds"));
        known.push(format!("{}_{name}", counter.section));
        known.push(format!("{}_{name}_total", counter.section));
    }
    let printed = Run::new(tideover()).arg("metrics").output();
    let names =
        printed.passes().stdout.lines().filter_map(|line| line.strip_prefix("# TYPE tideover_")?.split(' ').next());
    known.extend(names.map(str::to_string));
    let text = read(&workspace().join("docs/fleet.md"));
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter_map(|word| word.strip_prefix("tideover_"));
    let named: Vec<&str> = words.collect();
    assert!(named.len() > 8);
    for name in named {
        assert!(known.iter().any(|known| known == name), "there is no metric tideover_{name}");
    }
}
