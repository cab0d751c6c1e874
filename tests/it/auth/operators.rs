//! What operators are told: who may, who may not, and which rows the world may call.

use serde_json::Value;

use super::new_key;
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, run};

const ROWS: &str = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://127.0.0.1:4222\"\n\
                    [[routes]]\nmatch = \"open.*\"\nupstream = \"bus\"\nallow = [\"any\"]\n\
                    [[routes]]\nmatch = \"orders.*\"\nupstream = \"bus\"\nallow = [\"key:web\", \
                    \"sub:*@example.com\", \"bus:\"]\n[[routes]]\nmatch = \"closed.*\"\nupstream = \
                    \"bus\"\n";

/// By what `sub:` of the rows can fit somebody.
const TOKENS: &str =
    "[auth.jwt]\nsecret = \"0123456789abcdef0123456789abcdef\"\naudience = \"genkan\"\n";

fn checked(text: &str) -> (i32, Vec<String>) {
    let folder = Folder::new();
    let config = folder.write("genkan.toml", text);
    let (status, out, err) = run(genkan().arg("check").arg("--config").arg(config));
    let problems: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
    let said = problems.as_array().expect("a list").iter();
    (status, said.map(|one| one["message"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn check_tells_of_rows_that_nobody_or_the_world_may_call() {
    let beyond = "[http]\nlisten = \"0.0.0.0:8080\"\n";
    let (key, keys) = new_key(&["web"]);
    let (status, said) = checked(&format!("{keys}{TOKENS}{ROWS}"));
    assert_eq!((status, said.len()), (0, 1), "{said:?}");
    assert!(said[0].contains("#3 has") && said[0].contains("no `allow`"), "{said:?}");
    let (_, said) = checked(&format!("{beyond}{keys}{TOKENS}{ROWS}"));
    assert!(said.iter().any(|one| one.contains("#1") && one.contains("0.0.0.0:8080")), "{said:?}");
    assert!(!said.iter().any(|one| one.contains("#2")), "{said:?}");
    // With nothing by which anybody is known, all of them.
    let open = ROWS.replace("allow", "# allow");
    let (status, said) = checked(&format!("{beyond}{open}"));
    assert_eq!((status, said.len()), (0, 1), "{said:?}");
    assert!(said[0].contains("whoever reaches 0.0.0.0:8080 may call"), "{said:?}");
    assert_eq!(checked(&open).1, Vec::<String>::new());
    assert!(!said.join("").contains(&key));
}

#[test]
fn check_tells_of_words_that_name_nobody() {
    let keys = new_key(&["web"]).1;
    for (words, status, told) in [
        ("cert:edge", 0, "nobody is asked for a certificate: name `client_ca_file`"),
        ("key:wed", 0, "no [[auth.keys]] is called `wed`: did you mean `web`?"),
        ("bux:", 1, "there is no upstream `bux`: did you mean `bus`?"),
        ("web", 1, "\"web\" names no callers"),
        ("key:", 1, "\"key:\" names no callers"),
    ] {
        let rows = ROWS.replacen("\"key:web\"", &format!("\"key:web\", \"{words}\""), 1);
        let (found, said) = checked(&format!("{keys}{rows}"));
        assert_eq!(found, status, "{said:?}");
        assert!(said.iter().any(|one| one.contains(told)), "{words}: {said:?}");
    }
}

#[test]
fn check_tells_of_words_that_can_fit_nobody() {
    let keys = new_key(&["web"]).1;
    let bus = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://127.0.0.1:4222\"\n";
    let told = |tables: &str, word: &str| {
        let row = format!("[[routes]]\nmatch = \"a.*\"\nupstream = \"bus\"\nallow = [\"{word}\"]");
        let (status, said) = checked(&format!("{keys}{tables}{bus}{row}"));
        assert_eq!(status, 0, "{said:?}");
        said.join("\n")
    };
    let claims = format!("{TOKENS}claims = [\"tenant\"]\n");
    let hub = "[hub]\nlisten = [\"unix:///tmp/genkan-hub.sock\"]\n[hub.tokens]\nbilling = \"a-token-of-its\"\n";
    for (word, mend, tables) in [
        ("sub:alice", "add [auth.jwt], `client_ca_file`", TOKENS),
        ("scope:orders", "there is no [auth.jwt]: add it", TOKENS),
        ("claim:tenant=acme", "there is no [auth.jwt]: add it", &claims),
        ("hub:billing", "[hub.tokens] has none for `billing`: add one", hub),
        ("unix:root", "add \"unix:///run/genkan/hub.sock\" to `listen` in [hub]", hub),
    ] {
        let said = told("", word);
        assert!(said.contains("fits nobody") && said.contains(mend), "{word}: {said}");
        assert_eq!(told(tables, word), "", "{word}");
    }
    let said = told(&format!("{TOKENS}claims = [\"tenants\"]\n"), "claim:tenant=acme");
    assert!(said.contains("does not name \"tenant\"") && said.contains("`tenants`"), "{said}");
    let said = told("", "bus:bob");
    assert!(said.contains("`trust_context = true` in [upstreams.bus]"), "{said}");
    assert_eq!(told("", "bus:"), "");
    // A key for calls that no row takes, and that Genkan does not answer either.
    for (routes, names) in [("[\"b.*\", \"a.x\"]", "\"b.*\""), ("[\"ping\", \"*.x\"]", "")] {
        let key = format!("{keys}routes = {routes}\n");
        let row = "[[routes]]\nmatch = \"a.*\"\nupstream = \"bus\"\nallow = [\"key:web\"]";
        let (status, said) = checked(&format!("{key}{bus}{row}"));
        assert_eq!((status, said.len()), (0, usize::from(!names.is_empty())), "{said:?}");
        let is_told = |one: &String| one.contains(names) && one.contains("meets no [[routes]] row");
        assert!(said.iter().all(is_told), "{said:?}");
    }
}

fn explained(text: &str, arguments: &[&str]) -> (i32, Value) {
    let folder = Folder::new();
    let config = folder.write("genkan.toml", text);
    let mut command = genkan();
    command.arg("explain").args(arguments).arg("--config").arg(config);
    let (status, out, err) = run(&mut command);
    (status, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}")))
}

#[test]
fn explain_tells_who_may_and_why_not() {
    let own = "[auth]\nown_methods = [\"sub:ops\"]\n";
    let text = format!("{own}{}routes = [\"orders.list\"]\n{ROWS}", new_key(&["web"]).1);
    for (name, whom, may, why) in [
        ("orders.list", "key:web", true, ""),
        (
            "orders.create",
            "key:web",
            false,
            "`key:web` may not call `orders.create`: `routes` of [[auth.keys]]",
        ),
        ("open.x", "key:web", false, "let it call `orders.list`, and nothing else"),
        (
            "orders.create",
            "claim:foo=1",
            false,
            "`claim:foo=1` may not call `orders.create`: `claims` in",
        ),
        ("orders.create", "sub:a@example.com", true, ""),
        ("orders.create", "sub:a@example.org", false, "no word of `allow` of the row fits it"),
        ("orders.create", "bus:", true, ""),
        ("orders.create", "nobody", false, "it is not known who wants to"),
        ("open.x", "nobody", true, ""),
        ("closed.x", "key:web", false, "the row has no `allow`"),
        ("unrouted.x", "hub:billing", false, "the implicit last row has no `allow`"),
        ("ping", "key:web", false, "`key:web` may not call `ping`"),
        ("ping", "nobody", false, "it is not known who wants to"),
        ("ping", "sub:ops", true, ""),
        ("rpc.discover", "nobody", true, ""),
        // To whom they are open, topics say.
        ("genkan.subscribe", "nobody", true, ""),
        ("genkan.authenticate", "sub:a", true, ""),
    ] {
        let (status, told) = explained(&text, &[name, "--as", whom]);
        assert_eq!((status == 0, told["may_call"] == true), (may, may), "{name} {whom}: {told}");
        let said = told["denied"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{name} {whom}: {told}");
    }
    let (status, told) = explained(&text, &["orders.create"]);
    assert_eq!(status, 0, "nobody was asked about: {told}");
    assert_eq!(told["allow"][1], "sub:*@example.com", "{told}");
    let folder = Folder::new();
    let config = folder.write("genkan.toml", &text);
    let mut command = genkan();
    command.args(["explain", "orders.create", "--as", "key:other", "--config"]).arg(config);
    let (status, _, err) = run(&mut command);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("no [[auth.keys]] is called so"), "{err}");
}

#[test]
fn explain_shows_as_whom_a_service_would_know_the_caller() {
    let text = format!("{}user_id = \"u-7\"\n{TOKENS}{ROWS}", new_key(&["web"]).1);
    for (whom, header) in [
        ("key:web", Some("u-7")),
        ("sub:a@example.com", Some("a@example.com")),
        // Nobody would believe it.
        ("bus:bob", None),
        ("nobody", None),
    ] {
        let (_, told) = explained(&text, &["orders.create", "--as", whom]);
        assert_eq!(told["sent"]["headers"]["X-User-Id"].as_str(), header, "{whom}: {told}");
    }
}

#[test]
fn explain_believes_of_callers_by_way_of_an_upstream_what_a_call_of_theirs_is_believed() {
    for (upstream, table) in [
        ("bus", "protocol = \"nats\"\nservers = \"nats://127.0.0.1:4222\"\n"),
        ("rabbit", "protocol = \"nameko\"\nurl = \"amqp://u:p@127.0.0.1/%2f\"\n"),
    ] {
        let row = format!(
            "[[routes]]\nmatch = \"orders.*\"\nupstream = \"hub\"\nallow = [\"{upstream}:bob\"]\n"
        );
        let config = |trust: &str| format!("{TOKENS}[upstreams.{upstream}]\n{table}{trust}{row}");
        let whom = format!("{upstream}:bob");
        let (status, told) = explained(&config(""), &["orders.create", "--as", &whom]);
        assert_eq!((status, &told["may_call"]), (1, &Value::Bool(false)), "{told}");
        let said = told["denied"]["message"].as_str().unwrap_or_default();
        let why = format!("[upstreams.{upstream}] has no `trust_context = true`");
        assert!(said.contains(&why), "{told}");
        let trusted = config("trust_context = true\n");
        let (status, told) = explained(&trusted, &["orders.create", "--as", &whom]);
        assert_eq!((status, &told["may_call"]), (0, &Value::Bool(true)), "{told}");
    }
}

#[test]
fn explain_tells_who_may_hear_an_event() {
    let topic =
        "[[topics]]\nmatch = \"orders.*\"\nfrom = \"bus:orders.created\"\nallow = [\"key:web\"]\n";
    let text = format!("{}{TOKENS}{ROWS}{topic}", new_key(&["web"]).1);
    for (whom, may) in [("key:web", true), ("sub:a@example.com", false), ("nobody", false)] {
        let arguments = ["--event", "bus:orders.created", "--as", whom];
        let (status, told) = explained(&text, &arguments);
        let heard = &told["topics"][0];
        assert_eq!((status == 0, heard["may_listen"] == may), (may, true), "{whom}: {told}");
        assert_eq!(heard["denied"].is_string(), !may, "{told}");
    }
}

#[test]
fn a_key_s_name_is_one() {
    for name in ["a b", "", "a\"\nhash = \"x"] {
        let (status, out, err) = run(genkan().args(["key", "new", name]));
        assert_eq!((status, out.as_str()), (2, ""), "{name:?}: {err}");
        assert!(!err.contains("[[auth.keys]]") && !err.contains("line"), "{err}");
    }
    let (status, out, err) = run(genkan().args(["key", "new", "web", "--expires", "soon"]));
    assert_eq!((status, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("must be a date"), "{err}");
}
