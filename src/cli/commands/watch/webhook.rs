//! A receiver of alerts that sends each as JSON by an HTTP POST.
#![forbid(unsafe_code)]

use super::alert::Alert;
use super::deliver::{Receiver, Undelivered};
use super::format::Format;
use super::headers::{Header, Headers};
use crate::show::failure::{Failure, cause};
use crate::show::output::safe;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tideover_contract::settings::Nanoseconds;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Error};

/// So many bytes of a refusal are shown.
const SHOWN: usize = 200;
/// Bytes of it that are read: a secret in the part that is shown is read whole.
const READ: u64 = 8192;
/// A shorter text is not taken for a secret that must not be shown.
const SECRET: usize = 4;
/// A shorter part of a URL is taken for a word.
const TOKEN: usize = 12;

/// What is posted, with what, and how long an answer may take.
#[derive(Clone, Debug)]
pub struct Posts {
    /// The shape of the JSON.
    pub format: Format,
    /// The headers beside Content-Type and User-Agent.
    pub headers: Headers,
    /// The file whose first line is PagerDuty's routing key; read for each alert.
    pub routing_key: Option<PathBuf>,
    /// Longest time from connecting to the answer.
    pub timeout: Duration,
}

/// Where the URL stands.
enum Source {
    CommandLine(String),
    File(PathBuf),
}

/// The URL, and the connections to it.
pub struct Webhook {
    source: Source,
    posts: Posts,
    agent: Agent,
}

impl Webhook {
    /// A receiver at this URL; refuses what is no URL of http or https.
    pub fn new(url: &str, posts: Posts) -> Result<Webhook, Failure> {
        if host(url).is_none() {
            return Err(Failure::usage(format!(
                "--webhook {url:?} is no URL; say http://HOST/PATH or https://HOST/PATH"
            )));
        }
        Webhook::of(Source::CommandLine(url.to_string()), posts)
    }

    /// A receiver at the URL in the first line of a file, which is read for each alert, so that it may be changed at any time.
    pub fn of_file(path: &Path, posts: Posts) -> Result<Webhook, Failure> {
        let url = first_line("URL", path).map_err(Failure::usage)?;
        // The text is a secret, so a message does not repeat it.
        if host(&url).is_none() {
            return Err(Failure::usage(format!(
                "the first line of {} is no URL; write http://HOST/PATH or https://HOST/PATH there",
                path.display()
            )));
        }
        warn_of_readers(path);
        Webhook::of(Source::File(path.to_path_buf()), posts)
    }

    fn of(source: Source, posts: Posts) -> Result<Webhook, Failure> {
        if let Some(path) = &posts.routing_key {
            first_line("routing key", path).map_err(Failure::usage)?;
            warn_of_readers(path);
        }
        // The certificates that the system trusts, among which may be those of a private authority.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(posts.timeout))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("tideover/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Webhook { source, posts, agent: config.into() })
    }

    fn url(&self) -> Result<String, String> {
        match &self.source {
            Source::CommandLine(url) => Ok(url.clone()),
            Source::File(path) => first_line("URL", path).and_then(|url| {
                host(&url).map(|_| url.clone()).ok_or_else(|| format!("the first line of {} is no URL", path.display()))
            }),
        }
    }
}

/// A secret in the first line of a file.
fn first_line(what: &str, path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the {what} in {}: {}", path.display(), cause(&error)))?;
    let line = text.lines().next().unwrap_or_default().trim().to_string();
    if line.is_empty() {
        Err(format!("the first line of {} is empty: the {what} stands there", path.display()))
    } else {
        Ok(line)
    }
}

/// Warns if others than its owner may read a file that holds a secret.
pub fn warn_of_readers(path: &Path) {
    if path.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
        log::warn!("{0} may be read by other users: chmod 600 {0}", path.display());
    }
}

/// The host of a URL of http or https; None if it is none.
fn host(url: &str) -> Option<String> {
    let uri: ureq::http::Uri = url.parse().ok()?;
    matches!(uri.scheme_str(), Some("http" | "https")).then(|| uri.host().map(str::to_string))?
}

impl Receiver for Webhook {
    /// The name of the host alone, since the path of a webhook is a secret.
    fn name(&self) -> String {
        format!("the webhook at {}", self.url().ok().and_then(|url| host(&url)).unwrap_or_default())
    }

    fn wants_reminders(&self) -> bool {
        self.posts.format == Format::Alertmanager
    }

    fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered> {
        let url = self.url().map_err(Undelivered::Later)?;
        let headers = self.posts.headers.now().map_err(Undelivered::Later)?;
        let key = self.posts.routing_key.as_deref().map(|path| first_line("routing key", path)).transpose();
        let key = key.map_err(Undelivered::Later)?.unwrap_or_default();
        let mut request = self.agent.post(&url).header("Content-Type", "application/json");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        match request.send(self.posts.format.body(alert, dropped, &key).to_string()) {
            Err(error) => Err(Undelivered::Later(self.why(&error))),
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(refusal(answer, &secrets(&url, key, &headers))),
        }
    }
}

impl Webhook {
    /// Why there was no answer, and what to do.
    fn why(&self, error: &Error) -> String {
        let timeout = Nanoseconds(u64::try_from(self.posts.timeout.as_nanos()).unwrap_or(u64::MAX));
        match error {
            Error::Timeout(_) => format!(
                "it has not answered within {timeout}; see whether it runs, and whether a firewall is between; --timeout is longer"
            ),
            Error::Io(error) => format!("{}; see whether it runs, and whether the URL has its port", cause(error)),
            Error::HostNotFound => {
                "its name is not known; see whether the URL is right, and whether DNS works".to_string()
            }
            Error::Tls(_) | Error::Rustls(_) => {
                format!("{error}; SSL_CERT_FILE names a file of other certificates that are trusted")
            }
            other => other.to_string(),
        }
    }
}

