"""Test suites of interpreters, shells and servers, from Debian's sources, run against Debian's programs."""

import re
import shutil
import subprocess
from pathlib import Path

from .harness import built, need, own_words, source, suite, tap


def names(package, pattern, leave_out=()):
    """A suite's units: the source's files of this pattern, by their path in it."""

    def units(short):
        top = source(package)
        found = sorted(str(path.relative_to(top)) for path in top.glob(pattern))
        return [name for name in found if not any(re.search(bad, name) for bad in leave_out)]

    return units


# Perl ----------------------------------------------------------------------------------------------------------------------


def perl_tree(folder):
    """Perl's t/, and beside it the lib/ that its tests look for: the installed perl's two folders in one, of links."""
    shutil.copytree(source("perl") / "t", folder / "t")
    asked = ["perl", "-MConfig", "-e", 'print "$Config{archlibexp} $Config{privlibexp}"']
    for place in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split():
        subprocess.run(["cp", "-rs", "--no-clobber", f"{place}/.", folder / "lib"], check=True)
    (folder / "t/perl").symlink_to("/usr/bin/perl")


PERL = ["io", "op/exec.t", "op/fork.t", "op/alarm.t", "op/chdir.t", "op/die_exit.t", "op/filetest.t", "op/getpid.t", "op/glob.t"]
PERL += ["op/kill0.t", "op/lfs.t", "op/magic.t", "op/mkdir.t", "op/print.t", "op/readline.t", "op/select.t", "op/sigdispatch.t"]
PERL += ["op/sleep.t", "op/sselect.t", "op/stat.t", "op/stat_errors.t", "op/sysio.t", "op/threads.t", "op/unlink.t", "op/waitpid.t"]
PERL += ["op/write.t", "op/goto.t", "op/closure.t", "op/time.t", "op/require_errors.t", "op/inccode.t", "op/svleak.t", "run"]


def perl_units(short):
    t = source("perl") / "t"
    files = [path for name in PERL for path in (sorted((t / name).glob("*.t")) if (t / name).is_dir() else [t / name])]
    return [str(path.relative_to(t)) for path in files]


@suite("perl", "Perl's tests of files, pipes, processes, signals (t/io, t/run, parts of t/op)", perl_units)
def perl(unit, side):
    need(("perl", "perl"))
    shutil.copytree(built("perl", perl_tree) / "t", side.path("perl/t"), symlinks=True)
    side.path("perl/lib").symlink_to(built("perl", perl_tree) / "lib")
    done = side.run(["./perl", unit], cwd=side.path("perl/t"), timeout=120, PERL_CORE=1)
    return {"(end)": done.end, **tap(done.output)}


# Tcl -----------------------------------------------------------------------------------------------------------------------

TCL = "chan chanio event exec fCmd fileName fileSystem http http11 httpPipeline interp io ioCmd ioTrans iogt main notify pid "
TCL += "pkgMkIndex socket source thread timer unixFCmd unixFile unixInit unixNotfy zlib encoding env clock safe"


@suite("tcl", "Tcl's tests of channels, sockets, processes, files, events", TCL.split())
def tcl(unit, side):
    top = source("tcl8.6")
    shutil.copytree(top / "tests", side.path("tests"))
    side.path("library").symlink_to(top / "library")
    command = [need(("tclsh8.6", "tcl8.6")), "all.tcl", "-file", f"{unit}.test", "-verbose", "pass body skip error"]
    done = side.run([*command, "-singleproc", "1"], cwd=side.path("tests"), timeout=300)
    results = {"(end)": done.end}
    for mark, name, said in re.findall(r"^(\+\+\+\+|====) (\S+) .*?(PASSED|FAILED|SKIPPED)?$", done.output, re.M):
        if said or mark == "++++":
            results[name] = {"PASSED": "ok", "FAILED": "failed"}.get(said, "skipped")
    return results


# Shells --------------------------------------------------------------------------------------------------------------------


def bash_tree(folder):
    shutil.copytree(source("bash") / "tests", folder / "tests")
    (folder / "config.h").touch()
    for tool in ["recho", "zecho", "xcase"]:
        defined = ["-DHAVE_STRING_H", "-DHAVE_STDLIB_H", "-DHAVE_UNISTD_H"]
        flags = ["-w", *defined, "-I", folder, "-I", source("bash"), "-I", source("bash") / "include"]
        made = ["cc", *flags, "-o", folder / "tests" / tool, source("bash") / "support" / f"{tool}.c"]
        subprocess.run(made, check=True, timeout=60)


BASH_NOT = ["run-all", "run-minimal", "run-gprof"]


