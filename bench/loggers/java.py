from . import Logger, fed, made

SOURCE = """
import java.io.*;
import java.nio.file.*;
import java.util.logging.*;
public class Logs {
  static PrintStream out = System.out;
  static java.util.logging.Logger logger = java.util.logging.Logger.getAnonymousLogger();
  static org.apache.logging.log4j.Logger log4j;
  public static void main(String[] args) throws Exception {
    String how = args[0], log = args[1];
    if (how.equals("stream")) out = new PrintStream(new FileOutputStream(log, true), true);
    if (how.equals("logging")) {
      FileHandler handler = new FileHandler(log, true);
      handler.setFormatter(new SimpleFormatter());
      logger.setUseParentHandlers(false);
      logger.addHandler(handler);
    }
    if (how.equals("log4j")) log4j = org.apache.logging.log4j.LogManager.getLogger("app");
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = in.readLine()) != null; ) {
      if (line.startsWith(":")) Files.createFile(Paths.get(line.substring(1)));
      else if (how.equals("logging")) logger.info(line);
      else if (how.equals("log4j")) log4j.info(line);
      else out.println(line);
    }
  }
}
"""
LOG4J = """<Configuration status="error"><Appenders><File name="file" fileName="${sys:log}" append="true" ignoreExceptions="true">
<PatternLayout pattern="%d{HH:mm:ss,SSS} %p %m%n"/></File></Appenders>
<Loggers><Root level="info"><AppenderRef ref="file"/></Root></Loggers></Configuration>
"""
JARS = "/usr/share/java/log4j-api.jar:/usr/share/java/log4j-core.jar"
NEEDS = ("/usr/bin/java", "ecj", "/usr/share/java/log4j-core.jar")


def compiled(folder):
    (folder / "Logs.java").write_text(SOURCE)
    (folder / "log4j2.xml").write_text(LOG4J)
    made("ecj", "-17", "-nowarn", "-proc:none", "-cp", JARS, "-d", "FOLDER", "FOLDER/Logs.java")(folder)


def java(how, **more):
    options = ["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m"]
    return lambda o: fed(o, ["/usr/bin/java", *options, f"-Dlog={o.log}", "-cp", f"{o.data}:{JARS}", "Logs", how, o.log], **more)


LOGGERS = [
    Logger("Java, java.util.logging", "two lines of a FileHandler", NEEDS, java("logging"), compiled),
    Logger("Java, log4j2", "an event of a file appender", NEEDS, java("log4j"), compiled),
    Logger("Java, PrintStream", "println to a file that is opened to append", NEEDS, java("stream"), compiled),
    Logger("Java, System.out >> log", "println to standard output", NEEDS, java("out", appends="1"), compiled),
]
