import java.nio.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.io.*;
import java.util.*;
import java.util.stream.*;

/** Files by every way that Java has: streams, channels, maps, locks, watches, walks. */
class Main {
    public static void main(String[] args) throws Exception {
        Path top = java.nio.file.Files.createTempDirectory(Path.of(args[0]), "f");
        for (int i = 0; i < 200; i++) java.nio.file.Files.writeString(top.resolve("f" + i), "line " + i + "\n");
        try (Stream<Path> all = java.nio.file.Files.walk(top)) { System.out.println(all.count()); }
        try (FileChannel c = FileChannel.open(top.resolve("map"), StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer m = c.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
            m.putLong(8, 42);
            m.force();
            try (FileLock lock = c.lock()) { System.out.println(lock.isValid() + " " + c.size() + " " + m.getLong(8)); }
            ByteBuffer[] parts = { ByteBuffer.wrap("a".getBytes()), ByteBuffer.wrap("b".getBytes()) };
            System.out.println(c.write(parts) + " " + c.transferTo(0, 100, Channels.newChannel(OutputStream.nullOutputStream())));
        }
        try (RandomAccessFile r = new RandomAccessFile(top.resolve("r").toFile(), "rwd")) { r.writeUTF("x"); r.setLength(9); System.out.println(r.length()); }
        List<InputStream> open = new ArrayList<>();
        for (int i = 0; i < 200; i++) open.add(new FileInputStream(top.resolve("f" + i).toFile()));
        int sum = 0;
        for (InputStream in : open) { sum += in.readAllBytes().length; in.close(); }
        System.out.println(sum);
        try (WatchService w = top.getFileSystem().newWatchService()) {
            top.register(w, StandardWatchEventKinds.ENTRY_CREATE);
            java.nio.file.Files.createFile(top.resolve("new"));
            System.out.println(w.take().pollEvents().get(0).context());
        }
        try { new FileInputStream("/no/such"); } catch (FileNotFoundException e) { System.out.println(e.getMessage()); }
        new File(top.toFile(), "r").renameTo(new File(top.toFile(), "s"));
        System.out.println(Arrays.stream(top.toFile().list()).sorted().skip(195).collect(Collectors.toList()));
    }
}
