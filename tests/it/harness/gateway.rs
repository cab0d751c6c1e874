//! The real gateway as a child process, configured by the TOML that an operator would write.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::eventually::eventually;
use super::http::{self, Connection, Response};
use super::process::{Folder, PATIENCE, Process};

/// The binary under test.
pub const GENKAN: &str = env!("CARGO_BIN_EXE_genkan");

/// `genkan` with nothing of this process's environment that could configure it.
pub fn genkan() -> Command {
    let mut command = Command::new(GENKAN);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GENKAN") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

/// A gateway that runs.
pub struct Gateway {
    process: Process,
    log: Arc<Mutex<Vec<String>>>,
    folder: Folder,
    /// `127.0.0.1:PORT` of the HTTP ingress.
    pub http: String,
    /// `127.0.0.1:PORT` of the pages for operators.
    pub admin: String,
}

/// A fault as a caller sees it.
#[derive(Debug)]
pub struct Fault {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl Fault {
    /// Checks kind and outcome, and that `retryable` is there.
    #[track_caller]
    pub fn is(&self, kind: &str, outcome: &str) -> &Self {
        assert_eq!(self.data["kind"], kind, "{self:?}");
        assert_eq!(self.data["outcome"], outcome, "{self:?}");
        assert!(self.data["retryable"].is_boolean(), "{self:?}");
        self
    }
}

impl Gateway {
    /// Starts one, without waiting for its upstreams.
    pub async fn start(toml: &str) -> Self {
        Self::start_with(toml, &[]).await
    }

    /// Starts one and waits until every upstream that a route needs is connected.
    pub async fn ready(toml: &str) -> Self {
        let gateway = Self::start(toml).await;
        gateway.wait_until_ready().await;
        gateway
    }

    /// Starts one with variables in its environment.
    pub async fn start_with(toml: &str, environment: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let config = folder.write("genkan.toml", &with_free_ports(toml));
        let mut command = genkan();
        command.arg("serve").arg("--config").arg(&config).envs(environment.iter().copied());
        Self::spawn(&command, folder).await
    }

    /// Starts one with a command of its own, in `folder`.
    pub async fn spawn(command: &Command, folder: Folder) -> Self {
        let mut process = Process::start(command, None);
        let lines = BufReader::new(process.stderr()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        let (http, admin) = (String::new(), String::new());
        let mut gateway = Self { process, log, folder, http, admin };
        gateway.http = gateway.address("http").await;
        gateway.admin = gateway.address("admin").await;
        gateway
    }

    async fn address(&self, ingress: &str) -> String {
        let started = Instant::now();
        loop {
            let said = self.logged("listening").into_iter().find(|line| line["ingress"] == ingress);
            if let Some(line) = said {
                return line["address"].as_str().expect("an address").to_owned();
            }
            let ended = self.process.exited();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "the gateway did not start (exit: {ended:?}):\n{}",
                self.log_text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for `/readyz`.
    pub async fn wait_until_ready(&self) {
        eventually("the gateway is ready", async || {
            (self.page("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// Waits until `/readyz` says no, and returns what it says.
    pub async fn wait_until_not_ready(&self) -> String {
        eventually("the gateway is not ready", async || {
            let page = self.page("/readyz").await;
            (page.status == 503).then(|| page.text().to_owned())
        })
        .await
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("genkan.toml")
    }

    /// Posts a body to a path.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Response {
        http::send(&self.http, "POST", path, headers, body.as_ref()).await
    }

    /// Posts to `/api` and reads the JSON that comes back.
    pub async fn api(&self, body: impl AsRef<[u8]>) -> Value {
        let response = self.post("/api", &[], body).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// A call, as a client library would send it: the whole response object.
    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        let mut request = json!({"jsonrpc": "2.0", "method": method, "id": 1});
        if !params.is_null() {
            request["params"] = params;
        }
        let response = self.api(request.to_string()).await;
        assert_eq!(response["jsonrpc"], "2.0", "{response}");
        assert_eq!(response["id"], 1, "{response}");
        response
    }

    /// A call that has a result.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        let mut response = self.rpc(method, params).await;
        assert!(response.get("error").is_none(), "{method}: {response}\n{}", self.log_text());
        response.get_mut("result").unwrap_or_else(|| panic!("{method}: no result")).take()
    }

    /// A call that has none.
    pub async fn fault(&self, method: &str, params: Value) -> Fault {
        let response = self.rpc(method, params).await;
        assert!(response.get("result").is_none(), "{method}: {response}\n{}", self.log_text());
        as_fault(&response)
    }

    /// The result's bytes of a call whose params are given as text.
    pub async fn raw(&self, method: &str, params: &str) -> String {
        let method = Value::from(method);
        let body = format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params},"id":1}}"#);
        let response = self.post("/api", &[], body).await;
        let text = response.text();
        let result = text
            .strip_prefix(r#"{"jsonrpc":"2.0","result":"#)
            .and_then(|rest| rest.strip_suffix(r#","id":1}"#));
        result.unwrap_or_else(|| panic!("no plain result: {text}")).to_owned()
    }

    /// Sends a notification.
    pub async fn notify(&self, method: &str, params: Value) {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let response = self.post("/api", &[], request.to_string()).await;
        assert_eq!((response.status, response.text()), (200, ""));
    }

    /// A page for operators.
    pub async fn page(&self, path: &str) -> Response {
        http::send(&self.admin, "GET", path, &[], b"").await
    }

    /// The value of a metric: the sum over all series of that name that hold every label.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let page = self.page("/metrics").await;
        sum(page.text(), name, labels)
    }

    /// Waits until a metric is at least `value`.
    pub async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(&format!("{name} {labels:?} is at least {value}"), async || {
            (self.metric(name, labels).await >= value).then_some(())
        })
        .await;
    }

    /// A connection that stays open.
    pub async fn connect(&self) -> Connection {
        Connection::open(&self.http).await
    }

    /// All that was written to standard error.
    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Every line of the log. Each must be a JSON object: standard error is no terminal.
    pub fn log(&self) -> Vec<Value> {
        self.log_after(0)
    }

    /// How many lines there are.
    pub fn lines_logged(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    fn log_after(&self, seen: usize) -> Vec<Value> {
        let lines = self.log.lock().unwrap();
        let parse = |line: &String| -> Value {
            let value: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
            assert!(value.is_object(), "{line}");
            value
        };
        lines.iter().skip(seen).map(parse).collect()
    }

    /// The lines with that message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// Waits for a line whose message begins with `message`, after the first `seen` lines.
    pub async fn wait_for_log(&self, seen: usize, message: &str) -> Value {
        eventually(&format!("a log line `{message}`"), async || {
            let mut lines = self.log_after(seen).into_iter();
            lines.find(|line| line["message"].as_str().unwrap_or_default().starts_with(message))
        })
        .await
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, toml: &str) {
        std::fs::write(self.config(), self.with_its_ports(toml)).expect("the file");
    }

    /// A configuration that lets it listen where it does.
    pub fn with_its_ports(&self, toml: &str) -> String {
        format!("{}\n", keep_ports(toml, &self.http, &self.admin))
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// Any signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.signal("KILL");
    }

    /// Stops it from running without closing its connections, or lets it run on.
    pub fn freeze(&self, frozen: bool) {
        self.process.signal(if frozen { "STOP" } else { "CONT" });
    }

    /// The exit status, once it has ended.
    pub async fn exit_status(&self) -> i32 {
        eventually("the gateway has ended", async || self.process.exited()).await
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        self.process.exited().is_none()
    }
}

/// The fault in a JSON-RPC response.
#[track_caller]
pub fn as_fault(response: &Value) -> Fault {
    let error = &response["error"];
    Fault {
        code: error["code"].as_i64().unwrap_or_else(|| panic!("no error code: {response}")),
        message: error["message"].as_str().expect("a message").to_owned(),
        data: error["data"].clone(),
    }
}

/// The sum of all series of that name that hold every label.
pub fn sum(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let series = metrics.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn with_free_ports(toml: &str) -> String {
    keep_ports(toml, "127.0.0.1:0", "127.0.0.1:0")
}

/// Adds the addresses that the test leaves open, without moving a line of what it wrote.
fn keep_ports(toml: &str, http: &str, admin: &str) -> String {
    let mut text = toml.trim_end().to_owned();
    // The hub would take its one default port: it listens where a test says so, else nowhere.
    let http = format!("\"{http}\"");
    let admin = format!("\"{admin}\"");
    for (table, address) in [("[http]", http.as_str()), ("[admin]", &admin), ("[hub]", "[]")] {
        let listen = format!("listen = {address}");
        let configured = toml.lines().position(|line| line.trim() == table);
        match configured {
            None => text = format!("{text}\n{table}\n{listen}"),
            Some(_) if has_listen(toml, table) => {}
            Some(_) => text = text.replacen(table, &format!("{table}\n{listen}"), 1),
        }
    }
    text
}

fn has_listen(toml: &str, table: &str) -> bool {
    let lines = toml.lines().map(str::trim).skip_while(|line| *line != table).skip(1);
    lines.take_while(|line| !line.starts_with('[')).any(|line| line.starts_with("listen"))
}
