//! `tideover metrics`: the counters of all guarded processes, added up by program, for Prometheus; and a web page for people.
#![forbid(unsafe_code)]

mod exposition;
mod guards;
mod http;
mod measured;
mod others;
mod status;
mod totals;

use crate::commands::arguments::{interval, page_dir, page_dir_flag};
use crate::guard::guarded;
use crate::pages::snapshot::Snapshot;
use crate::pages::{self, Found};
use crate::show::failure::{Failure, cause};
use crate::show::output::print;
use crate::system::replace::{readable, replace};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use guards::Guards;
use http::Response;
use measured::Looks;
use others::Others;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use totals::Totals;

const EXAMPLES: &str = "\
Examples:
  tideover metrics                              once, to standard output
  sudo tideover metrics --listen 127.0.0.1:9786    /metrics, and a page at /
  sudo tideover metrics --all --listen :9786    every process, guarded or not
  sudo tideover metrics --textfile /var/lib/node_exporter/tideover.prom --interval 15s

Counters are added up by program and service. Served, or with --interval, they keep what
processes had counted that have ended; printed once, they can't. Whoever may
connect may read: there is no password, so listen on an address of your own.";

const HTML: &str = include_str!("page.html");

/// The command line.
pub fn command() -> Command {
    Command::new("metrics")
        .about("Counters by program for Prometheus, printed or served, with a page for people")
        .args([
            Arg::new("listen")
                .long("listen")
                .value_name("ADDR:PORT")
                .help("Serve /metrics, /-/healthy and a page at / there; `:PORT` is any address"),
            Arg::new("textfile")
                .long("textfile")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("listen")
                .help("Write the file that node_exporter's textfile collector reads"),
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .requires("textfile")
                .value_parser(interval)
                .help("Write it again at this interval, until killed"),
            Arg::new("all")
                .long("all")
                .action(ArgAction::SetTrue)
                .help("Tell of processes without the library, too, with guarded=\"0\": descriptors in use and limits"),
        ])
        .arg(page_dir_flag())
        .after_help(EXAMPLES)
}

/// Prints the metrics, writes them into a file, or serves them.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let exporter = Exporter {
        base: page_dir(matches),
        all: matches.get_flag("all"),
        sums: Mutex::default(),
        looks: Looks::default(),
    };
    if let Some(address) = matches.get_one::<String>("listen") {
        return serve(address, exporter);
    }
    let Some(path) = matches.get_one::<PathBuf>("textfile") else { return print(&exporter.metrics()?) };
    put(path, &exporter.metrics()?)?;
    let Some(&interval) = matches.get_one::<Duration>("interval") else { return Ok(()) };
    loop {
        std::thread::sleep(interval.max(Duration::from_millis(100)));
        // The disk may be full now and have space later. That the file is old is seen by its time.
        if let Err(failure) = exporter.metrics().and_then(|text| put(path, &text)) {
            log::warn!("{failure}");
        }
    }
}

/// The folder of pages, and the totals so far.
struct Exporter {
    base: PathBuf,
    /// Processes without the library, too?
    all: bool,
    sums: Mutex<Sums>,
    looks: Looks,
}

/// What is kept from one answer to the next.
#[derive(Default)]
struct Sums {
    totals: Totals,
    guards: Guards,
}

impl Exporter {
    /// All guarded processes but this one.
    fn walk(&self) -> Result<Found, Failure> {
        let mut found = pages::walk(&self.base)?;
        found.pages.retain(|page| page.pid != std::process::id());
        Ok(found)
    }

    fn metrics(&self) -> Result<String, Failure> {
        // Before the pages are read that are added up: a look can take long, and sums of an older answer would undo those of a later one.
        let seen = self.looks.seen(self.all, || self.walk())?;
        let found = self.walk()?;
        let snapshots: Vec<Snapshot> = found.pages.iter().filter_map(Snapshot::take).collect();
        let others = if self.all { others::all(&snapshots) } else { Others::new() };
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let Sums { totals, guards } = &mut *sums;
        totals.update(&snapshots);
        guards.update(&guarded::all(&self.base));
        Ok(exposition::text(totals, &snapshots, &others, guards, &seen))
    }

    fn status(&self) -> Result<String, Failure> {
        let found = self.walk()?;
        let snapshots: Vec<Snapshot> = found.pages.iter().filter_map(Snapshot::take).collect();
        Ok(status::json(&snapshots).to_string())
    }
}

fn serve(address: &str, exporter: Exporter) -> Result<(), Failure> {
    // A folder of pages that is missing at start is a mistake in the command line; later it may come and go.
    exporter.walk()?;
    let listener = listen(address)?;
    let local = listener.local_addr().map_or_else(|_| address.to_string(), |local| local.to_string());
    print(&format!("Serving http://{local}/ and http://{local}/metrics\n"))?;
    http::serve(&listener, move |path| match path {
        "/" => Response::html(HTML),
        "/metrics" => answer(exporter.metrics(), "text/plain; version=0.0.4; charset=utf-8"),
        "/api/status" => answer(exporter.status(), "application/json"),
        "/-/healthy" | "/-/ready" => Response::new("text/plain", "tideover is healthy.\n".to_string()),
        _ => Response::not_found(),
    })
}

/// Listens on an address. `:PORT` means all addresses, of IPv6 and IPv4 if there are both.
fn listen(address: &str) -> Result<TcpListener, Failure> {
    let bound = match address.strip_prefix(':') {
        Some(port) => {
            TcpListener::bind(format!("[::]:{port}")).or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}")))
        }
        None => TcpListener::bind(address),
    };
    bound.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {}; say --listen 127.0.0.1:PORT", cause(&error)))
    })
}

fn answer(text: Result<String, Failure>, kind: &'static str) -> Response {
    match text {
        Ok(text) => Response::new(kind, text),
        Err(failure) => Response::failed(&failure.text),
    }
}

/// Makes both forms, for the test of hostile pages: each sample must be a line of its own.
#[cfg(test)]
pub fn check(snapshots: &[Snapshot]) {
    let mut totals = Totals::default();
    totals.update(snapshots);
    totals.update(snapshots);
    let text = exposition::text(&totals, snapshots, &Others::new(), &Guards::default(), &measured::Seen::default());
    assert!(text.lines().all(|line| line.starts_with("tideover_") || line.starts_with("# ")), "{text}");
    assert!(status::json(snapshots).to_string().len() < 64 << 10);
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    replace(path, text.as_bytes(), readable())
        .map_err(|error| Failure::failed(format!("cannot write {}: {}", path.display(), cause(&error))))
}
