"""Ordinary programs doing what they do all day: the same end, the same output, the same files."""

import hashlib
import re
import subprocess
from pathlib import Path

from .harness import HERE, built, need, own_words, source, suite


def steady(text):
    """A text without what changes from run to run: times, process ids, addresses, durations, random names."""
    text = own_words(text)
    for pattern, word in [
        (r"\b\d{4}[-/]\d\d[-/]\d\d(?:T|  ?)\d?\d:\d\d(:\d\d([.,]\d+)?)?( ?[+-]\d\d:?\d\d|Z)?", "TIME"),
        (r"\b[A-Z][a-z]{2} \d\d?, \d{4} \d\d?:\d\d:\d\d [AP]M", "TIME"),
        (r"\b\d\d:\d\d:\d\d([.,]\d+)?", "TIME"),
        (r"0x[0-9a-f]{6,}", "ADDRESS"),
        (r"/tmp/[\w.\-]+", "TEMPORARY"),
        (r"\b[\d.]+ ?(ms|s|sec|seconds|KB/s|MB/s|kB/s)\b", "DURATION"),
        (r"\b(pid|PID|process)([ :=]+)\d+", r"\1\2PID"),
        (r"\b\d+#\d+: ", "PID: "),
    ]:
        text = re.sub(pattern, word, text)
    return text


# Every command ---------------------------------------------------------------------------------------------------------------

# Those that do something else than answer when asked for help, or answer differently each time; expect's examples wait for somebody,
# and pam-auth-update asks again and again.
NO_HELP = r"(expect_.*|pam-auth-update|x|startx|reboot|halt|poweroff|shutdown|telinit|init|sulogin|agetty|login|su|chvt|openvt|runuser|nologin|script|screen|yes)"


def commands(short):
    found = {path.name: path for folder in ["/usr/sbin", "/usr/bin"] for path in Path(folder).iterdir() if path.is_file()}
    return sorted(name for name in found if not re.fullmatch(NO_HELP, name))


@suite("help", "every command in /usr/bin and /usr/sbin, asked for --help and --version", commands)
def help(name, side):
    return {
        asked: f"{done.end}: {steady(done.output)}"
        for asked in ["--help", "--version"]
        for done in [side.run(["timeout", "-k1", "10", name, asked], timeout=60, sealed=True)]
    }


# Shell sessions --------------------------------------------------------------------------------------------------------------

