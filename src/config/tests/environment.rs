//! Variables of the environment, laid over the file.

use super::super::*;
use super::{NATS, named, read_with, said};
use crate::protocol::jsonrpc::HttpConfig;
use crate::protocol::readers;

#[test]
fn a_variable_is_text_to_the_letter() {
    for text in ["0012", "1e5", "1.50", "+7", "True", "infinity", "007", " x ", "", "0x10", "a,b"] {
        let variables = [("GENKAN__SECRET", text), ("GENKAN__TEXT", text)];
        let (read, problems) = read_with("", &variables, |root| {
            (root.secret("secret", "secret_file"), root.text("text"))
        });
        assert_eq!(problems, [], "{text:?}");
        assert_eq!(read.0.as_ref().map(|secret| secret.expose()), Some(text));
        assert_eq!(read.1.as_deref(), Some(text));
    }
}

#[test]
fn a_variable_is_read_as_what_its_key_asks_for() {
    let variables = [
        ("GENKAN__WORKERS", "3"),
        ("GENKAN__TIMEOUT", "1.5s"),
        ("GENKAN__HTTP__MAX_BODY", "65536"),
        ("GENKAN__HTTP__HTTP2", "False"),
        ("GENKAN__HTTP__COMPRESSION", "true"),
        ("GENKAN__HTTP__CORS__ORIGINS", "https://a.example, https://b.example"),
        ("GENKAN__ADMIN__LISTEN", "127.0.0.1:7"),
        ("GENKAN__HUB__MAX_LINE", "64KiB"),
        ("PATH", "/bin"),
        ("genkan__workers", "not ours"),
    ];
    let Loaded { config, problems, .. } = parse("genkan.toml", "", named(&variables), &readers());
    assert_eq!(problems, []);
    assert_eq!((config.workers, config.timeout), (3, Duration::from_millis(1500)));
    let http = config.ingresses.iter().find_map(|ingress| ingress.settings.of::<HttpConfig>());
    let http = http.expect("[http]").clone();
    assert_eq!(http.max_body, 65_536);
    assert!(!http.http2 && http.compression);
    let origins = http.cors.map(|cors| cors.origins).unwrap_or_default();
    assert_eq!(origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.admin.listen.tcp().map(|address| address.port()), Some(7));
    let bad = [("GENKAN__WORKERS", "1e3"), ("GENKAN__HTTP__HTTP2", "yes")];
    let messages = said("", &bad).join("\n");
    assert!(messages.contains("from 1 to 512, not \"1e3\""), "{messages}");
    assert!(messages.contains("must be true or false, not \"yes\""), "{messages}");
}

#[test]
fn a_variable_finds_the_files_name_whatever_its_case() {
    for name in ["GENKAN__UPSTREAMS__BUS__SERVERS", "GENKAN__upstreams__Bus__Servers"] {
        assert_eq!(said(NATS, &[(name, "nats://h:1")]), Vec::<String>::new(), "{name}");
    }
    let two = format!("{NATS}[upstreams.bUS]\nprotocol = \"nats\"\nservers = \"nats://h\"\n");
    let said = said(&two, &[("GENKAN__UPSTREAMS__BUS__SERVERS", "nats://h:1")]).join("\n");
    assert!(said.contains("may mean `Bus` or `bUS`"), "{said}");
}

#[test]
fn a_variable_means_a_name_with_dashes_by_underscores() {
    let text = NATS.replace("Bus", "my-Bus");
    let servers = |variable| said(&text, &[(variable, "nats://h:1")]);
    assert_eq!(servers("GENKAN__UPSTREAMS__MY_BUS__SERVERS"), Vec::<String>::new());
    let two = format!("{text}[upstreams.my_bus]\nprotocol = \"nats\"\nservers = \"nats://h\"\n");
    let said = said(&two, &[("GENKAN__UPSTREAMS__MY_BUS__SERVERS", "nats://h:1")]).join("\n");
    assert!(said.contains("[upstreams.my-Bus] needs `servers`"), "the other one's: {said}");
}

#[test]
fn a_variable_without_text_is_an_empty_list() {
    let hosts = |variables: &[(&str, &str)]| {
        let text = "hosts = [\"a.example\"]";
        read_with(text, variables, |section| section.texts("hosts"))
    };
    assert_eq!(hosts(&[]), (vec!["a.example".to_owned()], vec![]));
    assert_eq!(hosts(&[("GENKAN__HOSTS", " b , c ")]).0, ["b", "c"]);
    for nothing in ["", " "] {
        assert_eq!(hosts(&[("GENKAN__HOSTS", nothing)]).0, [] as [&str; 0]);
    }
}

