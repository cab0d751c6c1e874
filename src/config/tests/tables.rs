//! What is said of tables that are seen together.

use super::super::*;
use super::said;
use crate::protocol::readers;

/// What is said about one row that goes to a NATS upstream.
fn said_of_row(row: &str) -> Vec<String> {
    let nats = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://h\"\n";
    said(
        &format!("{nats}[[routes]]\n{row}\n[[routes]]\nmatch = \"z.*\"\nupstream = \"bus\"\n"),
        &[],
    )
}

#[test]
fn rows_that_no_call_can_take_are_told_each_once() {
    let cases = [
        ("match = \"\"\nupstream = \"bus\"", 5, "`match` in [[routes]] #1, line 5 is empty"),
        ("match = \"a.*\"\nupstream = \"\"", 6, "`upstream` in [[routes]] #1, line 6 is empty"),
        ("match = \"x.\"\nupstream = \"bus\"", 5, "\"x.\" can match no call: write \"x.*\""),
        ("match = \".x\"\nupstream = \"bus\"", 5, "write \"x.*\""),
        ("match = \".\"\nupstream = \"bus\"", 5, "\"SERVICE.METHOD\""),
        ("match = \"*.\"\nupstream = \"bus\"", 5, "can match no call"),
        ("match = \"??\"\nupstream = \"bus\"", 5, "can match no call"),
        (
            "match = \"d\"\nupstream = \"bus\"",
            5,
            "write \"d.*\" for all methods of a service, or add",
        ),
        ("match = \"d.\"\nupstream = \"bus\"\nservice = \"a\"", 5, "can match no call"),
        ("match = \"a.*\"\nupstream = \"bus\"\nservice = \"a b\"", 7, "holds a blank"),
        ("match = \"a.*\"\nupstream = \"bus\"\nmethod = \"*\"", 7, "holds a wildcard"),
        ("match = \"a.*\"\nupstream = \"bus\"\nservice = \"\"", 7, "`service` in"),
        ("match = \"a.*\"\nupstream = \"bus\"\nmethod = \"\"", 7, "is empty: leave it out"),
        ("match = \"a.*\"\nupstream = \"bus\"\nmethod = \"a.b\"", 7, "holds a dot"),
        ("match = \"a.*\"\nupstream = \"bus\"\nparams = [\"x\", \"\"]", 7, "an empty name"),
        (
            "match = \"a.*\"\nupstream = \"bus\"\nparams = [\"x\", \"y\", \"x\"]",
            7,
            "\"x\" is twice",
        ),
    ];
    for (row, line, words) in cases {
        let said = said_of_row(row);
        let [one] = said.as_slice() else { panic!("{row}: {said:?}") };
        assert!(one.starts_with(&format!("genkan.toml:{line}: ")), "{row}: {one}");
        assert!(one.contains(words), "{row}: {one}");
    }
    for pattern in ["*", ".*", "?.?", "a?b", "*.m", "..x", "d*", "a.b.c"] {
        let row = format!("match = \"{pattern}\"\nupstream = \"bus\"");
        let wrong = said_of_row(&row).into_iter().find(|said| said.contains("no call"));
        assert_eq!(wrong, None, "{pattern}");
    }
    let empty = said("[upstreams.x]\nprotocol = \"\"", &[]);
    assert!(empty[0].contains("`protocol` in [upstreams.x], line 2 is empty"), "{empty:?}");
}

#[test]
fn listeners_in_each_others_way_are_told() {
    let cases = [
        ("[http]\nlisten = \"127.0.0.1:8081\"", 2, "`http.listen` and `admin.listen`"),
        ("[admin]\nlisten = \"0.0.0.0:8080\"", 2, "`admin.listen` and `http.listen`"),
        ("[http]\nlisten = \"127.0.0.1:2203\"", 2, "`http.listen` and `hub.listen`"),
        ("[hub]\nlisten = [\"tcp://0.0.0.0:7\", \"tcp://127.0.0.1:7\"]", 2, "`hub.listen`"),
    ];
    for (text, line, words) in cases {
        let said = said(text, &[]);
        let [one] = said.as_slice() else { panic!("{text}: {said:?}") };
        assert!(one.starts_with(&format!("genkan.toml:{line}: ")), "{one}");
        assert!(one.contains(words), "{one}");
    }
    let free = "http.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"";
    assert_eq!(said(free, &[]), Vec::<String>::new());
}

