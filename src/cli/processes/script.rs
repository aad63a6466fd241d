//! The script, module or jar that an interpreter runs: five services that are all called python3 are told apart by it.
#![forbid(unsafe_code)]

use tideover_contract::glob;

/// How the command line of an interpreter is read. Options that are not named here take no value of their own.
struct Interpreter {
    /// Names of the program, as shell patterns.
    programs: &'static [u8],
    /// Options after which the program itself stands in the command line, so that it has no name.
    inline: &'static [&'static str],
    /// Options whose value is the name.
    named: &'static [&'static str],
    /// Other options with a value in the next word.
    valued: &'static [&'static str],
    /// Words before the script.
    words: &'static [&'static str],
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter { programs: b"python*, pypy*", inline: &["-c"], named: &["-m"], valued: &["-X", "-W"], words: &[] },
    Interpreter {
        programs: b"ruby*, truffleruby",
        inline: &["-e"],
        named: &[],
        valued: &["-I", "-r", "-C"],
        words: &[],
    },
    Interpreter { programs: b"perl*", inline: &["-e", "-E"], named: &[], valued: &["-I"], words: &[] },
    Interpreter {
        programs: b"node, nodejs, deno, bun",
        inline: &["-e", "-p", "--eval", "--print", "eval", "repl"],
        named: &[],
        valued: &["-r", "--require", "--import", "--loader", "-C", "--conditions"],
        words: &["run"],
    },
    Interpreter {
        programs: b"java",
        inline: &[],
        named: &["-jar", "-m", "--module"],
        valued: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
        ],
        words: &[],
    },
    Interpreter {
        programs: b"php*",
        inline: &["-r", "-R"],
        named: &["-f"],
        valued: &["-S", "-d", "-c", "-z", "-t"],
        words: &[],
    },
    Interpreter {
        programs: b"sh, bash, dash, zsh, ksh*, mksh, ash, fish",
        inline: &["-c"],
        named: &[],
        valued: &["-o", "--rcfile", "--init-file"],
        words: &[],
    },
    Interpreter {
        programs: b"dotnet, mono",
        inline: &[],
        named: &[],
        valued: &["--fx-version", "--depsfile", "--runtimeconfig"],
        words: &["exec", "run"],
    },
    Interpreter { programs: b"lua*, luajit*", inline: &["-e"], named: &[], valued: &["-l"], words: &[] },
    Interpreter {
        programs: b"tclsh*, wish*, expect, Rscript",
        inline: &["-e", "-c"],
        named: &[],
        valued: &[],
        words: &[],
    },
    Interpreter { programs: b"guile*", inline: &["-c"], named: &["-s", "-l"], valued: &["-L", "-C", "-e"], words: &[] },
    Interpreter { programs: b"beam*, erl", inline: &[], named: &["-sname", "-name"], valued: &[], words: &[] },
];

/// Names that say so little that the folder is put before them.
const COMMON: &[u8] = b"app.*, main.*, server.*, index.*, manage.*, run.*, start.*, wsgi.*, asgi.*, worker.*, cli.*, __main__.py, bootstrap.*";

/// The name of what a program runs, by its command line; None if the program is no interpreter, or was told by the command line
/// itself what to do. `folder` is asked for the working folder of the process, from which a relative path begins.
pub fn name(program: &[u8], words: &[Vec<u8>], folder: impl Fn() -> Option<String>) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    // php-fpm writes over its command line which pool a worker is of.
    if let Some(pool) = words.first().and_then(|title| title.strip_prefix("php-fpm: pool ")) {
        return Some(format!("pool {}", pool.trim()));
    }
    let of_name = |name: &[u8]| INTERPRETERS.iter().find(|known| glob::any(known.programs, name));
    let first = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let interpreter = of_name(program).or_else(|| of_name(first.as_bytes()))?;
    let script = script(interpreter, words.get(1..)?)?;
    Some(shown(&script, folder))
}