SHELL = {
    "coreutils": r"""
        seq 100000 | shuf --random-source=/bin/bash | sort -n -S 64K -T . | md5sum; seq 5000 | split -l 7 - part. ; ls | wc -l; cat part.* | wc
        head -c 3M /dev/zero | tee a b c | wc -c; cmp a b && comm -12 part.aa part.aa | paste - part.ab | tac | rev | tr 0-9 a-j | fold -w 3
        dd if=a of=d bs=64k count=9 conv=fsync status=none; truncate -s 1G sparse; stat -c '%s %a' d sparse; cp --sparse=always sparse s2; du -k s2
        mkfifo f; (echo through > f) & cat f; wait; install -m 600 d e; mv e g; ln -s g h; readlink -f h | xargs basename; sync g; cd ..; rm -r session""",
    "tar gzip xz": r"""
        mkdir t; for i in $(seq 300); do echo $i > t/$i; done; tar --sort=name --mtime=@0 --owner=0 --group=0 -czf t.tgz t; mkdir u; tar -xzf t.tgz -C u
        diff -r t u/t; md5sum t.tgz | cut -c1-8; gunzip -c t.tgz | xz -T2 | xz -d | md5sum
        gzip -k t/*; zcat t/*.gz | wc; bzip2 -k t/1; bzcat t/1.bz2""",
    "find xargs sed awk": r"""
        mkdir -p d/{1..9}/{1..9}; for f in d/*/*; do echo $f > $f/x; done; find d -type f -exec sed -i s/d/e/ {} +; find d -name x | sort | xargs -n 7 -P 4 cat | sort | md5sum
        gawk 'BEGIN { print "z\na" |& "sort"; close("sort", "to"); while (("sort" |& getline l) > 0) print l; "date +%Y" | getline y; print y > 2000; print "x" | "cat 1>&2"; close("cat 1>&2")
          for (i = 0; i < 300; i++) print i > ("o." i % 90) }' </dev/null; ls o.* | wc -l; grep -rl e d | wc -l""",
    "bash": r"""
        exec 3>three 4<&0 {n}<>/dev/null; echo to three >&3; cat three; echo $((n > 9)); coproc C { cat; }; echo co >&${C[1]}; read -ru ${C[0]} x; echo $x; eval "exec ${C[1]}>&-"; wait $C_PID
        trap 'echo usr1' USR1; kill -USR1 $$; (trap 'echo exit' EXIT; exit 3); echo $?; cat <(seq 3) <(seq 4 6); mapfile -t a < <(seq 9); echo ${a[@]}
        for i in $(seq 200); do (:) & done; wait; echo waited; sleep 60 & kill $!; wait $! 2>/dev/null; echo $?; printf '%s\n' {1..3000} | while read l; do s=$((s+l)); done; echo ok
        diff <(ulimit -a) <(bash -c 'ulimit -a'); ulimit -Sn; exec 3>&-; { echo 1; echo 2 >&2; } > both 2>&1; cat both; exec sh -c 'echo replaced'""",
    "sqlite3": r"""
        for mode in delete wal truncate memory; do sqlite3 $mode.db "pragma journal_mode=$mode; create table t(a integer primary key, b text);
          with recursive n(i) as (select 1 union all select i+1 from n where i < 20000) insert into t select i, hex(i*7919) from n;
          create index i on t(b); update t set b = b || 'x' where a % 3 = 0; delete from t where a % 7 = 0; vacuum; pragma integrity_check; select count(*), sum(length(b)) from t;"; done
        for i in 1 2 3 4; do (for j in $(seq 20); do sqlite3 -cmd '.timeout 20000' wal.db "insert into t(b) values('$i.$j')"; done) & done; wait
        sqlite3 wal.db "select count(*) from t where b like '_.%'; pragma integrity_check; select b from t order by b" | md5sum; sqlite3 delete.db ".backup copy.db"; sqlite3 copy.db 'select max(a) from t'""",
    "git": r"""
        export GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_DATE='@1 +0000' GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git config --global init.defaultBranch main; git init -q r; cd r; for i in $(seq 400); do mkdir -p $((i % 20)); seq $i > $((i % 20))/$i; done; git add .; git commit -qm one; git log --format=%H
        for i in $(seq 30); do echo $i >> 1/1; git commit -qam $i; done; git repack -adq; git gc -q; git fsck; git log --format=%T -1; git bundle create -q ../b HEAD main; git clone -q ../b ../c
        git daemon --export-all --base-path=.. --reuseaddr --detach --pid-file=../pid; sleep 1; git clone -q git://127.0.0.1/r ../d && git -C ../d rev-parse HEAD; kill $(cat ../pid)
        git checkout -qb x HEAD~5; git merge -q main; git stash; git blame 1/1 | wc -l; git grep -c 1 | wc -l; git archive HEAD | md5sum; git worktree add -q ../w; git -C ../w status --short""",
    "python and perl": r"""
        python3 -c 'import concurrent.futures as c, os, subprocess
with c.ProcessPoolExecutor(3) as p: print(sum(p.map(pow, range(50), range(50))) % 97)
with c.ThreadPoolExecutor(30) as p: print(set(p.map(lambda n: len(open("/etc/passwd").read()) > 9, range(300))))
print(subprocess.check_output("echo $0; ls -d /", shell=True))'
        perl -e 'use IO::Socket; my $s = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1"); if (my $p = fork) { my $c = $s->accept; print $c "hello\n"; close $c; wait; print $? } else {
          my $c = IO::Socket::INET->new($s->sockhost . ":" . $s->sockport); print <$c>; exit 3 } open my $f, "|-", "cat -n"; print $f "x\n"; close $f; print `echo y`, -s "/etc/passwd" > 0'""",
    "curl and wget": r"""
        mkdir www; seq 200000 > www/n; (cd www; exec python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1) & for i in $(seq 50); do curl -s 127.0.0.1:8123 >/dev/null && break; sleep .1; done
        curl -s 127.0.0.1:8123/n | md5sum; curl -sS -Z --no-progress-meter --parallel-max 20 -o '#1' '127.0.0.1:8123/n?[1-40]'; cat ? ?? | md5sum; wget -q 127.0.0.1:8123/n; md5sum n; wget -qc 127.0.0.1:8123/n; kill %1""",
    "ssh and openssl": r"""
        ssh-keygen -q -t ed25519 -N '' -f k; ssh-keygen -lf k.pub | cut -d' ' -f1,3-; openssl genrsa 2048 2>/dev/null | openssl rsa -pubout 2>/dev/null | wc -l; openssl speed -seconds 1 -bytes 64 sha256 >/dev/null 2>&1; echo $?""",
    "gdb and strace": r"""
        gdb -q -batch -ex run -ex 'info threads' --args /bin/echo under gdb 2>/dev/null | grep -c 'under gdb'; strace -f -e trace=execve -o t sh -c 'ls / >/dev/null; exec true'; grep -c execve t""",
}


