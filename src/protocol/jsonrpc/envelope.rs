//! Reads JSON-RPC 2.0 requests, single and batch (specification, sections 4 and 6).
//!
//! The text is walked once; `params` and `id` are slices of the body that came in, and are never
//! parsed. What is wrong with one request of a batch is that request's fault alone.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::call::{Params, Payload};
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::{IdempotencyKey, of_meta};
use crate::json::lexer::Container;
use crate::json::members::unescaped;
use crate::json::outline::{Flaw, Member, Part, outline, outline_each};
use crate::json::{self, REQUEST_DEPTH};

/// How many ids of a batch that is too long are answered, where `max_batch` is not even more: a
/// body of the default size could hold half a million entries.
const MAX_REFUSED: usize = 10_000;
/// What some editors and clients put before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What the body of a request holds.
#[derive(Debug)]
pub(super) enum Envelope {
    /// One request.
    Single(Entry),
    /// A batch, at least one request long.
    Batch(Vec<Entry>),
    /// A batch that is too long: nothing of it is carried out, and everyone who is owed an answer
    /// gets this fault, since most clients look for nothing but their ids.
    TooLong(Vec<Payload>, Fault),
}

impl Envelope {
    /// Refuses each request that could be read, for what was wrong with all of them.
    pub(super) fn refuse(&mut self, fault: &Fault) {
        let entries = match self {
            Envelope::Single(entry) => std::slice::from_mut(entry),
            Envelope::Batch(entries) => entries,
            Envelope::TooLong(..) => return,
        };
        for entry in entries {
            if let Ok(call) = &mut entry.request {
                let method = Some(std::mem::take(&mut call.method));
                entry.request = Err(Unfit { method, fault: fault.clone() });
            }
        }
    }
}

/// One request, or why it is none.
#[derive(Debug)]
pub(super) struct Entry {
    /// The id, byte for byte; `None` for a notification.
    pub(super) id: Option<Payload>,
    /// The request's method and params.
    pub(super) request: Result<MethodCall, Unfit>,
}

/// Why a request is none.
#[derive(Debug)]
pub(super) struct Unfit {
    /// The method as written, where that can be told.
    pub(super) method: Option<String>,
    /// What is wrong.
    pub(super) fault: Fault,
}

/// A valid request's content.
#[derive(Debug)]
pub(super) struct MethodCall {
    /// The method as written.
    pub(super) method: String,
    /// The params.
    pub(super) params: Params,
    /// By what its caller knows it again: `meta.idempotencyKey`, which is no part of JSON-RPC.
    pub(super) key: Option<IdempotencyKey>,
}

/// Reads a body. A fault here is the whole body's: it has no request's id.
pub(super) fn parse(body: &Bytes, max_batch: usize) -> Result<Envelope, Fault> {
    let text = json_text(body)?;
    let mut requests = Requests { most: max_batch.max(MAX_REFUSED), ..Requests::default() };
    let found = outline_each(text, REQUEST_DEPTH, |part| requests.add(part));
    let found = found.map_err(|flaw| flawed(flaw, text))?;
    let Requests { found: mut requests, count, .. } = requests;
    if found.container != Some(Container::Array) {
        return Ok(Envelope::Single(entry(body, requests.pop().flatten())));
    }
    if count == 0 {
        return Err(invalid("an empty batch holds no request"));
    }
    if count > max_batch {
        return too_long(body, requests, count, max_batch);
    }
    Ok(Envelope::Batch(requests.into_iter().map(|members| entry(body, members)).collect()))
}

fn too_long(
    body: &Bytes,
    requests: Vec<Option<Members<'_>>>,
    count: usize,
    max_batch: usize,
) -> Result<Envelope, Fault> {
    let message = format!(
        "a batch of {count} requests is over the limit of {max_batch}: none of them was carried out"
    );
    let fault = Fault::not_sent(FaultKind::TooLarge, message);
    if count > requests.len() {
        return Err(fault);
    }
    let ids = requests.into_iter().filter_map(|members| entry(body, members).id);
    let ids: Vec<Payload> = ids.collect();
    // Notifications alone: somebody has to be told.
    if ids.is_empty() { Err(fault) } else { Ok(Envelope::TooLong(ids, fault)) }
}

/// The requests of a body, in their order.
#[derive(Default)]
struct Requests<'a> {
    /// Those of the one that is being read.
    members: Members<'a>,
    /// Those that were read, up to `most`; `None` for what is no object.
    found: Vec<Option<Members<'a>>>,
    most: usize,
    count: usize,
}

impl<'a> Requests<'a> {
    fn add(&mut self, part: Part<'a>) {
        let container = match part {
            Part::Member(member) => return self.members.add(member),
            Part::End(container) => container,
        };
        let members = std::mem::take(&mut self.members);
        self.count += 1;
        if self.found.len() < self.most {
            self.found.push((container == Some(Container::Object)).then_some(members));
        }
    }
}

/// Reads a body that is params alone, without an envelope: an array, an object or nothing.
pub(super) fn parse_bare(body: &Bytes) -> Result<Params, Fault> {
    let text = json_text(body)?;
    if text.is_empty() {
        return Ok(Params::None);
    }
    outline(text, REQUEST_DEPTH, |_| {}).map_err(|flaw| flawed(flaw, text))?;
    let text = text.trim_ascii_end();
    if text == "null" {
        return Ok(Params::None);
    }
    params(body, text)
        .ok_or_else(|| invalid("the body must be the params: a JSON array, an object or nothing"))
}

fn json_text(body: &Bytes) -> Result<&str, Fault> {
    let text = json::text(body).ok_or_else(|| {
        let good = std::str::from_utf8(body).map_or_else(|error| error.valid_up_to(), str::len);
        parse_error(format!("the body is not UTF-8 from byte {good} on"))
    })?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    Ok(text.trim_start_matches([' ', '\t', '\r', '\n']))
}