#[test]
fn a_variable_whose_name_is_nearly_right_is_told() {
    for name in ["GENKAN_HTTP__LISTEN", "genkan__http__listen", "Genkan__HTTP__LISTEN"] {
        let said = said("", &[(name, "127.0.0.1:1")]).join("\n");
        let words = format!("{name} sets nothing: its name must be GENKAN__HTTP__LISTEN");
        assert!(said.contains(&words), "{said}");
    }
    // What is one key to the gateway.
    for (name, meant) in [
        ("GENKAN__HTTP_LISTEN", "GENKAN__HTTP__LISTEN"),
        ("GENKAN__ADMIN_LISTEN", "GENKAN__ADMIN__LISTEN"),
        ("GENKAN__HTTP__CORS_ORIGINS", "GENKAN__HTTP__CORS__ORIGINS"),
    ] {
        let said = said("", &[(name, "x")]).join("\n");
        assert!(said.contains(&format!(": did you mean {meant}?")), "{said}");
    }
    // Kubernetes' own, where a service is called genkan or genkan-http.
    let others = ["GENKAN_GATEWAY", "GENKAN_PORT_8080_TCP_ADDR", "GENKAN_HTTP_SERVICE_HOST"];
    assert_eq!(said("", &others.map(|name| (name, "10.0.0.1"))), Vec::<String>::new());
}

#[test]
fn a_variable_sets_a_key_of_a_row_by_its_number() {
    let servers = ("GENKAN__UPSTREAMS__BUS__SERVERS", "nats://h:1");
    let timeout = |text: &str, variables: &[(&str, &str)]| {
        let loaded = parse("genkan.toml", text, named(variables), &readers());
        assert_eq!(loaded.problems, [], "{variables:?}");
        let rows = loaded.config.routes.iter();
        rows.map(|rule| (rule.pattern.to_string(), rule.timeout.as_secs())).collect::<Vec<_>>()
    };
    let rows = timeout(NATS, &[servers, ("GENKAN__ROUTES__1__TIMEOUT", "9s")]);
    assert_eq!(rows, [("a.*".to_owned(), 30), ("b.*".to_owned(), 9)]);
    let added: Vec<(String, &str)> = (0..11)
        .flat_map(|row| {
            let key = |key: &str| format!("GENKAN__ROUTES__{row}__{key}");
            let pattern =
                ["a.*", "b.*", "c.*", "d.*", "e.*", "f.*", "g.*", "h.*", "i.*", "j.*", "k.*"];
            [(key("UPSTREAM"), "hub"), (key("MATCH"), pattern[row])]
        })
        .collect();
    let added: Vec<(&str, &str)> =
        added.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let rows = timeout("", &added);
    assert_eq!(rows.len(), 11);
    assert_eq!(rows[10].0, "k.*");
}

#[test]
fn what_is_wrong_with_a_variable_is_told_by_its_name() {
    let cases: [(&str, &str, &str); 8] = [
        ("GENKAN__ROUTES__0__TIMEOUT", "9", "must be a duration"),
        ("GENKAN__ROUTES__3__TIMEOUT", "9s", "names no item of `routes` with `3`"),
        ("GENKAN__ROUTES__TIMEOUT", "9s", "names no item of `routes` with `TIMEOUT`"),
        ("GENKAN__UPSTREAMS__NEW__PROTOCOL", "nats", "[upstreams.new] needs `servers`"),
        ("GENKAN__UPSTREAMS__BUS__SERVERS__X", "1", "which is no table"),
        ("GENKAN__HTTP__LISSTEN", "1", "unknown key `lissten`"),
        ("GENKAN__", "1", "cannot set ``"),
        ("GENKAN__UPSTREAMS__\u{e9}__URL", "1", "cannot set `\u{e9}`"),
    ];
    let text = format!("{}servers = \"nats://h\"\n{}", &NATS[..34], &NATS[34..]);
    assert_eq!(said(&text, &[]), Vec::<String>::new());
    for (name, value, words) in cases {
        let said = said(&text, &[(name, value)]);
        let told = said.iter().any(|said| {
            said.starts_with(&format!("environment variable {name}: ")) && said.contains(words)
        });
        assert!(told, "{name}: {said:?}");
    }
}

