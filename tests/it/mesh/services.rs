//! A service on each upstream, and what it saw.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use serde_json::value::RawValue;

use super::cases::{Context, Sight};
use super::program::Program;
use crate::harness::rabbit::Vhost;
use crate::harness::responder::queue_state;
use crate::harness::{Answer, Asked, Gateway, Nats, NatsResponder, Say, Seen, Web, until};
use crate::hub::Peer;

/// What services of the tests' own have seen.
#[derive(Clone, Default)]
pub struct Sights(Arc<Mutex<Vec<(String, Sight)>>>);

impl Sights {
    pub fn add(&self, method: &str, params: &str, context: Context) {
        let read: Value = serde_json::from_str(params).expect("JSON");
        let cell = read["cell"].as_str().unwrap_or_else(|| panic!("no cell: {params}")).to_owned();
        let sight = Sight { method: method.to_owned(), params: params.to_owned(), context };
        self.0.lock().unwrap().push((cell, sight));
    }

    /// All of them.
    pub fn take(&self) -> Vec<(String, Sight)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// All services, running.
pub struct Services {
    sights: Sights,
    programs: Vec<Program>,
    _plain: NatsResponder,
    pub jsonrpc: Web,
    pub nobody: Web,
}

impl Services {
    pub async fn start(vhost: &Vhost<'_>, nats: &Nats) -> Self {
        let sights = Sights::default();
        let programs = vec![
            Program::nameko(&vhost.url()),
            Program::node("picom", nats),
            Program::node("micro", nats),
            Program::node("nest", nats),
        ];
        let seen = sights.clone();
        let plain = NatsResponder::serve(nats.client().await, "mesh_plain", move |asked| {
            seen.add(
                &asked.method,
                &asked.body,
                nats_context(|name| asked.headers.get(name).cloned()),
            );
            answer_plain(asked)
        });
        let plain = plain.await;
        let seen = sights.clone();
        let jsonrpc = Web::serve(move |asked| answer_jsonrpc(&seen, asked)).await;
        let nobody = Web::serve(|_| Say::status("404 Not Found", "", "")).await;
        for program in &programs {
            program.wait();
        }
        until("the Nameko service is there", async || {
            let state = queue_state(&vhost.url(), "rpc-mesh_nameko").await;
            state.is_some_and(|(consumers, _)| consumers > 0)
        })
        .await;
        Self { sights, programs, _plain: plain, jsonrpc, nobody }
    }

    /// Lets a module of the hub be the service there.
    pub async fn join(&self, gateway: &Gateway) {
        let functions = ["echo", "nothing", "fail", "pick", "late", "note"];
        let module = Peer::module(gateway, "mesh_hub", &functions).await;
        tokio::spawn(serve_module(module, self.sights.clone()));
    }

    /// How many calls the services have seen.
    pub fn count(&self) -> usize {
        self.sights.0.lock().unwrap().len()
            + self.programs.iter().map(Program::count).sum::<usize>()
    }

    /// What the services have seen, each with the cell's id.
    pub fn seen(&self) -> Vec<(String, Sight)> {
        let mut all = self.sights.take();
        for program in &self.programs {
            all.extend(program.seen());
        }
        all
    }
}

/// What NATS's or HTTP's headers say.
pub fn nats_context(get: impl Fn(&str) -> Option<String>) -> Context {
    let millis = get("X-Request-Timeout");
    let millis = millis.map(|text| text.trim_end_matches("ms").parse().expect("milliseconds"));
    Context {
        request_id: get("X-Request-Id"),
        language: get("Accept-Language"),
        trace: get("traceparent"),
        millis,
    }
}

fn answer_plain(asked: &Seen) -> Vec<Answer> {
    let error = |code: &str, text: &str, body: &str| {
        let headers = [("Nats-Service-Error", text), ("Nats-Service-Error-Code", code)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        vec![Answer { body: body.into(), headers, ..Answer::default() }]
    };
    match &asked.method[..] {
        "echo" => Answer::new(asked.body.clone()),
        "nothing" => Answer::new("null"),
        "fail" => error("409", "no size", r#"{"line":7}"#),
        "pick" => error("422", "a size is missing", ""),
        "late" => Vec::new(),
        "note" => Answer::new("\"noted\""),
        _ => error("404", "no such method", ""),
    }
}

fn answer_jsonrpc(sights: &Sights, asked: &Asked) -> Say {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        method: &'a str,
        #[serde(borrow)]
        params: &'a RawValue,
        id: Option<u64>,
    }
    let envelope: Envelope<'_> = serde_json::from_str(&asked.body).expect("JSON");
    let header = |name: &str| asked.header(&name.to_ascii_lowercase()).map(ToOwned::to_owned);
    sights.add(envelope.method, envelope.params.get(), nats_context(header));
    if envelope.id.is_none() {
        return Say::status("200 OK", "", "");
    }
    match envelope.method {
        "echo" => asked.result(envelope.params.get()),
        "nothing" => asked.result("null"),
        "fail" => {
            let data = r#"{"class":"Refused","info":{"line":7}}"#;
            asked.error(&format!(r#"{{"code":-32603,"message":"Internal error","data":{data}}}"#))
        }
        "pick" => asked.error(r#"{"code":-32602,"message":"Invalid params"}"#),
        "late" => Say::nothing(),
        "note" => asked.result("\"noted\""),
        _ => asked.error(r#"{"code":-32601,"message":"Method not found"}"#),
    }
}

async fn serve_module(mut module: Peer, sights: Sights) {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Frame<'a> {
        request_id: &'a str,
        r#type: u8,
        function: &'a str,
        #[serde(borrow)]
        arguments: &'a RawValue,
    }
    while let Some(line) = module.line().await {
        let frame: Frame<'_> = serde_json::from_str(&line).expect("a call");
        assert_eq!(frame.r#type, 3, "{line}");
        sights.add(frame.function, frame.arguments.get(), Context::default());
        let head = format!(r#"{{"requestId":"{}","type""#, frame.request_id);
        let answer = match frame.function {
            "echo" => format!(r#"{head}:4,"data":{}}}"#, frame.arguments),
            "nothing" => format!(r#"{head}:4,"data":null}}"#),
            "fail" => format!(r#"{head}:0,"error":2,"message":"no size","data":{{"line":7}}}}"#),
            "pick" => format!(r#"{head}:0,"error":0,"message":"a size is missing"}}"#),
            "late" => continue,
            _ => format!(r#"{head}:4,"data":"noted"}}"#),
        };
        module.write(answer + "\n").await;
    }
}
