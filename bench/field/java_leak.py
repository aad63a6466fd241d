import subprocess

from . import Program

SOURCE = """import java.io.*;
public class Leaks {
    public static void main(String[] a) throws Exception {
        int opened = 0, without = 0;
        for (int i = 0; i < 1000; i++) {
            try { new FileInputStream(a[0]).read(); opened++; } catch (IOException e) { without++; }
        }
        System.out.println(opened + " " + without);
    }
}
"""


def prepare(folder):
    (folder / "Leaks.java").write_text(SOURCE)
    subprocess.run(["ecj", "-17", "-nowarn", "-proc:none", "-d", folder, folder / "Leaks.java"], check=True, capture_output=True)


def run(trial):
    words = ["/usr/bin/java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-XX:-MaxFDLimit", "-cp", trial.data, "Leaks", "/etc/passwd"]
    trial.command(words, trial.folder / "said")
    said = (trial.folder / "said").read_text().split()
    return (int(said[0]), int(said[1])) if said else (0, 1000)


PROGRAM = Program("Java, a leak", "leaves its streams to the garbage collector", ("/usr/bin/java", "ecj"), 64, run, prepare=prepare, short=False)