#[test]
fn a_variable_that_goes_before_a_line_of_the_file_is_told() {
    let text = "workers = 3\n[http]\nhosts = [\"a\", \"b\"]\n[admin]\nlisten = \"127.0.0.1:5\"\n\
                [[routes]]\nmatch = \"a.*\"\nupstream = \"hub\"\ntimeout = \"3s\"\n";
    for (name, same, other, line) in [
        ("GENKAN__WORKERS", "3", "4", 1),
        ("GENKAN__HTTP__HOSTS", "a, b", "a", 3),
        ("GENKAN__ADMIN__LISTEN", "127.0.0.1:5", "127.0.0.1:6", 5),
        ("GENKAN__ROUTES__0__TIMEOUT", "3s", "4s", 9),
    ] {
        assert_eq!(said(text, &[(name, same)]), Vec::<String>::new());
        let loaded = parse("genkan.toml", text, named(&[(name, other)]), &readers());
        let [told] = loaded.problems.as_slice() else { panic!("{:?}", loaded.problems) };
        let words = format!("{name} goes before line {line} of genkan.toml, which says otherwise");
        assert_eq!(told.severity, Severity::Warning);
        assert!(told.message.contains(&words), "{told}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_told() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = std::ffi::OsString::from_vec(b"127.0.0.1:\xff".to_vec());
    let variables = Variables::from([("GENKAN__HTTP__LISTEN".into(), bytes.clone())]);
    let problems = parse("genkan.toml", "", variables, &readers()).problems;
    let [problem] = problems.as_slice() else { panic!("one problem: {problems:?}") };
    assert_eq!(problem.place, problem::Place::Environment("GENKAN__HTTP__LISTEN".to_owned()));
    assert!(problem.message.contains("is not UTF-8"), "{problem}");
    assert!(
        parse("genkan.toml", "", Variables::from([("OTHER".into(), bytes)]), &readers())
            .problems
            .is_empty()
    );
}

#[test]
fn what_may_be_a_secret_is_repeated_in_no_message() {
    const URL: &str = "amqp://u:hunter2@h";
    let files = [
        "[upstreams]\nrabbit = \"amqp://u:hunter2@h\"",
        "upstreams = \"amqp://u:hunter2@h\"",
        "upstreams = \"hunter2\"",
        "routes = \"hunter2\"",
        "routes = [\"hunter2\"]",
        "http = \"hunter2\"",
        "[hub]\ntokens = \"hunter2\"",
        "timeout = \"u:hunter2@h\"",
        "[http]\nlisten = \"http://u:hunter2@h\"",
        "[http]\nmax_body = \"amqp://u:hunter2@h\"",
        "[http.cors]\norigins = \"https://u:hunter2@app\"",
        "[hub]\nlisten = \"tcp://u:hunter2@h:1\"",
        "[hub]\nlisten = \"http://u:hunter2\"",
        "[hub]\nmode = \"u:hunter2@h\"",
        "[[routes]]\nmatch = \"a.*\"\nupstream = \"amqp://u:hunter2@h\"",
        "[[routes]]\nmatch = \"amqp://u:hunter2@h\"\nupstream = \"hub\"",
        "[upstreams.x]\nprotocol = \"nameko\"\nurl_file = \"amqp://u:hunter2@h\"",
        "[upstreams.x]\nprotocol = \"nameko\"\nurl = \"amqp://h\"\nheartbeat = \"amqp://u:hunter2@h\"",
        "[upstreams.x]\nprotocol = \"nats\"\nservers = [\"nats://u:hunter2,x@h:1\", 5]",
        "[upstreams.x]\nprotocol = \"nats\"\nservers = \"nats://u:hunter2/x@h:1\"",
        "[upstreams.x]\nprotocol = \"nats\"\ncredentials_file = \"nats://hunter2@h:1\"",
        "[upstreams.x]\ntoken = \"hunter2",
        "[upstreams.x]\ntoken = \"\"\"hunter2",
        "[upstreams.x]\ntoken = hunter2",
        "[upstreams.x]\ntoken: hunter2",
    ];
    let variables = [
        ("GENKAN__UPSTREAMS__RABBIT", URL),
        ("GENKAN__UPSTREAMS", URL),
        ("GENKAN__HUB__TOKENS", "hunter2"),
        ("GENKAN__HUB__TOKENS__A__B__C", "hunter2"),
        ("GENKAN__UPSTREAMS__X__SERVERS", "nats://u:hunter2,x@h:1"),
        ("GENKAN__ROUTES__0", "hunter2"),
        ("GENKAN__UPSTREAMS__X__TLS", "hunter2"),
        ("GENKAN__UPSTREAMS__X__MAX_IN_FLIGHT", "hunter2"),
        ("GENKAN__UPSTREAMS__X__PROTOCOL", "hunter2"),
        ("GENKAN__UPSTREAMS__X__DIALECT", "hunter2"),
    ];
    let nats = "[upstreams.x]\nprotocol = \"nats\"\n";
    let all = files.iter().map(|text| (*text, None));
    for (text, variable) in all.chain(variables.map(|variable| (nats, Some(variable)))) {
        let said = said(text, variable.as_slice()).join("\n");
        assert!(!said.is_empty(), "{text} {variable:?}");
        assert!(!said.contains("hunter2"), "{text} {variable:?}\n{said}");
    }
    let named = said("[upstreams]\nrabbit = \"amqp://u:hunter2@h\"", &[]);
    assert_eq!(
        named,
        ["genkan.toml:2: [upstreams.rabbit] must be a table, not a string: write \
                        `[upstreams.rabbit]`, and `key = …` below it"]
    );
    let variable = said("", &[("GENKAN__UPSTREAMS__RABBIT", URL)]).join("");
    assert!(variable.contains("as GENKAN__UPSTREAMS__RABBIT__KEY=…"), "{variable}");
    let harmless = said("[http]\nlisten = \"nowhere\"", &[]).join("");
    assert!(harmless.contains("\"nowhere\""), "{harmless}");
}
