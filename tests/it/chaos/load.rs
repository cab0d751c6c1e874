//! Steady load: clients on connections that they keep, one call after the other, each with a token of
//! its own; and what became of each call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Form;
use crate::harness::http::{Connection, encode};
use crate::harness::{Gateway, until};

/// What each call has.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How long after that an answer is still waited for.
const MARGIN: Duration = Duration::from_secs(20);
/// So many results in a row, of each method, and it is served.
const IN_A_ROW: usize = 5;

/// What a call got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A result, with the token that is in it.
    Result(String),
    /// A fault.
    Fault { kind: String, outcome: String },
    /// The end of its connection.
    Closed,
    /// Nothing, long after its deadline.
    Hung,
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct Call {
    pub token: String,
    pub method: &'static str,
    /// When its first byte was about to be written.
    pub began: Instant,
    /// When its last one had been.
    pub sent: Instant,
    /// From the beginning to the end.
    pub took: Duration,
    pub end: End,
}

impl Call {
    /// Whether it has a result.
    pub fn is_served(&self) -> bool {
        matches!(self.end, End::Result(_))
    }
}

/// The clients, calling.
pub struct Load {
    shared: Arc<Shared>,
    methods: &'static [&'static str],
    form: Form,
    clients: JoinSet<()>,
}

struct Shared {
    address: Mutex<String>,
    calls: Mutex<Vec<Call>>,
    over: AtomicBool,
}

impl Load {
    /// Begins.
    pub fn start(gateway: &Gateway, methods: &'static [&'static str], form: Form) -> Self {
        let shared = Arc::new(Shared {
            address: Mutex::new(gateway.http.clone()),
            calls: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for method in methods {
            for _ in 0..form.clients() {
                clients.spawn(Arc::clone(&shared).client(method, form.pause()));
            }
        }
        Self { shared, methods, form, clients }
    }

    /// How much of everything there is to be.
    pub fn form(&self) -> Form {
        self.form
    }

    /// From now on this gateway is called.
    pub fn aim(&self, gateway: &Gateway) {
        self.shared.address.lock().unwrap().clone_from(&gateway.http);
    }

    /// Waits until calls that begin after `since` are served, of each method.
    pub async fn is_served_since(&self, since: Instant) {
        until("the calls are served", async || {
            let calls = self.shared.calls.lock().unwrap();
            self.methods.iter().all(|method| {
                let mut last = calls.iter().rev().filter(|call| call.method == *method);
                last.by_ref()
                    .take(IN_A_ROW)
                    .filter(|call| call.is_served() && call.began > since)
                    .count()
                    == IN_A_ROW
            })
        })
        .await;
    }

    /// Waits until so many calls that began after `since` have not been served.
    pub async fn is_hurt_since(&self, since: Instant, count: usize) {
        until("calls are not served", async || {
            let calls = self.shared.calls.lock().unwrap();
            let not_served = calls.iter().filter(|call| !call.is_served() && call.began > since);
            not_served.count() >= count
        })
        .await;
    }

    /// Waits until so many calls that began after `since` are over.
    pub async fn has_called_since(&self, since: Instant, count: usize) {
        until("calls are over", async || {
            let calls = self.shared.calls.lock().unwrap();
            calls.iter().filter(|call| call.began > since).count() >= count
        })
        .await;
    }

    /// Lets every client end its last call, and tells of all.
    pub async fn stop(mut self) -> Vec<Call> {
        self.shared.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
        std::mem::take(&mut *self.shared.calls.lock().unwrap())
    }
}

impl Shared {
    async fn client(self: Arc<Self>, method: &'static str, pause: Duration) {
        let mut open: Option<Connection> = None;
        while !self.over.load(Ordering::SeqCst) {
            sleep(pause).await;
            // As every client does that keeps connections.
            if let Some(connection) = &mut open
                && connection.is_closed_within(Duration::ZERO).await
            {
                open = None;
            }
            let connection = match &mut open {
                Some(connection) => connection,
                None => {
                    let address = self.address.lock().unwrap().clone();
                    let Ok(connection) = Connection::try_open(&address).await else { continue };
                    open.insert(connection)
                }
            };
            let (call, goes_on) = one_call(connection, method).await;
            if !goes_on {
                open = None;
            }
            self.calls.lock().unwrap().push(call);
        }
    }
}

/// Makes a call; whether another can follow on the connection.
async fn one_call(connection: &mut Connection, method: &'static str) -> (Call, bool) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let token = format!("t{}.", NEXT.fetch_add(1, Ordering::Relaxed));
    let body =
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"token":"{token}"}},"id":1}}"#);
    let millis = format!("{}ms", DEADLINE.as_millis());
    let request = encode("POST", "/api", &[("X-Request-Timeout", &millis)], body.as_bytes());
    let began = Instant::now();
    let written = connection.try_send(&request).await;
    let sent = Instant::now();
    let (end, goes_on) = match written {
        Err(_) => (End::Closed, false),
        Ok(()) => match timeout(DEADLINE + MARGIN, connection.receive()).await {
            Err(_) => (End::Hung, false),
            Ok(None) => (End::Closed, false),
            Ok(Some(response)) => {
                (end(&response.json()), response.header("connection") != Some("close"))
            }
        },
    };
    (Call { token, method, began, sent, took: began.elapsed(), end }, goes_on)
}

/// What an answer of JSON-RPC, or a problem document, says.
fn end(answer: &Value) -> End {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(result) = answer.get("result") {
        return End::Result(text(&result["token"]));
    }
    let fault = answer.get("error").map_or(answer, |error| &error["data"]);
    let (kind, outcome) = (text(&fault["kind"]), text(&fault["outcome"]));
    assert!(!kind.is_empty() && !outcome.is_empty(), "no answer of Genkan's: {answer}");
    End::Fault { kind, outcome }
}
