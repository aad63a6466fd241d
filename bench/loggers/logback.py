from . import Logger, fed, made

SOURCE = """
import java.io.*;
import java.nio.file.*;
public class Logback {
  public static void main(String[] args) throws Exception {
    org.slf4j.Logger logger = org.slf4j.LoggerFactory.getLogger("app");
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = in.readLine()) != null; ) {
      if (line.startsWith(":")) Files.createFile(Paths.get(line.substring(1)));
      else logger.info(line);
    }
  }
}
"""
CONFIGURATION = """<configuration><appender name="file" class="ch.qos.logback.core.FileAppender"><file>${log}</file>
<encoder><pattern>%d{HH:mm:ss.SSS} %level %msg%n</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="file"/></root></configuration>
"""
JARS = ":".join(f"/usr/share/java/{name}.jar" for name in ["slf4j-api", "logback-core", "logback-classic"])
NEEDS = ("/usr/bin/java", "ecj", "/usr/share/java/logback-classic.jar")


def compiled(folder):
    (folder / "Logback.java").write_text(SOURCE)
    (folder / "logback.xml").write_text(CONFIGURATION)
    made("ecj", "-17", "-nowarn", "-proc:none", "-cp", JARS, "-d", "FOLDER", "FOLDER/Logback.java")(folder)


def start(outage):
    options = ["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", f"-Dlog={outage.log}"]
    return fed(outage, ["/usr/bin/java", *options, "-cp", f"{outage.data}:{JARS}", "Logback"])


LOGGERS = [Logger("Java, logback", "an event of a FileAppender", NEEDS, start, compiled)]
