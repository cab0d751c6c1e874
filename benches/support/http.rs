//! The load: JSON-RPC calls over keep-alive HTTP/1.1 connections, one call at a time on each.
//!
//! A client as small as can be, so that it leaves the machine to what is measured: it writes one
//! prepared request and reads a head and `Content-Length` bytes. It believes nothing: status,
//! id and payload of every answer are compared.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::role::{Session, Threads, client};

/// The params of every call, and so the result that echo services answer with.
pub(crate) const PAYLOAD: &str = r#"{"id":12345,"name":"ada"}"#;

/// What an answer must be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expect {
    /// The request's body.
    Echo,
    /// A JSON-RPC result with the call's id and payload.
    Result,
}

/// The role.
pub(crate) fn load(address: SocketAddr, method: &str, expect: Expect) -> Result<()> {
    client(Threads::Default, async { Ok(()) }, async |()| {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let method = method.to_owned();
        Ok(Connection { stream, method, expect, request: Vec::new(), answer: Vec::new() })
    })
}

struct Connection {
    stream: TcpStream,
    method: String,
    expect: Expect,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Session for Connection {
    async fn call(&mut self, number: u64) -> Result<()> {
        let method = &self.method;
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{PAYLOAD},"id":{number}}}"#);
        self.request.clear();
        let head = format!(
            "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        let expect = self.expect;
        let got = self.receive().await?;
        let right = match expect {
            Expect::Echo => got == body.as_bytes(),
            Expect::Result => is_result(got, number),
        };
        ensure!(right, "call {number} got a wrong answer: {}", String::from_utf8_lossy(got));
        Ok(())
    }
}

impl Connection {
    /// Reads one response and returns its body.
    async fn receive(&mut self) -> Result<&[u8]> {
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
            return self.answer.get(body..body + length).context("the body is there");
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

fn is_result(got: &[u8], number: u64) -> bool {
    serde_json::from_slice::<Answer<'_>>(got).is_ok_and(|answer| {
        answer.id == number && answer.result.is_some_and(|result| result.get() == PAYLOAD)
    })
}
