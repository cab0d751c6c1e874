//! The NATS egress against a real nats-server, through the library's own seam.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use genkan::budget::Budget;
use genkan::call::{Context, Deadline, Params, Payload, Reply, Request, TraceParent};
use genkan::fault::{Fault, FaultKind, Outcome, RemoteCode};
use genkan::metrics::{Exporter, UpstreamMetrics};
use genkan::protocol::readers;
use genkan::tasks::Tasks;
use genkan::upstream::{Readiness, Upstream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

static METRICS: LazyLock<Exporter> = LazyLock::new(|| Exporter::install().expect("the first"));

const PATIENCE: Duration = Duration::from_secs(20);
/// What must not wait for any timer of the protocol's.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Waits until `probe` gives something.
async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: still not so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn at_once<F: Future>(future: F) -> F::Output {
    timeout(AT_ONCE, future).await.expect("it ends at once")
}

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "genkan-nats-{}-{:016x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

/// A nats-server of the test's own.
struct Server {
    child: Child,
    folder: Folder,
    port: u16,
}

impl Server {
    async fn start(config: &str) -> Self {
        Self::start_at(Folder::new(), -1, config).await
    }

    async fn start_at(folder: Folder, port: i32, config: &str) -> Self {
        let text = format!("listen: \"127.0.0.1:{port}\"\n{config}\n");
        let file = folder.write("server.conf", &text);
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&file)
            .arg("--ports_file_dir")
            .arg(&folder.0)
            .arg("-l")
            .arg(folder.0.join("server.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed (Debian package nats-server)");
        let ports = folder.0.join(format!("nats-server_{}.ports", child.id()));
        let mut server = Self { child, folder, port: 0 };
        server.port = eventually("nats-server listens", || {
            let text = std::fs::read_to_string(&ports).ok()?;
            let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
            ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
        })
        .await;
        server
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(signal).arg(pid).status().unwrap();
        assert!(status.success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(mut self, config: &str) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, Folder(PathBuf::new()));
        Self::start_at(folder, i32::from(self.port), config).await
    }

    fn reload(&self, config: &str) {
        let text = format!("listen: \"127.0.0.1:{}\"\n{config}\n", self.port);
        self.folder.write("server.conf", &text);
        self.signal("-HUP");
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.expect("a test's own client")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An upstream under test.
struct Egress {
    upstream: Arc<dyn Upstream>,
    name: String,
    tasks: Tasks,
}

impl Egress {
    fn new(config: &str) -> Self {
        LazyLock::force(&METRICS);
        let name = format!("nats{:016x}", fastrand::u64(..));
        let text = format!("[upstreams.{name}]\nprotocol = \"nats\"\n{config}");
        let loaded = genkan::config::parse("test", &text, HashMap::new(), &readers());
        let Ok((config, _)) = loaded.into_valid() else { panic!("{config}") };
        let connector = &config.upstreams[0].connector;
        let tasks = Tasks::new();
        let metrics = UpstreamMetrics::new(&name);
        metrics.take_over();
        let upstream = connector.connect(metrics, &Budget::new(1 << 30), &tasks).upstream;
        Self { upstream, name, tasks }
    }

    async fn to(server: &Server, dialect: &str) -> Self {
        let url = server.url();
        let egress = Self::new(&format!("servers = \"{url}\"\ndialect = \"{dialect}\""));
        egress.ready().await;
        egress
    }

    async fn ready(&self) {
        eventually("the upstream is ready", || {
            (self.upstream.readiness() == Readiness::Ready).then_some(())
        })
        .await;
    }

    async fn not_ready(&self, words: &str) {
        eventually(words, || match self.upstream.readiness() {
            Readiness::NotReady(reason) => reason.contains(words).then_some(()),
            Readiness::Ready => None,
        })
        .await;
    }

    async fn call(&self, name: &str, params: &str) -> Result<Reply, Fault> {
        let trace = TraceParent::generate();
        self.call_in(&Context::new(trace), name, params).await
    }

    async fn call_in(&self, context: &Context, name: &str, params: &str) -> Result<Reply, Fault> {
        let (service, method) = name.rsplit_once('.').unwrap();
        let params = parse_params(params);
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let request = Request::new((service, method), &params, context, deadline);
        self.upstream.call(&request).await
    }

    async fn fault(&self, name: &str, params: &str) -> Fault {
        at_once(self.call(name, params)).await.expect_err("a fault")
    }

    async fn notify(&self, name: &str, params: &str) -> Result<(), Fault> {
        let (service, method) = name.rsplit_once('.').unwrap();
        let params = parse_params(params);
        let context = &Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), PATIENCE);
        let request = Request::new((service, method), &params, context, deadline);
        self.upstream.notify(&request).await
    }

    /// A metric's value, as Prometheus would read it.
    fn metric(&self, metric: &str) -> f64 {
        let text = METRICS.render();
        let of_ours = format!("upstream=\"{}\"", self.name);
        let mut lines = text.lines().filter(|line| line.starts_with(metric));
        let line = lines.find(|line| line.contains(&of_ours));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.tasks.shutdown().cancel();
    }
}

fn parse_params(json: &str) -> Params {
    let payload = || Payload::from_validated(Bytes::from(json.to_owned()));
    match json.chars().next() {
        None => Params::None,
        Some('[') => Params::Array(payload()),
        Some(_) => Params::Object(payload()),
    }
}

fn is(fault: &Fault, kind: FaultKind, outcome: Outcome) {
    assert_eq!((fault.kind(), fault.outcome()), (kind, outcome), "{}", fault.message());
    assert!(!fault.message().contains("127.0.0.1"), "{}", fault.message());
}

/// Subscribes, and knows that the server has taken the subscription.
async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.unwrap();
    let echo = client.new_inbox();
    let mut echoes = client.subscribe(echo.clone()).await.unwrap();
    client.publish(echo, Bytes::new()).await.unwrap();
    at_once(echoes.next()).await.expect("the server is there");
    subscriber
}

