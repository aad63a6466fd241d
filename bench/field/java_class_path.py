import subprocess
import zipfile

from . import Program

JARS = 150
SOURCE = "public class Wanted { public static void main(String[] a) throws Exception { int n = 0; for (int i = 0; i < %d; i++) if (Wanted.class.getResource(\"/r\" + i) != null) n++; System.out.println(n); } }"


def prepare(folder):
    (folder / "Wanted.java").write_text(SOURCE % JARS)
    subprocess.run(["ecj", "-17", "-nowarn", "-proc:none", "-d", folder, folder / "Wanted.java"], check=True, capture_output=True)
    for i in range(JARS):
        with zipfile.ZipFile(folder / f"{i}.jar", "w") as jar:
            jar.writestr(f"r{i}", "x")


def run(trial):
    path = ":".join(str(trial.data / f"{i}.jar") for i in range(JARS))
    words = ["/usr/bin/java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-XX:-MaxFDLimit", "-cp", f"{trial.data}:{path}", "Wanted"]
    trial.command(words, trial.folder / "said")
    found = (trial.folder / "said").read_text().split()
    return (int(found[0]), JARS - int(found[0])) if found else (0, JARS)


PROGRAM = Program("Java, a long class path", "a JVM opens 150 jars and goes without some", ("/usr/bin/java", "ecj"), 64, run, prepare=prepare)
