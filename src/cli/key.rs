//! `genkan key new`: makes an API key, and the lines of the configuration that let it in.

use serde_json::json;

use super::output::{Form, Output, Role};
use super::{CommandError, Status, help};
use crate::auth::keys;

/// The arguments of `genkan key`.
#[derive(Debug, clap::Args)]
#[command(about = "Make an API key.", subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    #[command(
        about = "Make a new key, and print it with the lines for the configuration.\n\n\
            The key is shown this once: the configuration holds its hash, from which nobody gets it \
            back. To replace a key, write both hashes in its table until everybody has the new one: \
            `hash = [\"OLD\", \"NEW\"]`.",
        after_help = help::examples(&[
            ("genkan key new web", "a key by the name `web`, for `allow = [\"key:web\"]`"),
            ("genkan key new ci --expires 2027-12-31 --route 'orders.*'", "one that ends, for some calls"),
        ])
    )]
    /// Make one.
    New {
        /// The key's name: letters, digits, `-`, `_` and `.`
        name: String,
        /// The last day on which it is good
        #[arg(long, value_name = "DATE")]
        expires: Option<String>,
        /// The only calls that it may make: a glob over service.method; more than once for several
        #[arg(long = "route", value_name = "GLOB")]
        routes: Vec<String>,
    },
}

/// Makes one and prints it.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let Action::New { name, expires, routes } = args.action;
    let (key, hash) = keys::generate()
        .ok_or_else(|| anyhow::anyhow!("the system gives no random numbers: no key was made"))?;
    let mut lines = format!("[[auth.keys]]\nname = {}\nhash = \"{hash}\"\n", toml_text(&name));
    if !routes.is_empty() {
        let routes: Vec<_> = routes.iter().map(|route| toml_text(route)).collect();
        lines.push_str(&format!("routes = [{}]\n", routes.join(", ")));
    }
    if let Some(expires) = &expires {
        lines.push_str(&format!("expires = {}\n", toml_text(expires)));
    }
    // By the rules that the configuration will be read by.
    let readers = crate::protocol::readers();
    let read = crate::config::parse("genkan key", &lines, Default::default(), &readers);
    if let Some(problem) = read.problems.first() {
        return Err(CommandError::Usage(without_place(&problem.message)).into());
    }
    match output.form() {
        Form::Human => {
            let shown = output.out().paint(Role::Strong, &key);
            let faint = |text: &str| output.out().paint(Role::Faint, text);
            output.print(&format!(
                "{}\n\n{shown}\n\n{}\n\n{lines}",
                faint("The key, shown this once:"),
                faint("For the configuration:")
            ))?;
        }
        Form::Json => {
            let made = json!({"name": name, "key": key, "hash": hash, "toml": lines});
            output.print(&made.to_string())?;
        }
    }
    Ok(Status::Done)
}

/// What is wrong, without the line of a file that nobody has written.
fn without_place(message: &str) -> String {
    let Some((before, rest)) = message.split_once(" in [[auth.keys]] #1") else {
        return message.to_owned();
    };
    let rest = rest
        .strip_prefix(", line ")
        .map_or(rest, |rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    format!("{before}{rest}")
}

/// A text as TOML writes it: a string of JSON is one of TOML's too.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
