"""One program on one side: plain, preloaded, or with a library that does nothing; each in a sandbox of its own."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CACHE = HERE / "target/compat"
# What a service gets from systemd, and a login from most distributions.
DESCRIPTORS = (1024, 524288)
LARGEST_FILE = 4 << 30


class CannotRun(Exception):
    """A suite that can't be run here, with the reason."""


@dataclass
class Suite:
    """Somebody's tests: `run(unit, side)` gives {name of a test: its result}; `units(short)` are what can be run alone."""

    name: str
    about: str
    units: object
    run: object
    short: bool = False
    alone: bool = False  # not beside others: it uses the whole machine
    timeout: int = 600


suites: list[Suite] = []


def suite(name, about, units, **options):
    """Declares the function below as a suite."""

    def declare(function):
        suites.append(Suite(name, about, units if callable(units) else lambda short: list(units), function, **options))
        return function

    return declare


@dataclass
class Done:
    code: int | None  # None: killed at its timeout
    output: str

    @property
    def end(self):
        return "timeout" if self.code is None else f"exit code {self.code}"


# Pid 1 of the sandbox: its end is the end of every process in it. Network of its own, so that two runs can use a port.
SANDBOX = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc"]
INIT = 'ip link set lo up 2>/dev/null; mount -t tmpfs tmpfs /dev/shm; "$@"; code=$?; exit $code'
# For programs that may do anything: they can write to their own folder only.
SEAL = 'mount --bind . . && cd "$PWD" && mount -o remount,bind,ro / || exit 125; '


@dataclass
class Side:
    """Where a program runs: `preload` is what it gets in LD_PRELOAD, or None."""

    name: str
    preload: Path | None
    folder: Path = field(default=None)

    def path(self, name):
        return self.folder / name

    def environment(self, extra):
        kept = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        own = {"HOME": self.folder, "TMPDIR": self.folder / "tmp"}
        return {name: str(value) for name, value in {**kept, **own, **extra}.items()}

    def run(self, command, cwd=None, timeout=300, stdin=None, sealed=False, **extra):
        """Runs a program to its end in a sandbox; what it writes to both streams is its output. Sealed: / is read-only for it."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        preload = [f"LD_PRELOAD={self.preload}"] if self.preload else []
        inner = ["sh", "-c", SEAL * sealed + INIT, "sh", "env", *preload, *(str(part) for part in command)]
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]

        def restrict():
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            hard = min(DESCRIPTORS[1], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS[0], hard))

        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [*SANDBOX, *user, *inner], cwd=cwd or self.folder, env=self.environment(extra), preexec_fn=restrict,
                start_new_session=True, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.PIPE,
            )
            try:
                process.communicate((stdin or "").encode(), timeout=timeout)
                code = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            said.seek(0)
            # The folder has another name on each side.
            return Done(code, said.read(64 << 20).decode(errors="replace").replace(str(self.folder), "WORK"))


def own_words(output):
    """The output without the library's lines: they are for people, and may not be where a program's result is. One may come in the
    middle of a line that the program has begun."""
    return re.sub(r"tideover\[\d+\]: .*\n?", "", output)


def need(*commands):
    """The paths of commands, or CannotRun with the package that has them: need(("tclsh", "tcl8.6"))."""
    paths = []
    for name, package in commands:
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if not path:
            raise CannotRun(f"{name} is missing: apt install {package}")
        paths.append(path)
    return paths[0] if len(paths) == 1 else paths


ONE_AT_A_TIME = threading.RLock()


def source(package):
    """The source of a Debian package, unpacked once into target/compat/src (shared; copy it before writing to it)."""
    with ONE_AT_A_TIME:
        into = CACHE / "src" / package
        return into if into.is_dir() else fetch(package, into)


def fetch(package, into):
    need(("dpkg-source", "dpkg-dev"))
    apt = CACHE / "apt"
    (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
    (apt / "archives/partial").mkdir(parents=True, exist_ok=True)
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror = subprocess.run([HERE / "scripts/debian-mirror"], capture_output=True, text=True, check=True).stdout.strip()
    if not mirror:
        raise CannotRun(f"the source of {package} can't be had: apt's sources have no Debian archive of this release")
    line = f"deb-src [signed-by={keyring}] {mirror} {release['VERSION_CODENAME']} main\n"
    # A list of its own: the machine's sources stay as they are.
    (apt / "sources.list").write_text(line)
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists", "Dir::Cache": apt, "APT::Sandbox::User": "root",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    fetched = apt / package
    fetched.mkdir(exist_ok=True)
    for arguments in (["update"], ["source", "--download-only", package]):
        done = subprocess.run([*command, *arguments], cwd=fetched, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise CannotRun(f"the source of {package} can't be had: {done.stderr.strip()[-200:]}")
    description = next(fetched.glob("*.dsc"))
    unpacked = into.with_suffix(".part")
    into.parent.mkdir(exist_ok=True)
    shutil.rmtree(unpacked, ignore_errors=True)
    subprocess.run(["dpkg-source", "-x", "--no-check", description, unpacked], check=True, capture_output=True, timeout=600)
    unpacked.rename(into)
    return into


def built(name, build):
    """A folder target/compat/NAME that `build(folder)` fills once, plainly."""
    into = CACHE / name
    with ONE_AT_A_TIME:
        if into.is_dir():
            return into
        part = into.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        build(part)
        part.rename(into)
    return into


def compiled(name, code, *flags):
    """A C program or library of a few lines, compiled once."""

    def build(folder):
        (folder / f"{name}.c").write_text(code)
        subprocess.run(["cc", "-O1", "-w", *flags, "-o", folder / name, folder / f"{name}.c"], check=True, timeout=60)

    return built(f"made-{name}", build) / name


def tap(output):
    """{name: result} of a TAP stream. Tests without a name are known by their number; some suites shuffle those with one."""
    results = {}
    for line in output.splitlines():
        words = line.split(None, 2)
        failed = words[:2] == ["not", "ok"]
        if not failed and words[:1] != ["ok"]:
            continue
        rest = line.split("ok", 1)[1].strip()
        number, _, said = rest.partition(" ")
        if not number.isdigit():
            continue
        name, _, directive = said.partition("# ")
        result = "failed" if failed else "ok"
        if directive.lower().startswith(("skip", "todo")):
            result = f"{directive.split()[0].lower()} {result}"
        name, count = name.strip(" -") or number, 1
        while name in results:
            count += 1
            name = f"{name.rsplit(' #', 1)[0]} #{count}"
        results[name] = result
    return results


def python():
    """This interpreter if it has its tests, else Debian's."""
    for candidate in dict.fromkeys([os.path.realpath(sys.executable), "/usr/bin/python3"]):
        asked = subprocess.run([candidate, "-c", "import test.test_os, test.libregrtest"], capture_output=True)
        if asked.returncode == 0:
            return candidate
    raise CannotRun("no python3 here has its tests: apt install libpython3-testsuite")