@suite("bash", "bash's tests: each one's difference from what it expects", lambda short: [
    path.name for path in sorted((source("bash") / "tests").glob("run-*")) if path.name not in BASH_NOT
])
def bash(unit, side):
    shutil.copytree(built("bash", bash_tree), side.path("bash"))
    tests = side.path("bash/tests")
    path = f"{tests}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    done = side.run(["sh", unit], cwd=tests, timeout=240, THIS_SH="/bin/bash", PATH=path, BASH_TSTOUT=side.path("tstout"))
    return {"difference from what it expects": re.sub(r"\d{4,}", "N", own_words(done.output)), "(end)": done.end}


@suite("zsh", "zsh's tests", lambda short: [path.name for path in sorted((source("zsh") / "Test").glob("*.ztst"))])
def zsh(unit, side):
    need(("zsh", "zsh"))
    shutil.copytree(source("zsh") / "Test", side.path("Test"))
    shutil.copytree(source("zsh") / "Functions", side.path("Functions"))
    where = {"ZTST_testdir": side.path("Test"), "ZTST_srcdir": side.path("Test"), "ZTST_exe": "/usr/bin/zsh", "ZTST_verbose": 1}
    # By its process id, which is the same in each sandbox.
    where["TMPPREFIX"] = side.path("tmp/zsh")
    done = side.run(["zsh", "+Z", "-f", "./ztst.zsh", f"./{unit}"], cwd=side.path("Test"), timeout=120, **where)
    results, running = {"(end)": done.end}, None
    for line in done.output.splitlines():
        if started := re.match(r"Running test: (.*)", line):
            running = started[1]
            results[running] = "ok"
        elif "failed:" in line and running:
            results[running] = "failed"
    return results


# Ruby ----------------------------------------------------------------------------------------------------------------------

RUBY = "argf autoload dir dir_m17n env file file_exhaustive io io_buffer io_m17n pipe process readpartial signal sleep system thread "
RUBY += "thread_queue fiber gc objectspace rubyoptions require"
RUBY_OTHERS = ["socket", "io/console", "io/nonblock", "io/wait", "fiber", "fileutils", "logger", "net/http", "drb", "zlib", "etc", "openssl"]
RUBY_OTHERS += ["test_open3.rb", "test_pstore.rb", "test_pty.rb", "test_tempfile.rb", "test_timeout.rb", "test_tmpdir.rb", "pathname"]


@suite("ruby", "Ruby's tests of IO, processes, threads, sockets, libraries", lambda short: [
    *(f"ruby/test_{name}.rb" for name in RUBY.split()), *RUBY_OTHERS
])
def ruby(unit, side):
    top = side.path("ruby")
    top.mkdir()
    # Links: its tests write to temporary folders.
    for part in ["test", "tool"]:
        (top / part).symlink_to(source("ruby3.1") / part)
    # For a C helper that Debian does not build, and that whole files of tests ask about the file system.
    (top / "helpers/-test-").mkdir(parents=True)
    (top / "helpers/-test-/file.rb").write_text("module Bug; module File; module Fs; def self.fsname(_) = ''; def self.noatime?(_) = true; end; end; end")
    command = [need(("ruby", "ruby")), "-W0", "-Itool/lib", "-Ihelpers", "test/runner.rb", "-v", "--seed=1", "--timeout-scale=3", f"test/{unit}"]
    done = side.run(command, cwd=top, timeout=400)
    said = own_words(done.output)
    # Its exit code is the number of failures; they have names.
    results = {"(end)": "exit code 0" if re.search(r"^\d+ tests, \d+ assertions", said, re.M) else done.end}
    results |= dict.fromkeys(re.findall(r"^\[ *\d+/\d+\] (\S+#\S+) = ", said, re.M), "ok")
    for how, name in re.findall(r"^ +\d+\) (Failure|Error|Skipped):\n(\S+#[^\s:]+)", said, re.M):
        results[name] = how.lower()
    return results


# Node ----------------------------------------------------------------------------------------------------------------------

NODE = "fs net dgram child-process cluster stdio stdout stdin stderr pipe worker file readline repl-close process signal tty http-server "
NODE += "http-client http-keep https-agent http2-server http2-client stream-pipeline zlib dns-lookup inspector-port tls-server watch "
NODE += "double-tls listen-fd crypto-random debugger-heap socket next-tick timers handle unhandled uncaught"


def node_units(short):
    found = sorted((source("nodejs") / "test/parallel").glob("test-*.js"))
    wanted = tuple(f"test-{name}-" for name in NODE.split())
    return [path.name for path in found if path.name.startswith(wanted)]


