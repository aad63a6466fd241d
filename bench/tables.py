"""The part `tables` of scripts/bench: what programs do with the limit that sysconf(_SC_OPEN_MAX) and getdtablesize(3) tell them.

They make tables of that length at their start, or close all numbers below it. The library raises the soft limit before it is told
(TOLD in src/shim/engine/reclaim/tables.rs). Here the programs run without it, and are told each of the limits by bench/field/told.c."""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

from . import harness
from .field import erlang, free_port, slapd
from .harness import row, section

LIMITS = [1024, 4096, 16384, 65536]
TOLD = 16384
ROUNDS = 5
# What a limit of TOLD may cost more than one of 1024: MiB, seconds.
MEMORY, SECONDS = 16, 0.1


def slapd_command(folder, port):
    configuration = folder / "slapd.conf"
    (folder / "db").mkdir()
    configuration.write_text(slapd.configuration(folder))
    return ["slapd", "-d", "0", "-f", configuration, "-h", f"ldap://127.0.0.1:{port}"]


def erlang_command(folder, port):
    return ["erl", "-noinput", "-noshell", "+S", "2:2", "-eval", erlang.SERVER % port]


def rsyslogd_command(folder, port):
    (folder / "conf").write_text(f"*.* {folder}/all.log\n")
    return ["rsyslogd", "-f", folder / "conf", "-i", folder / "pid"]


def dnsmasq_command(folder, port):
    return ["dnsmasq", "-C", "/dev/null", "-p", port, "-i", "lo", "-z", "-x", folder / "pid", "-u", "root"]


def snmpd_command(folder, port):
    (folder / "conf").write_text("")
    return ["snmpd", "-C", "-c", folder / "conf", "-p", folder / "pid", "-Lf", "/dev/null", f"127.0.0.1:{port}"]


# Name, program, a function that makes its command; is it a daemon, whose command returns when it is ready? Else it listens then.
PROGRAMS = [
    ("slapd", "slapd", slapd_command, False),
    ("Erlang", "erl", erlang_command, False),
    ("dnsmasq", "dnsmasq", dnsmasq_command, True),
    ("rsyslogd", "rsyslogd", rsyslogd_command, True),
    ("rpcbind", "rpcbind", lambda folder, port: ["rpcbind", "-f"], False),
    ("nscd", "nscd", lambda folder, port: ["nscd"], True),
    ("snmpd", "snmpd", snmpd_command, True),
]


def listens(port):
    return any(f":{port:04X} " in line and " 0A " in line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").open())


def private(pid):
    """MiB of memory that a process has for itself, by what all users may read."""
    _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def of_home(folder):
    """Processes that were started with this folder as HOME, and have not ended."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
        except OSError:
            pass  # It has ended meanwhile, or is another user's.
    return found


def started(make, program, is_daemon, limit, number, teller):
    """(seconds until it is ready, MiB of its own) of one start with this soft limit."""
    folder = harness.work / f"tables-{program}-{limit}-{number}"
    folder.mkdir(mode=0o755)
    port = 111 if program == "rpcbind" else free_port()
    words = [str(word) for word in make(folder, port)]
    environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(folder), "LD_PRELOAD": str(teller), "TOLD": str(limit)}
    begin = time.monotonic()
    process = subprocess.Popen(
        words, env=environment, start_new_session=True, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if is_daemon:
            if process.wait(timeout=30):
                raise RuntimeError(f"{program} did not start")
            took = time.monotonic() - begin
            pids = of_home(folder)
        else:
            while not listens(port):
                if process.poll() is not None or time.monotonic() > begin + 30:
                    raise RuntimeError(f"{program} did not start")
                time.sleep(0.002)
            took = time.monotonic() - begin
            pids = {process.pid}
        if not pids:
            raise RuntimeError(f"{program} ended")
        time.sleep(0.2)
        return took, max(private(pid) for pid in pids)
    finally:
        for sent in (signal.SIGTERM, signal.SIGKILL):
            for pid in of_home(folder) | ({process.pid} if process.poll() is None else set()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
            time.sleep(0.3)
        process.wait()


def tables():
    title = section(f"Programs that ask for the length of a table: what a limit of {TOLD} costs")
    teller = harness.work / "told.so"
    source = harness.HERE / "bench/field/told.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", teller, source, "-ldl"], check=True, timeout=harness.TIMEOUT)
    for name, program, make, is_daemon in PROGRAMS:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            row(title, name, "not here")
            continue
        runs = {limit: [] for limit in LIMITS}
        for number in range(ROUNDS):
            for limit in LIMITS:
                runs[limit].append(started(make, program, is_daemon, limit, number, teller))
        # The shortest start: other work on the machine only adds to it.
        seconds = {limit: min(took for took, _ in several) for limit, several in runs.items()}
        memory = {limit: statistics.median(own for _, own in several) for limit, several in runs.items()}
        shown = "; ".join(f"{limit}: {1000 * seconds[limit]:.0f} ms, {memory[limit]:.1f} MiB" for limit in LIMITS)
        met = seconds[TOLD] <= seconds[1024] + SECONDS and memory[TOLD] <= memory[1024] + MEMORY
        row(title, name, shown, f"{TOLD}: at most {1000 * SECONDS:.0f} ms, {MEMORY} MiB more", met)
