//! Log lines of real programs while the log's disk is full: without the library some are lost, with it none.
//!
//! Each program is given 100 lines with space, 100 on the full disk, 100 after it was freed. `--nocapture` shows the losses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tideover_tests::loggers::{EACH, FILE_HANDLER, ONCE, c, node_that, python_that, shell};
use tideover_tests::numbered::Account;
use tideover_tests::outage::{Fed, Told, compared, nothing_lost};
use tideover_tests::programs::{compile_java, java};
use tideover_tests::{Kind, Run, Scratch, fixture_source, needs, program};

fn through(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) -> (Told, Told) {
    // Java's and perl's buffers of 8 KiB keep what did not fit and try again; the outage is longer than that.
    let each = if name.starts_with("java") || name.starts_with("perl") { 200 } else { 100 };
    compared(name, kind, each, |_, log, preload| {
        Fed::start(&run(log).preload(preload).timeout(Duration::from_secs(60)))
    })
}

/// The lines that did not get into the log are on standard output.
fn survives(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let (_, told) = through(name, kind, run);
    let account = told.on_stdout();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// For programs whose standard output is the log: the lines are on standard error.
fn survives_on_stderr(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    survives_on_stderr_with(name, ">>", kind, run);
}

fn survives_on_stderr_with(name: &str, redirection: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let script = format!("log=$1; shift; exec \"$@\" {redirection}\"$log\"");
    let (_, told) = through(name, kind, |log| {
        let real = run(log);
        let shell = Run::new(program("sh", "dash")).args(["-c", &script, "sh"]);
        shell.arg(log).args(real.command())
    });
    let account = told.on_stderr();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// For shells whose standard output has become the log: what it was before is gone, so the lines are on standard error.
fn survives_in_a_shell(name: &str, run: impl Fn(&Path) -> Run) {
    let (_, told) = through(name, Kind::Tmpfs, run);
    assert_eq!(told.outcome.stdout, "", "{}", told.outcome);
    let account = told.on_stderr();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// The page says what the test saw.
fn told_in_page(told: &Told, account: &Account) {
    let elsewhere = (account.in_sink.len() + account.rejoined.len()) as u64;
    assert_eq!(told.logs("diverted_lines"), elsewhere, "{account}");
    assert_eq!(told.logs("diverted_bytes"), account.sink_bytes(), "{account}");
    assert_eq!(told.logs("dropped_bytes"), 0);
    assert_eq!(told.logs("recoveries"), 1);
    assert_eq!(told.logs("degraded"), 0, "it is over");
}

#[needs(mounts)]
#[test]
fn bash_appends_line_by_line() {
    survives("bash: echo >> log", Kind::Tmpfs, |log| shell("bash", "bash", EACH, log));
}

#[needs(mounts)]
#[test]
fn bash_with_its_output_in_the_log() {
    survives_in_a_shell("bash: exec >> log", |log| shell("bash", "bash", ONCE, log));
}

#[needs(mounts)]
#[test]
fn dash_appends_line_by_line() {
    survives("dash: echo >> log", Kind::Tmpfs, |log| shell("dash", "dash", EACH, log));
}

#[needs(mounts)]
#[test]
fn dash_with_its_output_in_the_log() {
    survives_in_a_shell("dash: exec >> log", |log| shell("dash", "dash", ONCE, log));
}

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
fn python_file_handler() {
    survives("python: FileHandler", Kind::Tmpfs, |log| python_that(FILE_HANDLER, log));
}

#[needs(mounts)]
#[test]
fn python_rotating_file_handler() {
    let put = "import logging, logging.handlers\n\
               handler = logging.handlers.RotatingFileHandler(log, maxBytes=4000, backupCount=20)\n\
               logging.basicConfig(handlers=[handler], level='INFO', format='%(message)s')\nput = logging.info";
    survives("python: RotatingFileHandler", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_opens_the_log_for_each_line() {
    let put = "def put(line):\n    try:\n        with open(log, 'a') as f: f.write(line + '\\n')\n    \
               except OSError as e: print(e, file=sys.stderr)";
    survives("python: open('a')", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_to_its_redirected_output() {
    let put = "def put(line): print(line, flush=True)";
    survives_on_stderr("python: print >> log", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_to_a_log_that_was_opened_afresh() {
    // `> log` rather than `>> log`: not O_APPEND, but the file that standard output was at start.
    let put = "def put(line): print(line, flush=True)";
    survives_on_stderr_with("python: print > log", ">", Kind::Tmpfs, |log| python_that(put, log));
}

#[needs(mounts)]
#[test]
fn python_prints_unbuffered_to_its_redirected_output() {
    // As in most containers: a write for the text, one for the newline, and what a short write leaves is forgotten.
    let put = "def put(line): print(line, flush=True)";
    survives_on_stderr("python -u: print >> log", Kind::Tmpfs, |log| {
        python_that(put, log).env("PYTHONUNBUFFERED", "1")
    });
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
fn perl_print() {
    let script = "use IO::Handle; open my $log, '>>', $ARGV[0] or die; $log->autoflush; \
                  while (<STDIN>) { if (/^:(.*)/) { open my $mark, '>', $1; close $mark } else { print $log $_ } }";
    survives("perl: print", Kind::Tmpfs, |log| Run::new(program("perl", "perl")).args(["-e", script]).arg(log));
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

#[needs(mounts)]
#[test]
fn c_in_every_way_to_write_a_line() {
    for how in ["line", "full", "none", "write", "writev", "reopen", "dprintf", "wide", "tell"] {
        survives(&format!("C: {how}"), Kind::Tmpfs, |log| c(how, log));
    }
}

#[needs(mounts)]
#[test]
fn c_with_stdout_reopened_onto_the_log() {
    survives("C: freopen(stdout)", Kind::Tmpfs, |log| c("stdout", log));
}

#[needs(mounts)]
#[test]
fn c_that_flushes_late() {
    survives("C: flushed late", Kind::Tmpfs, |log| c("later", log));
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
