//! Real containers (podman, runc), without network: the library by plain ENV, by the entrypoint script, by `tideover run`, and
//! from the package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tideover_tests::podman::Storage;
use tideover_tests::programs::{GREEDY, TOO_MANY, passes};
use tideover_tests::{Rootfs, Scratch, library, needs, program, rootfs, tideover, workspace};

const LIBRARY: &str = "/usr/local/lib/libtideover.so";
const ENTRYPOINT: &str = "/usr/local/bin/docker-entrypoint.sh";

/// A container that is about to be run, and podman's storage for it.
struct Container {
    storage: Storage,
    image: Vec<String>,
    options: Vec<String>,
}

impl Container {
    /// Of a root filesystem, whose changes are thrown away afterwards.
    fn of(root: &Path) -> Container {
        Container {
            storage: Storage::new(),
            image: vec!["--rootfs".into(), format!("{}:O", root.display())],
            options: vec![],
        }
    }

    fn with(mut self, option: &str) -> Container {
        self.options.push(option.to_string());
        self
    }

    /// Puts a file of this machine at a path inside.
    fn file(self, from: &Path, to: &str) -> Container {
        self.with(&format!("--volume={}:{to}:ro", from.display()))
    }

    /// Library, command and entrypoint, where an image would have them.
    fn tideover(self) -> Container {
        self.file(&library(), LIBRARY)
            .file(&tideover(), "/usr/local/bin/tideover")
            .file(&workspace().join("scripts/docker-entrypoint.sh"), ENTRYPOINT)
    }

