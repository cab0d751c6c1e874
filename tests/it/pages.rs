//! README, `docs/` and the other pages, held to the files that they tell of: a page that is wrong is
//! worse than none. Faults and metrics are held to theirs where the code for them is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, program, project, run};

/// A page by its path below the project.
fn page(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page that somebody reads.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(project().join("docs")).expect("docs");
    let names = docs.map(|entry| entry.expect("a file").file_name().into_string().unwrap());
    let docs = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned);
    let pages: Vec<_> = docs.chain(others).collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// A page's lines outside of blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The name by which a link finds a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// What stands in the round brackets of a page's links and pictures.
fn links(page: &str) -> Vec<&str> {
    let line_links = |line| -> Vec<&str> {
        let after: Vec<&str> = str::split(line, "](").skip(1).collect();
        after.into_iter().filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
    };
    prose(page).flat_map(line_links).collect()
}

#[test]
fn a_newcomer_reads_150_lines() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 150, "README has {lines} lines: what is looked up belongs into docs/");
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for name in pages() {
        let text = page(&name);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&name).parent().expect("a folder");
            let target: PathBuf = project().join(folder).join(path);
            assert!(path.is_empty() || target.exists(), "{name}: nothing is at {link}");
            if !fragment.is_empty() {
                let there = if path.is_empty() { text.clone() } else { read(&target) };
                assert!(anchors(&there).contains(fragment), "{name}: no heading makes {link}");
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed} links");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_page_is_named_by_readme() {
    let readme = page("README.md");
    let named: BTreeSet<_> = links(&readme).into_iter().map(str::to_owned).collect();
    for name in pages().iter().filter(|name| name.starts_with("docs/")) {
        assert!(named.contains(name), "README does not lead to {name}");
    }
}

/// The files in the pages, with the line at which each begins.
fn files_in(name: &str) -> Vec<(usize, String)> {
    let text = page(name);
    let mut files = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "```toml" {
            let file = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            files.push((number + 2, file.collect::<Vec<_>>().join("\n")));
        }
    }
    files
}

#[test]
fn every_configuration_on_a_page_is_a_whole_one_without_problems() {
    let folder = Folder::new();
    let mut checked = 0;
    for name in pages() {
        for (line, text) in files_in(&name) {
            let config = folder.write("genkan.toml", &text);
            let mut command = genkan();
            command.arg("check").arg("--config").arg(config);
            let (status, out, err) = run(&mut command);
            assert_eq!((status, out.trim()), (0, "[]"), "{name}:{line}: {err}");
            checked += 1;
        }
    }
    assert!(checked >= 9, "{checked} files");
}

/// A line without the numbers that are others each time.
fn without_times(line: &str) -> String {
    let (mut text, mut number) = (String::new(), String::new());
    for c in line.trim_end().chars().chain(['\n']) {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        text += if number.len() > 4 { "#" } else { &number };
        text.push(c);
        number.clear();
    }
    text
}

/// `…` stands for lines that are left out.
#[test]
fn what_explain_prints_is_what_the_page_shows() {
    let folder = Folder::new();
    let config = folder.write(
        "genkan.toml",
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://guest:guest@127.0.0.1:5672/%2f\"\n\
         [[routes]]\nmatch = \"orders.*\"\nupstream = \"rabbit\"\n",
    );
    let text = page("docs/operating.md");
    let (_, block) = text.split_once("```text\n$ genkan ").expect("an example");
    let (block, _) = block.split_once("```").expect("an end");
    let (arguments, shown) = block.split_once('\n').expect("lines");
    let asked =
        format!("'{}' {arguments} --config '{}'", env!("CARGO_BIN_EXE_genkan"), config.display());
    let mut terminal = Command::new(program("script", &[]));
    terminal.args(["--quiet", "--return", "--command", &asked, "/dev/null"]).env("NO_COLOR", "1");
    let (status, printed, said) = run(&mut terminal);
    assert_eq!(status, 0, "{said}");
    let mut printed = printed.lines().map(without_times);
    let mut is_left_out = false;
    for line in shown.lines() {
        if line.trim() == "…" {
            is_left_out = true;
            continue;
        }
        let line = without_times(line);
        let found = if std::mem::take(&mut is_left_out) {
            printed.find(|other| *other == line)
        } else {
            printed.next()
        };
        assert_eq!(found.as_ref(), Some(&line), "docs/operating.md");
    }
}

