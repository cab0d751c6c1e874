//! What is made of a file and of the environment over it, and what is said about both.

mod environment;
mod exposes;
mod files;
mod tables;

use super::*;
use crate::protocol::readers;

/// Every problem of a text, with variables over it, as it is printed.
fn said(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let problems = parse("genkan.toml", text, named(variables), &readers()).problems;
    problems.iter().map(ToString::to_string).collect()
}

fn named(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

const NATS: &str = "[upstreams.Bus]\nprotocol = \"nats\"\n[[routes]]\nmatch = \"a.*\"\n\
                    upstream = \"Bus\"\n[[routes]]\nmatch = \"b.*\"\nupstream = \"Bus\"\n";

fn read_with<T>(
    text: &str,
    variables: &[(&str, &str)],
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> (T, Vec<Problem>) {
    let problems = RefCell::new(Vec::new());
    let (source, values) = Source::load("t.toml", text.as_bytes(), named(variables), &problems);
    let made = read(&mut Section::root(values, &source, &problems));
    (made, problems.into_inner())
}
