//! `genkan modules`: who is connected to the hub of a running gateway, asked from its admin page.

use serde::Deserialize;

use super::client::ClientArgs;
use super::client::admin::{self, AdminArgs, TIMEOUT_HELP};
use super::output::{Output, Paint, Role};
use super::table::Table;
use super::{ConfigArgs, Status, help};
use crate::printable::printable_line;

const PAGE: &str = "/hub/modules";

/// The arguments of `genkan modules`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("timeout", |timeout| timeout.help(TIMEOUT_HELP)),
    about = "Show the modules that are connected to the hub.\n\n\
        Their versions, functions, hooks and dependencies; which dependencies are missing, and \
        which names a row of the routing table takes from them.",
    after_help = help::examples(&[
        ("genkan modules", "the modules of the gateway on this machine"),
        ("genkan modules --admin http://10.0.0.5:8081", "another gateway's"),
        ("genkan modules --json | jq '.modules[].id'", "the same as JSON"),
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
    let page = (PAGE, "list of modules");
    admin::show(&args.admin, args.config.config, page, &args.client, output, human)
}

#[derive(Deserialize)]
struct Hub {
    listen: Vec<String>,
    unregistered: usize,
    modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Module {
    id: String,
    version: String,
    state: String,
    functions: Vec<String>,
    #[serde(default)]
    uncallable: Vec<String>,
    hooks: Vec<String>,
    dependencies: Vec<Dependency>,
    shadowed: Vec<Shadow>,
}

#[derive(Deserialize)]
struct Dependency {
    id: String,
    range: String,
    met: bool,
}

#[derive(Deserialize)]
struct Shadow {
    name: String,
    row: usize,
    r#match: String,
    upstream: String,
}

fn human(hub: &Hub, paint: Paint) -> String {
    let mut text = if hub.modules.is_empty() {
        "No module is connected.\n".to_owned()
    } else {
        table(&hub.modules).render(paint)
    };
    for module in &hub.modules {
        for line in warnings(module) {
            let word = paint.paint(Role::Warning, "warning:");
            text.push_str(&format!("{word} {}\n", printable_line(&line)));
        }
    }
    let places = match hub.listen.as_slice() {
        [] => "nowhere: [hub] listen is empty".to_owned(),
        places => format!("on {}", places.join(", ")),
    };
    let unregistered = match hub.unregistered {
        0 => String::new(),
        1 => " 1 connection has not registered a module.".to_owned(),
        count => format!(" {count} connections have not registered a module."),
    };
    let note = format!("The hub listens {}.{unregistered}", printable_line(&places));
    text.push('\n');
    text.push_str(&paint.paint(Role::Faint, note));
    text
}

fn table(modules: &[Module]) -> Table {
    let mut table =
        Table::new(["MODULE", "VERSION", "STATE", "FUNCTIONS", "LISTENS TO", "DEPENDS ON"]);
    for module in modules {
        let state = if module.state == "active" { Role::Good } else { Role::Warning };
        let needs = module.dependencies.iter().map(|dependency| {
            let missing = if dependency.met { "" } else { " (missing)" };
            format!("{} {}{missing}", dependency.id, dependency.range)
        });
        let needs: Vec<String> = needs.collect();
        table.coloured_row(vec![
            (cell(&module.id), Some(Role::Strong)),
            (cell(&module.version), None),
            (cell(&module.state), Some(state)),
            (cell(&module.functions.join(", ")), None),
            (cell(&module.hooks.join(", ")), None),
            (cell(&needs.join(", ")), None),
        ]);
    }
    table
}

/// A module's words, fit for one line of a table.
fn cell(text: &str) -> String {
    printable_line(text)
}

fn warnings(module: &Module) -> Vec<String> {
    let shadowed = module.shadowed.iter().map(|shadow| {
        let Shadow { name, row, r#match, upstream } = shadow;
        format!(
            "nobody will call `{name}` here: [[routes]] #{row} \"{match}\" sends the calls to \
             `{upstream}`"
        )
    });
    let uncallable = module.uncallable.iter().map(|function| {
        format!(
            "nobody can call `{function}` of `{}`: a function's name has letters, digits and `_` alone",
            module.id
        )
    });
    let missing = module.dependencies.iter().filter(|dependency| !dependency.met);
    let missing = missing.map(|dependency| {
        format!(
            "`{}` waits for a module `{}` of version {}",
            module.id, dependency.id, dependency.range
        )
    });
    shadowed.chain(uncallable).chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        human(&serde_json::from_str(json).expect("valid"), Paint::PLAIN)
    }

    #[test]
    fn modules_are_a_table_and_what_is_wrong_stands_below() {
        let page = r#"{"listen":["tcp://127.0.0.1:2203"],"active":1,"waiting":1,"unregistered":1,"modules":[
            {"id":"math","version":"1.2.3","connection":1,"state":"active","functions":["add","sub"],
             "uncallable":["my-fn"],"hooks":[],"dependencies":[],"unmet":[],"shadowed":[],"calls":{"to_answer":0,"awaited":0}},
            {"id":"orders","version":"1.0.0","connection":2,"state":"waiting","functions":[],
             "hooks":["math.changed"],"dependencies":[{"id":"math","range":"^2.0.0","met":false}],
             "unmet":["math ^2.0.0"],"calls":{"to_answer":0,"awaited":0},
             "shadowed":[{"name":"orders.*","row":1,"match":"orders.*","upstream":"rabbit"}]}]}"#;
        let expected = "\
MODULE  VERSION  STATE    FUNCTIONS  LISTENS TO    DEPENDS ON
math    1.2.3    active   add, sub
orders  1.0.0    waiting             math.changed  math ^2.0.0 (missing)
warning: nobody can call `my-fn` of `math`: a function's name has letters, digits and `_` alone
warning: nobody will call `orders.*` here: [[routes]] #1 \"orders.*\" sends the calls to `rabbit`
warning: `orders` waits for a module `math` of version ^2.0.0

The hub listens on tcp://127.0.0.1:2203. 1 connection has not registered a module.";
        assert_eq!(shown(page), expected);
    }

    /// A module chooses all of its words.
    #[test]
    fn no_word_of_a_module_steers_the_terminal() {
        let word = "\\u001b[2J\\u0007\\n\\u202e\\u009b31m";
        let page = format!(
            r#"{{"listen":["unix:///{word}"],"active":1,"waiting":0,"unregistered":0,"modules":[
            {{"id":"{word}","version":"1.0.0-{word}","connection":1,"state":"{word}",
             "functions":["{word}"],"uncallable":["{word}"],"hooks":["{word}"],
             "dependencies":[{{"id":"{word}","range":"{word}","met":false}}],
             "unmet":[],"calls":{{"to_answer":0,"awaited":0}},
             "shadowed":[{{"name":"{word}","row":1,"match":"{word}","upstream":"{word}"}}]}}]}}"#
        );
        let shown = shown(&page);
        let steering = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steering), "{shown:?}");
        // The table, three warnings, an empty line and a note: no word has made a line of its own.
        assert_eq!(shown.lines().count(), 7, "{shown}");
    }

    #[test]
    fn an_empty_hub() {
        let page = r#"{"listen":[],"active":0,"waiting":0,"unregistered":0,"modules":[]}"#;
        let expected = "No module is connected.\n\nThe hub listens nowhere: [hub] listen is empty.";
        assert_eq!(shown(page), expected);
    }
}
