from . import Logger, fed

SCRIPT = """
const fs = require('fs'), log = process.argv[1];
{put}
(async () => {{
  for await (const line of require('readline').createInterface({{input: process.stdin}}))
    if (line.startsWith(':')) fs.writeFileSync(line.slice(1), ''); else await put(line);
}})();
"""
APPEND = """
const put = line => new Promise(done => fs.appendFile(log, line + '\\n', error => { if (error) console.error(error.message); done(); }));
"""
SYNC = """
const put = line => { try { fs.appendFileSync(log, line + '\\n'); } catch (error) { console.error(error.message); } };
"""
# As winston's file transport does: a stream that is opened once, and whose errors are only told.
STREAM = """
const stream = fs.createWriteStream(log, {flags: 'a'});
stream.on('error', error => console.error(error.message));
const put = line => new Promise(done => stream.write(line + '\\n', () => done()));
"""
CONSOLE = """
const stream = fs.createWriteStream(log, {flags: 'a'});
const logger = new console.Console(stream, stream);
const put = async line => { logger.log(line); await new Promise(setImmediate); };
"""


def node(put, **more):
    return lambda outage: fed(outage, ["node", "-e", SCRIPT.format(put=put), outage.log], **more)


LOGGERS = [
    Logger("Node, fs.appendFile", "a file opened for each line", ("node",), node(APPEND)),
    Logger("Node, fs.appendFileSync", "a file opened for each line, without threads", ("node",), node(SYNC)),
    Logger("Node, a write stream", "a write to a stream, as winston's", ("node",), node(STREAM)),
    Logger("Node, console with a file", "console.log of a Console whose stream is a file", ("node",), node(CONSOLE)),
    Logger("Node, console.log >> log", "a line on standard output", ("node",), node("const put = line => console.log(line);", appends="1")),
]
