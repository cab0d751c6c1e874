//! `genkan check`, and what `serve` makes of a configuration: every problem at once, each with its
//! file, its line and the mend; the environment over it; secrets nowhere.

use serde_json::Value;

use crate::harness::certs::Certs;
use crate::harness::gateway::{GENKAN, genkan};
use crate::harness::process::{Folder, run};
use crate::harness::{Gateway, Nats, NatsResponder};

/// A file with one mistake of every kind, and what is to be said about each: line and words.
const MISTAKES: &str = r#"timout = "5s"
[http]
listen = "nowhere"
max_body = "lots"
max_batch = "many"
read_timeout = 5
compression = "gzip"
lissten = "127.0.0.1:1"
[http.cors]
origins = ["app.example/page"]
[upstreams.rabbit]
protocol = "nameko"
url = "http://127.0.0.1/"
exchnage = "x"
[upstreams.bus]
protocol = "natz"
[upstreams.nats]
protocol = "nats"
servers = ["127.0.0.1:4222"]
dialect = "picon"
max_in_flight = 0
[upstreams.empty]
protocol = "nats"
[[routes]]
match = "a.*"
upstream = "rabit"
[[routes]]
match = "b.*"
upsteam = "rabbit"
timeout = "5"
[[routes]]
upstream = "nats"
[[routes]]
match = "*"
upstream = "nats"
[[routes]]
match = "c.*"
upstream = "nats"
[[routes]]
match = "d"
upstream = "nats"
method = "a.b"
[bridgs]
"#;

const SAID: [(usize, &[&str]); 22] = [
    (1, &["timout", "did you mean `timeout`?"]),
    (3, &["listen", "127.0.0.1:8080", "nowhere"]),
    (4, &["max_body", "64KiB"]),
    (5, &["max_batch", "whole number"]),
    (6, &["read_timeout", "250ms"]),
    (7, &["compression", "true"]),
    (8, &["lissten", "[http]", "line 8"]),
    (10, &["app.example/page", "https://app.example"]),
    (13, &["url", "amqp://"]),
    (14, &["exchnage", "did you mean `exchange`?"]),
    (16, &["protocol", "did you mean `nats`?"]),
    (19, &["nats://"]),
    (20, &["dialect", "did you mean `picom`?"]),
    (21, &["max_in_flight", "from 1"]),
    (22, &["servers"]),
    (26, &["rabit", "[[routes]] #1", "did you mean `rabbit`?"]),
    (29, &["unknown key `upsteam` in [[routes]] #2, line 29: did you mean `upstream`?"]),
    (30, &["timeout", "5s"]),
    (31, &["match"]),
    (37, &["never match", "#4", "*"]),
    (40, &["match", "d.*"]),
    (43, &["bridgs"]),
];

fn check(text: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = Folder::new();
    folder.write("genkan.toml", text);
    let mut command = genkan();
    command.arg("check").args(arguments).current_dir(folder.path());
    run(&mut command)
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_the_mend() {
    let (status, out, err) = check(MISTAKES, &["--json"]);
    assert_eq!((status, err.as_str()), (1, ""), "a program reads nothing else");
    let (status, piped, err) = check(MISTAKES, &[]);
    assert_eq!((status, &piped), (1, &out), "what goes into a pipe is for programs too");
    let problems: Vec<Value> = serde_json::from_str(&out).expect("a JSON array");
    for (line, words) in SAID {
        let found = problems.iter().any(|problem| {
            let message = problem["message"].as_str().unwrap_or_default();
            problem["line"] == line && words.iter().all(|word| message.contains(word))
        });
        assert!(found, "line {line}: {words:?} in\n{err}");
        assert!(err.contains(&format!("genkan.toml:{line}")), "line {line} in\n{err}");
    }
    assert!(problems.iter().all(|problem| problem["file"] == "genkan.toml"), "{out}");
}

#[test]
fn a_sound_file_has_no_problems() {
    let sound = "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:4222\"]\n\
                 [[routes]]\nmatch = \"mailer.*\"\nupstream = \"nats\"\n";
    let (status, out, err) = check(sound, &[]);
    assert_eq!((status, out.trim()), (0, "[]"), "{err}");
    assert_eq!(check("", &[]).0, 0, "an empty file is the default");
    let warned = format!("{sound}[[routes]]\nmatch = \"mailer.send\"\nupstream = \"nats\"\n");
    let (status, out, _) = check(&warned, &["--json"]);
    assert_eq!(status, 0, "a warning is no error");
    assert!(out.contains("can never match") && out.contains("warning"), "{out}");
}

#[test]
fn credentials_for_every_origin_are_refused_with_the_mend() {
    for origins in ["[\"*\"]", "[\"https://app.example\", \"*\"]"] {
        let cors = format!("[http.cors]\norigins = {origins}\ncredentials = true\n");
        let (status, out, err) = check(&cors, &["--json"]);
        assert_eq!(status, 1, "{err}");
        let problems: Vec<Value> = serde_json::from_str(&out).expect("a JSON array");
        let [problem] = problems.as_slice() else { panic!("one problem: {out}") };
        assert_eq!(problem["line"], 3);
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains("name the origins"), "{message}");
        let folder = Folder::new();
        folder.write("genkan.toml", &cors);
        let (status, _, err) = run(genkan().arg("serve").current_dir(folder.path()));
        assert!(status == 1 && err.contains("name the origins"), "{status}: {err}");
    }
    let named = "[http.cors]\norigins = [\"https://app.example\"]\ncredentials = true\n";
    assert_eq!(check(named, &[]).0, 0);
}

