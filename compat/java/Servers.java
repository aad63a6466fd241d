import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.*;
import java.nio.channels.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import com.sun.net.httpserver.*;

/** Servers and their clients: threads, selectors, HTTP, datagrams. */
class Main {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newCachedThreadPool();
        ServerSocket echo = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        pool.submit(() -> { while (true) { Socket s = echo.accept(); pool.submit(() -> { try (s) { s.getInputStream().transferTo(s.getOutputStream()); } return 0; }); } });
        AtomicInteger right = new AtomicInteger();
        List<Future<?>> clients = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            int n = i;
            clients.add(pool.submit(() -> { try (Socket s = new Socket(echo.getInetAddress(), echo.getLocalPort())) {
                s.getOutputStream().write(n); s.shutdownOutput(); if (s.getInputStream().read() == n) right.incrementAndGet(); } return 0; }));
        }
        for (Future<?> c : clients) c.get();
        System.out.println("echoed " + right);

        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open().bind(new InetSocketAddress("127.0.0.1", 0));
        listener.configureBlocking(false).register(selector, SelectionKey.OP_ACCEPT);
        int port = ((InetSocketAddress) listener.getLocalAddress()).getPort();
        for (int i = 0; i < 50; i++) pool.submit(() -> { try (Socket s = new Socket("127.0.0.1", port)) { s.getOutputStream().write(new byte[1000]); } return 0; });
        int closed = 0, bytes = 0;
        ByteBuffer buffer = ByteBuffer.allocate(4096);
        while (closed < 50) {
            selector.select();
            for (Iterator<SelectionKey> keys = selector.selectedKeys().iterator(); keys.hasNext(); keys.remove()) {
                SelectionKey key = keys.next();
                if (key.isAcceptable()) { SocketChannel c = listener.accept(); if (c != null) { c.configureBlocking(false); c.register(selector, SelectionKey.OP_READ); } continue; }
                buffer.clear();
                int got = ((SocketChannel) key.channel()).read(buffer);
                if (got < 0) { key.channel().close(); closed++; } else bytes += got;
            }
        }
        System.out.println("selected " + bytes);

        HttpServer http = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        http.createContext("/", e -> { e.sendResponseHeaders(200, 5); try (OutputStream o = e.getResponseBody()) { o.write("hello".getBytes()); } });
        http.setExecutor(pool);
        http.start();
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + http.getAddress().getPort() + "/")).build();
        Set<String> answers = new TreeSet<>();
        for (int i = 0; i < 50; i++) answers.add(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        System.out.println(answers);

        DatagramSocket one = new DatagramSocket(0, InetAddress.getLoopbackAddress()), other = new DatagramSocket();
        other.send(new DatagramPacket("datagram".getBytes(), 8, one.getLocalSocketAddress()));
        DatagramPacket came = new DatagramPacket(new byte[20], 20);
        one.receive(came);
        System.out.println(new String(came.getData(), 0, came.getLength()));
        try { new Socket("127.0.0.1", 1); } catch (ConnectException e) { System.out.println(e.getMessage()); }
        System.exit(0);
    }
}
