//! What Genkan sends to a server, byte by byte.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

pub(in crate::protocol::nats) const PING: &[u8] = b"PING\r\n";
pub(in crate::protocol::nats) const PONG: &[u8] = b"PONG\r\n";

/// The first thing that is said: who is there, and what he understands.
#[derive(Serialize)]
pub(in crate::protocol::nats) struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    name: &'static str,
    lang: &'static str,
    version: &'static str,
    /// 1: tell us when the cluster changes, and when the server is about to go.
    protocol: u8,
    /// What goes to our own subscriptions comes back.
    echo: bool,
    headers: bool,
    /// Say at once where nobody listens.
    no_responders: bool,
    pub(in crate::protocol::nats) tls_required: bool,
    #[serde(flatten)]
    pub(in crate::protocol::nats) login: Login<'a>,
}

/// The proof of who is there.
#[derive(Default, Serialize)]
pub(in crate::protocol::nats) struct Login<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol::nats) sig: Option<&'a str>,
}

impl<'a> Connect<'a> {
    /// Genkan's, with that proof.
    pub(in crate::protocol::nats) fn new(tls_required: bool, login: Login<'a>) -> Self {
        Self {
            verbose: false,
            pedantic: false,
            name: "genkan",
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            echo: true,
            headers: true,
            no_responders: true,
            tls_required,
            login,
        }
    }

    /// `CONNECT {…}`.
    pub(in crate::protocol::nats) fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        out.extend_from_slice(b"CONNECT ");
        serde_json::to_writer(&mut *out, self)?;
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// A signature, as `CONNECT` holds it.
pub(in crate::protocol::nats) fn signature(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `SUB SUBJECT [GROUP] SID`: each message goes to one alone of those who subscribe in a group.
pub(in crate::protocol::nats) fn subscribe(
    out: &mut Vec<u8>,
    subject: &str,
    group: Option<&str>,
    sid: u64,
) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(group) = group {
        out.extend_from_slice(group.as_bytes());
        out.push(b' ');
    }
    push_number(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// `UNSUB SID`.
pub(in crate::protocol::nats) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(b"UNSUB ");
    push_number(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// `HPUB SUBJECT [REPLY] HEADERS SIZE` and the headers. The payload and a line break must follow.
pub(in crate::protocol::nats) fn publish(
    out: &mut Vec<u8>,
    subject: &str,
    reply: Option<&str>,
    headers: &str,
    payload: usize,
) {
    out.extend_from_slice(b"HPUB ");
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
    push_number(out, headers.len() as u64);
    out.push(b' ');
    push_number(out, (headers.len() + payload) as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(headers.as_bytes());
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_bytes() {
        assert_eq!(text(|out| subscribe(out, "a.*", None, 12)), "SUB a.* 12\r\n");
        assert_eq!(text(|out| subscribe(out, "a.>", Some("a"), 12)), "SUB a.> a 12\r\n");
        assert_eq!(text(|out| unsubscribe(out, 12)), "UNSUB 12\r\n");
        let headers = "NATS/1.0\r\nA: b\r\n\r\n";
        let with_reply = text(|out| publish(out, "a.b", Some("inbox.1"), headers, 3));
        assert_eq!(with_reply, format!("HPUB a.b inbox.1 18 21\r\n{headers}"));
        let without = text(|out| publish(out, "a.b", None, headers, 0));
        assert_eq!(without, format!("HPUB a.b 18 18\r\n{headers}"));
    }

    #[test]
    fn connect() {
        let login = Login { user: Some("u"), pass: Some("p\"\r\n"), ..Login::default() };
        let line = text(|out| Connect::new(true, login).write(out).unwrap());
        let json = line.strip_prefix("CONNECT ").and_then(|line| line.strip_suffix("\r\n"));
        let json = json.expect("one line");
        assert!(!json.contains(['\r', '\n']), "{json}");
        let said: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&said["user"], &said["pass"]), (&"u".into(), &"p\"\r\n".into()));
        for on in ["headers", "no_responders", "echo", "tls_required"] {
            assert_eq!(said[on], true, "{on}");
        }
        assert_eq!(said.get("jwt"), None);
        assert_eq!(signature(&[0xff, 0xef]), "_-8");
    }
}