#[test]
fn text_that_is_no_toml_is_told_with_its_line() {
    for (text, line) in [
        ("[http]\nlisten = \"127.0.0.1:0\nmax_body = 1\n", 2),
        ("[http]\n\n]\n", 3),
        ("[http]\nmax_batch = 1\nmax_batch = 2\n", 3),
        ("a = [1,\n", 1),
    ] {
        let (status, out, err) = check(text, &["--json"]);
        assert_eq!(status, 1, "{text}: {err}");
        let problems: Vec<Value> = serde_json::from_str(&out).expect("a JSON array");
        let told = problems.iter().any(|problem| problem["line"].as_u64() >= Some(line));
        assert!(told && !problems.is_empty(), "{text}: {out}");
    }
}

#[test]
fn certificates_that_cannot_serve_are_told() {
    let certs = Certs::new();
    for (cert, key, told) in [
        ("server.pem", "server.key", None),
        ("server.key", "server.pem", Some("server.key holds no certificate in PEM form")),
        ("server.pem", "client.key", Some("client.key does not fit")),
        ("nowhere.pem", "server.key", Some("nowhere.pem cannot be read")),
    ] {
        let (cert, key) = (certs.path(cert), certs.path(key));
        let text = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n");
        let (status, out, err) = check(&text, &["--json"]);
        assert_eq!(status == 0, told.is_none(), "{err}");
        assert!(out.contains(told.unwrap_or("[]")), "{out}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (status, _, err) = check("", &["--config", "no-such.toml"]);
    assert_eq!(status, 1);
    assert!(err.contains("no-such.toml"), "{err}");
}

#[test]
fn serve_refuses_what_check_refuses() {
    let folder = Folder::new();
    folder.write("genkan.toml", MISTAKES);
    let (status, out, err) = run(genkan().arg("serve").current_dir(folder.path()));
    assert_eq!(status, 1);
    assert!(format!("{out}{err}").contains("did you mean `upstream`?"), "{out}{err}");
}

#[test]
fn the_environment_is_over_the_file_and_its_mistakes_are_told_by_its_names() {
    let folder = Folder::new();
    folder.write("genkan.toml", "[http]\nlisten = \"127.0.0.1:0\"\n");
    let check = |variable: &str, value: &str| {
        let mut command = genkan();
        command.args(["check", "--json"]).env(variable, value).current_dir(folder.path());
        run(&mut command)
    };
    let (status, out, _) = check("GENKAN__HTTP__LISTEN", "bogus");
    assert_eq!(status, 1);
    assert!(out.contains("GENKAN__HTTP__LISTEN") && out.contains("bogus"), "{out}");
    assert_eq!(check("GENKAN__HTTP__MAX_BATCH", "7").0, 0);
    assert_eq!(check("GENKAN__HTTP__MAX_BACTH", "7").0, 1, "unknown there too");
}

#[tokio::test]
async fn the_environment_overrides_a_key() {
    let environment = [("GENKAN__HTTP__MAX_BATCH", "1")];
    let gateway = Gateway::start_with("[http]\nmax_batch = 10\n", &environment).await;
    let two =
        r#"[{"jsonrpc":"2.0","method":"a.b","id":1},{"jsonrpc":"2.0","method":"a.b","id":2}]"#;
    let answer = gateway.api(two).await[0].clone();
    assert_eq!(answer["error"]["data"]["kind"], "too_large");
}

/// Every place in which a password can stand, right or wrong.
const SECRETS: &str = r#"[upstreams.one]
protocol = "nameko"
url = "http://guest:hunter2@127.0.0.1/"
[upstreams.two]
protocol = "nameko"
ulr = "amqp://guest:hunter2@127.0.0.1/"
[upstreams.three]
protocol = "nameko"
url = ["amqp://guest:hunter2@127.0.0.1/"]
[upstreams.four]
protocol = "nats"
servers = ["nats://u:hunter2@127.0.0.1:4222", "u:hunter2@h", "nats://u:hunter2@"]
password = "hunter2"
[upstreams.five]
protocol = "nats"
servers = "nats://hunter2@127.0.0.1:4222"
token = "hunter2"
pasword = "hunter2"
tkn = "hunter2"
nkey = "hunter2"
[upstreams.six]
protocol = "natz"
token = "hunter2"
[upstreams.seven]
protocol = "nameko"
url = 'amqp://guest:hunter2@[::1'
url_file = "hunter2.txt"
"#;

#[test]
fn secrets_are_in_no_message() {
    let folder = Folder::new();
    folder.write("genkan.toml", &SECRETS.replace("hunter2.txt", "missing.txt"));
    folder.write("broken.toml", "[upstreams.a]\nprotocol = \"nats\"\ntoken = \"hunter2\n");
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["serve"],
        &["routes"],
        &["explain", "a.b"],
        &["check", "--config", "broken.toml"],
        &["serve", "--config", "broken.toml"],
    ] {
        let mut command = genkan();
        command.args(arguments).current_dir(folder.path());
        command.env("GENKAN__UPSTREAMS__EIGHT__PROTOCOL", "nameko");
        command.env("GENKAN__UPSTREAMS__EIGHT__URL", "http://guest:hunter2@127.0.0.1/");
        let (status, out, err) = run(&mut command);
        assert_eq!(status, 1, "{arguments:?}");
        assert!(!out.contains("hunter2") && !err.contains("hunter2"), "{arguments:?}\n{out}{err}");
    }
}

#[test]
fn routes_and_explain_show_addresses_without_credentials() {
    let folder = Folder::new();
    let sound = "[upstreams.one]\nprotocol = \"nameko\"\nurl = \"amqp://guest:hunter2@127.0.0.1:5672/%2f\"\n\
                 [upstreams.two]\nprotocol = \"nats\"\nservers = [\"nats://u:hunter2@127.0.0.1:4222\"]\n\
                 [[routes]]\nmatch = \"a.*\"\nupstream = \"one\"\n[[routes]]\nmatch = \"b.*\"\nupstream = \"two\"\n";
    folder.write("genkan.toml", sound);
    for arguments in [&["routes"][..], &["explain", "a.x"], &["explain", "b.x"], &["check"]] {
        let (status, out, err) = run(genkan().args(arguments).current_dir(folder.path()));
        assert_eq!(status, 0, "{arguments:?}: {err}");
        assert!(!out.contains("hunter2") && !err.contains("hunter2"), "{out}{err}");
    }
}

#[tokio::test]
async fn secrets_come_from_files_too_and_show_in_no_log() {
    let nats = Nats::configured("authorization { user: till, password: hunter2 }");
    let folder = Folder::new();
    let file = folder.write("password", "hunter2\n");
    let toml = format!(
        "[log]\nlevel = \"trace\"\n[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"{}\"]\n\
         user = \"till\"\npassword_file = \"{}\"\n[[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n",
        nats.url(),
        file.display()
    );
    let gateway = Gateway::ready(&toml).await;
    let options =
        async_nats::ConnectOptions::with_user_and_password("till".into(), "hunter2".into());
    let client = options.connect(nats.url()).await.expect("the server accepts");
    let answer = |_: &crate::harness::Seen| crate::harness::Answer::new(r#"{"payload":1}"#);
    let _service = NatsResponder::serve(client, "echo", answer).await;
    assert_eq!(gateway.result("echo.x", serde_json::json!(["p"])).await, 1);
    nats.stop();
    gateway.wait_until_not_ready().await;
    let fault = gateway.fault("echo.x", serde_json::json!(["p"])).await;
    let metrics = gateway.page("/metrics").await;
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded").await;
    gateway.terminate();
    gateway.exit_status().await;
    for place in [gateway.log_text(), format!("{fault:?}"), metrics.text().to_owned()] {
        assert!(!place.contains("hunter2"), "{place}");
        assert!(!place.contains("aHVudGVyMg"), "nor in base64: {place}");
    }
}

#[tokio::test]
async fn a_secret_that_was_rotated_in_its_file_is_read_at_sighup() {
    let nats = Nats::configured("authorization { token: '0042' }");
    let folder = Folder::new();
    let file = folder.write("token", "0041\n");
    let toml = format!(
        "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"{}\"]\ntoken_file = \"{}\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n",
        nats.url(),
        file.display()
    );
    let gateway = Gateway::start(&toml).await;
    gateway.wait_until_not_ready().await;
    folder.write("token", "0042\n");
    gateway.hang_up();
    gateway.wait_until_ready().await;
}

#[tokio::test]
async fn without_a_file_and_without_a_broker_it_starts_on_the_embedded_default() {
    let folder = Folder::new();
    let mut command = genkan();
    command.arg("serve").current_dir(folder.path());
    // The ports of the default may be taken on the machine that tests.
    command.env("GENKAN__HTTP__LISTEN", "127.0.0.1:0").env("GENKAN__ADMIN__LISTEN", "127.0.0.1:0");
    let gateway = Gateway::spawn(&command, folder).await;
    assert_eq!(gateway.logged("starting")[0]["config"], "the embedded default");
    gateway.wait_until_ready().await;
    let fault = gateway.fault("nobody.there", Value::Null).await;
    fault.is("unknown_service", "not_sent");
    // A file that comes later is found by the next reload.
    gateway.write_config("[[routes]]\nmatch = \"late.*\"\nupstream = \"hub\"\n");
    gateway.hang_up();
    assert_eq!(gateway.wait_for_log(0, "reloaded").await["routes"], 1);
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn a_file_in_the_working_directory_is_found() {
    let folder = Folder::new();
    let listen = "listen = \"127.0.0.1:0\"";
    folder.write("genkan.toml", &format!("[http]\n{listen}\n[admin]\n{listen}\n"));
    let mut command = genkan();
    command.arg("serve").current_dir(folder.path());
    let gateway = Gateway::spawn(&command, folder).await;
    assert_eq!(gateway.logged("starting")[0]["config"], "genkan.toml");
}

#[test]
fn a_fifo_that_nobody_writes_into_holds_no_start_up() {
    let folder = Folder::new();
    let fifo = folder.path().join("genkan.toml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    for subcommand in ["check", "routes", "serve"] {
        let (status, out, err) = run(genkan().arg(subcommand).arg("-c").arg(&fifo));
        assert_ne!(status, 0, "{subcommand}");
        assert!(format!("{out}{err}").contains("a FIFO that nobody writes into"), "{out}{err}");
    }
    // A pipe of the shell's is read, however long its writer takes.
    let slow = "genkan=$0; \"$genkan\" check -c <(sleep 4; echo 'max_memory = \"64MiB\"')";
    let (status, out, err) = run(std::process::Command::new("bash").args(["-c", slow, GENKAN]));
    assert_eq!(status, 0, "{out}{err}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_at_once() {
    let gateway = Gateway::start("").await;
    let folder = Folder::new();
    folder.write("genkan.toml", &format!("[http]\nlisten = \"{}\"\n", gateway.http));
    let (status, out, err) = run(genkan().arg("serve").current_dir(folder.path()));
    assert_ne!(status, 0);
    assert!(format!("{out}{err}").contains(&gateway.http), "{out}{err}");
}

#[test]
fn a_token_of_the_hub_is_shown_with_no_mistake() {
    let tokens = [
        "[hub.tokens]\nbilling = \"s3cr3tTOK\n",
        "[hub.tokens]\nbilling = s3cr3tTOK\n",
        "[hub.tokens]\nbilling: s3cr3tTOK==\n",
        "[hub.tokens]\nbilling = [\"s3cr3tTOK\"]\n",
        "[hub.tokens]\nbilling = [\n  \"s3cr3tTOK\",\n  s3cr3tTOK==\n]\n",
        "[hub.tokens]\nbilling = 1\nbilling = \"s3cr3tTOK\"\n",
        "[ hub . \"tokens\" ]  # theirs\nbilling = [\"s3cr3tTOK\"]\n",
        "[hub.tokens] billing: s3cr3tTOK\n",
        "[hub.tokens billing s3cr3tTOK\n",
        "[billing=1 #s3cr3tTOK\n",
        "[hub]\ntokens.billing = s3cr3tTOK\n",
        "[hub]\ntokens.billing = [\"s3cr3tTOK\"]\n",
        "[hub]\ntokens = { billing = \"s3cr3tTOK }\n",
        "hub.tokens.billing = [\"s3cr3tTOK\"]\n",
        "hub = { tokens = { billing = [\"s3cr3tTOK\"] } }\n",
        "[http]\nlisten \"s3cr3tTOK\" = 5\n",
    ];
    for text in tokens {
        let (status, out, err) = check(text, &["--json"]);
        assert_eq!(status, 1, "{text}");
        assert!(!format!("{out}{err}").contains("s3cr3t"), "{text}{out}{err}");
    }
    let (_, _, err) = check(tokens[0], &[]);
    assert!(err.contains("2 | billing = …"), "the key is shown: {err}");
    let (_, _, err) = check("[http\nmax_batch = 1\n", &[]);
    assert!(err.contains("1 | [http\n"), "a table's head is shown: {err}");
}