/// A service that answers every request with the same reply, and hands the requests on.
async fn service(client: &Client, subject: &str, headers: HeaderMap, body: &'static str) {
    let mut requests = subscribe(client, subject).await;
    let client = client.clone();
    Tasks::new().spawn_session(async move {
        while let Some(request) = requests.next().await {
            let Some(inbox) = request.reply else { continue };
            let reply = client.publish_with_headers(inbox, headers.clone(), body.into());
            reply.await.expect("the reply is sent");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_its_reply() {
    let server = Server::start("").await;
    let client = server.client().await;
    let egress = Egress::to(&server, "picom").await;
    let mut requests = subscribe(&client, "mailer.>").await;
    let trace = TraceParent::generate();
    let mut context = Context::new(trace);
    context.language = Some("de".to_owned());
    context.user_agent = Some("bad\r\nvalue".to_owned());
    let message = r#"{"id":9007199254740993,"x":1e400,"x":1.10}"#;
    let called = egress.call_in(&context, "mailer.send", message);
    let answered = async {
        let request = requests.next().await.expect("a request");
        assert_eq!(request.subject.as_str(), "mailer.send");
        assert_eq!(request.payload, message);
        let headers = request.headers.expect("headers");
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("traceparent").as_deref(), Some(trace.as_str()));
        assert_eq!(header("Accept-Language").as_deref(), Some("de"));
        assert_eq!(header("User-Agent"), None);
        let left = header("X-Request-Timeout").expect("a deadline");
        let millis: u128 = left.strip_suffix("ms").unwrap().parse().unwrap();
        assert!((1..=PATIENCE.as_millis()).contains(&millis));
        let inbox = request.reply.expect("a reply subject");
        assert!(inbox.starts_with("_INBOX."));
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", trace.as_str());
        let body = r#" {"payload":{"n":1180591620717411303424}} "#;
        client.publish_with_headers(inbox, headers, body.into()).await.unwrap();
    };
    let (reply, ()) = at_once(async { tokio::join!(called, answered) }).await;
    let reply = reply.expect("a result");
    assert_eq!(reply.payload.as_str(), r#"{"n":1180591620717411303424}"#);
    assert_eq!(reply.trace, Some(trace));
    assert_eq!(egress.metric("genkan_upstream_up"), 1.0);
    assert_eq!(egress.metric("genkan_late_replies_total"), 0.0);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_told_at_once() {
    let server = Server::start("").await;
    for dialect in ["picom", "plain", "micro"] {
        let egress = Egress::to(&server, dialect).await;
        let fault = egress.fault("nobody.home", "").await;
        is(&fault, FaultKind::UnknownService, Outcome::NotSent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_harm_a_peer_never_leaves() {
    let server = Server::start("").await;
    let client = server.client().await;
    let mut everything = subscribe(&client, ">").await;
    let egress = Egress::to(&server, "picom").await;
    for (name, kind) in [
        ("mailer.*", FaultKind::InvalidRequest),
        ("$SYS.REQ.x", FaultKind::InvalidRequest),
        ("mailer.constructor", FaultKind::UnknownMethod),
        ("mailer.__proto__", FaultKind::UnknownMethod),
    ] {
        is(&egress.fault(name, "").await, kind, Outcome::NotSent);
        is(&at_once(egress.notify(name, "")).await.unwrap_err(), kind, Outcome::NotSent);
    }
    is(&egress.fault("mailer.send", "[null]").await, FaultKind::InvalidParams, Outcome::NotSent);
    let refused = [("wildcard", 2.0), ("system_subject", 2.0), ("object_prototype", 4.0)];
    for (reason, times) in refused {
        let text = METRICS.render();
        let ours = |line: &&str| line.contains(&egress.name) && line.contains(reason);
        let line = text.lines().find(ours).expect("it is counted");
        assert!(line.ends_with(&format!(" {times}")), "{line}");
    }
    client.publish("end", Bytes::new()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = at_once(everything.next()).await {
        match message.subject.as_str() {
            "end" => break,
            inbox if inbox.starts_with("_INBOX.") => {}
            other => seen.push(other.to_owned()),
        }
    }
    assert_eq!(seen, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn second_and_late_replies_are_counted() {
    let server = Server::start("").await;
    let client = server.client().await;
    let egress = Egress::to(&server, "plain").await;
    let mut requests = subscribe(&client, "twice.>").await;
    let called = egress.call("twice.now", "");
    let answered = async {
        let inbox = requests.next().await.unwrap().reply.unwrap();
        client.publish(inbox.clone(), "1".into()).await.unwrap();
        client.publish(inbox, "2".into()).await.unwrap();
    };
    let (reply, ()) = at_once(async { tokio::join!(called, answered) }).await;
    assert_eq!(reply.expect("a result").payload.as_str(), "1");
    let late = |expected| {
        let egress = &egress;
        eventually("late replies", move || {
            (egress.metric("genkan_late_replies_total") == expected).then_some(())
        })
    };
    late(1.0).await;

    // A caller that goes away, and a reply after that.
    let request = tokio::select! {
        reply = egress.call("twice.late", "") => panic!("nobody has answered: {reply:?}"),
        request = requests.next() => request.unwrap(),
    };
    client.publish(request.reply.unwrap(), "3".into()).await.unwrap();
    late(2.0).await;

    // And one to a place where nobody has ever waited.
    let request = tokio::select! {
        reply = egress.call("twice.lost", "") => panic!("nobody has answered: {reply:?}"),
        request = requests.next() => request.unwrap(),
    };
    let (prefix, _) = request.reply.as_ref().unwrap().rsplit_once('.').unwrap();
    client.publish(format!("{prefix}.not-a-number"), "4".into()).await.unwrap();
    late(3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn side_by_side_calls_get_their_own_replies() {
    let server = Server::start("").await;
    let client = server.client().await;
    let egress = Egress::to(&server, "plain").await;
    let mut requests = subscribe(&client, "echo.>").await;
    let tasks = Tasks::new();
    tasks.spawn_session(async move {
        while let Some(request) = requests.next().await {
            client.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    let calls = (0..2_000).map(|n| {
        let egress = &egress;
        async move {
            let params = format!("[{n}]");
            let reply = egress.call("echo.it", &params).await.expect("a result");
            assert_eq!(reply.payload.as_str(), n.to_string());
        }
    });
    timeout(PATIENCE, futures_util::future::join_all(calls)).await.expect("all have ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_checked_before_sending() {
    let server = Server::start("max_payload: 1000").await;
    let egress = Egress::to(&server, "plain").await;
    let params = format!("[\"{}\"]", "x".repeat(900));
    let fault = egress.fault("mailer.send", &params).await;
    is(&fault, FaultKind::TooLarge, Outcome::NotSent);
    let numbers: Vec<usize> = fault
        .message()
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert!(numbers[0] > 1000 && numbers[1] == 1000, "{}", fault.message());
    is(
        &at_once(egress.notify("a.b", &params)).await.unwrap_err(),
        FaultKind::TooLarge,
        Outcome::NotSent,
    );
    // The connection has not suffered.
    let fault = egress.fault("mailer.send", "").await;
    is(&fault, FaultKind::UnknownService, Outcome::NotSent);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn micro_errors() {
    let server = Server::start("").await;
    let client = server.client().await;
    let egress = Egress::to(&server, "micro").await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error", "no such order");
    headers.insert("Nats-Service-Error-Code", "404");
    service(&client, "orders.bad", headers, "").await;
    service(&client, "orders.good", HeaderMap::new(), "").await;
    let fault = egress.fault("orders.bad", "").await;
    is(&fault, FaultKind::Application, Outcome::Executed);
    assert_eq!(fault.message(), "no such order");
    assert_eq!(fault.remote().unwrap().code, Some(RemoteCode::Number(404)));
    let reply = at_once(egress.call("orders.good", "")).await.expect("a result");
    assert_eq!(reply.payload, Payload::NULL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_has_no_reply_subject() {
    let server = Server::start("").await;
    let client = server.client().await;
    let egress = Egress::to(&server, "picom").await;
    let mut requests = subscribe(&client, "mailer.>").await;
    at_once(egress.notify("mailer.log", r#"[{"a":1}]"#)).await.expect("taken over");
    let request = at_once(requests.next()).await.unwrap();
    assert_eq!((request.payload.as_ref(), request.reply), (&br#"{"a":1}"#[..], None));
    // Nobody listens: no protocol of NATS tells.
    at_once(egress.notify("nobody.home", "")).await.expect("taken over");
}

#[tokio::test(flavor = "multi_thread")]
async fn down_at_start_and_shut_down() {
    let mut server = Server::start("").await;
    server.kill();
    let egress = Egress::new(&format!("servers = [\"{}\"]", server.url()));
    egress.not_ready("the server cannot be reached").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
    let notified = at_once(egress.notify("a.b", "")).await;
    is(&notified.unwrap_err(), FaultKind::Unavailable, Outcome::NotSent);
    assert_eq!(egress.metric("genkan_upstream_up"), 0.0);

    let server = server.restart("").await;
    egress.ready().await;
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 0.0);
    let client = server.client().await;
    let mut requests = subscribe(&client, "a.>").await;
    let call = egress.call("a.b", "");
    let end = async {
        requests.next().await.expect("the call has arrived");
        assert!(egress.tasks.end(AT_ONCE).await, "the supervisor has ended");
    };
    let (result, ()) = at_once(async { tokio::join!(call, end) }).await;
    is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    egress.not_ready("shutting down").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
}

const TWO_USERS: &str = r#"authorization { users = [
    {user: recorder, password: r}
    {user: gateway, password: g}
] }"#;
const RECORDER_ALONE: &str = r"authorization { users = [ {user: recorder, password: r} ] }";

async fn recorder(server: &Server) -> Client {
    let options = ConnectOptions::with_user_and_password("recorder".into(), "r".into());
    options.connect(server.url()).await.unwrap()
}

/// Calls before, while and after the server goes away. The one that comes in its place lets the
/// gateway in only when somebody records everything that is sent.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_after_its_caller_was_told() {
    let server = Server::start(TWO_USERS).await;
    let old_recorder = recorder(&server).await;
    let mut arrived = subscribe(&old_recorder, "hang.>").await;
    let url = server.url().replace("nats://", "nats://gateway:g@");
    let egress = Egress::new(&format!("servers = \"{url}\"\ndialect = \"plain\""));
    egress.ready().await;

    let big = format!("[\"{}\"]", "x".repeat(500_000));
    let mut calls: Vec<BoxFuture<'_, Result<Reply, Fault>>> = Vec::new();
    for n in 0..50 {
        let egress = &egress;
        let mut call = Box::pin(async move { egress.call("hang.before", &format!("[{n}]")).await });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.push(call);
    }
    for _ in 0..50 {
        at_once(arrived.next()).await.expect("a call");
    }
    // It takes nothing more in, and nobody knows yet: what is called now waits in queues. The
    // big ones fill the socket.
    server.signal("-STOP");
    for n in 0..300 {
        let (egress, big) = (&egress, &big);
        let mut call = Box::pin(async move {
            let params = if n < 20 { big.clone() } else { format!("[{n}]") };
            egress.call("hang.while", &params).await
        });
        assert!(futures_util::poll!(&mut call).is_pending());
        calls.push(call);
    }
    let killed = Instant::now();
    let port = i32::from(server.port);
    let mut server = server;
    server.kill();
    let results = at_once(futures_util::future::join_all(calls)).await;
    assert!(killed.elapsed() < AT_ONCE);
    for (n, result) in results.into_iter().enumerate() {
        let fault = result.unwrap_err();
        // What had not even reached the connection's queue is known not to have been sent.
        let unsent = n >= 50 && fault.outcome() == Outcome::NotSent;
        let outcome = if unsent { Outcome::NotSent } else { Outcome::Unknown };
        is(&fault, FaultKind::Unavailable, outcome);
    }
    assert_eq!(egress.metric("genkan_upstream_up"), 0.0);
    for _ in 0..50 {
        is(&egress.fault("hang.down", "").await, FaultKind::Unavailable, Outcome::NotSent);
        let notified = at_once(egress.notify("hang.down", "")).await;
        is(&notified.unwrap_err(), FaultKind::Unavailable, Outcome::NotSent);
    }

    let server = Server::start_at(Folder::new(), port, RECORDER_ALONE).await;
    let new_recorder = recorder(&server).await;
    let mut arrived = subscribe(&new_recorder, "hang.>").await;
    egress.not_ready("NATS refuses the credentials").await;
    server.reload(TWO_USERS);
    egress.ready().await;
    assert_eq!(egress.metric("genkan_upstream_up"), 1.0);
    assert_eq!(egress.metric("genkan_upstream_reconnects_total"), 1.0);
    let mut call = Box::pin(egress.call("hang.after", ""));
    assert!(futures_util::poll!(&mut call).is_pending());
    let first = at_once(arrived.next()).await.expect("a call");
    assert_eq!(first.subject.as_str(), "hang.after", "nothing came before it");
    new_recorder.publish(first.reply.unwrap(), "5".into()).await.unwrap();
    assert_eq!(at_once(call).await.expect("a result").payload.as_str(), "5");
}

/// Carries one connection's bytes at a time to the server, until `cut` changes.
async fn proxy(server: &Server, cut: tokio::sync::watch::Receiver<u32>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = ("127.0.0.1", server.port);
    Tasks::new().spawn_session(async move {
        while let Ok((mut inner, _)) = listener.accept().await {
            let mut outer = TcpStream::connect(to).await.unwrap();
            let mut cut = cut.clone();
            cut.mark_unchanged();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
                _ = cut.changed() => {}
            }
        }
    });
    port
}

/// async-nats would connect again by itself, and leave the calls to their deadlines.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_ends_its_calls_though_the_server_lives() {
    let server = Server::start("").await;
    let client = server.client().await;
    let mut requests = subscribe(&client, "hang.>").await;
    let (cut, cuts) = tokio::sync::watch::channel(0);
    let port = proxy(&server, cuts).await;
    let egress = Egress::new(&format!("servers = \"nats://127.0.0.1:{port}\""));
    for reconnects in 0..3 {
        eventually("a new connection", || {
            let count = egress.metric("genkan_upstream_reconnects_total");
            (count == f64::from(reconnects)).then_some(())
        })
        .await;
        egress.ready().await;
        let call = egress.call("hang.up", "");
        let end = async {
            requests.next().await.expect("the call has arrived");
            cut.send_modify(|cuts| *cuts += 1);
        };
        let (result, ()) = at_once(async { tokio::join!(call, end) }).await;
        is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up() {
    let server = Server::start("").await;
    let client = server.client().await;
    let mut requests = subscribe(&client, "hang.>").await;
    let config = format!(
        "servers = \"{}\"\nping_interval = \"100ms\"\nconnect_timeout = \"200ms\"",
        server.url()
    );
    let egress = Egress::new(&config);
    egress.ready().await;
    let call = egress.call("hang.up", "");
    let stop = async {
        requests.next().await.expect("the call has arrived");
        server.signal("-STOP");
    };
    let (result, ()) = timeout(PATIENCE, async { tokio::join!(call, stop) }).await.unwrap();
    is(&result.unwrap_err(), FaultKind::Unavailable, Outcome::Unknown);
    egress.not_ready("the server does not answer").await;
    server.signal("-CONT");
    egress.ready().await;
    is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_tried() {
    let mut dead = Server::start("").await;
    dead.kill();
    let first = Server::start("").await;
    let second = Server::start("").await;
    let config =
        format!("servers = [\"{}\", \"{}\", \"{}\"]", dead.url(), first.url(), second.url());
    let egress = Egress::new(&config);
    egress.ready().await;
    drop(first);
    egress.ready().await;
    drop(second);
    egress.not_ready("the server cannot be reached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions() {
    let config = r#"authorization { users = [
        {user: all, password: p}
        {user: some, password: p, permissions: {publish: "open.>", subscribe: "own.>"}}
        {user: echoing, password: p, permissions: {publish: "open.>", subscribe: "open.>"}}
    ] }"#;
    let server = Server::start(config).await;
    let options = ConnectOptions::with_user_and_password("all".into(), "p".into());
    let client = options.connect(server.url()).await.unwrap();
    service(&client, "open.call", HeaderMap::new(), "1").await;
    service(&client, "shut.call", HeaderMap::new(), "1").await;
    let mut published = subscribe(&client, "open.note").await;
    let base = format!(
        "servers = \"{}\"\ndialect = \"plain\"\nuser = \"some\"\npassword = \"p\"\n",
        server.url()
    );

    let egress = Egress::new(&format!("{base}inbox_prefix = \"own.inbox\""));
    egress.ready().await;
    let reply = at_once(egress.call("open.call", "")).await.expect("a result");
    assert_eq!(reply.payload.as_str(), "1");
    is(&egress.fault("shut.call", "").await, FaultKind::AccessDenied, Outcome::Rejected);
    // It may not publish to its own inbox, and can notify all the same.
    at_once(egress.notify("open.note", "")).await.expect("sent");
    at_once(published.next()).await.expect("a notification");

    let config = format!("{base}inbox_prefix = \"open.inbox\"");
    let config = config.replace("\"some\"", "\"echoing\"");
    let echoing = Egress::new(&config);
    echoing.ready().await;
    // The very first one may be told in the log alone, where threads race for it.
    let _first = at_once(echoing.notify("shut.note", "")).await;
    for n in 0..100 {
        let denied = at_once(echoing.notify("shut.note", "")).await;
        let fault = denied.expect_err(&format!("it is denied, {n}"));
        is(&fault, FaultKind::AccessDenied, Outcome::Rejected);
        at_once(echoing.notify("open.note", "")).await.expect("sent");
    }

    let inboxless = Egress::new(&base);
    inboxless.not_ready("does not permit to subscribe").await;
    is(&inboxless.fault("open.call", "").await, FaultKind::Unavailable, Outcome::NotSent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_headers_is_named() {
    let server = Server::start("no_header_support: true").await;
    let egress = Egress::new(&format!("servers = \"{}\"\ndialect = \"plain\"", server.url()));
    egress.not_ready("without headers").await;
    is(&egress.fault("a.b", "").await, FaultKind::Unavailable, Outcome::NotSent);
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_to_log_in() {
    let folder = Folder::new();
    let password = folder.write("password", "g ü@:/%\n");
    let user = nkeys::KeyPair::new_user();
    let seed = user.seed().unwrap();
    let user_line = "authorization { user: me, password: \"g ü@:/%\" }";
    let nkey_line = format!("authorization {{ users = [ {{nkey: {}}} ] }}", user.public_key());
    let (operator, credentials) = operator();
    let credentials = folder.write("me.creds", &credentials);

    for (server, url, rest) in [
        (user_line, "", format!("user = \"me\"\npassword_file = \"{}\"", password.display())),
        (user_line, "me:g%20%C3%BC%40%3A%2F%25@", String::new()),
        ("authorization { token: t0p }", "t0p@", String::new()),
        ("authorization { token: t0p }", "", "token = \"t0p\"".to_owned()),
        (nkey_line.as_str(), "", format!("nkey = \"{seed}\"")),
        (operator.as_str(), "", format!("credentials_file = \"{}\"", credentials.display())),
    ] {
        let server = Server::start(server).await;
        let url = server.url().replace("nats://", &format!("nats://{url}"));
        let egress = Egress::new(&format!("servers = \"{url}\"\n{rest}"));
        egress.ready().await;
        is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
        let without = Egress::new(&format!("servers = \"{}\"", server.url()));
        without.not_ready("NATS asks for credentials").await;
    }
}

/// The server's part and the user's credentials file of a set-up with an operator.
fn operator() -> (String, String) {
    let (operator, account, user) =
        (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let operator_jwt = jwt(&operator, &operator, r#""type":"operator","version":2"#);
    let account_limits = format!(
        r#""limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}},
        "type":"account","version":2"#
    );
    let account_jwt = jwt(&operator, &account, &account_limits);
    let user_jwt = jwt(&account, &user, &format!(r#"{limits},"type":"user","version":2"#));
    let server = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    (server, credentials)
}

fn jwt(issuer: &nkeys::KeyPair, subject: &nkeys::KeyPair, claims: &str) -> String {
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let claims = format!(
        r#"{{"jti":"{sub}","iat":1700000000,"iss":"{iss}","name":"test","sub":"{sub}","nats":{{{claims}}}}}"#
    );
    let header = base64_url(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", base64_url(claims.as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64_url(&signature))
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=chunk.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(DIGITS[value as usize]));
        }
    }
    text
}

fn openssl(folder: &Path, args: &str) {
    let output = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls() {
    let folder = Folder::new();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&folder.0, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
    folder.write("san", "subjectAltName=DNS:localhost,IP:127.0.0.1");
    for name in ["server", "client"] {
        openssl(
            &folder.0,
            &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        openssl(
            &folder.0,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem \
                 -days 2 -extfile san"
            ),
        );
    }
    let path = |name: &str| folder.0.join(name).display().to_string();
    let server = Server::start(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    ))
    .await;
    let ca = format!("ca_file = \"{}\"\n", path("ca.pem"));
    let identity =
        format!("cert_file = \"{}\"\nkey_file = \"{}\"\n", path("client.pem"), path("client.key"));
    for scheme in ["tls", "nats"] {
        let servers = format!("servers = \"{scheme}://localhost:{}\"\n", server.port);
        let egress = Egress::new(&format!("{servers}{ca}{identity}"));
        egress.ready().await;
        is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
        let distrusting = Egress::new(&format!("{servers}{identity}"));
        distrusting.not_ready("TLS with NATS failed").await;
        let anonymous = Egress::new(&format!("{servers}{ca}"));
        anonymous.not_ready("TLS with NATS failed").await;
    }
}