#[test]
fn names_of_a_listener_are_names() {
    for table in ["http", "admin"] {
        for host in ["*", "http://genkan.example/", "", "a\\u0000b", "a b"] {
            let said = said(&format!("[{table}]\nhosts = [\"{host}\"]\n"), &[]);
            let [one] = said.as_slice() else { panic!("{table} {host}: {said:?}") };
            assert!(one.starts_with("genkan.toml:2: "), "{one:?}");
            assert!(
                one.contains("is no name: write the host alone") && !one.contains('\0'),
                "{one:?}"
            );
            assert!(one.contains(&format!("[{table}]")), "{one:?}");
        }
        let good = "[\"genkan.example\", \"genkan.example:8081\", \"[::1]\"]";
        assert_eq!(said(&format!("[{table}]\nhosts = {good}\n"), &[]), [] as [&str; 0]);
    }
}

#[test]
fn what_is_a_unix_sockets_is_told_where_there_is_none() {
    let keys = "owner = \"root\"\ngroup = \"root\"\nmode = \"0660\"\n";
    for table in ["[admin]\n", "[hub]\n", "[hub]\nlisten = []\n"] {
        let said = said(&format!("{table}{keys}"), &[]);
        assert_eq!(said.len(), 3, "{table}: {said:?}");
        for (one, key) in said.iter().zip(["owner", "group", "mode"]) {
            assert!(one.contains(&format!("`{key}` in [")), "{one}");
            assert!(one.contains("unix:///run/genkan/"), "{one}");
        }
    }
    for listen in [
        "[admin]\nlisten = \"unix:///tmp/a.sock\"\n",
        "[hub]\nlisten = [\"unix:///tmp/a.sock\", \"tcp://127.0.0.1:7\"]\n",
    ] {
        assert_eq!(said(&format!("{listen}{keys}"), &[]), [] as [&str; 0]);
    }
}

