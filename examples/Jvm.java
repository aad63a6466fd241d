import java.io.FileInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * A pool of 150 threads, each of which holds a file for a moment, under a hard limit of 128 descriptors. The JVM raises its soft limit to
 * the hard limit by itself, so that all the library can do is wait for another thread's close.
 *
 * <p>usage: sh -c 'ulimit -n 128; exec tideover run -- java -cp CLASSES Jvm'
 */
public final class Jvm {
    private static final int THREADS = 150;
    private static final int JOBS = 1500;

    private static boolean job() throws InterruptedException {
        try (FileInputStream file = new FileInputStream("/etc/passwd")) {
            Thread.sleep(20);
            return file.read() >= 0;
        } catch (IOException error) {
            System.err.println(error.getMessage());
            return false;
        }
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(THREADS);
        List<Future<Boolean>> jobs = new ArrayList<>();
        for (int i = 0; i < JOBS; i++) {
            jobs.add(pool.submit((Callable<Boolean>) Jvm::job));
        }
        int done = 0;
        for (Future<Boolean> one : jobs) {
            done += one.get() ? 1 : 0;
        }
        pool.shutdown();
        System.out.println(done + " of " + JOBS + " jobs done");
        System.exit(done == JOBS ? 0 : 1);
    }
}
