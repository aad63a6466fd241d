// A JVM at its limit, with files that only a collection closes: Limit CASE TIMES.
import java.io.*;
import java.lang.management.*;
import java.net.*;
import java.nio.file.*;

public class Limit {
    static void leak() throws IOException {
        for (int i = 0; i < 30; i++) new FileInputStream("/etc/passwd");
    }

    // All descriptors that are left, held for good.
    static java.util.List<FileInputStream> held = new java.util.ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        int times = Integer.parseInt(arguments[1]);
        Path folder = Paths.get(arguments[2]);
        switch (arguments[0]) {
            case "classes": // a loader opens the archive that holds them
                for (int i = 0; i < times; i++) {
                    leak();
                    URLClassLoader loader = new URLClassLoader(new URL[] {folder.toUri().toURL()}, null);
                    Class.forName("Leak", false, loader);
                }
                break;
            case "shutdown":
                Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                    try { for (int i = 0; i < 10; i++) leak(); System.out.println("hook done"); }
                    catch (IOException e) { System.out.println("hook: " + e); }
                }));
                break;
            case "process":
                for (int i = 0; i < times; i++) { leak(); new ProcessBuilder("true").start().waitFor(); }
                break;
            case "monitor": { // a cleaner that wants what the opener holds
                Object monitor = new Object();
                java.lang.ref.Cleaner cleaner = java.lang.ref.Cleaner.create();
                for (int i = 0; i < times; i++) {
                    cleaner.register(new Object(), () -> { synchronized (monitor) { } });
                    synchronized (monitor) { leak(); }
                }
                break;
            }
            case "dump": { // the VM itself opens a file
                var bean = ManagementFactory.getPlatformMXBean(com.sun.management.HotSpotDiagnosticMXBean.class);
                bean.dumpHeap(folder.resolve("first.hprof").toString(), true);
                int failed = 0;
                for (int i = 0; i < times; i++) {
                    try { while (true) held.add(new FileInputStream("/etc/passwd")); } catch (IOException full) { }
                    try { bean.dumpHeap(folder.resolve(i + ".hprof").toString(), true); }
                    catch (IOException e) { failed++; }
                    for (FileInputStream stream : held) stream.close();
                    held.clear();
                }
                System.out.println("dumps that failed: " + failed);
                break;
            }
        }
        System.out.println("done");
        System.out.flush();
        System.in.read();
    }
}