/// A table of the configuration: its keys, each with what it is set to, and whether the file sets it.
type Tables = BTreeMap<String, BTreeMap<String, (String, bool)>>;

/// What stands in `config/genkan.toml`, the keys that are commented out included.
fn keys_of_the_file() -> Tables {
    let mut tables = Tables::new();
    let mut table = "Top".to_owned();
    for line in page("config/genkan.toml").lines() {
        let (line, is_set) = line.strip_prefix("# ").map_or((line, true), |line| (line, false));
        if line.starts_with('[') {
            let end = line.find("] ").map_or(line.trim_end(), |at| &line[..=at]);
            table = format!("`{}`", end.trim_end());
            tables.entry(table.clone()).or_default();
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
        {
            // The first row of [[routes]] has every key.
            let keys = tables.entry(table.clone()).or_default();
            keys.entry(key.to_owned()).or_insert((without_comment(value).to_owned(), is_set));
        }
    }
    tables
}

fn without_comment(value: &str) -> &str {
    let mut quoted = false;
    let end = value.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    value[..end.unwrap_or(value.len())].trim()
}

/// The keys on the page, by the heading under which they stand, with what it says is their default.
fn keys_of_the_page() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = page("docs/configuration.md");
    let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut heading, mut in_keys) = (String::new(), false);
    for line in prose(&text) {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text.to_owned();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        in_keys = line.starts_with('|') && (in_keys || cells.get(1) == Some(&"key"));
        if let ["", key, kind, default, meaning, in_force, ""] = cells[..]
            && in_keys
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            for cell in [kind, default, meaning, in_force] {
                assert!(!cell.is_empty(), "{heading}: {key} has an empty cell");
            }
            let keys = tables.entry(heading.clone()).or_default();
            assert!(keys.insert(key.to_owned(), default.to_owned()).is_none(), "{key} twice");
        } else {
            assert!(
                !line.starts_with("| `") || !in_keys,
                "{heading}: no row of five cells: {line}"
            );
        }
    }
    tables
}

/// The headings under which the keys of a table of the file stand.
fn headings(table: &str) -> Vec<&str> {
    let upstream = "`[upstreams.NAME]`";
    match table {
        "`[upstreams.rabbit]`" => {
            vec![upstream, r#"`[upstreams.NAME]` with `protocol = "nameko"`"#]
        }
        "`[upstreams.nats]`" => vec![upstream, r#"`[upstreams.NAME]` with `protocol = "nats"`"#],
        "`[upstreams.reports]`" => {
            vec![upstream, r#"`[upstreams.NAME]` with `protocol = "jsonrpc"`"#]
        }
        "`[upstreams.rabbit.breaker]`" => vec!["`[upstreams.NAME.breaker]`"],
        "`[[routes]]`" => vec!["`[[routes]]`"],
        table => vec![table],
    }
}

#[test]
fn every_key_of_the_file_is_on_the_page_with_its_default() {
    let (file, page) = (keys_of_the_file(), keys_of_the_page());
    assert!(file.values().map(BTreeMap::len).sum::<usize>() > 80, "{file:?}");
    for (table, keys) in &file {
        // Its keys are names that the operator chooses.
        for (key, (value, is_set)) in keys.iter().filter(|_| table != "`[hub.tokens]`") {
            let found = headings(table).into_iter().find_map(|it| page.get(it)?.get(key));
            let default = found.unwrap_or_else(|| panic!("{table}: the page lacks `{key}`"));
            if default.starts_with('`') {
                assert_eq!(*default, format!("`{value}`"), "{table}: the default of `{key}`");
            } else {
                let example =
                    default.starts_with("none") || ["workers", "timeout"].contains(&&**key);
                assert!(!is_set || example, "{table}: `{key}` is {value}, the page says {default}");
            }
        }
    }
}

#[test]
fn every_key_on_the_page_is_in_the_file() {
    let mut missing: Tables = keys_of_the_file();
    let page = keys_of_the_page();
    let known: BTreeSet<(&str, String)> = missing
        .iter_mut()
        .flat_map(|(table, keys)| {
            let keys: Vec<_> = keys.keys().cloned().collect();
            let pairs = move |heading| keys.clone().into_iter().map(move |key| (heading, key));
            headings(table).into_iter().flat_map(pairs)
        })
        .collect();
    for (heading, keys) in &page {
        for key in keys.keys() {
            let is_known = known.contains(&(heading.as_str(), key.clone()));
            assert!(is_known, "{heading}: config/genkan.toml lacks `{key}`");
        }
    }
}
