//! Log lines of programs in many languages while the log's disk is full: without the library some are lost, with it none.
//!
//! tests/everyday/tests/disk_programs.rs has the most usual ones. Each program is given 100 lines with space, 100 on the full disk, 100 after it was freed. `--nocapture` shows the losses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tideover_tests::loggers::{EACH, FILE_HANDLER, ONCE, c, node_that, python_that, shell};
use tideover_tests::numbered::Account;
use tideover_tests::outage::Fed;
use tideover_tests::programs::{compile_java, java};
use tideover_tests::survival::{survives, survives_in_a_shell, survives_on_stderr};
use tideover_tests::{Kind, Run, Scratch, fixture_source, needs, program};

#[needs(mounts)]
#[test]
fn zsh_appends_line_by_line() {
    survives("zsh: echo >> log", Kind::Tmpfs, |log| shell("zsh", "zsh", EACH, log));
}

#[needs(mounts)]
#[test]
fn zsh_with_its_output_in_the_log() {
    survives_in_a_shell("zsh: exec >> log", |log| shell("zsh", "zsh", ONCE, log));
}

#[needs(mounts)]
#[test]
fn node_append_file() {
    let put = "const put = line => new Promise(done => fs.appendFile(log, line + '\\n', error => {\
                 if (error) console.error(error.message); done(); }));";
    survives("node: fs.appendFile", Kind::Tmpfs, |log| node_that(put, log));
}

#[needs(mounts)]
#[test]
fn node_write_stream() {
    let put = "const stream = fs.createWriteStream(log, {flags: 'a'});\n\
               stream.on('error', error => console.error(error.message));\n\
               const put = line => new Promise(done => stream.write(line + '\\n', () => done()));";
    survives("node: fs.createWriteStream", Kind::Tmpfs, |log| node_that(put, log));
}

#[needs(mounts)]
#[test]
fn node_console_log_to_its_redirected_output() {
    let put = "const put = line => console.log(line);";
    survives_on_stderr("node: console.log >> log", Kind::Tmpfs, |log| node_that(put, log));
}

/// A class that defines `open(path)` and `put(line)`.
fn java_that(folder: &Scratch, class: &str, put: &str) -> Run {
    let source = folder.write(
        &format!("{class}.java"),
        &format!(
            "import java.io.*;\nimport java.nio.file.*;\nimport java.util.logging.*;\n\
             public class {class} {{\n{put}\n\
             public static void main(String[] args) throws Exception {{\n\
               open(args[0]);\n\
               BufferedReader in = new BufferedReader(new InputStreamReader(System.in));\n\
               for (String line; (line = in.readLine()) != null; ) {{\n\
                 if (line.startsWith(\":\")) Files.createFile(Paths.get(line.substring(1))); else put(line);\n\
               }}\n}}\n}}\n"
        ),
    );
    compile_java(&[source], "", folder.path());
    java(folder.path(), "").arg(class)
}

#[needs(mounts)]
#[test]
fn java_util_logging() {
    let folder = Scratch::new();
    let run = java_that(
        &folder,
        "Logs",
        "static Logger logger = Logger.getAnonymousLogger();\n\
         static void open(String log) throws Exception {\n\
           FileHandler handler = new FileHandler(log, true);\n\
           handler.setFormatter(new Formatter() {\n\
             public String format(LogRecord record) { return record.getMessage() + \"\\n\"; } });\n\
           logger.setUseParentHandlers(false);\n  logger.addHandler(handler);\n}\n\
         static void put(String line) { logger.info(line); }",
    );
    survives("java: java.util.logging", Kind::Tmpfs, |log| run.clone().arg(log));
}

#[needs(mounts)]
#[test]
fn java_prints_to_its_redirected_output() {
    let folder = Scratch::new();
    let run = java_that(
        &folder,
        "Prints",
        "static void open(String log) {}\nstatic void put(String line) { System.out.println(line); }",
    );
    survives_on_stderr("java: System.out >> log", Kind::Tmpfs, |log| run.clone().arg(log));
}

#[needs(mounts)]
#[test]
fn ruby_logger() {
    let script = "require 'logger'; log = Logger.new(ARGV[0]); log.formatter = proc { |*, text| text + \"\\n\" }\n\
                  $stdin.each_line(chomp: true) { |l| l.start_with?(':') ? File.write(l[1..], '') : log.info(l) }";
    survives("ruby: Logger", Kind::Tmpfs, |log| Run::new(program("ruby", "ruby")).args(["-e", script]).arg(log));
}

#[needs(mounts)]
#[test]
fn php_error_log() {
    let script = "while (($l = fgets(STDIN)) !== false) { \
                    if ($l[0] == ':') touch(rtrim(substr($l, 1))); else error_log($l, 3, $argv[1]); }";
    survives("php: error_log", Kind::Tmpfs, |log| {
        Run::new(program("php", "php-cli")).args(["-n", "-r", script, "--"]).arg(log)
    });
}

#[needs(mounts)]
#[test]
fn gawk_print() {
    let script = r#"/^:/ { mark = substr($0, 2); printf "" > mark; close(mark); next }
                    { print >> log_; fflush(log_) }"#;
    survives("gawk: print >> log", Kind::Tmpfs, |log| {
        Run::new(program("gawk", "gawk")).args(["-v", &format!("log_={}", log.display()), script])
    });
}