    /// Runs a command in it, under a soft limit of 64 descriptors and a hard limit of 256.
    fn run(&self, command: &[&str]) -> Output {
        // podman's own idea of limits may be above what this machine allows.
        let mut words = vec![
            "run",
            "--rm",
            "--network=none",
            "--ulimit=nproc=1024:1024",
            "--ulimit=nofile=64:256",
            "--timeout=120",
        ];
        words.extend(self.options.iter().chain(&self.image).map(String::as_str));
        words.extend(command);
        self.storage.podman(&words)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn carried(output: &Output) {
    let right = output.status.success() && String::from_utf8_lossy(&output.stdout).contains("opened 100");
    assert!(right && output.stderr.is_empty(), "should open 100 files and say nothing else: {output:?}");
}

#[track_caller]
fn exhausted(output: &Output) {
    assert!(!output.status.success() && stderr(output).contains(TOO_MANY), "should run out: {output:?}");
}

#[needs(containers, debian)]
#[test]
fn debian_with_plain_env() {
    let root = rootfs::debian();
    let container = || Container::of(&root).tideover();
    exhausted(&container().run(&["bash", "-c", GREEDY]));
    carried(&container().with(&format!("--env=LD_PRELOAD={LIBRARY}")).run(&["bash", "-c", GREEDY]));
}

#[needs(containers, debian)]
#[test]
fn debian_with_the_entrypoint_script() {
    let root = rootfs::debian();
    let container = || Container::of(&root).tideover();
    carried(&container().run(&[ENTRYPOINT, "bash", "-c", GREEDY]));
    let through = |words: &[&str]| container().run(&[&[ENTRYPOINT], words].concat());
    // What is behind a script decides; and the program's own preloads stay.
    let kept = container().with("--env=LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libm.so.6");
    let kept = kept.run(&[ENTRYPOINT, "sh", "-c", "echo $LD_PRELOAD"]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), format!("{LIBRARY}:/usr/lib/x86_64-linux-gnu/libm.so.6"));
    let script = container().run(&[ENTRYPOINT, "/usr/bin/ldd", "--version"]);
    assert!(script.status.success() && script.stderr.is_empty(), "{script:?}");
    assert_eq!(through(&["sh", "-c", "exit 7"]).status.code(), Some(7), "the program's own status");
    assert_eq!(through(&["no-such-program"]).status.code(), Some(127));
    assert_eq!(through(&[]).status.code(), Some(2));
    exhausted(&container().with("--env=TIDEOVER_DISABLE=1").run(&[ENTRYPOINT, "bash", "-c", GREEDY]));
}

#[needs(containers, debian)]
#[test]
fn a_library_that_does_not_load_here_is_left_out_and_the_program_runs() {
    let root = rootfs::debian();
    let scratch = Scratch::new();
    let mut bytes = fs::read(library()).expect("readable");
    bytes[18] = 183; // e_machine: aarch64
    let foreign = scratch.join("foreign.so");
    fs::write(&foreign, bytes).expect("a file of ours");
    for (file, why) in
        [(foreign.as_path(), "cannot open shared object"), (Path::new("/etc/passwd"), "invalid ELF header")]
    {
        let container =
            Container::of(&root).tideover().file(file, "/opt/other.so").with("--env=TIDEOVER_LIB=/opt/other.so");
        let output = container.run(&[ENTRYPOINT, "sh", "-c", "echo ran; echo $LD_PRELOAD"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n\n", "{output:?}");
        let said = stderr(&output);
        assert!(said.lines().count() == 1 && said.contains("sh runs without") && said.contains(why), "{said}");
    }
    let missing =
        Container::of(&root).tideover().with("--env=TIDEOVER_LIB=/opt/none.so").run(&[ENTRYPOINT, "echo", "ran"]);
    assert!(missing.status.success() && stderr(&missing).contains("/opt/none.so is missing"), "{missing:?}");
}

#[needs(containers)]
#[test]
fn busybox_alone_runs_without_the_library_and_says_why() {
    let root = Rootfs::busybox();
    let container = || Container::of(root.path()).tideover();
    let output = container().run(&[ENTRYPOINT, "sh", "-c", "echo ran; echo $LD_PRELOAD"]);
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout).as_ref(), output.status.code()),
        ("ran\n\n", Some(0)),
        "{output:?}"
    );
    let said = stderr(&output);
    assert!(said.lines().count() == 1 && said.contains("statically linked") && said.contains("--ulimit"), "{said}");
    let quiet = container().with("--env=TIDEOVER_LOG=off").run(&[ENTRYPOINT, "true"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    // Plain ENV does no harm there, and no good.
    let plain = container().with(&format!("--env=LD_PRELOAD={LIBRARY}")).run(&["sh", "-c", "echo ran"]);
    assert!(plain.status.success() && plain.stderr.is_empty() && plain.stdout == b"ran\n", "{plain:?}");
}

#[needs(containers, debian)]
#[test]
fn a_static_init_passes_the_library_on_and_a_static_program_is_refused() {
    let root = rootfs::debian();
    let container = || Container::of(&root).tideover().file(&program("busybox", "busybox-static"), "/opt/busybox");
    // As tini and gosu do: a static program that executes the real one.
    let output = container().run(&[ENTRYPOINT, "/opt/busybox", "env", "bash", "-c", GREEDY]);
    assert!(output.status.success() && stderr(&output).contains("acts only in what it starts"), "{output:?}");
    assert!(output.stdout.ends_with(b"opened 100\n"));
    let refused = container().run(&["tideover", "run", "--", "/opt/busybox", "true"]);
    assert!(refused.status.code() == Some(126) && stderr(&refused).contains("statically linked"), "{refused:?}");
    carried(&container().run(&["tideover", "run", "--", "bash", "-c", GREEDY]));
}

#[needs(containers)]
#[test]
fn musl_programs_are_carried_and_asked_by_their_own_loader() {
    let root = Rootfs::busybox();
    let scratch = Scratch::new();
    let source = scratch.write(
        "greedy.c",
        "#include <fcntl.h>\n#include <stdio.h>\nint main(void) {\n    for (int i = 0; i < 100; i++)\n        \
         if (open(\"/etc/passwd\", O_RDONLY) < 0) return perror(\"open\"), 1;\n    puts(\"opened 100\");\n    return 0;\n}\n",
    );
    // musl's words for EMFILE are others.
    let too_many = "No file descriptors available";
    let mut cc = Command::new(program("musl-gcc", "musl-tools"));
    assert!(cc.arg(&source).arg("-o").arg(scratch.join("greedy")).status().expect("musl-gcc runs").success());
    root.put(&scratch.join("greedy"), "usr/bin/greedy", 0o755);
    root.put(Path::new("/lib/ld-musl-x86_64.so.1"), "usr/lib/ld-musl-x86_64.so.1", 0o755);
    let container = || Container::of(root.path()).tideover();
    let plain = container().run(&["greedy"]);
    assert!(!plain.status.success() && stderr(&plain).contains(too_many), "{plain:?}");
    carried(&container().with(&format!("--env=LD_PRELOAD={LIBRARY}")).run(&["greedy"]));
    carried(&container().run(&[ENTRYPOINT, "greedy"]));
    let wrong = container().with("--env=TIDEOVER_LIB=/etc/passwd").run(&[ENTRYPOINT, "greedy"]);
    let said = stderr(&wrong);
    assert!(said.contains("greedy runs without") && said.contains(too_many), "{wrong:?}");
}

#[needs(containers, debian)]
#[test]
fn a_read_only_root_another_user_and_no_shared_memory_are_all_the_same() {
    let root = rootfs::debian();
    let container = || Container::of(&root).tideover();
    let odd: [&[&str]; 4] = [
        &["--read-only"],
        &["--user=1234:1234", "--cap-drop=all", "--security-opt=no-new-privileges"],
        &["--ipc=none"],
        &["--read-only", "--read-only-tmpfs=false", "--user=1234:1234", "--ipc=none", "--cap-drop=all"],
    ];
    for options in odd {
        let odd = || options.iter().fold(container(), |container, option| container.with(option));
        exhausted(&odd().run(&["bash", "-c", GREEDY]));
        carried(&odd().run(&[ENTRYPOINT, "bash", "-c", GREEDY]));
        carried(&odd().with(&format!("--env=LD_PRELOAD={LIBRARY}")).run(&["bash", "-c", GREEDY]));
    }
    // The child is a shell until it has executed sleep.
    let script = "sleep 60 & for i in $(seq 200); do tideover ps | grep sleep && exit; sleep 0.1; done";
    let ps = container().with("--user=1234:1234").run(&[ENTRYPOINT, "sh", "-c", script]);
    assert!(String::from_utf8_lossy(&ps.stdout).contains("sleep"), "its own processes are seen: {ps:?}");
}

#[needs(containers, debian)]
#[test]
fn a_log_on_a_full_volume_goes_to_the_containers_output() {
    let root = rootfs::debian();
    // 400 KiB of lines, 256 KiB of space.
    let script = "for i in {1..4000}; do printf 'line %04d %090d\\n' $i 0 >>/var/log/app/app.log || exit 1; done; \
                  sed -n 's/^line \\([0-9]*\\).*/kept \\1/p' /var/log/app/app.log";
    let container = || Container::of(&root).tideover().with("--tmpfs=/var/log/app:size=256k");
    let plain = container().run(&["bash", "-c", script]);
    assert!(!plain.status.success() && stderr(&plain).contains("No space left on device"), "{plain:?}");
    let output = container().run(&[ENTRYPOINT, "bash", "-c", script]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |line: &str| line.split(' ').nth(1).and_then(|word| word.parse::<u32>().ok());
    let mut numbers: Vec<u32> = text.lines().filter_map(number).collect();
    numbers.sort_unstable();
    assert!(text.contains("line 4000") && text.contains("kept 0001"), "some lines are in the file, some in the output");
    assert_eq!(numbers, (1..=4000).collect::<Vec<_>>(), "each line is somewhere, and once");
}

/// Images that are built as they are documented, on a base of few programs: an import of all of Debian takes ten seconds.
struct Images {
    container: Container,
    context: Scratch,
}

impl Images {
    fn new() -> Images {
        let container = Container { storage: Storage::new(), image: vec!["tideover-test".into()], options: vec![] };
        let context = Scratch::new();
        for (from, to) in [
            (library(), "libtideover.so"),
            (tideover(), "tideover"),
            (workspace().join("scripts/docker-entrypoint.sh"), "docker-entrypoint.sh"),
        ] {
            fs::copy(from, context.join(to)).expect("a file of ours");
        }
        let root = Rootfs::small(&["sh", "bash", "cp", "mv", "rm", "dd", "tr", "sed", "grep", "sleep"]);
        let tar = context.join("debian.tar");
        let packed = Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&tar).arg(".").status();
        assert!(packed.expect("tar runs").success());
        let imported = container.storage.podman(&["import", tar.to_str().expect("plain"), "debian-here"]);
        assert!(imported.status.success(), "{imported:?}");
        fs::remove_file(&tar).expect("a file of ours");
        Images { container, context }
    }

    /// Builds it anew from this Dockerfile.
    fn build(&self, file: &str) {
        assert!(file.contains("FROM debian:bookworm-slim"), "{file}");
        self.context.write("Dockerfile", &file.replace("debian:bookworm-slim", "localhost/debian-here"));
        let context = self.context.path().to_str().expect("plain");
        let built = self.container.storage.podman(&["build", "--network=none", "-t", "tideover-test", context]);
        assert!(built.status.success(), "{file}{built:?}");
    }
}

#[needs(containers)]
#[test]
fn the_documented_images_work() {
    let images = Images::new();
    let text = fs::read_to_string(workspace().join("docs/containers.md")).expect("the document is there");
    let files: Vec<&str> = text.split("```dockerfile\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(files.len(), 3, "one image for each way");
    for file in files {
        images.build(file);
        carried(&images.container.run(&["bash", "-c", GREEDY]));
    }
}

/// The init container's command, the program's, and its variables as options, a line each, with an empty line between.
fn contents_of_the_manifest() -> String {
    let script = "import sys, yaml; spec = yaml.safe_load(open(sys.argv[1]))['spec']['template']['spec']; \
                  init, web = spec['initContainers'][0], spec['containers'][0]; \
                  print(*init['command'], sep='\\n'); print(); print(*web['command'][:-1], sep='\\n'); print(); \
                  print(*('--env=%(name)s=%(value)s' % one for one in web['env']), sep='\\n')";
    let manifest = workspace().join("contrib/kubernetes/deployment.yaml");
    let told = Command::new("/usr/bin/python3").args(["-c", script]).arg(manifest).output().expect("python3 runs");
    passes(&told)
}

/// What a kubelet makes of contrib/kubernetes/deployment.yaml: the init container, the program whose image knows nothing, and a
/// sidecar that sees it; with the manifest's own commands, variables, mounts and user.
#[needs(containers)]
#[test]
fn a_pod_made_of_the_manifest_works() {
    let images = Images::new();
    images.build(&fs::read_to_string(workspace().join("contrib/Dockerfile")).expect("it is there"));
    let told = contents_of_the_manifest();
    let parts: Vec<Vec<&str>> = told.split("\n\n").map(|part| part.lines().collect()).collect();
    let [init, web, variables] = parts.as_slice() else { panic!("three parts: {told}") };

    let volumes = Scratch::new();
    for name in ["tideover", "pages"] {
        fs::create_dir(volumes.join(name)).expect("a folder of ours");
        fs::set_permissions(volumes.join(name), fs::Permissions::from_mode(0o777)).expect("a folder of ours");
    }
    let volume = |name: &str, to: &str| format!("--volume={}:{to}", volumes.join(name).display());
    let (tideover, pages) = (volume("tideover", "/tideover"), volume("pages", "/run/tideover"));
    let restricted = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=10001:10001"];
    let run = |image: &str, options: &[&str], command: &[&str]| {
        let limits = ["--network=none", "--ulimit=nproc=1024:1024", "--ulimit=nofile=64:256", "--timeout=120"];
        images.container.storage.podman(&[&["run"], &limits[..], &restricted, options, &[image], command].concat())
    };
    let copied = run("tideover-test", &["--rm", &tideover], init);
    assert!(copied.status.success(), "{copied:?}");

    let mounts: Vec<&str> = [&[tideover.as_str(), pages.as_str()], variables.as_slice()].concat();
    exhausted(&run("debian-here", &[&["--rm"], mounts.as_slice()].concat(), &["bash", "-c", GREEDY]));
    carried(&run(
        "debian-here",
        &[&["--rm"], mounts.as_slice()].concat(),
        &[web.as_slice(), &["bash", "-c", GREEDY]].concat(),
    ));

    let stays = format!("{GREEDY}; sleep 100; true");
    let started = run(
        "debian-here",
        &[&["-d", "--name=web"], mounts.as_slice()].concat(),
        &[web.as_slice(), &["bash", "-c", &stays]].concat(),
    );
    assert!(started.status.success(), "{started:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let sidecar = ["--rm", "--pid=container:web", &pages];
        let seen = run("tideover-test", &sidecar, &["tideover", "ps", "--page-dir", "/run/tideover"]);
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        if seen.lines().any(|line| line.contains("bash") && line.contains("256")) {
            break;
        }
        assert!(Instant::now() < deadline, "the sidecar should see bash past its soft limit: {seen}");
    }
    let metrics = run(
        "tideover-test",
        &["--rm", "--pid=container:web", &pages],
        &["tideover", "metrics", "--page-dir", "/run/tideover"],
    );
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    // With the container as its service, where the sidecar's kernel shows its control group.
    let bash =
        |line: &str| line.starts_with("tideover_descriptors_soft_limit{program=\"bash\"") && line.ends_with("} 256");
    assert!(metrics.lines().any(bash), "{metrics}");
    images.container.storage.podman(&["rm", "-f", "-t", "0", "web"]);
}

#[needs(containers, debian)]
#[test]
fn the_package_installs_runs_and_goes_without_a_trace() {
    let root = rootfs::debian();
    let scratch = Scratch::new();
    let mut deb = Command::new(workspace().join("scripts/deb"));
    let made = deb.env("LIB", library()).env("BIN", tideover()).env("OUT", scratch.path()).output().expect("sh runs");
    assert!(made.status.success(), "{made:?}");
    let package = fs::read_dir(scratch.path()).expect("readable").next().expect("a package").expect("readable").path();

    let lint = Command::new(program("lintian", "lintian"))
        .args(["--allow-root", "--fail-on", "warning"])
        .arg(&package)
        .output();
    let lint = lint.expect("lintian runs");
    assert!(lint.status.success() && lint.stdout.is_empty(), "{lint:?}");

    let script = format!(
        r#"set -e
        dpkg -i /tideover.deb >/dev/null
        dpkg --verify tideover
        tideover --version
        tideover run -- bash -c '{GREEDY}'
        test "$(ldconfig -p | grep -c libtideover.so)" = 1
        bash -c '{GREEDY}' 2>/dev/null && exit 1
        tideover install --system >/dev/null
        bash -c '{GREEDY}'
        dpkg -i /tideover.deb >/dev/null   # an upgrade leaves it in place
        grep -q libtideover.so /etc/ld.so.preload
        dpkg -r tideover >/dev/null
        test ! -e /etc/ld.so.preload       # prerm has taken it out
        dpkg -P tideover 2>/dev/null
        echo left: $(find / -xdev -name '*tideover*' -not -path '/dev/*' -not -path '/proc/*' -not -name tideover.deb)
        "#
    );
    // As many descriptors as dpkg wants; the shells above are under the soft limit of the container.
    let output = Container::of(&root).file(&package, "/tideover.deb").run(&["sh", "-c", &script]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.matches("opened 100").count(), 2, "by run, and by install: {said}");
    assert!(said.starts_with("tideover ") && said.ends_with("left:\n"), "{said}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