#[test]
fn a_name_in_capitals_is_near() {
    for (text, hint) in [
        ("[HTTP]", "did you mean `http`?"),
        ("[[routes]]\nmatch = \"*\"\nupstream = \"HUB\"", "did you mean `hub`?"),
        ("[log]\nlevel = \"INFO\"", "did you mean `info`?"),
    ] {
        let said = said(text, &[]).join("");
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn a_connections_part_of_the_memory_holds_a_message() {
    assert_eq!(said("max_memory = \"4MiB\"\n", &[]), [] as [&str; 0]);
    let text = "max_memory = \"3MiB\"\n[hub]\nmax_line = \"64KiB\"\n";
    assert_eq!(
        said(text, &[]),
        ["genkan.toml:1: one connection may hold a quarter of `max_memory` (3MiB), and \
          `http.max_body` allows 1MiB for one message: set `max_memory` to 4MiB at least, or \
          `http.max_body` lower"]
    );
    let problems = said("[http]\nmax_body = \"64MiB\"\n", &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("genkan.toml:2: one"), "{problems:?}");
    assert!(problems[0].ends_with("set `max_memory` to 256MiB at least, or `http.max_body` lower"));
}

#[test]
fn an_upstreams_part_of_the_memory_holds_a_request() {
    for (protocol, url, most, over, part) in [
        ("nameko", "url = \"amqp://h\"", "32MiB", "33MiB", "a quarter"),
        ("nats", "servers = [\"nats://h\"]", "64MiB", "65MiB", "half"),
    ] {
        let text = |size: &str| {
            format!(
                "[upstreams.x]\nprotocol = \"{protocol}\"\n{url}\nmax_request = \"{size}\"\n\
                 [[routes]]\nmatch = \"a.*\"\nupstream = \"x\"\n"
            )
        };
        assert_eq!(said(&text(most), &[]), [] as [&str; 0]);
        let problems = said(&text(over), &[]);
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        let least = if part == "half" { "130MiB" } else { "132MiB" };
        assert_eq!(
            problem,
            &format!(
                "genkan.toml:4: requests that come in over `x` may hold {part} of `max_memory` (128MiB), and \
                 `upstreams.x.max_request` allows {over} for one: set `max_memory` to {least} at least, or \
                 `upstreams.x.max_request` lower"
            )
        );
    }
    let exposed = "max_memory = \"3MiB\"\n[http]\nmax_body = \"64KiB\"\n[hub]\nmax_line = \"64KiB\"\n\
                   [upstreams.x]\nprotocol = \"nameko\"\nurl = \"amqp://h\"\nmax_reply = \"64KiB\"\n\
                   [[routes]]\nmatch = \"a.*\"\nupstream = \"hub\"\n";
    assert_eq!(said(exposed, &[]).len(), 1, "nothing comes in over it");
    let exposed = format!("{exposed}[[expose]]\nservice = \"a\"\non = \"x\"\n");
    let problems = said(&exposed, &[]).join("");
    assert!(problems.contains("`upstreams.x.max_request` allows 1MiB for one"), "{problems}");
}

#[test]
fn what_works_and_is_hardly_meant_is_told() {
    let upstream = "[upstreams.rabbit]\nprotocol = \"nameko\"\n";
    let route = "[[routes]]\nmatch = \"a.*\"\nupstream = \"rabbit\"";
    for (text, words) in [
        (
            format!("{upstream}url = \"amqp://h\"\n{}", route.replace("a.*", "[a-z].*")),
            "stands for itself",
        ),
        (
            format!("{upstream}url = \"amqp://h\"\nmax_reply = \"96MiB\"\n{route}"),
            "half of `max_memory`",
        ),
        (
            format!("{upstream}url = \"amqp://h\"\nmax_reply = \"33MiB\"\n{route}"),
            "a quarter of `max_memory`",
        ),
        (
            "[upstreams.rabbit]\nprotocol = \"jsonrpc\"\nurl = \"http://h/\"\nmax_reply = \"64MiB\"\n"
                .to_owned()
                + route,
            "set `max_memory` to 256MiB at least",
        ),
        (
            format!("{upstream}urls = [\"amqp://h/a\", \"amqp://i/b\"]\n{route}"),
            "several virtual hosts",
        ),
        (
            format!("{upstream}urls = [\"amqp://h/a?heartbeat=5\", \"amqp://i/a\"]\n{route}"),
            "or heartbeats",
        ),
    ] {
        let problems = parse("genkan.toml", &text, Variables::new(), &readers()).problems;
        let [problem] = problems.as_slice() else { panic!("{text}: {problems:?}") };
        assert_eq!(problem.severity, Severity::Warning, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
    }
    let fine = format!("{upstream}urls = [\"amqp://h/a\", \"amqp://i/a\"]\n{route}");
    assert_eq!(said(&fine, &[]), [] as [&str; 0]);
}

#[test]
fn words_of_a_list_that_end_in_foreign_wildcards_are_told_of_together() {
    let hash = format!("sha256:{}", "0".repeat(64));
    let text = format!(
        "[[auth.keys]]\nname = \"web\"\nhash = \"{hash}\"\nroutes = [\"a.>\", \"b.c\", \"c.#\"]\n\
         [[routes]]\nmatch = \"a.*\"\nupstream = \"hub\"\n\
         allow = [\"key:>\", \"key:web\", \"key:b.#\", \"sub:>\", \"key:c.>\", \"key:d.>\"]\n"
    );
    let problems = parse("genkan.toml", &text, Variables::new(), &readers()).problems;
    let told = problems.iter().map(|problem| problem.message.as_str());
    let told: Vec<_> = told.filter(|message| message.contains("letter")).collect();
    let strays = problems.iter().filter(|problem| problem.message.contains("[[routes]] row"));
    let strays: Vec<_> = strays.map(|problem| problem.message.as_str()).collect();
    let [stray] = strays.as_slice() else { panic!("{strays:?}") };
    assert!(stray.contains(r#""b.c", "c.#" meet no"#), "{stray}");
    let [keys, rows] = told.as_slice() else { panic!("{told:?}") };
    assert!(keys.contains("`routes`") && keys.contains("`a.*`, `c.*`"), "{keys}");
    assert!(rows.contains("`allow`") && rows.contains("`key:*`, `key:b.*`, `sub:*`"), "{rows}");
}

#[test]
fn a_wildcard_of_nats_is_a_letter_in_a_glob() {
    let nats = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n";
    let topic = "[[topics]]\nfrom = \"bus:orders.>\"\n";
    let (route, last) =
        ("[[routes]]\nupstream = \"bus\"\n", "[[routes]]\nmatch = \"z.*\"\nupstream = \"bus\"\n");
    for (row, words) in [
        (format!("{topic}match = \"orders.>\"\n{last}"), "write `orders.*`"),
        (format!("{topic}match = \">\"\n{last}"), "write `*`"),
        (format!("{route}match = \"orders.>\"\n{last}"), "write `orders.*`"),
        (
            format!("{route}match = \"orders.*\"\nallow = [\"any\", \"claim:of=eu.>\"]\n"),
            "write `claim:of=eu.*`",
        ),
        (
            format!(
                "[[auth.keys]]\nname = \"web\"\nhash = \"sha256:{}\"\nroutes = [\"orders.>\"]\n{last}",
                "0f".repeat(32)
            ),
            "write `orders.*`",
        ),
    ] {
        let said = said(&format!("{nats}{row}"), &[]);
        let told: Vec<_> = said.iter().filter(|line| line.contains("`>` is a letter")).collect();
        assert!(told.len() == 1 && told[0].contains(words), "{row}: {said:?}");
    }
    let fine = format!("{nats}{topic}match = \"a>b.*\"\n{last}");
    assert!(!said(&fine, &[]).join("").contains("is a letter"));
}

#[test]
fn what_of_a_bridge_is_hardly_meant_is_told() {
    let nats = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n\
                [[routes]]\nmatch = \"z.*\"\nupstream = \"bus\"\n";
    let bridge = "[[bridges]]\nfrom = \"bus:stream/S/a.*\"\n";
    for (row, words) in [
        (format!("{bridge}to = [\"bus:stream/T/b.$0\"]\n"), "`$0` stands for itself"),
        (
            format!("{bridge}to = [\"bus:stream/T/b.${{1}}\"]\n"),
            "`${1}` stands for itself: write `$1`",
        ),
        (
            format!("{bridge}to = [\"bus:stream/T/b\"]\ndead_letter = \"bus:stream/T/b\"\n"),
            "`dead_letter` in [[bridges]] #1, line 10 is one of its targets",
        ),
        (
            "[[topics]]\nmatch = \"a.*\"\nkeep_bytes = \"1GiB\"\n".to_owned(),
            "all topics together keep 64MiB",
        ),
    ] {
        let said = said(&format!("{nats}{row}"), &[]);
        let [one] = said.as_slice() else { panic!("{row}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
}

#[test]
fn a_stream_may_be_a_target_twice() {
    let upstreams = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n\
                     [upstreams.other]\nprotocol = \"nats\"\nservers = [\"nats://i\"]\n\
                     [[routes]]\nmatch = \"x.*\"\nupstream = \"bus\"\n\
                     [[routes]]\nmatch = \"y.*\"\nupstream = \"other\"\n";
    let of = |rows: &[(&str, &str)]| {
        let row =
            |(from, to): &(&str, &str)| format!("[[bridges]]\nfrom = \"{from}\"\nto = [{to}]\n");
        said(&format!("{upstreams}{}", rows.iter().map(row).collect::<String>()), &[])
    };
    for fine in [
        &[("bus:in", r#""bus:stream/S/a", "bus:stream/S/b""#)][..],
        &[("bus:in", r#""bus:stream/S/a""#), ("bus:in", r#""bus:stream/S/b""#)],
        &[(
            "bus:in",
            r#""bus:stream/S/a", "bus:stream/T/a", "other:stream/S/a", "bus:out", "bus:o2""#,
        )],
        &[("bus:in", r#""bus:stream/S/a""#), ("bus:in.too", r#""bus:stream/S/a""#)],
    ] {
        assert_eq!(of(fine), [] as [&str; 0], "{fine:?}");
    }
}

/// `config/genkan.toml`, whose keys tests/it/pages.rs looks for on the page.
#[test]
fn the_file_with_every_key_has_every_key_that_the_code_reads() {
    let text = include_str!("../../../config/genkan.toml");
    assert_eq!(said(text, &[]), Vec::<String>::new());
    let schema = section::SCHEMA.take();
    assert!(schema.len() > 90, "{schema:?}");
    for (title, key) in schema {
        let mut table = "the top level";
        let title = title.split_once(" #").map_or(title.as_str(), |(table, _)| table);
        let has = text.lines().any(|line| {
            let line = line.trim_start_matches("# ");
            if line.starts_with('[') {
                table = line.split_once("] ").map_or(line, |(name, _)| &line[..=name.len()]).trim();
                let name = table.trim_matches(['[', ']']);
                return format!("[{name}]").starts_with(&format!("[{key}"))
                    || name.rsplit('.').next() == Some(key);
            }
            table == title && line.starts_with(&format!("{key} = "))
        });
        assert!(has, "config/genkan.toml lacks `{key}` in {title}");
    }
}

#[test]
fn a_subject_that_can_never_be_sent_is_told() {
    let row = |subject: &str| {
        format!("[[routes]]\nmatch = \"a.*\"\nupstream = \"bus\"\nsubject = '{subject}'\n")
    };
    let bus = "[upstreams.bus]\nprotocol = \"nats\"\nservers = \"nats://h\"\ndialect = ";
    for (dialect, subject, message) in [
        ("picom", "orders.*", "every call of this row would be refused: `orders.*`"),
        ("plain", "a..b", "nothing between two dots"),
        ("micro", "$SYS.x", "belongs to NATS itself"),
        ("nest", "{ cmd }", "holds a blank"),
    ] {
        let said = said(&format!("{bus}\"{dialect}\"\n{}", row(subject)), &[]);
        assert!(said.iter().any(|line| line.contains(message)), "{subject}: {said:?}");
    }
    let told = said(&format!("{bus}\"micro\"\n{}", row("$EVT.config.change")), &[]);
    assert_eq!(told, [] as [&str; 0]);
    let nest =
        said(&format!("{bus}\"nest\"\n{}", row("{ \"role\": \"a\", \"cmd\": \"sum\" }")), &[]);
    assert_eq!(nest, [] as [&str; 0]);
}

#[test]
fn an_upstream_whose_services_may_not_announce_themselves_is_told() {
    let toml = |allow: &str| {
        format!(
            "[registry]\n{allow}\n[upstreams.r]\nprotocol = \"jsonrpc\"\nregistry = \"reports.*\"\n\
             [[routes]]\nmatch = \"reports.*\"\nupstream = \"r\"\n"
        )
    };
    for allow in ["", "allow = [\"other.*\"]"] {
        let said = said(&toml(allow), &[]);
        assert!(
            said.iter().any(|line| line.contains("no service may announce itself")),
            "{said:?}"
        );
    }
    assert_eq!(said(&toml("allow = [\"rep*\"]"), &[]), [] as [&str; 0]);
}