fn script(interpreter: &Interpreter, words: &[String]) -> Option<String> {
    let has = |list: &[&str], word: &str| list.contains(&word);
    let erlang = interpreter.programs.starts_with(b"beam");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // Short options may stand together: -um is -u and -m.
        let last = match word.as_bytes() {
            [b'-', letters @ .., last] if !letters.is_empty() && letters.iter().all(u8::is_ascii_alphabetic) => {
                format!("-{}", char::from(*last))
            }
            _ => word.clone(),
        };
        let is = |list: &[&str]| has(list, word) || (word.len() == 3 && has(list, &last));
        if is(interpreter.named) {
            return words.next().cloned();
        } else if is(interpreter.inline) {
            return None;
        } else if has(interpreter.valued, word) {
            words.next();
        } else if !word.starts_with('-') && !has(interpreter.words, word) && !erlang && !word.is_empty() {
            return Some(word.clone());
        }
    }
    None
}

/// The last part of a path, and of a name that many programs have, its folder: `shop/app.py`.
fn shown(script: &str, folder: impl Fn() -> Option<String>) -> String {
    let (before, last) = match script.rsplit_once('/') {
        Some((before, last)) => (before.to_string(), last),
        None => (String::new(), script),
    };
    if !glob::any(COMMON, last.as_bytes()) {
        return last.to_string();
    }
    let whole = if script.starts_with('/') { before } else { format!("{}/{before}", folder().unwrap_or_default()) };
    // Folders that are as common as the name.
    let dull = |part: &&str| !matches!(*part, "" | "." | ".." | "src" | "bin" | "dist" | "lib" | "build");
    match whole.split('/').rfind(dull) {
        Some(folder) => format!("{folder}/{last}"),
        None => last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let program = words[0].rsplit(|&b| b == b'/').next().unwrap().to_vec();
        name(&program, &words, || Some("/srv/shop".into()))
    }

    #[test]
    fn interpreters_are_named_by_what_they_run() {
        for (line, expected) in [
            ("python3 /opt/jobs/crawl.py --fast", "crawl.py"),
            ("python3.11 -u -X dev -W ignore app.py", "shop/app.py"),
            ("python3 -m http.server 80", "http.server"),
            ("python3 -um celery worker", "celery"),
            ("/usr/bin/python3 /usr/bin/gunicorn shop.wsgi", "gunicorn"),
            ("ruby -I lib -r set bin/puma", "puma"),
            ("perl -w /usr/sbin/munin-node", "munin-node"),
            ("node --max-old-space-size=512 -r dotenv/config dist/server.js", "shop/server.js"),
            ("deno run --allow-net main.ts", "shop/main.ts"),
            ("java -Xmx1g -cp /a:/b -Dx=y org.apache.kafka.Kafka conf", "org.apache.kafka.Kafka"),
            ("java -Dx=y -jar /opt/billing/app.jar --port 1", "billing/app.jar"),
            ("php -d x=1 -f job.php", "job.php"),
            ("bash -o pipefail /etc/cron.daily/backup", "backup"),
            ("dotnet exec /app/Shop.dll", "Shop.dll"),
            ("guile -s tool.scm", "tool.scm"),
            ("beam.smp -- -root /usr/lib/erlang -sname rabbit@host", "rabbit@host"),
        ] {
            assert_eq!(of(line).as_deref(), Some(expected), "{line}");
        }
        let title = b"php-fpm: pool www".to_vec();
        assert_eq!(name(b"php-fpm8.2", &[title], || None).as_deref(), Some("pool www"));
    }

    #[test]
    fn what_has_no_name_gets_none() {
        for line in [
            "nginx -g daemon",
            "python3 -c import",
            "python3",
            "bash -c ls",
            "node -e 1",
            "perl -we 1",
            "java -version",
            "sh",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
        assert_eq!(name(b"python3", &[], || None), None);
        assert_eq!(
            name(b"python3", &[b"".to_vec(), b"\xff\xfe.py".to_vec()], || None).as_deref(),
            Some("\u{fffd}\u{fffd}.py")
        );
    }
}
