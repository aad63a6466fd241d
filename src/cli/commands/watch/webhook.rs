//! A receiver of alerts that sends each as JSON by an HTTP POST.
#![forbid(unsafe_code)]

use super::alert::Alert;
use super::deliver::{Receiver, Undelivered};
use crate::show::failure::Failure;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// Longest time from connecting to the answer.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The URL, and the connections to it.
pub struct Webhook {
    url: String,
    agent: Agent,
}

impl Webhook {
    /// A receiver at this URL; refuses what is no URL of http or https.
    pub fn new(url: &str) -> Result<Webhook, Failure> {
        let uri: Option<ureq::http::Uri> = url.parse().ok();
        let known = |uri: &ureq::http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !uri.as_ref().is_some_and(known) {
            return Err(Failure::usage(format!(
                "--webhook {url:?} is no URL; say http://HOST/PATH or https://HOST/PATH"
            )));
        }
        // The certificates that the system trusts, among which may be those of a private authority.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIME_LIMIT))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("tideover/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Webhook { url: url.to_string(), agent: config.into() })
    }
}

impl Receiver for Webhook {
    /// The name of the host alone, since the path of a webhook is a secret.
    fn name(&self) -> String {
        let uri: Option<ureq::http::Uri> = self.url.parse().ok();
        format!("the webhook at {}", uri.and_then(|uri| uri.host().map(str::to_string)).unwrap_or_default())
    }

    fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered> {
        let request = self.agent.post(&self.url).header("Content-Type", "application/json");
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
    fn nobody_there_is_a_reason_to_try_again() {
        let hook = Webhook::new("http://127.0.0.1:1/").unwrap();
        assert!(matches!(hook.deliver(&Alert::example(1), 0), Err(Undelivered::Later(_))));
    }
}
