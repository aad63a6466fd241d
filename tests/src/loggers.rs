//! Programs that log the lines that they are given on standard input, in the way that [`crate::outage::Fed`] speaks to them: a line
//! that begins with `:` names a file to be made once everything before it has been dealt with.

use std::path::Path;

use crate::programs::{bash, python};
use crate::{Run, fixture, program};

/// fixtures/disk_append.c, which writes a line in this way: `write`, `writev`, `line`, `full`, `none`, `reopen`, `dprintf` ...
pub fn c(how: &str, log: &Path) -> Run {
    Run::new(fixture("disk_append")).arg(how).arg(log)
}

/// The same with one write(2) for each line, preloaded.
pub fn writer(log: &Path) -> Run {
    c("write", log).preload(true)
}

/// A script in Python that defines `put(line)`; it finds the log's path in `log`.
pub fn python_that(put: &str, log: &Path) -> Run {
    let script = format!(
        "import sys\nlog = sys.argv[1]\n{put}\nfor line in sys.stdin:\n    line = line.rstrip('\\n')\n    \
         if line.startswith(':'): open(line[1:], 'w').close()\n    else: put(line)\n"
    );
    python(&script).env("PYTHONUNBUFFERED", "").arg(log)
}

/// A script for Node.js that defines `put(line)`, perhaps asynchronous; it finds the log's path in `log`.
pub fn node_that(put: &str, log: &Path) -> Run {
    let script = format!(
        "const fs = require('fs'), log = process.argv[1];\n{put}\n(async () => {{\n\
         for await (const line of require('readline').createInterface({{input: process.stdin}})) {{\n\
           if (line.startsWith(':')) fs.writeFileSync(line.slice(1), ''); else await put(line);\n}} }})();"
    );
    Run::new(program("node", "nodejs")).args(["-e", &script]).arg(log)
}

/// Python's handler that writes to a file.
pub const FILE_HANDLER: &str =
    "import logging\nlogging.basicConfig(filename=log, level='INFO', format='%(message)s')\nput = logging.info";

/// A shell that opens the log for each line.
pub const EACH: &str = r#"
while IFS= read -r line; do
    case $line in
    :*) : > "${line#:}" ;;
    *) echo "$line" >> "$1" ;;
    esac
done
exit 0"#;

/// A shell whose standard output has become the log.
pub const ONCE: &str = r#"
exec >> "$1"
while IFS= read -r line; do
    case $line in
    :*) : > "${line#:}" ;;
    *) echo "$line" ;;
    esac
done
exit 0"#;

/// A shell with one of these scripts.
pub fn shell(name: &str, package: &str, script: &str, log: &Path) -> Run {
    Run::new(program(name, package)).args(["-c", script, name]).arg(log)
}

/// bash with a script that finds the log's path in `$1`.
pub fn bash_that(script: &str, log: &Path) -> Run {
    bash(script).arg("bash").arg(log)
}