#[needs(mounts)]
#[test]
fn lua_file() {
    let script = "local log = io.open(arg[1], 'a')\nfor l in io.lines() do\n\
                  if l:sub(1, 1) == ':' then io.open(l:sub(2), 'w'):close() else log:write(l, '\\n') log:flush() end\nend";
    let folder = Scratch::new();
    let script = folder.write("script.lua", script);
    survives("lua: file:write", Kind::Tmpfs, |log| Run::new(program("lua5.4", "lua5.4")).arg(&script).arg(log));
}

fn compiled(compiler: &Path, args: &[&str]) {
    let made = Command::new(compiler).args(args).output().expect("the compiler runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[needs(mounts)]
#[test]
fn cout_in_a_shared_library() {
    let folder = Scratch::new();
    let compiler = program("g++", "g++");
    let (library, main) = (folder.join("libdisk_cout.so"), folder.join("main"));
    let (library, main) = (library.to_str().expect("UTF-8"), main.to_str().expect("UTF-8"));
    compiled(&compiler, &["-shared", "-fPIC", "-O1", &fixture_source("disk_cout.cc"), "-o", library]);
    compiled(&compiler, &["-O1", &fixture_source("disk_cout_main.cc"), library, "-o", main]);
    survives_on_stderr("C++: std::cout in a library", Kind::Tmpfs, |_| Run::new(main));
}

#[needs(mounts)]
#[test]
fn rust_appends() {
    let folder = Scratch::new();
    let main: PathBuf = folder.join("main");
    let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiled(&rustc, &["-O", "--edition=2021", &fixture_source("disk_append.rs"), "-o", main.to_str().expect("UTF-8")]);
    survives("Rust: writeln!", Kind::Tmpfs, |log| Run::new(&main).arg(log));
}

/// Each way into the library on each filesystem: stdio, write, an open for each line, another language's own I/O.
fn on(kind: Kind) {
    survives("bash: echo >> log", kind, |log| shell("bash", "bash", EACH, log));
    survives("dash: echo >> log", kind, |log| shell("dash", "dash", EACH, log));
    survives("C: fopen, fprintf, fclose", kind, |log| c("reopen", log));
    survives("C: write", kind, |log| c("write", log));
    survives("python: FileHandler", kind, |log| python_that(FILE_HANDLER, log));
}

#[needs(images)]
#[test]
fn on_ext4() {
    on(Kind::Ext4);
}

#[needs(images)]
#[test]
fn on_xfs() {
    on(Kind::Xfs);
}

#[needs(images)]
#[test]
fn on_btrfs() {
    on(Kind::Btrfs);
}

#[needs(images)]
#[test]
fn over_quota() {
    on(Kind::Quota);
}

/// On these no file can be created when they are full: a log that is new gets a stand-in.
fn new_log_on(kind: Kind) {
    let start = |log: &Path, how: &str| {
        let new = log.with_file_name("new.log");
        match how {
            "bash" => shell("bash", "bash", EACH, &new),
            "python" => python_that(
                "import logging\nput = None\ndef put(line):\n    global put\n    \
                                logging.basicConfig(filename=log, level='INFO', format='%(message)s')\n    \
                                put = logging.info\n    put(line)",
                &new,
            ),
            how => c(how, &new),
        }
    };
    for how in ["bash", "python", "reopen", "write", "line"] {
        let told = |preload: bool| {
            let disk = tideover_tests::Disk::new(kind);
            let log = disk.join("new.log");
            disk.fill();
            let run = start(&disk.join("app.log"), how).preload(preload).timeout(Duration::from_secs(60));
            let mut fed = Fed::start(&run);
            use tideover_tests::outage::Logger;
            fed.log(1..=20);
            disk.free();
            std::thread::sleep(tideover_tests::outage::BACK);
            fed.log(21..=40);
            let outcome = fed.end();
            let file = fs::read(&log).unwrap_or_default();
            (Account::new(&String::from_utf8_lossy(&file), &outcome.stdout), outcome)
        };
        let (plain, outcome) = told(false);
        println!("new log: {how:<25} {kind:<7?} plain: lost {:3} of 40", plain.lost(1..=40).len());
        assert!(!plain.lost(1..=40).is_empty(), "{outcome}\n{plain}");
        let (account, outcome) = told(true);
        println!("{:<42} {}", "", account.places());
        assert!(outcome.succeeded(), "{outcome}");
        account.complete(1..=40, 0).in_order();
        // btrfs may not make a file for anybody, long after its space is free again.
        if plain.lost(1..=40).len() < 40 {
            account.back_in_the_file(21..=40).markers_tell_all();
        }
    }
}

#[needs(images)]
#[test]
fn a_log_created_on_a_full_xfs() {
    new_log_on(Kind::Xfs);
}

#[needs(images)]
#[test]
fn a_log_created_on_a_full_btrfs() {
    new_log_on(Kind::Btrfs);
}

#[needs(images)]
#[test]
fn a_log_created_over_quota() {
    new_log_on(Kind::Quota);
}