/// What is wrong with a text: where it breaks off is told by a parser that says so.
fn flawed(flaw: Flaw, text: &str) -> Fault {
    if flaw == Flaw::TooDeep {
        let message = format!("the body nests deeper than the limit of {REQUEST_DEPTH} levels");
        return Fault::not_sent(FaultKind::TooLarge, message);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Err(error) => not_json(&error),
        Ok(_) => parse_error("not JSON".to_owned()),
    }
}

fn entry(body: &Bytes, members: Option<Members<'_>>) -> Entry {
    match members {
        Some(members) => members.into_entry(body),
        None => {
            let fault = invalid("a request must be a JSON object");
            let request = Err(Unfit { method: None, fault });
            Entry { id: Some(Payload::NULL), request }
        }
    }
}

/// The members of a request object that the specification names, and `meta`.
#[derive(Default)]
struct Members<'a> {
    jsonrpc: Option<&'a str>,
    method: Option<&'a str>,
    params: Option<&'a str>,
    id: Option<&'a str>,
    meta: Option<&'a str>,
    repeated: Option<&'static str>,
}

impl<'a> Members<'a> {
    fn add(&mut self, Member { key, value, .. }: Member<'a>) {
        let (name, member) = match &*unescaped(key) {
            b"jsonrpc" => ("jsonrpc", &mut self.jsonrpc),
            b"method" => ("method", &mut self.method),
            b"params" => ("params", &mut self.params),
            b"id" => ("id", &mut self.id),
            b"meta" => ("meta", &mut self.meta),
            _ => return,
        };
        if member.replace(value).is_some() && self.repeated != Some("method") {
            self.repeated = Some(name);
        }
    }

    fn into_entry(self, body: &Bytes) -> Entry {
        let id = self.id.map(|raw| {
            let valid = raw.starts_with(['"', '-', 'n'])
                || raw.starts_with(|first: char| first.is_ascii_digit());
            if valid {
                Ok(slice(body, raw))
            } else {
                Err(invalid("`id` must be a string, a number or null"))
            }
        });
        let request = self.check(body);
        match id {
            Some(Err(fault)) => {
                let method = request.map_or_else(|unfit| unfit.method, |call| Some(call.method));
                Entry { id: Some(Payload::NULL), request: Err(Unfit { method, fault }) }
            }
            // Who sends nonsense without an id is answered nevertheless, with the id null.
            None if request.is_err() => Entry { id: Some(Payload::NULL), request },
            None => Entry { id: None, request },
            Some(Ok(id)) => Entry { id: Some(id), request },
        }
    }

    fn check(&self, body: &Bytes) -> Result<MethodCall, Unfit> {
        let method = self.method();
        let others = self
            .check_version()
            .and_then(|()| method.as_ref().map(|_| ()).map_err(Fault::clone))
            .and_then(|()| Ok((self.params(body)?, self.key()?)));
        match (method, others) {
            (Ok(method), Ok((params, key))) => Ok(MethodCall { method, params, key }),
            (Err(fault), Ok(_)) => Err(Unfit { method: None, fault }),
            (method, Err(fault)) => {
                // Of two, nobody can say which is meant.
                let method = method.ok().filter(|_| self.repeated != Some("method"));
                Err(Unfit { method, fault })
            }
        }
    }

    fn check_version(&self) -> Result<(), Fault> {
        if let Some(key) = self.repeated {
            return Err(invalid(format!("the key `{key}` is there twice")));
        }
        match self.jsonrpc {
            Some("\"2.0\"") => Ok(()),
            Some(raw) if serde_json::from_str::<String>(raw).is_ok_and(|text| text == "2.0") => {
                Ok(())
            }
            Some(_) => Err(invalid("`jsonrpc` must be \"2.0\"")),
            None => Err(invalid("`jsonrpc`: \"2.0\" is missing")),
        }
    }

    fn method(&self) -> Result<String, Fault> {
        let method = self.method.ok_or_else(|| invalid("`method` is missing"))?;
        serde_json::from_str(method)
            .map_err(|_| invalid("`method` must be a string of valid Unicode"))
    }

    fn params(&self, body: &Bytes) -> Result<Params, Fault> {
        match self.params {
            None => Ok(Params::None),
            // Many libraries write what they leave out as null.
            Some("null") => Ok(Params::None),
            Some(raw) => params(body, raw)
                .ok_or_else(|| invalid("`params` must be an array or an object, or left out")),
        }
    }

    fn key(&self) -> Result<Option<IdempotencyKey>, Fault> {
        let key = self.meta.map_or(Ok(None), of_meta);
        key.map_err(|fault| invalid(fault.message()))
    }
}

fn params(body: &Bytes, raw: &str) -> Option<Params> {
    match raw.as_bytes().first() {
        Some(b'[') => Some(Params::Array(slice(body, raw))),
        Some(b'{') => Some(Params::Object(slice(body, raw))),
        _ => None,
    }
}

/// `raw` was borrowed from `body`: this shares it without copying.
fn slice(body: &Bytes, raw: &str) -> Payload {
    Payload::from_validated(body.slice_ref(raw.as_bytes()))
}

fn not_json(error: &serde_json::Error) -> Fault {
    parse_error(format!("not JSON: {error}"))
}

fn parse_error(reason: String) -> Fault {
    Fault::not_sent(FaultKind::ParseError, format!("Parse error: {reason}"))
}

pub(super) fn invalid(reason: impl fmt::Display) -> Fault {
    Fault::not_sent(FaultKind::InvalidRequest, format!("Invalid Request: {reason}"))
}

#[cfg(test)]
mod tests;
