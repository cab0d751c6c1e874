//! The load: JSON-RPC calls over keep-alive HTTP/1.1 connections, one call at a time on each.
//!
//! A client as small as can be, so that it leaves the machine to what is measured: it writes one
//! prepared request and reads a head and `Content-Length` bytes. It believes nothing: status,
//! id and payload of every answer are compared.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::role::{Session, Threads, client};

/// The params of every small call, and so the result that echo services answer with.
pub(crate) const PAYLOAD: &str = r#"{"id":12345,"name":"ada"}"#;
/// How long the params of a large call are at least.
const LARGE: usize = 100 * 1024;

/// The params of a large call: what services send when they send much, rows of fields.
fn large_payload() -> String {
    let mut text = String::from(r#"{"rows":["#);
    let mut number = 0;
    while text.len() < LARGE {
        let comma = if number > 0 { "," } else { "" };
        text.push_str(&format!(
            r#"{comma}{{"id":{number},"name":"Zoë Müller","price":{}.50,"tags":["new","sale"],"#,
            number % 90 + 10
        ));
        text.push_str(
            r#""active":true,"parent":null,"address":{"street":"12 Mill Lane","city":"Leeds"},"#,
        );
        text.push_str(
            r#""note":"leave it at the \"blue\" door, please\nand ring twice: nobody hears it"}"#,
        );
        number += 1;
    }
    text.push_str("]}");
    text
}

/// What an answer must be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expect {
    /// The request's body.
    Echo,
    /// A JSON-RPC result with the call's id and payload.
    Result,
}

/// What calls show, one after the other and from the beginning again.
#[derive(Clone)]
pub(crate) struct Bearers(Arc<[String]>);

impl Bearers {
    /// One that every call shows, or those in a file, or none.
    pub(crate) fn read(one: Option<String>, file: Option<&Path>) -> Result<Self> {
        let many = file.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
        let all = one.into_iter().chain(many.lines().map(str::to_owned));
        let lines = all.map(|bearer| format!("Authorization: Bearer {bearer}\r\n"));
        Ok(Self(lines.collect()))
    }

    /// The header's line of that call, or nothing.
    fn line(&self, number: u64) -> &str {
        let at = number as usize % self.0.len().max(1);
        self.0.get(at).map_or("", String::as_str)
    }
}

/// The role.
pub(crate) fn load(
    address: SocketAddr,
    method: &str,
    expect: Expect,
    large: bool,
    bearers: Bearers,
) -> Result<()> {
    let payload = if large { large_payload() } else { PAYLOAD.to_owned() };
    let call = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{payload},"id":"#);
    client(Threads::Default, async { Ok(()) }, async |()| {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (call, payload, bearers) = (call.clone(), payload.clone(), bearers.clone());
        let (request, answer) = (Vec::new(), Vec::new());
        Ok(Connection { stream, bearers, call, payload, expect, request, answer })
    })
}

struct Connection {
    stream: TcpStream,
    bearers: Bearers,
    /// A call's text up to its id.
    call: String,
    payload: String,
    expect: Expect,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Session for Connection {
    async fn call(&mut self, number: u64) -> Result<()> {
        let end = format!("{number}}}");
        self.request.clear();
        let head = format!(
            "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {}Content-Length: {}\r\n\r\n",
            self.bearers.line(number),
            self.call.len() + end.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(self.call.as_bytes());
        self.request.extend_from_slice(end.as_bytes());
        self.stream.write_all(&self.request).await?;
        let range = self.receive().await?;
        let got = self.answer.get(range).unwrap_or_default();
        let right = match self.expect {
            Expect::Echo => self.request.get(head.len()..) == Some(got),
            Expect::Result => is_result(got, number, &self.payload),
        };
        ensure!(right, "call {number} got a wrong answer: {}", shown(got));
        Ok(())
    }
}

impl Connection {
    /// Reads one response and returns where its body is.
    async fn receive(&mut self) -> Result<Range<usize>> {
        self.answer.clear();
        loop {
            let count = self.stream.read_buf(&mut self.answer).await?;
            ensure!(count > 0, "the server closed a connection that was to stay");
            let Some(end) = memchr::memmem::find(&self.answer, b"\r\n\r\n") else { continue };
            let body = end + 4;
            let length = body_length(self.answer.get(..body).unwrap_or_default())?;
            while self.answer.len() < body + length {
                let count = self.stream.read_buf(&mut self.answer).await?;
                ensure!(count > 0, "the server closed a connection in the midst of an answer");
            }
            return Ok(body..body + length);
        }
    }
}

fn body_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "not a 200: {head}");
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(value.trim().parse()?);
        }
    }
    bail!("no Content-Length: {head}")
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    id: u64,
}

/// Whether it is a JSON-RPC result with that id and payload.
pub(crate) fn is_result(got: &[u8], number: u64, payload: &str) -> bool {
    serde_json::from_slice::<Answer<'_>>(got).is_ok_and(|answer| {
        answer.id == number && answer.result.is_some_and(|result| result.get() == payload)
    })
}

/// The beginning of an answer.
pub(crate) fn shown(got: &[u8]) -> String {
    String::from_utf8_lossy(got).chars().take(500).collect()
}