@suite("node", "Node's tests of files, sockets, child processes, clusters, workers, http", node_units)
def node(unit, side):
    test = source("nodejs") / "test/parallel" / unit
    flags = re.findall(r"^// Flags: (.*)", test.read_text(errors="replace"), re.M)
    command = [need(("node", "nodejs")), *(flag for line in flags for flag in line.split()), test]
    side.path("tests").mkdir()
    done = side.run(command, timeout=60, NODE_TEST_DIR=side.path("tests"), NODE_SKIP_FLAG_CHECK=1)
    return {"(end)": "skipped" if "1..0 # Skipped" in done.output else done.end}


# Redis ---------------------------------------------------------------------------------------------------------------------

REDIS = "unit/auth unit/info unit/dump unit/multi unit/protocol unit/pubsub unit/querybuf unit/shutdown unit/limits unit/aofrw unit/networking "
REDIS += "unit/obuf-limits unit/scripting unit/introspection unit/type/list unit/type/hash unit/type/string unit/type/stream unit/other "
REDIS += "integration/aof integration/aof-multi-part integration/rdb integration/logging integration/replication integration/replication-psync "
REDIS += "integration/redis-cli integration/redis-benchmark integration/shutdown integration/block-repl integration/convert-ziplist-hash-on-load"


@suite("redis", "Redis's tests of protocol, persistence, replication, logging, command line; not the slow ones, nor those that need DEBUG", REDIS.split(), alone=True)
def redis(unit, side):
    tclsh, server, client, benchmark = need(
        ("tclsh8.6", "tcl8.6"), ("redis-server", "redis-server"), ("redis-cli", "redis-tools"), ("redis-benchmark", "redis-tools")
    )
    top = side.path("redis")
    shutil.copytree(source("redis") / "tests", top / "tests")
    (top / "src").mkdir()
    for name in ["redis-server", "redis-cli", "redis-benchmark", "redis-sentinel", "redis-check-aof", "redis-check-rdb"]:
        (top / "src" / name).symlink_to(Path(server).parent / name)
    shutil.copy(source("redis") / "redis.conf", top)
    command = [tclsh, "tests/test_helper.tcl", "--clients", "1", "--single", unit, "--tags", "-needs:debug -slow", "--timeout", "200"]
    done = side.run(command, cwd=top, timeout=400)
    results = {"(end)": done.end}
    for mark, name in re.findall(r"\[(ok|err|ignore|skip|exception)\]: (.*?)(?: \(\d+ ms\))?$", re.sub(r"\x1b\[[\d;]*m", "", done.output), re.M):
        name = re.sub(r"\d{4,}", "N", name.split(" in tests/")[0])
        results[name] = "failed" if results.get(name) == "failed" else {"ok": "ok", "err": "failed"}.get(mark, mark)
    return results


# git -----------------------------------------------------------------------------------------------------------------------


def git_tree(folder):
    """git's t/ with the helper programs that it needs; the git under test is the installed one."""
    shutil.copytree(source("git"), folder / "git")
    options = ["NO_OPENSSL=1", "NO_CURL=1", "NO_EXPAT=1", "NO_GETTEXT=1", "NO_TCLTK=1", "NO_PERL=1", "NO_PYTHON=1"]
    command = ["make", "-j2", *options, "t/helper/test-tool", "GIT-BUILD-OPTIONS", "templates", "bin-wrappers/test-tool"]
    for each in (command, ["make", "-C", "templates", "all"]):
        subprocess.run(each, cwd=folder / "git", check=True, capture_output=True, timeout=1200)


GIT = r"t(00[0-6]\d|13\d\d|14[0-1]\d|53\d\d|55[0-3]\d|75\d\d)-.*\.sh"


@suite("git", "git's tests of basics, configuration, refs, packs, fetch and push, commit, status (t000-t006, t13, t140-t141, t53, t550-t553, t75)", lambda short: [
    path.name for path in sorted((source("git") / "t").glob("t*.sh")) if re.fullmatch(GIT, path.name)
], timeout=400)
def git(unit, side):
    need(("git", "git"), ("msgfmt", "gettext"))
    tree = built("git", git_tree)
    done = side.run(
        ["sh", f"./{unit}", f"--root={side.path('trash')}", "--no-chain-lint"], cwd=tree / "git/t", timeout=300,
        GIT_TEST_INSTALLED="/usr/bin", TEST_OUTPUT_DIRECTORY=side.folder, GIT_SKIP_TESTS="",
    )
    return {"(end)": done.end, **tap(done.output)}
