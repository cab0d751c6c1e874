//! Who calls, by each ingress, and what comes back, in words that all of them share.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Cell;
use super::cases::{Case, Context, Got, Told, sent};
use super::client::{Client, PATIENCE};
use super::ingress::Ingress;
use super::upstream::Upstream;
use crate::harness::rabbit::Vhost;
use crate::harness::{Gateway, Nats, http};
use crate::hub::Peer;

/// All of them, ready to call.
pub struct Callers {
    http: String,
    /// One for each upstream: a module has one answer at a time here.
    modules: HashMap<&'static str, Mutex<Peer>>,
    plain: async_nats::Client,
    nameko: Client,
    picom: Client,
    micro: Client,
    nest: Client,
}

impl Callers {
    pub async fn start(gateway: &Gateway, vhost: &Vhost<'_>, nats: &Nats) -> Self {
        let mut modules = HashMap::new();
        for word in Upstream::ALL.map(Upstream::word) {
            let module = Peer::module(gateway, &format!("caller_{word}"), &[]).await;
            modules.insert(word, Mutex::new(module));
        }
        let (vhost, url) = (vhost.url(), nats.url());
        let node = |kind| Client::node(kind, &url);
        let (nameko, picom, micro, nest) =
            tokio::join!(Client::nameko(&vhost), node("picom"), node("micro"), node("nest"));
        let plain = nats.client().await;
        Self { http: gateway.http.clone(), modules, plain, nameko, picom, micro, nest }
    }

    /// Makes a cell's call.
    pub async fn call(&self, cell: &Cell) -> Got {
        match cell.ingress {
            Ingress::Api => self.api(cell).await,
            Ingress::Call => self.bare(cell).await,
            Ingress::Hub => self.module(cell).await,
            Ingress::Plain => self.plain(cell).await,
            Ingress::Nameko => nameko_got(&self.nameko.ask(cell).await),
            Ingress::Picom => picom_got(cell, &self.picom.ask(cell).await),
            Ingress::Micro => micro_got(&self.micro.ask(cell).await),
            Ingress::Nest => nest_got(&self.nest.ask(cell).await),
        }
    }

