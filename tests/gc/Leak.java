// Drops N objects of a kind without closing them: Leak KIND N [THREADS]. A JVM with room in its heap does not collect by itself.
import java.io.*;
import java.net.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.concurrent.atomic.*;

public class Leak {
    static ServerSocket server;

    static Object one(String kind) throws Exception {
        switch (kind) {
            case "FileInputStream": return new FileInputStream("/etc/passwd");
            case "RandomAccessFile": return new RandomAccessFile("/etc/passwd", "r");
            case "FileReader": return new FileReader("/etc/passwd");
            case "FileChannel": return FileChannel.open(Paths.get("/etc/passwd"));
            case "newInputStream": return Files.newInputStream(Paths.get("/etc/passwd"));
            case "lines": return Files.lines(Paths.get("/etc/passwd")).iterator().next();
            case "Socket": return new Socket(InetAddress.getLoopbackAddress(), server.getLocalPort());
            case "DatagramSocket": return new DatagramSocket();
            case "SocketChannel": return SocketChannel.open();
            default: throw new IllegalArgumentException(kind);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String kind = arguments[0];
        int count = Integer.parseInt(arguments[1]);
        Thread[] threads = new Thread[arguments.length > 2 ? Integer.parseInt(arguments[2]) : 1];
        AtomicInteger opened = new AtomicInteger();
        AtomicReference<Throwable> last = new AtomicReference<>();
        if (kind.equals("Socket")) server = new ServerSocket(0, 5000, InetAddress.getLoopbackAddress());
        for (int i = 0; i < threads.length; i++) {
            threads[i] = new Thread(() -> {
                for (int j = 0; j < count; j++)
                    try { one(kind); opened.incrementAndGet(); } catch (Throwable e) { last.set(e); }
            });
        }
        for (Thread thread : threads) thread.start();
        for (Thread thread : threads) thread.join();
        if (last.get() != null) System.out.println("failed: " + last.get());
        System.out.println("opened " + opened.get());
        System.out.flush();
        System.in.read();
        System.exit(last.get() == null ? 0 : 1);
    }
}
