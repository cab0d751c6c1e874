//! `genkan listen` and `genkan explain --event`, as a shell sees them.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::{PATIENCE, shop, trigger};
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, run};
use crate::harness::proxy::Proxy;
use crate::harness::{Gateway, eventually};
use crate::hub::HUB;

const TOPICS: &str = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nkeep = 3\n";

/// `genkan listen`, as long as somebody reads it.
struct Listening {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listening {
    fn start(gateway: &str, arguments: &[&str]) -> Self {
        let mut command = Command::from(genkan());
        command.args(["listen", "--url", gateway]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().expect("genkan starts");
        let stdout = process.stdout.take().expect("piped");
        Self { _process: process, lines: BufReader::new(stdout).lines() }
    }

    /// The next line, as text.
    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("in time").expect("a line")
    }

    /// The same, read.
    async fn next(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }
}

async fn listened(gateway: &Gateway, times: f64) {
    gateway.wait_for_metric("genkan_subscribers", &[("ingress", "sse")], times).await;
}

#[tokio::test]
async fn listen_prints_events_and_goes_on_after_a_lost_connection() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let address = gateway.url();
    let proxy = Proxy::to(address.trim_start_matches("http://").to_owned()).await;
    let mut listening = Listening::start(proxy.address(), &["shop.sold"]);
    listened(&gateway, 1.0).await;
    trigger(&mut shop, "sold", json!({"n": 1, "price": 1.0})).await;
    let first = listening.next().await;
    assert_eq!((&first["topic"], &first["data"]["n"]), (&json!("shop.sold"), &json!(1)));
    proxy.hang_up();
    for number in 2..=8 {
        trigger(&mut shop, "sold", json!({"n": number})).await;
    }
    // Three are kept: what is gone is told, in its place.
    let mut lines = Vec::new();
    loop {
        let line = listening.next().await;
        let is_last = line["data"]["n"] == 8;
        lines.push(line);
        if is_last {
            break;
        }
    }
    let numbers: Vec<_> = lines.iter().filter_map(|line| line["data"]["n"].as_u64()).collect();
    let was_quick = numbers == [2, 3, 4, 5, 6, 7, 8];
    if !was_quick {
        let gap = lines.iter().find(|line| line.get("gap").is_some()).expect("a gap");
        assert_eq!(gap["gap"]["topic"], "shop.sold");
        let missed = gap["gap"]["missed"].as_u64().expect("how many");
        assert_eq!(missed + numbers.len() as u64, 7, "{lines:?}");
    }
    let id = first["id"].to_string();
    let mut after = Listening::start(&gateway.url(), &["shop.sold", "--after", &id, "-n", "3"]);
    assert_eq!(after.next().await["gap"]["missed"], 4);
    for number in 6..=8 {
        assert_eq!(after.next().await["data"]["n"], number);
    }
    assert_eq!(after.line().await, None, "it ends when enough has come");
}

/// A gateway that gives each request the next of these answers; with what it is asked.
async fn answering(answers: Vec<String>) -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (asked, requests) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            asked.send(String::from_utf8_lossy(&head).to_lowercase()).expect("somebody looks");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    (url, requests)
}

