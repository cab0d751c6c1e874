//! The clients of the command line, run as a user runs them, against a server that answers with
//! literal bytes: what reaches the wire, what is printed, and the exit status.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::harness::process::{Folder, free_port};

/// A server that answers each request with the next of its answers, byte by byte.
struct Server {
    port: u16,
    requests: Receiver<(String, String)>,
}

impl Server {
    fn start<const N: usize>(answers: [String; N]) -> Self {
        Self::start_with(|_| answers)
    }

    /// Starts one whose answers depend on its port.
    fn start_with<const N: usize>(answers: impl FnOnce(u16) -> [String; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let answers = answers(port);
        let (seen, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().expect("a client");
                drop(seen.send(read_request(&stream)));
                (&stream).write_all(answer.as_bytes()).expect("written");
            }
        });
        Self { port, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The head, in lower case, and the body of the next request.
    fn request(&self) -> (String, String) {
        self.requests.recv_timeout(Duration::from_secs(10)).expect("a request")
    }
}

fn read_request(stream: impl Read) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    (head, String::from_utf8(body).expect("UTF-8"))
}

fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn ok(body: &str) -> String {
    http("200 OK\r\nContent-Type: application/json", body)
}

fn result(json: &str) -> String {
    ok(&format!("{{\"jsonrpc\":\"2.0\",\"result\":{json},\"id\":1}}"))
}

struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