/// What must not be shown of an answer that repeats what it was sent: the path of the URL and its parts, the routing key, the values of
/// headers.
fn secrets(url: &str, key: String, headers: &[Header]) -> Vec<String> {
    let path = url.parse().ok().and_then(|uri: ureq::http::Uri| Some(uri.path_and_query()?.to_string()));
    let values = headers.iter().filter_map(|(_, value)| value.to_str().ok()).flat_map(|value| {
        // `Bearer SECRET`: the secret alone, too.
        value.split(' ').chain([value]).map(str::to_string).collect::<Vec<_>>()
    });
    let parts = path.iter().flat_map(|path| path.split(['/', '?', '&', '=']).filter(|part| part.len() >= TOKEN));
    let parts: Vec<String> = parts.map(str::to_string).collect();
    let all = path.into_iter().chain(parts).chain([key]).chain(values);
    let mut all: Vec<String> = all.filter(|it| it.len() >= SECRET).collect();
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all
}

/// What an answer that is no success means, and what to do.
fn refusal(mut answer: Response<Body>, secrets: &[String]) -> Undelivered {
    let status = answer.status().as_u16();
    let mut text = Vec::new();
    let _ = answer.body_mut().as_reader().take(READ).read_to_end(&mut text);
    let mut text = safe(text.trim_ascii());
    for secret in secrets {
        text = text.replace(secret, "...");
    }
    // Only now, so that no secret is cut in two, whose first half would not be known.
    let text: String = text.chars().take(SHOWN).collect();
    let quoted = if text.is_empty() { String::new() } else { format!(" ({text})") };
    let said = |remedy: &str| format!("it answers {status}{quoted}; {remedy}");
    match status {
        300..=399 => {
            let to = answer.headers().get("location").and_then(|to| host(to.to_str().ok()?));
            let to = to.map_or_else(String::new, |host| format!(" to {host}"));
            Undelivered::Never(format!(
                "it redirects{to} ({status}), which is not followed, since secrets would go there; put the URL where it leads into the command line or file"
            ))
        }
        // 408, 425 and 429 (timeout, too early, too many) have numbers of client errors, but may pass.
        408 | 425 | 429 | 500.. => Undelivered::Later(said("see the receiver's own log")),
        400 | 415 | 422 => Undelivered::Never(said("see whether --format is that of this receiver")),
        401 | 403 => Undelivered::Never(said("see whether the secret in the URL or in --header-file is right")),
        404 | 405 | 410 => Undelivered::Never(said("see whether the URL is right")),
        _ => Undelivered::Never(said("see the receiver's own log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posts() -> Posts {
        let timeout = Duration::from_secs(5);
        Posts { format: Format::Json, headers: Headers::default(), routing_key: None, timeout }
    }

    #[test]
    fn an_answer_that_repeats_a_secret_is_not_shown_with_it() {
        let body = Body::builder().data("no /hook/S3CRET, Bearer T0KEN, K3Y here");
        let answer = Response::builder().status(403).body(body).unwrap();
        let header = ("authorization".parse().unwrap(), "Bearer T0KEN".parse().unwrap());
        let secrets = secrets("http://h/hook/S3CRET", "K3Y!".into(), &[header]);
        let Undelivered::Never(why) = refusal(answer, &secrets) else { panic!("403 is final") };
        assert!(why.starts_with("it answers 403 (no ..., ..., K3Y here); see whether the secret"), "{why}");
        // The token alone, also where it is cut.
        let secrets = super::secrets("http://h/services/T01ABCDEFGHIJK", String::new(), &[]);
        let body = Body::builder().data(format!("{}T01ABCDEFGHIJK", "x".repeat(SHOWN - 5)));
        let Undelivered::Never(why) = refusal(Response::builder().status(403).body(body).unwrap(), &secrets) else {
            panic!("403 is final")
        };
        assert!(why.contains("xxx...") && !why.contains("T01"), "{why}");
    }

    #[test]
    fn urls_are_checked_and_not_told() {
        for bad in ["", "example.org", "ftp://x/", "http://", "/path", "http://a b/"] {
            assert!(Webhook::new(bad, posts()).is_err(), "{bad}");
        }
        let name = Webhook::new("https://hooks.example.org/services/SECRET", posts()).unwrap().name();
        assert_eq!(name, "the webhook at hooks.example.org");
    }

    #[test]
    fn a_url_in_a_file_is_read_when_it_is_used_and_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        assert!(Webhook::of_file(&path, posts()).err().unwrap().text.contains("no such file"));
        std::fs::write(&path, "SECRET\n").unwrap();
        let refused = Webhook::of_file(&path, posts()).err().unwrap().text;
        assert!(refused.contains("is no URL") && !refused.contains("SECRET"), "{refused}");
        std::fs::write(&path, "https://one.example.org/SECRET\n").unwrap();
        let hook = Webhook::of_file(&path, posts()).unwrap();
        assert_eq!(hook.name(), "the webhook at one.example.org");
        std::fs::write(&path, "  http://two.example.org/SECRET  \nmore\n").unwrap();
        assert_eq!(hook.url().unwrap(), "http://two.example.org/SECRET");
    }

    #[test]
    fn nobody_there_is_a_reason_to_try_again() {
        let hook = Webhook::new("http://127.0.0.1:1/", posts()).unwrap();
        assert!(matches!(hook.deliver(&Alert::example(1), 0), Err(Undelivered::Later(_))));
    }
}