#[tokio::test]
async fn listen_goes_on_when_a_proxy_answers_for_the_gateway_or_a_limit_does() {
    let stream = |id: u64| {
        let event = format!(r#"{{"topic":"a.b","id":{id},"data":{id},"time":"x"}}"#);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close";
        format!("{head}\r\n\r\nid: {id}\ndata: {event}\n\n")
    };
    let refusal = |status: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    };
    let limited = "429 Too Many Requests\r\nretry-after: 1";
    let answers = ["502 Bad Gateway", "503 Service Unavailable", limited].map(refusal);
    let answers = [vec![stream(1)], answers.to_vec(), vec![stream(2), refusal("403 Forbidden")]];
    let (url, mut requests) = answering(answers.concat()).await;
    let folder = Folder::new();
    let file = folder.write("token", "first");
    let file = file.to_str().expect("a path");
    let mut listening = Listening::start(&url, &["a.b", "--token-file", file]);
    assert_eq!(listening.next().await["data"], 1);
    folder.write("token", "renewed");
    assert_eq!(listening.next().await["data"], 2);
    assert_eq!(listening.line().await, None, "a refusal that stays ends it");
    let mut asked = Vec::new();
    while let Some(head) = requests.recv().await {
        asked.push(head);
    }
    assert_eq!(asked.len(), 6);
    assert!(asked[0].contains("bearer first"), "{}", asked[0]);
    // Whoever renews its token in time is known for as long as it likes.
    assert!(asked[4].contains("bearer renewed"), "{}", asked[4]);
    assert!(asked[4].contains("last-event-id: 1"), "{}", asked[4]);
    // Who has heard nothing yet is told at once.
    for (answer, status) in [("502 Bad Gateway", 3), (limited, 1)] {
        let (url, _requests) = answering(vec![refusal(answer)]).await;
        let mut command = genkan();
        command.args(["listen", "a.b", "--gateway", &url]);
        let ended = tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
        assert_eq!(ended.0, status, "{ended:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_listened_to_is_told() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let url = gateway.url();
    for (arguments, status, words) in [
        (&["secret.x", "--gateway", &url][..], 1, "refuses with status 403"),
        (&["shop.sold", "--gateway", "http://127.0.0.1:9"], 3, "genkan serve"),
        (&["shop.sold", "--gateway", "ftp://x"], 2, "http://"),
        (&[], 2, "TOPIC"),
    ] {
        let mut command = genkan();
        command.arg("listen").args(arguments);
        let ended = tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
        assert_eq!(ended.0, status, "{arguments:?}: {ended:?}");
        assert!(ended.2.contains(words), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_person_reads_lines_with_colours() {
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let mut listening = Listening::start(&gateway.url(), &["shop.sold", "--color", "always"]);
    eventually("it is listened to", async || {
        (gateway.metric("genkan_subscribers", &[("ingress", "sse")]).await > 0.0).then_some(())
    })
    .await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let line = listening.line().await.expect("a line");
    assert!(line.contains("\u{1b}[") && line.contains("shop.sold"), "{line}");
}

const ROWS: &str = r#"
[upstreams.rabbit]
protocol = "nameko"
url = "amqp://127.0.0.1:1"
[upstreams.bus]
protocol = "nats"
servers = ["nats://127.0.0.1:1"]
[[bridges]]
from = "rabbit:orders.*"
to = ["bus:stream/ORDERS/orders.$1", "bus:orders.$1", "web:orders.$1"]
dead_letter = "bus:stream/DEAD/dead"
retries = 3
[[bridges]]
from = "bus:orders.created"
to = ["rabbit:queue/copies"]
[[bridges]]
from = "bus:secret.plan"
to = ["web:secret.plan"]
[[bridges]]
from = "rabbit:dot.*"
to = ["rabbit:dotcopy.$1"]
[[topics]]
match = "orders.*"
[[topics]]
match = "secret.p*"
from = "bus:secret.*"
[[topics]]
match = "secret.*"
from = "bus:secret.*"
"#;

async fn explained(arguments: &[&str]) -> (i32, String, String) {
    let folder = Folder::new();
    folder.write("genkan.toml", ROWS);
    let mut command = genkan();
    command.args(["explain", "--config"]).arg(folder.path().join("genkan.toml"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic")
}

#[tokio::test]
async fn explain_shows_where_an_event_goes_and_what_is_promised() {
    let (status, out, err) = explained(&["--json", "--event", "rabbit:orders.created"]).await;
    assert_eq!(status, 0, "{err}");
    let way: Value = serde_json::from_str(&out).expect("JSON");
    let first = &way["bridges"][0];
    assert_eq!((&first["row"], &first["dead_letter"]), (&json!(1), &json!("bus:stream/DEAD/dead")));
    assert_eq!(
        first["to"],
        json!([
            {"place": "bus:stream/ORDERS/orders.created", "promise": "at least once"},
            {"place": "bus:orders.created", "promise": "at most once"},
            {"place": "web:orders.created", "promise": "at most once"},
        ])
    );
    // It goes on from there.
    let second = &way["bridges"][1];
    assert_eq!((&second["row"], &second["event"]), (&json!(2), &json!("bus:orders.created")));
    assert_eq!(second["to"][0]["promise"], "at most once", "its source keeps nothing");
    assert_eq!(way["topics"][0]["topic"], "orders.created");
    assert_eq!(way["topics"].as_array().map(Vec::len), Some(1));
    assert_eq!(way["topics"][0]["times"], json!(null), "by one way");
    let (_, out, _) = explained(&["--json", "--event", "bus:secret.plan"]).await;
    let way: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        way["topics"],
        json!([
            {"topic": "secret.plan", "row": 2, "times": 2, "match": "secret.p*", "promise": "at most once"},
        ]),
        "a topic is its first row's"
    );
    // A Nameko event's name may have dots.
    let (status, out, _) = explained(&["--json", "--event", "rabbit:dot.order.created"]).await;
    let way: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(status, 0, "{out}");
    assert_eq!(way["bridges"][0]["to"][0]["place"], "rabbit:dotcopy.order.created");
    let (status, out, _) = explained(&["--event", "bus:nobody.asks"]).await;
    assert_eq!((status, out.contains(r#""bridges":[]"#)), (1, true), "{out}");
    for (place, words) in [
        ("nowhere:x", "no upstream by that name"),
        ("orders.created", "write UPSTREAM:ADDRESS"),
        ("bus:or ders", "blank"),
    ] {
        let (status, _, err) = explained(&["--event", place]).await;
        assert_eq!(status, 2, "{place}: {err}");
        assert!(err.contains(words), "{place}: {err}");
    }
}

#[tokio::test]
async fn listen_tells_of_what_nobody_may_hear_any_more() {
    let row = "[[topics]]\nmatch = \"shop.lost\"\nfrom = \"hub:shop.lost\"\n";
    let gateway = Gateway::start(&format!("{HUB}{row}{TOPICS}")).await;
    let mut shop = shop(&gateway).await;
    let fewer = TOPICS.replace("shop.*", "shop.sold");
    let mut both = Listening::start(&gateway.url(), &["shop.lost", "shop.sold"]);
    let mut one = Listening::start(&gateway.url(), &["shop.lost"]);
    listened(&gateway, 2.0).await;
    gateway.write_config(&format!("{HUB}{fewer}"));
    gateway.hang_up();
    let reason = "the client may not listen to these topics any more";
    let ended = json!({"ended": {"reason": reason, "topics": ["shop.lost"]}});
    assert_eq!((both.next().await, one.next().await), (ended.clone(), ended));
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(both.next().await["data"]["n"], 1, "the other one is still heard");
    assert_eq!(one.line().await, None, "whoever comes back is refused");
}
