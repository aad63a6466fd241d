//! A receiver of alerts that sends each as JSON by an HTTP POST.
#![forbid(unsafe_code)]

use super::alert::Alert;
use super::deliver::{Receiver, Undelivered};
use crate::show::failure::{Failure, cause};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// Longest time from connecting to the answer.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Where the URL stands.
enum Source {
    CommandLine(String),
    File(PathBuf),
}

/// The URL, and the connections to it.
pub struct Webhook {
    source: Source,
    agent: Agent,
}

impl Webhook {
    /// A receiver at this URL; refuses what is no URL of http or https.
    pub fn new(url: &str) -> Result<Webhook, Failure> {
        if host(url).is_none() {
            return Err(Failure::usage(format!(
                "--webhook {url:?} is no URL; say http://HOST/PATH or https://HOST/PATH"
            )));
        }
        Ok(Webhook::of(Source::CommandLine(url.to_string())))
    }

    /// A receiver at the URL in the first line of a file, which is read for each alert, so that it may be changed at any time.
    pub fn of_file(path: &Path) -> Result<Webhook, Failure> {
        let url = read(path).map_err(Failure::usage)?;
        // The text is a secret, so a message does not repeat it.
        if host(&url).is_none() {
            return Err(Failure::usage(format!(
                "the first line of {} is no URL; write http://HOST/PATH or https://HOST/PATH there",
                path.display()
            )));
        }
        if path.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            log::warn!("{0} may be read by other users: chmod 600 {0}", path.display());
        }
        Ok(Webhook::of(Source::File(path.to_path_buf())))
    }

    fn of(source: Source) -> Webhook {
        // The certificates that the system trusts, among which may be those of a private authority.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIME_LIMIT))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("tideover/", env!("CARGO_PKG_VERSION")))
            .build();
        Webhook { source, agent: config.into() }
    }

    fn url(&self) -> Result<String, String> {
        match &self.source {
            Source::CommandLine(url) => Ok(url.clone()),
            Source::File(path) => read(path).and_then(|url| {
                host(&url).map(|_| url.clone()).ok_or_else(|| format!("the first line of {} is no URL", path.display()))
            }),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the URL in {}: {}", path.display(), cause(&error)))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_string())
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

    fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered> {
        let url = self.url().map_err(Undelivered::Later)?;
        let request = self.agent.post(&url).header("Content-Type", "application/json");
        match request.send(alert.json(dropped).to_string()) {
            Err(error) => Err(Undelivered::Later(error.to_string())),
            Ok(answer) => match answer.status().as_u16() {
                200..=299 => Ok(()),
                // 408, 425 and 429 (timeout, too early, too many) have numbers of client errors, but may pass.
                status @ (408 | 425 | 429 | 500..) => Err(Undelivered::Later(format!("it answers {status}"))),
                status => Err(Undelivered::Never(format!("it answers {status}"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_not_told() {
        for bad in ["", "example.org", "ftp://x/", "http://", "/path", "http://a b/"] {
            assert!(Webhook::new(bad).is_err(), "{bad}");
        }
        let name = Webhook::new("https://hooks.example.org/services/SECRET").unwrap().name();
        assert_eq!(name, "the webhook at hooks.example.org");
    }

    #[test]
    fn a_url_in_a_file_is_read_when_it_is_used_and_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        assert!(Webhook::of_file(&path).err().unwrap().text.contains("no such file"));
        std::fs::write(&path, "SECRET\n").unwrap();
        let refused = Webhook::of_file(&path).err().unwrap().text;
        assert!(refused.contains("is no URL") && !refused.contains("SECRET"), "{refused}");
        std::fs::write(&path, "https://one.example.org/SECRET\n").unwrap();
        let hook = Webhook::of_file(&path).unwrap();
        assert_eq!(hook.name(), "the webhook at one.example.org");
        std::fs::write(&path, "  http://two.example.org/SECRET  \nmore\n").unwrap();
        assert_eq!(hook.url().unwrap(), "http://two.example.org/SECRET");
    }

    #[test]
    fn nobody_there_is_a_reason_to_try_again() {
        let hook = Webhook::new("http://127.0.0.1:1/").unwrap();
        assert!(matches!(hook.deliver(&Alert::example(1), 0), Err(Undelivered::Later(_))));
    }
}
