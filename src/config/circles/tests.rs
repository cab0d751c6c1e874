//! Tables that lead in circles, and tables that only look like it.

use super::super::problem::Severity;
use super::super::{Variables, parse};
use crate::protocol::readers;

const CIRCLES: &str = "[http]\nlisten = \"127.0.0.1:23090\"\n\
    [upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://g:g@127.0.0.1:5672/%2f\"\n\
    [upstreams.rabbit2]\nprotocol = \"nameko\"\nurl = \"amqp://h:h@localhost/\"\n\
    [upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1\"]\n\
    [upstreams.plain]\nprotocol = \"nats\"\nservers = [\"nats://LOCALHOST:4222\"]\ndialect = \"plain\"\n\
    [upstreams.account]\nprotocol = \"nats\"\nservers = [\"nats://b:p@127.0.0.1\"]\n\
    [upstreams.self]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:23090/api/a\"\n\
    [upstreams.selfq]\nprotocol = \"jsonrpc\"\nurl = \"http://localhost:23090/api\"\nqualified = true\n\
    [upstreams.bare]\nprotocol = \"jsonrpc\"\nurl = \"http://[::1]:23090/api\"\n";

/// The errors that rows make, written `match upstream [key=value …]` and `expose service on [key=value …]`.
fn said_of_circles(rows: &str) -> Vec<String> {
    let mut text = CIRCLES.to_owned();
    for row in rows.split(';') {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (head, rest) = match words.as_slice() {
            ["expose", service, on, rest @ ..] => {
                (format!("[[expose]]\nservice = \"{service}\"\non = [\"{on}\"]\n"), rest)
            }
            [pattern, upstream, rest @ ..] => {
                (format!("[[routes]]\nmatch = \"{pattern}\"\nupstream = \"{upstream}\"\n"), rest)
            }
            _ => panic!("{row}"),
        };
        text.push_str(&head);
        for (key, value) in rest.iter().filter_map(|word| word.split_once('=')) {
            let list = key == "methods";
            let value = if list { format!("[\"{value}\"]") } else { format!("\"{value}\"") };
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    let problems = parse("genkan.toml", &text, Variables::new(), &readers()).problems;
    let errors = problems.into_iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(|problem| problem.message).collect()
}

#[test]
fn calls_that_would_go_round_in_a_circle() {
    for rows in [
        "a.* rabbit2; expose a rabbit",
        "a.* nats; expose a plain",
        "a.* nats service=b; b.* rabbit service=a; expose a rabbit; expose b nats",
        "a.* nats; b.* nats; expose a nats as=b; expose b nats as=a",
        "a.* nats service=zz.a; expose a nats as=zz",
        "a.x nats subject=b.x; expose a plain as=b",
        "a.* self",
        "b.* selfq",
        "greet bare service=b",
        "* selfq",
        "b.* selfq service=c; c.x nats; c.* selfq service=b",
        "a.* selfq service=b; b.* rabbit service=a; expose a rabbit2",
    ] {
        let said = said_of_circles(rows);
        let [one] = said.as_slice() else { panic!("{rows}: {said:?}") };
        assert!(one.contains("go round in a circle: by [[routes]] #"), "{one}");
    }
    for rows in [
        "b.x nats subject=a.y; a.* rabbit service=b; expose a nats; expose b rabbit",
        "a.x nats service=b method=q; expose a nats as=b dialect=nest methods=q",
        "a.* nats service=zz.a; expose a plain as=zz",
        "a.* rabbit service=zz.a; expose a rabbit as=zz",
        "a.x rabbit; a.* nats; expose a rabbit methods=z",
        "a.x nats; a.* rabbit; expose a rabbit methods=x",
        "a.* account; expose a nats",
        "a.* bare; b.* selfq service=c",
        "b.* self",
    ] {
        assert_eq!(said_of_circles(rows), [] as [&str; 0], "{rows}");
    }
}

#[test]
fn one_name_on_one_broker_is_one_service() {
    let rows = "o.* rabbit; c.* rabbit; expose o nats as=dup; expose c plain as=dup";
    let said = said_of_circles(rows);
    let [one] = said.as_slice() else { panic!("{said:?}") };
    assert!(
        one.contains("on `plain`, as another row does with the service `o` on `nats`"),
        "{one}"
    );
    assert!(one.contains("the same broker as `plain`"), "{one}");
    let apart = "o.* rabbit; c.* rabbit; expose o nats as=dup; expose c account as=dup";
    assert_eq!(said_of_circles(apart), [] as [&str; 0], "accounts see nothing of each other");
}