fn genkan(args: &[&str], input: &str, environment: &[(&str, &str)]) -> Run {
    let mut child = crate::harness::gateway::genkan()
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("genkan runs");
    // A command that reads no standard input may be gone already.
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("genkan ends");
    Run {
        status: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs `genkan call -g SERVER ARGS`, and gives the body that the server saw beside the run.
fn call(answer: String, args: &[&str], input: &str) -> (Run, String) {
    let server = Server::start([answer]);
    let url = server.url("");
    let args: Vec<_> = ["call", "-g", &url].into_iter().chain(args.iter().copied()).collect();
    let run = genkan(&args, input, &[]);
    (run, server.request().1)
}

#[test]
fn params_reach_the_wire_as_they_were_typed() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "", ""),
        (&["size=L", "count:=2"], "", r#","params":{"size":"L","count":2}"#),
        (&["id:=9007199254740993", "x:=1.10"], "", r#","params":{"id":9007199254740993,"x":1.10}"#),
        (&["b:=1e400", "a:=-0"], "", r#","params":{"b":1e400,"a":-0}"#),
        (
            &["1180591620717411303424", r#""\ud800""#],
            "",
            r#","params":[1180591620717411303424,"\ud800"]"#,
        ),
        (&["-1", "-1.5e3"], "", r#","params":[-1,-1.5e3]"#),
        (&[r#"o:={"k":1,"k":2}"#], "", r#","params":{"o":{"k":1,"k":2}}"#),
        (&["-"], " {\"b\": 1.10,\n\"a\": []} ", ",\"params\":{\"b\": 1.10,\n\"a\": []}"),
        (&["-"], "[1,\"\\u00e9\"]", r#","params":[1,"\u00e9"]"#),
    ];
    for (params, input, expected) in cases {
        let args: Vec<_> = ["orders", "create"].iter().chain(*params).copied().collect();
        let (run, body) = call(result("null"), &args, input);
        assert_eq!(run.status, 0, "{params:?}: {}", run.stderr);
        let request = r#"{"jsonrpc":"2.0","method":"orders.create""#;
        assert_eq!(body, format!("{request}{expected},\"id\":1}}"));
    }
}

#[test]
fn the_head_of_a_request() {
    let server = Server::start([result("1"), result("1")]);
    let url = server.url("/api").replace("http://", "http://bob:secret@");
    let run = genkan(
        &["call", "a", "b", "--timeout", "1.5s", "-H", "X-One: 1", "-H", "X-One: 2", "-v"],
        "",
        &[("GENKAN_GATEWAY", &url)],
    );
    assert_eq!(run.status, 0, "{}", run.stderr);
    let (head, _) = server.request();
    let lines = [
        "post /api http/1.1\r\n",
        "content-type: application/json\r\n",
        &format!("user-agent: genkan/{}\r\n", env!("CARGO_PKG_VERSION")),
        "x-request-timeout: 1.5s\r\n",
        "x-one: 1\r\n",
        "x-one: 2\r\n",
        "authorization: basic ",
    ];
    for line in lines {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    assert!(run.stderr.contains("> POST /api HTTP/1.1"), "{}", run.stderr);
    assert!(run.stderr.contains("> authorization: ***"), "{}", run.stderr);
    assert!(run.stderr.contains("< HTTP/1.1 200 OK"), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);

    genkan(&["call", "-g", &server.url("/api/"), "a", "b"], "", &[]);
    let (head, _) = server.request();
    assert!(head.starts_with("post /api http/1.1") && !head.contains("x-request-timeout"));
}

#[test]
fn a_result_is_printed_as_it_came() {
    let cases = [
        (r#"{"b":1.10,"a":9007199254740993,"a":-0}"#, r#"{"b":1.10,"a":9007199254740993,"a":-0}"#),
        (r#"{"a": [1e400, "\ud800"]}"#, r#"{"a": [1e400, "\ud800"]}"#),
        ("{\n  \"a\": \"x y\"\n}", r#"{"a":"x y"}"#),
        ("null", "null"),
    ];
    for (raw, line) in cases {
        let (run, _) = call(result(raw), &["a", "b"], "");
        assert_eq!((run.status, run.stdout.as_str()), (0, format!("{line}\n").as_str()));
        assert!(run.stderr.starts_with("call ") && run.stderr.ends_with(" ms\n"), "{}", run.stderr);
    }
    let timed = "200 OK\r\nServer-Timing: gateway;dur=0.1, service;dur=3.2";
    let (run, _) = call(http(timed, r#"{"result":1,"error":null}"#), &["a", "b"], "");
    assert!(run.stderr.ends_with("(gateway 0.1 ms, service 3.2 ms)\n"), "{}", run.stderr);
    let (run, _) = call(result("1"), &["a", "b", "--quiet"], "");
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("1\n", ""));
}

#[test]
fn a_fault_is_printed_as_json_and_ends_with_1() {
    let error = r#"{"code":-32000,"message":"bad 1","data":{"kind":"application","args":[1.10]}}"#;
    for body in [
        format!(r#"{{"jsonrpc":"2.0","error":{error},"id":1}}"#),
        format!(r#"{{"jsonrpc": "2.0", "result": null, "error": {error}, "id": 1}}"#),
    ] {
        let (run, _) = call(ok(&body), &["a", "b", "--json"], "");
        assert_eq!((run.status, run.stdout), (1, format!("{error}\n")));
    }
    let body = format!(r#"{{"jsonrpc":"2.0","error":{error},"id":1}}"#);
    let (run, _) = call(http("503 Service Unavailable", &body), &["a", "b"], "");
    assert_eq!((run.status, run.stdout), (1, format!("{error}\n")), "whatever the status is");
}

#[test]
fn what_is_not_json_rpc_ends_with_1() {
    let cases = [
        (http("404 Not Found\r\nContent-Type: text/html", "<h1>Not\nFound</h1>"), "HTTP 404"),
        (http("404 Not Found\r\nContent-Type: text/html", "<h1>Not\nFound</h1>"), "<h1>Not Found"),
        (http("301 Moved Permanently\r\nLocation: https://h/api", ""), "points to https://h/api"),
        (ok("[]"), "not a JSON object"),
        (ok("{\"result\":1"), "not JSON"),
        (ok("{}"), "neither a result nor an error"),
        (ok(""), "empty"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "does not speak HTTP"),
    ];
    for (answer, part) in cases {
        let (run, _) = call(answer, &["a", "b"], "");
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        assert!(run.stderr.contains("genkan: ") && run.stderr.contains(part), "{}", run.stderr);
    }
}

#[test]
fn wrong_usage_ends_with_2_and_sends_nothing() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: genkan"),
        (&["cal"], "unrecognized subcommand"),
        (&["call", "a"], "<METHOD>"),
        (&["call", "a.b"], "did you mean `a b`"),
        (&["notify", "a.b"], "did you mean `a b`"),
        (&["call", "a.b", "id:=1"], "did you mean `a b`"),
        (&["call", "a.*", "b"], "--registry URL"),
        (&["call", "a", "b", "bob"], r#"did you mean name=bob, or "\"bob\"""#),
        (&["call", "a", "b", "x=1", "2"], "cannot be mixed"),
        (&["call", "a", "b", "x:=1,"], "is not JSON"),
        (&["call", "a", "b", "-"], "standard input is empty"),
        (&["call", "a", "b", "--timeout", "5"], "a duration such as"),
        (&["call", "a", "b", "--header", "x"], "'Name: value'"),
        (&["call", "-g", "ftp://u:secret@h", "a", "b"], "must start with http://"),
        (&["call", "-g", "h", "-r", "h", "a", "b"], "cannot be used with"),
        (&["call-raw", "http://h", "m=1"], "is no METHOD"),
        (&["completions", "cobol"], "possible values"),
    ];
    for (args, part) in cases {
        let run = genkan(args, "", &[]);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    }
    let run = genkan(&["call", "a", "b"], "", &[("GENKAN_GATEWAY", "ftp://h")]);
    assert!(run.status == 2 && run.stderr.contains("GENKAN_GATEWAY"), "{}", run.stderr);
}

#[test]
fn no_connection_and_no_answer_end_with_3() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let url = format!("http://bob:secret@127.0.0.1:{closed}/api?key=secret");
    let run = genkan(&["call", "-g", &url, "a", "b"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""));
    assert!(run.stderr.contains(&format!("http://127.0.0.1:{closed}/api: connection refused")));
    assert!(run.stderr.contains("is `genkan serve` running there?"), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);

    let run = genkan(&["call-raw", "http://nohost.invalid/", "m"], "", &[]);
    assert_eq!(run.status, 3, "{}", run.stderr);
    assert!(run.stderr.contains("nohost.invalid"), "{}", run.stderr);

    // A listener that nobody accepts from takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let run = genkan(&["call", "-g", &url, "a", "b", "--timeout", "100ms"], "", &[]);
    assert_eq!(run.status, 3);
    assert!(run.stderr.contains("no answer from") && run.stderr.contains("within 100ms"));

    let (run, _) =
        call("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_owned(), &["a", "b"], "");
    assert_eq!(run.status, 3, "{}", run.stderr);
    assert!(run.stderr.contains("ended before the answer"), "{}", run.stderr);

    // Plain HTTP answers a TLS handshake with something that is not TLS.
    let server = Server::start([]);
    let run = genkan(&["call-raw", &server.url("/").replace("http", "https"), "m"], "", &[]);
    assert_eq!(run.status, 3, "{}", run.stderr);
}

#[test]
fn call_raw_speaks_to_a_service_itself() {
    let gemstone = r#"{"jsonrpc": "2.0", "result": "hello bob", "error": null, "id": 1}"#;
    let server = Server::start([ok(gemstone), ok(gemstone)]);
    let run = genkan(&["call-raw", &server.url(""), "say_hello", "\"bob\""], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "\"hello bob\"\n"), "{}", run.stderr);
    let (head, body) = server.request();
    assert!(head.starts_with("post /api http/1.1"), "{head}");
    assert_eq!(body, r#"{"jsonrpc":"2.0","method":"say_hello","params":["bob"],"id":1}"#);
    genkan(&["call-raw", &server.url("/rpc?v=1"), "a.b.c"], "", &[]);
    let (head, body) = server.request();
    assert!(head.starts_with("post /rpc?v=1 http/1.1"), "{head}");
    assert_eq!(body, r#"{"jsonrpc":"2.0","method":"a.b.c","id":1}"#);
}

#[test]
fn call_raw_takes_what_python_writes_for_numbers() {
    let server = Server::start([ok(r#"{"jsonrpc": "2.0", "result": [NaN, 1], "id": 1}"#)]);
    let run = genkan(&["call-raw", &server.url(""), "f"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "[null, 1]\n"), "{}", run.stderr);
}

#[test]
fn call_raw_speaks_over_a_unix_socket() {
    let folder = Folder::new();
    let path = folder.path().join("x.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let (head, _) = read_request(&stream);
        (&stream).write_all(ok(r#"{"result":7,"id":1}"#).as_bytes()).expect("written");
        head
    });
    let url = format!("unix://{}:/rpc", path.display());
    let run = genkan(&["call-raw", &url, "f"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "7\n"), "{}", run.stderr);
    let head = served.join().expect("it was asked");
    assert!(head.starts_with("post /rpc http/1.1"), "{head}");
}

/// NATS greets whoever connects.
#[test]
fn a_port_where_somebody_speaks_first_does_not_speak_http() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let gateway = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        (&stream).write_all(b"INFO {\"server_id\":\"x\"}\r\n").expect("written");
        drop((&stream).read(&mut [0; 4096]));
    });
    let run = genkan(&["call", "-g", &gateway, "a", "b"], "", &[]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("does not speak HTTP: is the port right?"), "{}", run.stderr);
}

#[test]
fn a_registry_finds_the_service_by_a_glob() {
    let server = Server::start_with(|port| {
        let url = format!("http://127.0.0.1:{port}/x");
        let found = format!(r#"{{"jsonrpc": "2.0", "result": ["{url}"], "error": null, "id": 1}}"#);
        [ok(&found), result("\"done\"")]
    });
    let run = genkan(&["call", "--registry", &server.url(""), "rep*", "daily", "day:=1"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "\"done\"\n"), "{}", run.stderr);
    assert!(run.stderr.starts_with("look-up ") && run.stderr.contains(" ms · call "));
    let (head, body) = server.request();
    assert!(head.starts_with("post /api http/1.1"), "{head}");
    let look_up = r#"{"jsonrpc":"2.0","method":"locate_service","params":{"name":"rep*"},"id":1}"#;
    assert_eq!(body, look_up);
    let (head, body) = server.request();
    assert!(head.starts_with("post /x http/1.1"), "{head}");
    assert_eq!(body, r#"{"jsonrpc":"2.0","method":"daily","params":{"day":1},"id":1}"#);

    for none in ["[]", "null"] {
        let server = Server::start([result(none)]);
        let run = genkan(&["call", "-r", &server.url("/api"), "zzz.*", "m"], "", &[]);
        assert_eq!((run.status, run.stdout.as_str()), (1, ""));
        assert!(run.stderr.contains("knows no service that matches `zzz.*`"), "{}", run.stderr);
    }
}

/// A registry that names these URLs.
fn registry(urls: &[String]) -> Server {
    Server::start([result(&Value::from(urls).to_string())])
}

#[test]
fn of_the_services_that_a_registry_names_the_first_that_is_there_is_called() {
    let gone = || format!("http://127.0.0.1:{}/gone", free_port());
    for arguments in [&["call", "-r"], &["notify", "-r"]] {
        let service = Server::start([result("\"done\"")]);
        let mut urls: Vec<String> = (0..7).map(|_| gone()).collect();
        urls.push(service.url("/x"));
        let registry = registry(&urls);
        let run =
            genkan(&[arguments, &[&*registry.url(""), "rep*", "daily"][..]].concat(), "", &[]);
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stderr.contains("/x"), "{}", run.stderr);
    }
    let urls = [gone(), gone()];
    let run = genkan(&["call", "-r", &registry(&urls).url(""), "rep*", "daily"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""), "{}", run.stderr);
    for words in ["any of 2 services", &urls[0], &urls[1], "connection refused", "still running"] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    let run = genkan(&["call", "-r", &registry(&urls[..1]).url(""), "rep*", "daily"], "", &[]);
    assert!(run.status == 3 && run.stderr.contains(&urls[0]), "{}", run.stderr);
    // What one may have carried out goes to no other.
    let server = Server::start_with(|port| {
        let url = format!("http://127.0.0.1:{port}/x");
        let found = Value::from(&[url.clone(), url][..]).to_string();
        [result(&found), String::new(), result("\"done\"")]
    });
    let run = genkan(&["call", "-r", &server.url(""), "rep*", "daily"], "", &[]);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""), "{}", run.stderr);
    assert!(run.stderr.contains("may have been carried out"), "{}", run.stderr);
}

#[test]
fn a_notification_is_accepted_or_refused() {
    for answer in [
        ok(""),
        http("204 No Content", "").replace("Content-Length: 0\r\n", ""),
        ok(r#"{"jsonrpc": "2.0", "result": null, "error": null}"#),
    ] {
        let server = Server::start([answer]);
        let run = genkan(&["notify", "-g", &server.url(""), "mailer", "send", "to=bob"], "", &[]);
        assert_eq!((run.status, run.stdout.as_str()), (0, ""), "{}", run.stderr);
        assert!(run.stderr.starts_with("sent "), "{}", run.stderr);
        let body = r#"{"jsonrpc":"2.0","method":"mailer.send","params":{"to":"bob"}}"#;
        assert_eq!(server.request().1, body);
    }
    let error = r#"{"code":-32600,"message":"no"}"#;
    let refusals = [
        (ok(&format!(r#"{{"jsonrpc":"2.0","error":{error},"id":null}}"#)), format!("{error}\n")),
        (http("404 Not Found", "nothing here"), String::new()),
    ];
    for (answer, stdout) in refusals {
        let server = Server::start([answer]);
        let run = genkan(&["notify", "-g", &server.url(""), "mailer", "send"], "", &[]);
        assert_eq!((run.status, run.stdout), (1, stdout), "{}", run.stderr);
    }
}

#[test]
fn help_version_and_completions_end_with_0() {
    let run = genkan(&["--version"], "", &[]);
    assert_eq!(run.stdout, format!("genkan {}\n", env!("CARGO_PKG_VERSION")));
    let commands = [
        "serve",
        "check",
        "routes",
        "explain",
        "call",
        "call-raw",
        "notify",
        "modules",
        "completions",
    ];
    let first = genkan(&["--help"], "", &[]).stdout;
    for command in commands {
        assert!(first.contains(&format!("\n  {command} ")), "{first}");
        let run = genkan(&[command, "--help"], "", &[]);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        assert!(run.stdout.contains("Usage:") && run.stdout.contains("Examples:"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let run = genkan(&["completions", shell], "", &[]);
        assert!(run.status == 0 && run.stdout.contains("call-raw"), "{shell}");
    }
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let (run, _) = call(result("[1]"), &["a", "b"], "");
    assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'));
    let (run, _) = call(result("[1]"), &["a", "b", "--color", "always"], "");
    assert!(run.stdout.contains("\x1b[36m1\x1b[0m") && run.stderr.contains('\x1b'));
    assert_eq!(run.stdout.lines().count(), 1, "colour does not change the form");
    let run = genkan(&["call", "--color=always"], "", &[]);
    assert!(run.stderr.starts_with("\x1b[31;1mgenkan:\x1b[0m "), "{:?}", run.stderr);
}
