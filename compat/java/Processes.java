import java.io.*;
import java.util.*;
import java.util.concurrent.*;

/** Children: pipes, redirections, environment, exit codes, many at once. */
class Main {
    static String run(String... command) throws Exception {
        Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes());
        return p.waitFor() + " " + said.trim();
    }

    public static void main(String[] args) throws Exception {
        System.out.println(run("sh", "-c", "echo out; echo err >&2; exit 3"));
        System.out.println(run("sh", "-c", "ls /proc/self/fd | wc -l; ulimit -Sn"));
        Process cat = new ProcessBuilder("cat", "-n").start();
        try (Writer w = cat.outputWriter()) { for (int i = 0; i < 5000; i++) w.write("line\n"); }
        System.out.println(cat.inputReader().lines().count() + " " + cat.waitFor());
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<String>> results = new ArrayList<>();
        for (int i = 0; i < 60; i++) { int n = i; results.add(pool.submit(() -> run("sh", "-c", "echo " + n + "; exit " + n))); }
        for (Future<String> r : results) System.out.print(r.get().replace('\n', ' ') + ",");
        System.out.println();
        pool.shutdown();
        File out = new File(args[0], "out");
        System.out.println(new ProcessBuilder("echo", "to a file").redirectOutput(out).start().waitFor() + " " + out.length());
        try { new ProcessBuilder("/no/such").start(); } catch (IOException e) { System.out.println(e.getMessage()); }
        Process sleeper = new ProcessBuilder("sleep", "60").start();
        System.out.println(sleeper.isAlive() + " " + sleeper.destroyForcibly().waitFor());
        List<ProcessBuilder> line = List.of(new ProcessBuilder("seq", "100"), new ProcessBuilder("tail", "-1"));
        System.out.println(new String(ProcessBuilder.startPipeline(line).get(1).getInputStream().readAllBytes()).trim());
    }
}