@suite("shell", "sessions of coreutils, tar, bash, awk, git, sqlite3, python, perl, curl, gdb", SHELL, short=True)
def shell(unit, side):
    work = side.path("session")
    work.mkdir()
    done = side.run(["bash", "-c", SHELL[unit]], cwd=work, timeout=60)
    return {"end": done.end, "output": steady(done.output)}


# Compilers -------------------------------------------------------------------------------------------------------------------


@suite("build", "gcc, make, binutils: bash from its sources, the objects byte for byte, and the bash that comes out", ["bash"], alone=True)
def build(unit, side):
    need(("gcc", "gcc"), ("make", "make"), ("bison", "bison"))
    # At a place of this length on every side; paths are in the objects' debug information, which is left out.
    command = f"cp -a {source('bash')} b && cd b && CFLAGS='-O1 -g0' ./configure -q --disable-nls >/dev/null 2>&1 && make -j2 >/dev/null 2>&1"
    done = side.run(["sh", "-c", f"{command}; echo $?; ls *.o | wc -l; ./bash -c 'echo $((6 * 7))'"], timeout=900)
    objects = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in side.path("b").glob("*.o")}
    # version.o holds a count and a path.
    return {"end": done.end, "output": own_words(done.output), **{n: h for n, h in objects.items() if n not in ("version.o", "shell.o")}}


# Java ------------------------------------------------------------------------------------------------------------------------

JAVA = {path.stem: path for path in sorted((HERE / "compat/java").glob("*.java"))}


def compiled_java(folder):
    ecj = need(("ecj", "ecj"))
    for name, path in JAVA.items():
        subprocess.run([ecj, "-17", "-nowarn", "-proc:none", "-d", folder / name, path], check=True, timeout=120)


@suite("java", "Java programs: files, channels, processes, sockets, logging, thread pools", JAVA, short=True)
def java(unit, side):
    classes = built("java", compiled_java) / unit
    done = side.run([need(("java", "openjdk-17-jre-headless")), "-cp", classes, "Main", side.folder], timeout=120)
    return {"end": done.end, "output": steady(done.output)}


# Chromium --------------------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><title>t</title><canvas id=c></canvas><p id=p></p><script>
const w = new Worker(URL.createObjectURL(new Blob(["onmessage = e => postMessage(e.data.reduce((a, b) => a + b))"])));
w.onmessage = e => { p.textContent = "worker " + e.data; caches.open("x").then(() => indexedDB.open("d").onsuccess = () =>
  fetch("/data").then(r => r.text()).then(t => { p.textContent += ", fetched " + t.length; document.title = "done" })) };
w.postMessage([...Array(1000).keys()]);
const g = c.getContext("2d"); g.fillStyle = "teal"; g.fillRect(0, 0, 99, 99);
</script>"""


@suite("chromium", "a page with scripts, a worker, storage and a fetch, rendered by headless Chromium", ["dom", "screenshot"], alone=True)
def chromium(unit, side):
    browser = need(("chromium", "chromium"))
    www = side.path("www")
    www.mkdir()
    (www / "index.html").write_text(PAGE)
    (www / "data").write_text("x" * 100000)
    shown = {"dom": "--dump-dom", "screenshot": f"--screenshot={side.path('shot.png')}"}[unit]
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --timeout=20000 --virtual-time-budget=5000 --window-size=400,300"
    script = f"""
        cd www; python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 & server=$!
        for i in $(seq 50); do curl -s 127.0.0.1:8123 >/dev/null && break; sleep .1; done
        {browser} {flags} --user-data-dir={side.path('profile')} {shown} http://127.0.0.1:8123/ 2>err; code=$?; kill $server; exit $code"""
    done = side.run(["bash", "-c", script], timeout=120)
    results = {"end": done.end, "output": own_words(done.output)}
    if unit == "screenshot":
        picture = side.path("shot.png")
        results["picture"] = hashlib.sha256(picture.read_bytes()).hexdigest()[:16] if picture.exists() else "none"
    return results