    async fn api(&self, cell: &Cell) -> Got {
        let (name, params) = (json!(cell.called()), cell.case.params(cell));
        let id = if cell.forgets() { "" } else { r#","id":1"# };
        let body = format!(r#"{{"jsonrpc":"2.0","method":{name},"params":{params}{id}}}"#);
        let headers = headers(cell);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = http::send(&self.http, "POST", "/api", &headers, body.as_bytes()).await;
        if response.body.is_empty() {
            return Got::Nothing;
        }
        match raw(response.text(), "result") {
            Some(result) => Got::Result(result),
            None => {
                let error = &response.json()["error"];
                let mut data = error["data"].clone();
                // A JSON-RPC service's own code is the error's.
                if cell.upstream == Upstream::JsonRpc
                    && cell.upstream.sees(cell.case)
                    && cell.case != Case::TimeOut
                {
                    data["code"] = error["code"].clone();
                }
                told(&data, &error["message"])
            }
        }
    }

    async fn bare(&self, cell: &Cell) -> Got {
        let path = format!("/call/{}", cell.called().replacen('.', "/", 1));
        let (headers, body) = (headers(cell), cell.case.params(cell));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = http::send(&self.http, "POST", &path, &headers, body.as_bytes()).await;
        match response.status {
            200 => Got::Result(response.text().to_owned()),
            _ => told(&response.json(), &response.json()["detail"]),
        }
    }

    async fn module(&self, cell: &Cell) -> Got {
        let mut module = self.modules[cell.upstream.word()].lock().await;
        let (name, params) = (json!(cell.called()), cell.case.params(cell));
        let frame = r#"{"requestId":"r","type":3,"function""#;
        module.write(format!("{frame}:{name},\"arguments\":{params}}}\n")).await;
        let line = module.line().await.expect("the hub answers");
        match raw(&line, "data") {
            Some(data) if line.contains(r#""type":4"#) => Got::Result(data),
            _ => {
                let frame: Value = serde_json::from_str(&line).expect("JSON");
                told(&frame["data"], &frame["message"])
            }
        }
    }

    async fn plain(&self, cell: &Cell) -> Got {
        let mut rows = async_nats::HeaderMap::new();
        for (name, value) in headers(cell) {
            rows.insert(name, value);
        }
        let (subject, body) = (cell.called(), cell.case.params(cell).into());
        if cell.forgets() {
            self.plain.publish_with_headers(subject, rows, body).await.expect("sent");
            return Got::Nothing;
        }
        let request = async_nats::Request::new().payload(body).headers(rows);
        let request = request.timeout(Some(PATIENCE));
        let reply = self.plain.send_request(subject, request).await.expect("an answer");
        let text = String::from_utf8_lossy(&reply.payload).into_owned();
        let headers = reply.headers.unwrap_or_default();
        match headers.get("Nats-Service-Error-Code") {
            None => Got::Result(text),
            Some(_) => {
                let body: Value = serde_json::from_str(&text).expect("JSON");
                told(&body, &body["error"])
            }
        }
    }
}

/// What travels with a call over HTTP or in NATS's headers.
pub fn headers(cell: &Cell) -> Vec<(&'static str, String)> {
    if cell.case != Case::Context {
        return Vec::new();
    }
    let Context { request_id, language, trace, millis } = sent(cell);
    let millis = millis.map(|millis| format!("{millis}ms"));
    let rows = [
        ("X-Request-Id", request_id),
        ("Accept-Language", language),
        ("traceparent", trace),
        ("X-Request-Timeout", millis),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A member of an object as it was written.
pub fn raw(text: &str, member: &str) -> Option<String> {
    let mut members: HashMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
    members.remove(member).map(|value| value.get().to_owned())
}

/// A fault where all that is known stands in an object.
fn told(data: &Value, words: &Value) -> Got {
    let text = |name: &str| data[name].as_str().map(ToOwned::to_owned);
    assert!(data["kind"].is_string() && data["outcome"].is_string(), "{data}");
    Got::Fault(Told {
        kind: text("kind"),
        outcome: text("outcome"),
        words: words.as_str().expect("a message").to_owned(),
        class: text("class"),
        info: data["info"].clone(),
        code: data["code"].clone(),
    })
}

fn result(line: &str) -> Option<Got> {
    let result = raw(line, "result")?;
    Some(if result == r#""forgotten""# { Got::Nothing } else { Got::Result(result) })
}

fn nameko_got(line: &str) -> Got {
    result(line).unwrap_or_else(|| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let raised = &line["raised"];
        let text = |name: &str| raised[name].as_str().unwrap_or_default().to_owned();
        let (kind, class) = match (text("class").as_str(), text("exc_type").as_str()) {
            ("MethodNotFound", _) => ("unknown_method", None),
            ("IncorrectSignature", _) => ("invalid_params", None),
            ("RemoteError", "UnknownService") => ("unknown_service", None),
            ("RemoteError", "RpcTimeout") => ("timeout", None),
            // Of an error without a class it is the name.
            ("RemoteError", "RemoteError") => ("application", None),
            ("RemoteError", class) => ("application", Some(class.to_owned())),
            _ => panic!("{line}"),
        };
        let is_own = kind == "application";
        let info = if is_own { raised["value"].clone() } else { Value::Null };
        let words = if raised["value"].is_null() { &raised["args"][0] } else { &raised["value"] };
        let words = words.as_str().expect("a text").to_owned();
        Got::Fault(Told { kind: Some(kind.to_owned()), class, info, words, ..Told::default() })
    })
}

fn picom_got(cell: &Cell, line: &str) -> Got {
    result(line).unwrap_or_else(|| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = line["error"].as_str().unwrap_or_else(|| panic!("no text: {line}"));
        assert!(!text.is_empty() && !text.ends_with("timed out"), "{line}");
        let unknown = format!("Method not found \"{}\"", cell.case.method());
        let kind = (text == unknown).then(|| "unknown_method".to_owned());
        Got::Fault(Told { kind, words: text.to_owned(), ..Told::default() })
    })
}

fn micro_got(line: &str) -> Got {
    result(line).unwrap_or_else(|| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line["error"]["code"].is_number(), "{line}");
        told(&line["error"]["body"], &line["error"]["body"]["error"])
    })
}

fn nest_got(line: &str) -> Got {
    result(line).unwrap_or_else(|| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["error"]["status"], "error", "{line}");
        told(&line["error"], &line["error"]["message"])
    })
}

/// A Nameko client's context data.
pub fn nameko_context(cell: &Cell) -> Value {
    if cell.case != Case::Context {
        return json!({});
    }
    let sent = sent(cell);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let deadline = u64::try_from(now).expect("milliseconds") + sent.millis.unwrap_or_default();
    json!({
        "request_id": sent.request_id, "language": sent.language, "traceparent": sent.trace,
        "deadline": deadline,
    })
}
