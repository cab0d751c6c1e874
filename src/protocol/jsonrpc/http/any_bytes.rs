//! Whatever a client sends as a body, it gets one well-formed answer, or none where all that it sent
//! are notifications: from the bytes over the router to an upstream, and back.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::config::HttpConfig;
use super::super::discovery::Discovery;
use super::super::registry::Registry;
use super::server::Server;
use super::{Connected, Inside, NAME, WEBSOCKET, rpc};
use crate::budget::Budget;
use crate::call::{Payload, Reply, Request};
use crate::caller::Caller;
use crate::config::read_for_test;
use crate::fault::{Fault, FaultKind, Outcome, RemoteError};
use crate::metrics::UpstreamMetrics;
use crate::route::{HUB, Rule};
use crate::router::Router;
use crate::router::ledger::Ledger;
use crate::router::table::{NO_ROUTE, Row, Table};
use crate::router::target::Target;
use crate::tasks::Tasks;
use crate::upstream::{Readiness, Upstream};

/// Answers by the length of what it is asked: with params, or a fault.
struct Moody;

impl Upstream for Moody {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        let answer = match request.method.len() % 4 {
            0 => Ok(Reply::new(Payload::from_validated("[1,{\"a\":null}]".into()))),
            1 => Err(Fault::application("no luck\u{0}".to_owned(), RemoteError::default())),
            2 => Err(Fault::new(FaultKind::Timeout, Outcome::Unknown, "too slow".to_owned())),
            _ => Ok(Reply::new(Payload::NULL)),
        };
        std::future::ready(answer).boxed()
    }

    fn notify<'a>(&'a self, _: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        std::future::ready(Ok(())).boxed()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

fn server() -> Server {
    let ledger = Ledger::new([NAME, WEBSOCKET]);
    let rule = |upstream| Rule::new("*", upstream, Duration::from_secs(1));
    let metrics = UpstreamMetrics::new("moody");
    let target = Arc::new(Target::new("moody", Arc::new(Moody), 100, metrics));
    let row = Row::new(rule("moody"), "*", Some(target), &ledger);
    let table = Table::new(vec![row], Row::new(rule(HUB), NO_ROUTE, None, &ledger));
    let router = Arc::new(Router::new(table, ledger, Budget::new(1 << 24)));
    let (config, _) = read_for_test("", |root| HttpConfig::read(&mut root.section("http")));
    let (registry, discovery) = (Registry::new(), Arc::new(Discovery::new()));
    let pages = Arc::new(ArcSwap::from_pointee(config.web_policy()));
    let (topics, auth) = (Arc::default(), Arc::default());
    let inside = Inside { router, registry, discovery, topics, auth, pages };
    Server::new(config, None, inside, Tasks::new())
}

/// The answer to a body.
async fn answered(server: &Server, body: Vec<u8>) -> Bytes {
    let http = server.http();
    let connected = Connected::new(http.router.budget().connection(), Caller::NOBODY);
    let request = http::Request::post("/api").header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let answer = rpc::serve(http, &connected, None, request).await;
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("all of it").to_bytes()
}

/// Whether nobody waits for an answer to it, and what its answer's `id` may be.
fn waits(request: &Value) -> (bool, Option<&Value>) {
    let id = request.as_object().and_then(|members| members.get("id"));
    (id.is_some() || !request.is_object(), id)
}

fn is_answer(answer: &Value, request: &Value) -> Result<(), String> {
    // The registry's results have Gemstone's form, with an error that is none (WIRE 4.1).
    let mut members = answer.as_object().ok_or("no object")?.clone();
    if members.contains_key("result") && members.get("error") == Some(&Value::Null) {
        members.remove("error");
    }
    let has = |name| members.contains_key(name);
    let of = || format!("{answer} to {request}");
    if members["jsonrpc"] != "2.0" || has("result") == has("error") || members.len() != 3 {
        return Err(of());
    }
    let id = members.get("id").ok_or_else(of)?;
    // One that cannot be an id is answered as if it had not been there.
    let is_its = waits(request).1.is_some_and(|asked| asked == id);
    if !is_its && !id.is_null() {
        return Err(of());
    }
    if let Some(error) = members.get("error") {
        let is_sound = error["code"].is_i64() && error["message"].is_string();
        return if is_sound { Ok(()) } else { Err(of()) };
    }
    Ok(())
}

/// Whether an answer is what a body deserves.
fn is_deserved(body: &[u8], answer: &[u8]) -> Result<(), String> {
    let request = serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let waiting = match &request {
        Value::Array(several) if !several.is_empty() => several.iter().collect(),
        one => vec![one],
    };
    if answer.is_empty() {
        let silent = waiting.iter().all(|request| !waits(request).0);
        return if silent { Ok(()) } else { Err(format!("nothing came of {request}")) };
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let Value::Array(answers) = &answer else { return is_answer(&answer, waiting[0]) };
    // A notification that is none gets an answer too: it is a request that cannot be read.
    let least = waiting.iter().filter(|request| waits(request).0).count();
    if answers.is_empty() || answers.len() < least || answers.len() > waiting.len() {
        return Err(format!("{answer} to {request}"));
    }
    for one in answers {
        waiting.iter().find(|request| is_answer(one, request).is_ok()).ok_or("nobody's")?;
    }
    Ok(())
}

fn member() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!("2.0")),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "[a-z]{1,3}\\.[a-z]{1,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Nearly a request.
fn request() -> impl Strategy<Value = Value> {
    let method = prop_oneof![
        8 => "[a-z]{1,3}\\.[a-z]{1,4}".prop_map(Value::from),
        1 => "(ping|locate_service|rpc\\.discover|genkan\\.subscribe|x)".prop_map(Value::from),
        1 => member(),
    ];
    let version = prop_oneof![8 => Just(json!("2.0")), 1 => member()];
    let some = |value: BoxedStrategy<Value>| prop::option::weighted(0.8, value);
    let parts = (some(version.boxed()), some(method.boxed()), some(member().boxed()));
    (parts, some(member().boxed())).prop_map(|((version, method, params), id)| {
        let named = [("jsonrpc", version), ("method", method), ("params", params), ("id", id)];
        let members = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(members.collect::<Map<_, _>>())
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let json = |value: Value| value.to_string().into_bytes();
    let batch = prop::collection::vec(prop_oneof![4 => request(), 1 => member()], 0..6);
    let cut = (request(), any::<prop::sample::Index>()).prop_map(move |(value, at)| {
        let text = json(value);
        text[..at.index(text.len())].to_vec()
    });
    prop_oneof![
        4 => request().prop_map(json),
        3 => batch.prop_map(move |requests| json(requests.into())),
        1 => cut,
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_have_one_answer_or_none(body in body()) {
        thread_local! {
            static WORLD: (tokio::runtime::Runtime, Server) = {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                let server = runtime.block_on(async { server() });
                (runtime, server)
            };
        }
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = WORLD.with(|(runtime, server)| {
            runtime.block_on(answered(server, body.clone()))
        });
        let deserved = is_deserved(&body, &answer);
        prop_assert!(deserved.is_ok(), "{:?}: {} for {}", deserved, String::from_utf8_lossy(&answer), shown);
    }
}
