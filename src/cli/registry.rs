//! `genkan registry`: which services have announced themselves to a running gateway, asked from its
//! admin page.

use std::time::Duration;

use serde::Deserialize;

use super::client::ClientArgs;
use super::client::admin::{self, AdminArgs, TIMEOUT_HELP};
use super::output::{Output, Paint, Role};
use super::table::Table;
use super::{ConfigArgs, Status, help};
use crate::printable::printable_line;
use crate::units::format_duration;

const PAGE: &str = "/registry/services";

/// The arguments of `genkan registry`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("timeout", |timeout| timeout.help(TIMEOUT_HELP)),
    about = "Show the JSON-RPC services that have announced themselves.\n\n\
        Their URLs, whether each was found there, and why it was not.",
    after_help = help::examples(&[
        ("genkan registry", "the services of the gateway on this machine"),
        ("genkan registry --admin http://10.0.0.5:8081", "another gateway's"),
        ("genkan registry --json | jq '.services[].url'", "the same as JSON"),
    ])
)]
pub struct Args {
    /// Where the page is.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Which configuration says so.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Asks, and prints.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let page = (PAGE, "list of services");
    admin::show(&args.admin, args.config.config, page, &args.client, output, human)
}

#[derive(Deserialize)]
struct Registry {
    allow: Vec<String>,
    ttl: String,
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    url: String,
    state: String,
    #[serde(default)]
    why: String,
    heard: u64,
}

fn human(registry: &Registry, paint: Paint) -> String {
    let mut text = if registry.services.is_empty() {
        "No service has announced itself.\n".to_owned()
    } else {
        table(&registry.services).render(paint)
    };
    let note = match registry.allow.as_slice() {
        [] => "None may: `allow` under [registry] is empty.".to_owned(),
        allow => format!(
            "Those may that are named {}, and are forgotten {} after they were heard of last.",
            printable_line(&allow.join(", ")),
            printable_line(&registry.ttl)
        ),
    };
    text.push('\n');
    text.push_str(&paint.paint(Role::Faint, note));
    text
}

fn table(services: &[Service]) -> Table {
    let mut table = Table::new(["SERVICE", "URL", "STATE", "HEARD OF", "WHY"]);
    for service in services {
        let role = match service.state.as_str() {
            "in_service" => Role::Good,
            "unproven" => Role::Warning,
            _ => Role::Error,
        };
        let heard = match service.heard {
            0 => "now".to_owned(),
            seconds => format!("{} ago", format_duration(Duration::from_secs(seconds))),
        };
        table.coloured_row(vec![
            (printable_line(&service.name), Some(Role::Strong)),
            (printable_line(&service.url), None),
            (printable_line(&service.state.replace('_', " ")), Some(role)),
            (heard, None),
            (printable_line(&service.why), None),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        human(&serde_json::from_str(json).expect("valid"), Paint::PLAIN)
    }

    #[test]
    fn services_are_a_table() {
        let page = r#"{"allow":["reports.*"],"ttl":"90s","services":[
            {"name":"reports.daily","url":"http://10.0.0.5:8000/api","state":"in_service","heard":12},
            {"name":"reports.yearly","url":"http://h/","state":"unproven","heard":0,"why":"nobody listens there"}]}"#;
        let expected = "\
SERVICE         URL                       STATE       HEARD OF  WHY
reports.daily   http://10.0.0.5:8000/api  in service  12s ago
reports.yearly  http://h/                 unproven    now       nobody listens there

Those may that are named reports.*, and are forgotten 90s after they were heard of last.";
        assert_eq!(shown(page), expected);
        let nobody =
            "No service has announced itself.\n\nNone may: `allow` under [registry] is empty.";
        assert_eq!(shown(r#"{"allow":[],"ttl":"90s","services":[]}"#), nobody);
    }

    /// Who announces a service chooses its words.
    #[test]
    fn no_word_of_a_service_steers_the_terminal() {
        let word = "\\u001b[2J\\u0007\\n\\u202e\\u009b31m";
        let page = format!(
            r#"{{"allow":["{word}"],"ttl":"{word}","services":[{{"name":"{word}","url":"{word}",
            "state":"{word}","heard":1,"why":"{word}"}}]}}"#
        );
        let shown = shown(&page);
        let steering = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steering), "{shown:?}");
        assert_eq!(shown.lines().count(), 4, "{shown}");
    }
}
