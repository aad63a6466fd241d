//! The JSON that receivers of alerts take: that of docs/json.md, and the published shapes of three services.
//!
//! - Slack, incoming webhooks: `text` (what a notification shows) and `blocks` of at most 3000 characters each.
//! - PagerDuty, Events API v2: `routing_key`, `event_action`, `dedup_key` of at most 255 characters, `payload` with a summary of at most 1024.
//! - Alertmanager, `POST /api/v2/alerts`: a list of alerts, each known by its labels, that ends at `endsAt` unless it is posted again.
#![forbid(unsafe_code)]

use super::alert::Alert;
use crate::show::units::{now_ns, rfc3339};
use crate::system::level::Level;
use serde_json::{Value, json};
use std::time::Duration;

/// How often an alert that stands is posted again to an Alertmanager, which forgets all when it restarts.
pub const AGAIN: Duration = Duration::from_secs(60);
/// For so many nanoseconds an Alertmanager keeps an alert that is not posted again: four times [`AGAIN`], as Prometheus has it.
const KEPT_NS: u64 = 4 * AGAIN.as_nanos() as u64;
/// Longest text of a section in Slack, less what is put around the message.
const SECTION: usize = 2900;
/// Longest summary of a PagerDuty event.
const SUMMARY: usize = 1024;

/// A shape of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An object for each alert, as docs/json.md describes it.
    Json,
    /// For an incoming webhook of Slack, and of those that take the same (Mattermost, Rocket.Chat).
    Slack,
    /// For PagerDuty's Events API v2.
    Pagerduty,
    /// For a Prometheus Alertmanager.
    Alertmanager,
}

impl Format {
    /// The words of `--format`; `text` is none of these shapes.
    pub const WORDS: [&str; 5] = ["text", "json", "slack", "pagerduty", "alertmanager"];

    /// The shape of a word of `--format`; None for `text`.
    pub fn of(word: &str) -> Option<Format> {
        match word {
            "json" => Some(Format::Json),
            "slack" => Some(Format::Slack),
            "pagerduty" => Some(Format::Pagerduty),
            "alertmanager" => Some(Format::Alertmanager),
            _ => None,
        }
    }

    /// What is posted for an alert, of which `dropped` before it were not delivered. `key` is PagerDuty's routing key.
    pub fn body(self, alert: &Alert, dropped: u64, key: &str) -> Value {
        match self {
            Format::Json => alert.json(dropped),
            Format::Slack => slack(alert, dropped),
            Format::Pagerduty => pagerduty(alert, dropped, key),
            Format::Alertmanager => alertmanager(alert),
        }
    }
}

fn slack(alert: &Alert, dropped: u64) -> Value {
    let (sign, word) = match (alert.state, alert.level) {
        ("cleared", _) => (":large_green_circle:", "cleared"),
        (_, Level::Critical) => (":red_circle:", "critical"),
        _ => (":large_yellow_circle:", "warning"),
    };
    let text = format!("{sign} {word} on {}: {}", mrkdwn(&alert.host), cut(&mrkdwn(&alert.message), SECTION));
    let lost = if dropped == 0 { String::new() } else { format!("; {dropped} alerts before it were not delivered") };
    // A backquote in the command would end the code before its time.
    let remedy = mrkdwn(&alert.remedy).replace('`', "'");
    let context = cut(&format!("{} {} at {}: `{remedy}`{lost}", alert.name, alert.state, alert.at), SECTION);
    json!({
        "text": text,
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": text } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": context }] },
        ],
    })
}

/// Text that Slack shows as it is: a program must not mention a channel by its name.
fn mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The text's first characters, at most so many.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn pagerduty(alert: &Alert, dropped: u64, key: &str) -> Value {
    let action = if alert.state == "cleared" { "resolve" } else { "trigger" };
    json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": format!("tideover/{}/{}", alert.host, alert.key()),
        "client": "tideover",
        "payload": {
            "summary": cut(&format!("{}: {}", alert.host, alert.message), SUMMARY),
            "source": alert.host,
            "severity": alert.level.name(),
            "timestamp": alert.at,
            "component": alert.program,
            "group": alert.service,
            "class": alert.name,
            "custom_details": alert.json(dropped),
        },
    })
}

/// A list of one alert; of two when the severity has changed, since that is a label, and so the one of before has ended.
fn alertmanager(alert: &Alert) -> Value {
    let one = |level: Level, starts: &str, ends: String| {
        json!({
            "labels": {
                "alertname": camel(alert.name),
                "severity": level.name(),
                "instance": alert.host,
                "program": alert.program,
                "service": alert.service,
                "pid": alert.pid.to_string(),
                "key": alert.key(),
            },
            "annotations": { "summary": alert.message, "description": alert.remedy },
            "startsAt": starts,
            "endsAt": ends,
        })
    };
    let later = || rfc3339(now_ns().saturating_add(KEPT_NS));
    match (alert.state, alert.was) {
        ("cleared", _) => json!([one(alert.level, &alert.since, alert.at.clone())]),
        (_, Some(was)) => {
            json!([one(was, &alert.since, alert.at.clone()), one(alert.level, &alert.at, later())])
        }
        _ => json!([one(alert.level, &alert.since, later())]),
    }
}

/// `gave_up` as alert names are written in Prometheus: `TideoverGaveUp`.
fn camel(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    std::iter::once("Tideover".to_string()).chain(name.split('_').map(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slack_would_take_for_markup_is_text() {
        let mut alert = Alert::example(7);
        alert.message = "<!channel> & \u{fffd}".to_string() + &"x".repeat(5000);
        alert.remedy = "a `b` > c".to_string();
        let body = Format::Slack.body(&alert, 2, "");
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; \u{fffd}x") && text.len() < 3000, "{text}");
        assert_eq!(body["blocks"][0]["text"]["text"], body["text"]);
        let context = body["blocks"][1]["elements"][0]["text"].as_str().unwrap();
        assert!(context.ends_with(": `a 'b' &gt; c`; 2 alerts before it were not delivered"), "{context}");
    }

    #[test]
    fn a_changed_severity_ends_the_alert_of_before() {
        let mut alert = Alert::example(7);
        (alert.state, alert.was) = ("changed", Some(Level::Warning));
        let both = Format::Alertmanager.body(&alert, 0, "");
        assert_eq!(both[0]["labels"]["severity"], "warning");
        assert_eq!((&both[0]["endsAt"], &both[1]["startsAt"]), (&both[1]["startsAt"], &json!(alert.at)));
        assert_eq!(both[1]["labels"]["severity"], "critical");
        assert_eq!(both[1]["labels"]["alertname"], "TideoverUsage");
        assert_eq!(camel("gave_up"), "TideoverGaveUp");
    }
}
