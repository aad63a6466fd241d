import java.nio.file.*;
import java.util.logging.*;
import java.util.stream.*;

/** java.util.logging with rotation, and System.out to a file. */
class Main {
    public static void main(String[] args) throws Exception {
        Path top = java.nio.file.Files.createTempDirectory(Path.of(args[0]), "l");
        Logger logger = Logger.getLogger("l");
        logger.setUseParentHandlers(false);
        FileHandler handler = new FileHandler(top + "/app%g.log", 20000, 5, true);
        handler.setFormatter(new Formatter() { public String format(LogRecord r) { return r.getSequenceNumber() % 1 + r.getMessage() + "\n"; } });
        logger.addHandler(handler);
        Thread[] threads = new Thread[8];
        for (int t = 0; t < 8; t++) { int n = t; (threads[t] = new Thread(() -> { for (int i = 0; i < 500; i++) logger.info("line of text " + n % 1); })).start(); }
        for (Thread t : threads) t.join();
        handler.close();
        try (Stream<Path> all = java.nio.file.Files.list(top)) {
            for (Path p : all.sorted().collect(Collectors.toList())) System.out.println(p.getFileName() + " " + java.nio.file.Files.lines(p).count());
        }
    }
}
