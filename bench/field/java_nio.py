import signal
import subprocess

from . import HTTP, Program, crowd, free_port

SOURCE = """
import java.net.*; import java.nio.*; import java.nio.channels.*; import java.nio.file.*; import java.util.*;
public class Server {
    public static void main(String[] a) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 500);
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        ByteBuffer asked = ByteBuffer.allocate(9999);
        while (true) {
            selector.select();
            for (Iterator<SelectionKey> i = selector.selectedKeys().iterator(); i.hasNext(); i.remove()) {
                SelectionKey key = i.next();
                try {
                    if (key.isAcceptable()) {
                        SocketChannel client = listener.accept();
                        if (client != null) { client.configureBlocking(false); client.register(selector, SelectionKey.OP_READ); }
                    } else try (SocketChannel client = (SocketChannel) key.channel()) {
                        asked.clear();
                        client.read(asked);
                        byte[] text;
                        String status = "200 OK";
                        try { text = Files.readAllBytes(Path.of("/etc/passwd")); } catch (java.io.IOException e) { text = new byte[0]; status = "503 Busy"; }
                        client.write(ByteBuffer.wrap(("HTTP/1.0 " + status + "\\\\r\\\\n\\\\r\\\\n").getBytes()));
                        client.write(ByteBuffer.wrap(text));
                    }
                } catch (java.io.IOException e) { Thread.sleep(1); }
            }
            selector.selectNow();
        }
    }
}
""".replace("\\\\", "\\")


def prepare(folder):
    (folder / "Server.java").write_text(SOURCE)
    subprocess.run(["ecj", "-17", "-nowarn", "-proc:none", "-d", folder, folder / "Server.java"], check=True, capture_output=True)


def run(trial):
    port = free_port()
    words = ["/usr/bin/java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-XX:-MaxFDLimit", "-cp", trial.data, "Server", port]
    trial.serve(words, port, end=signal.SIGKILL)
    return crowd(trial, port, 150, *HTTP)


PROGRAM = Program("Java, NIO", "a selector's loop that accepts, and opens a file for each answer", ("/usr/bin/java", "ecj"), 40, run, prepare=prepare, short=False)
