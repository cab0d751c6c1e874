//! A client library in a process of its own, which is told its calls line by line.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::Cell;
use super::callers::{headers, nameko_context, raw};
use crate::harness::process::{Folder, Process, installed, project, touch};

/// How long a call may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A call's number, the line that orders it, and where its answer goes.
type Order = (u64, String, oneshot::Sender<String>);

/// The client.
pub struct Client {
    process: Process,
    _folder: Folder,
    orders: mpsc::UnboundedSender<Order>,
}

impl Client {
    pub async fn nameko(url: &str) -> Self {
        let mut command = Command::new(installed("nameko2/bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
        command.arg(project().join("tests/clients/mesh_nameko.py"));
        Self::start(command, url).await
    }

    pub async fn node(kind: &str, url: &str) -> Self {
        let mut command = Command::new("node");
        let packages = if kind == "nest" { "nest/node_modules" } else { "node/node_modules" };
        command.env("NODE_PATH", installed(packages));
        command.arg(project().join("tests/clients/mesh_calls.js")).arg(kind);
        Self::start(command, url).await
    }

    async fn start(mut command: Command, url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let folder = Folder::new();
        let log = folder.path().join("client.log");
        touch(&log);
        let process = Process::start(command.arg(address).arg(url), Some(&log));
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) =
            accepted.unwrap_or_else(|_| panic!("{}", process.log())).expect("it connects");
        let (read, mut write) = stream.into_split();
        let (orders, mut queue) = mpsc::unbounded_channel::<Order>();
        tokio::spawn(async move {
            let mut waiting = HashMap::new();
            let mut lines = BufReader::new(read).lines();
            loop {
                tokio::select! {
                    order = queue.recv() => {
                        let Some((number, line, answer)) = order else { break };
                        waiting.insert(number, answer);
                        write.write_all(line.as_bytes()).await.expect("the client reads");
                    }
                    line = lines.next_line() => {
                        let Ok(Some(line)) = line else { break };
                        let number = raw(&line, "n").and_then(|number| number.parse().ok());
                        let answer = waiting.remove(&number.expect("a number"));
                        drop(answer.expect("it was asked").send(line));
                    }
                }
            }
        });
        Self { process, _folder: folder, orders }
    }

    /// The line that a call is answered by.
    pub async fn ask(&self, cell: &Cell) -> String {
        let (service, method) = cell.called_parts();
        let params = cell.case.params(cell);
        let headers: serde_json::Map<_, _> = headers(cell)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let order = json!({
            "n": cell.number(), "service": service, "method": method, "text": params,
            "context": nameko_context(cell), "headers": headers, "forget": cell.forgets(),
        });
        let order = order.to_string();
        let order =
            format!("{},\"params\":{params}}}\n", order.strip_suffix('}').expect("an object"));
        let (sender, answer) = oneshot::channel();
        self.orders.send((cell.number(), order, sender)).expect("the client runs");
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer: {}", self.process.log()));
        answer.unwrap_or_else(|_| panic!("the client died: {}", self.process.log()))
    }
}
