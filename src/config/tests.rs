//! What is made of a file and of the environment over it, and what is said about both.

use std::path::Path;

use super::*;
use crate::protocol::jsonrpc::HttpConfig;
use crate::protocol::readers;

/// Every problem of a text, with variables over it, as it is printed.
fn said(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let problems = parse("genkan.toml", text, named(variables), &readers()).problems;
    problems.iter().map(ToString::to_string).collect()
}

fn named(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

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

const NATS: &str = "[upstreams.Bus]\nprotocol = \"nats\"\n[[routes]]\nmatch = \"a.*\"\n\
                    upstream = \"Bus\"\n[[routes]]\nmatch = \"b.*\"\nupstream = \"Bus\"\n";

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

/// A file that is deleted in the end.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("genkan-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("the temporary folder can be written to");
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn a_fingerprint_is_of_the_keys_and_of_the_files_that_they_name() {
    let file = TempFile::new("token", "one");
    let fingerprint = |keys: &str| {
        let text = format!("token_file = \"{}\"\n{keys}", file.0.display());
        read_with(&text, &[], |root| {
            root.ignore_rest();
            root.fingerprint(&["max_in_flight"])
        })
        .0
    };
    let first = fingerprint("max_in_flight = 1");
    assert_eq!(fingerprint("max_in_flight = 2"), first);
    assert_eq!(fingerprint(""), first);
    assert_ne!(fingerprint("tls = true"), first);
    std::fs::write(&file.0, "two").expect("it can be written to");
    assert_ne!(fingerprint(""), first, "rotated");
    std::fs::write(&file.0, "one").expect("it can be written to");
    assert_eq!(fingerprint(""), first, "and back");
}

#[test]
fn a_file_that_holds_no_secret_is_told() {
    for (text, words) in [("", "is empty"), ("\r\n\n", "is empty")] {
        let file = TempFile::new("empty", text);
        let text = format!("secret_file = \"{}\"", file.0.display());
        let (secret, problems) = read_with(&text, &[], |root| root.secret("secret", "secret_file"));
        assert!(secret.is_none() && problems.len() == 1, "{problems:?}");
        assert!(problems[0].message.contains(words), "{problems:?}");
    }
    let (_, problems) =
        read_with("secret_file = \"/dev/zero\"", &[], |root| root.secret("secret", "secret_file"));
    assert!(problems[0].message.contains("it is no regular file"), "{problems:?}");
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
fn what_is_no_configuration_is_told_with_its_mend() {
    let folder = std::env::temp_dir().join(format!("genkan-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("genkan.toml");
    let loaded = |path: &Path| {
        let problems = load(&Origin::File(path.to_owned()), &readers()).problems;
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
    };
    std::fs::write(&path, "\u{feff}workers = 1\r\n[hub]\r\nlisten = []\r\n").expect("written");
    assert_eq!(loaded(&path), [] as [&str; 0], "a mark of the encoding, and Windows' line ends");
    let too_large = "#".repeat(LARGEST + 1);
    for (content, expected) in [
        (&b"workers = 1\n\0\0\0"[..], "it holds a NUL byte"),
        (b"\xff\xfew\0", "not UTF-8: save the file in that encoding"),
        (too_large.as_bytes(), "it is larger than 16MiB"),
    ] {
        std::fs::write(&path, content).expect("written");
        let problems = loaded(&path);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?}");
    }
    assert_eq!(loaded(&folder), ["cannot be read: it is a folder: name a file in it"]);
    // It has no end.
    assert!(loaded(Path::new("/dev/zero"))[0].contains("it is larger than"));
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_a_secrets_file_may_hold() {
    let folder = std::env::temp_dir().join(format!("genkan-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("token");
    let read = |content: &str| {
        std::fs::write(&path, content).expect("written");
        secret::read_secret(&path).map(|secret| secret.expose().to_owned())
    };
    assert_eq!(read("\u{feff}a token\r\n"), Ok("a token".to_owned()));
    assert!(read("\0\0").is_err_and(|complaint| complaint.contains("NUL byte")));
    assert!(read("\n").is_err_and(|complaint| complaint.contains("is empty")));
    let folder_itself = secret::read_secret(&folder);
    assert!(folder_itself.is_err_and(|complaint| complaint.contains("no regular file")));
    std::fs::remove_dir_all(&folder).expect("removed");
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

/// Two upstreams on one broker, one on another, and a route.
const EXPOSES: &str = "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://h/v\"\n\
                       [upstreams.again]\nprotocol = \"nameko\"\nurl = \"amqp://u:p@h/v\"\n\
                       [upstreams.other]\nprotocol = \"nameko\"\nurl = \"amqp://h/w\"\n";

fn said_of_exposes(rows: &str, routes: &str) -> Vec<String> {
    // Every upstream is used, so that nothing else is said.
    let used = "[[routes]]\nmatch = \"x.*\"\nupstream = \"rabbit\"\n[[routes]]\nmatch = \"y.*\"\n\
                upstream = \"again\"\n[[routes]]\nmatch = \"z.*\"\nupstream = \"other\"\n";
    said(&format!("{EXPOSES}{routes}{used}{rows}"), &[])
}

#[test]
fn an_expose_has_a_service_a_place_and_a_name_of_its_own() {
    let cases = [
        ("[[expose]]\non = [\"rabbit\"]", "needs `service`"),
        ("[[expose]]\nservice = \"mailer\"", "needs `on`"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabit\"]", "did you mean `rabbit`?"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"hub\"]", "leave `hub` out"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\ndialect = \"micro\"",
            "leave it out",
        ),
        ("[[expose]]\nservice = \"mailer\"\non = []", "exposes it nowhere"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nmethods = []",
            "leave it out to expose all",
        ),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nas = \"\"",
            "is empty: leave it out",
        ),
        ("[[expose]]\nservice = \"mail er\"\non = [\"rabbit\"]", "holds ' '"),
        ("[[expose]]\nservice = \"mailer\"\nas = \"m*\"\non = [\"rabbit\"]", "holds '*'"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nmethods = [\"a.b\"]", "has a dot"),
        ("[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\nprefetch = 0", "from 1 to 10000"),
        (
            "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\"]\n[[expose]]\nservice = \"post\"\n\
             as = \"mailer\"\non = [\"other\", \"rabbit\"]",
            "as another row does with the service `mailer`",
        ),
    ];
    for (rows, words) in cases {
        let said = said_of_exposes(rows, "");
        let [one] = said.as_slice() else { panic!("{rows}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
    let fine = "[[expose]]\nservice = \"mailer\"\non = [\"rabbit\", \"other\"]\nmethods = [\"send\"]\n\
                prefetch = 3\n[[expose]]\nservice = \"post\"\non = [\"rabbit\"]\n";
    assert_eq!(said_of_exposes(fine, ""), [] as [&str; 0]);
}

#[test]
fn a_service_is_not_exposed_where_its_calls_go() {
    let expose = |keys: &str| format!("[[expose]]\nservice = \"mailer\"\n{keys}\n");
    let route = |keys: &str| format!("[[routes]]\nmatch = \"mailer.*\"\n{keys}\n");
    let loops = [
        (expose("on = [\"rabbit\"]"), route("upstream = \"rabbit\"")),
        // The same broker under another name.
        (expose("on = [\"again\"]"), route("upstream = \"rabbit\"")),
        (
            expose("on = [\"rabbit\"]\nas = \"post\""),
            route("upstream = \"rabbit\"\nservice = \"post\""),
        ),
        (
            expose("on = [\"rabbit\"]\nmethods = [\"send\", \"list\"]"),
            "[[routes]]\nmatch = \"*.list\"\nupstream = \"rabbit\"\n".to_owned(),
        ),
    ];
    for (rows, routes) in loops {
        let said = said_of_exposes(&rows, &routes);
        let [one] = said.as_slice() else { panic!("{rows}{routes}: {said:?}") };
        assert!(one.contains("go round in a circle"), "{one}");
    }
    let none = [
        (expose("on = [\"rabbit\"]\nas = \"post\""), route("upstream = \"rabbit\"")),
        (expose("on = [\"rabbit\"]"), route("upstream = \"rabbit\"\nservice = \"post\"")),
        (expose("on = [\"rabbit\"]"), route("upstream = \"other\"")),
        (
            expose("on = [\"rabbit\"]\nmethods = [\"send\"]"),
            "[[routes]]\nmatch = \"*.list\"\nupstream = \"rabbit\"\n".to_owned(),
        ),
    ];
    for (rows, routes) in none {
        assert_eq!(said_of_exposes(&rows, &routes), [] as [&str; 0], "{rows}{routes}");
    }
}

/// A NATS, on which a service is exposed, and where else its calls may go.
fn said_of_nats(row: &str, route: &str) -> Vec<String> {
    let upstreams = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n\
                     [upstreams.other]\nprotocol = \"nats\"\nservers = [\"nats://i\"]\n\
                     [[routes]]\nmatch = \"x.*\"\nupstream = \"bus\"\n\
                     [[routes]]\nmatch = \"y.*\"\nupstream = \"other\"\n";
    let route = format!("[[routes]]\nmatch = \"mailer.*\"\n{route}\n");
    said(
        &format!("{upstreams}{route}[[expose]]\nservice = \"mailer\"\non = [\"bus\"]\n{row}\n"),
        &[],
    )
}

#[test]
fn what_of_an_expose_cannot_be_on_nats() {
    let away = "upstream = \"other\"";
    for (row, words) in [
        (
            "dialect = \"mikro\"",
            "is no dialect on NATS: write one of `picom`, `plain`, `micro`, `nest`",
        ),
        ("dialect = \"micro\"", "list them, as in `methods = ["),
        ("dialect = \"micro\"\nmethods = [\"send mail\"]", "can be no method of a service"),
        (
            "dialect = \"micro\"\nmethods = [\"send\"]\nas = \"eu.mailer\"",
            "no micro service's name",
        ),
        ("as = \"mail er\"", "a blank or a control character: give it another one with `as`"),
        ("as = \"mailer.>\"", "holds a wildcard"),
    ] {
        let said = said_of_nats(row, away);
        let [one] = said.as_slice() else { panic!("{row}: {said:?}") };
        assert!(one.contains(words), "{one}");
    }
    for row in
        ["", "as = \"eu.mailer\"\ndialect = \"plain\"", "dialect = \"micro\"\nmethods = [\"send\"]"]
    {
        assert_eq!(said_of_nats(row, away), [] as [&str; 0], "{row}");
    }
    for (row, route) in [
        ("", "upstream = \"bus\""),
        ("as = \"post\"", "upstream = \"bus\"\nservice = \"post\""),
        ("", "upstream = \"bus\"\nsubject = \"mailer.all\""),
    ] {
        let said = said_of_nats(row, route);
        assert!(said.len() == 1 && said[0].contains("go round in a circle"), "{said:?}");
    }
    let elsewhere = "upstream = \"bus\"\nsubject = \"post.all\"";
    assert_eq!(said_of_nats("", elsewhere), [] as [&str; 0], "what is subscribed to is elsewhere");
}

#[test]
fn a_stream_is_no_target_twice() {
    let upstreams = "[upstreams.bus]\nprotocol = \"nats\"\nservers = [\"nats://h\"]\n\
                     [upstreams.other]\nprotocol = \"nats\"\nservers = [\"nats://i\"]\n\
                     [[routes]]\nmatch = \"x.*\"\nupstream = \"bus\"\n\
                     [[routes]]\nmatch = \"y.*\"\nupstream = \"other\"\n";
    let of = |rows: &[(&str, &str)]| {
        let row =
            |(from, to): &(&str, &str)| format!("[[bridges]]\nfrom = \"{from}\"\nto = [{to}]\n");
        said(&format!("{upstreams}{}", rows.iter().map(row).collect::<String>()), &[])
    };
    for twice in [
        &[("bus:in", r#""bus:stream/S/a", "bus:stream/S/b""#)][..],
        &[("bus:in", r#""bus:stream/S/a""#), ("bus:in", r#""bus:stream/S/b""#)],
    ] {
        let said = of(twice);
        let [one] = said.as_slice() else { panic!("{twice:?}: {said:?}") };
        assert!(one.contains("`S` keeps each event once, and would drop the other"), "{one}");
    }
    for once in [
        &[(
            "bus:in",
            r#""bus:stream/S/a", "bus:stream/T/a", "other:stream/S/a", "bus:out", "bus:o2""#,
        )][..],
        &[("bus:in", r#""bus:stream/S/a""#), ("bus:in.too", r#""bus:stream/S/a""#)],
    ] {
        assert_eq!(of(once), [] as [&str; 0], "{once:?}");
    }
}

/// `config/genkan.toml`, whose keys tests/it/pages.rs looks for on the page.
#[test]
fn the_file_with_every_key_has_every_key_that_the_code_reads() {
    let text = include_str!("../../config/genkan.toml");
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
