//! The flags that name receivers of alerts, and the receivers that they ask for.
#![forbid(unsafe_code)]

use super::deliver::Delivery;
use super::exec::Exec;
use super::format::Format;
use super::headers::Headers;
use super::webhook::{Posts, Webhook, warn_of_readers};
use crate::commands::arguments::interval;
use crate::show::failure::Failure;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// The flags.
pub fn flags() -> [Arg; 8] {
    let file = |name: &'static str| Arg::new(name).long(name).value_name("PATH").value_parser(value_parser!(PathBuf));
    [
        Arg::new("exec").long("exec").value_name("CMD").help("Run this shell command for each alert"),
        Arg::new("webhook").long("webhook").value_name("URL").help("Post each alert there as JSON"),
        file("webhook-file").conflicts_with("webhook").help(
            "The same to the URL in this file: those with a secret in them don't belong into a command line",
        ),
        Arg::new("format")
            .long("format")
            .value_name("FORMAT")
            .value_parser(Format::WORDS)
            .hide_possible_values(true)
            .help(
                "Shape of what is posted: json (docs/json.md, the default), slack, pagerduty or alertmanager. json also makes each \
                 line on standard output an object; text is what it is else",
            ),
        Arg::new("header")
            .long("header")
            .value_name("'NAME: VALUE'")
            .action(ArgAction::Append)
            .help("Post with this header; may be given several times"),
        file("header-file").help("Post with the headers in this file, one a line, too: secrets belong there. It is read for each alert"),
        file("routing-key-file").help("PagerDuty's routing key (integration key) is the first line of this file"),
        Arg::new("timeout")
            .long("timeout")
            .value_name("TIME")
            .value_parser(interval)
            .default_value("15s")
            .help("Longest time from connecting to a webhook to its answer"),
    ]
}

/// Starts the receivers that the command line names.
pub fn start(matches: &ArgMatches) -> Result<Vec<Delivery>, Failure> {
    let path = |name: &str| matches.get_one::<PathBuf>(name);
    let (url, file) = (matches.get_one::<String>("webhook"), path("webhook-file"));
    let posts = posts(matches)?;
    if url.is_none() && file.is_none() {
        for flag in ["header", "header-file", "routing-key-file"] {
            if matches.contains_id(flag) {
                return Err(Failure::usage(format!("--{flag} is for --webhook or --webhook-file, which is not given")));
            }
        }
        if posts.format != Format::Json {
            return Err(Failure::usage("this --format is for --webhook or --webhook-file, which is not given"));
        }
    }
    let mut receivers = Vec::new();
    if let Some(url) = url {
        receivers.push(Delivery::start(Webhook::new(url, posts.clone())?));
    }
    if let Some(file) = file {
        receivers.push(Delivery::start(Webhook::of_file(file, posts)?));
    }
    if let Some(words) = matches.get_one::<String>("exec") {
        receivers.push(Delivery::start(Exec::new(words)));
    }
    Ok(receivers)
}

fn posts(matches: &ArgMatches) -> Result<Posts, Failure> {
    let word = matches.get_one::<String>("format").map_or("json", String::as_str);
    let format = Format::of(word).unwrap_or(Format::Json);
    let routing_key = matches.get_one::<PathBuf>("routing-key-file").cloned();
    if (format == Format::Pagerduty) != routing_key.is_some() {
        return Err(Failure::usage("--format pagerduty and --routing-key-file PATH belong together"));
    }
    let file = matches.get_one::<PathBuf>("header-file").cloned();
    if let Some(path) = &file {
        warn_of_readers(path);
    }
    let headers = Headers::new(matches.get_many::<String>("header").into_iter().flatten(), file)?;
    let timeout = matches.get_one::<Duration>("timeout").copied().unwrap_or_default();
    Ok(Posts { format, headers, routing_key, timeout })
}
