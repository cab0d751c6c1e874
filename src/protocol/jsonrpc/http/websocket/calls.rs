//! What a message asks for, carried out: as many things as it holds, and how each ends.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::super::envelope::{self, Entry, Envelope};
use super::super::Http;
use super::super::requester::{Answered, BATCH_AT_ONCE, Requester};
use super::opening::Client;
use crate::budget::Account;
use crate::json::lexer::Container;
use crate::json::members::unescaped;
use crate::json::outline::{Member, outline};
use crate::json::{self, REQUEST_DEPTH};

/// Something that a message asked for, under way.
pub(super) type UnderWay = BoxFuture<'static, Done>;

/// It has ended.
pub(super) struct Done {
    /// How many places among the calls in flight it gives back.
    pub(super) places: usize,
    /// The answer; empty where nobody is owed one.
    pub(super) text: Bytes,
}

/// What a message comes to.
pub(super) struct Started {
    /// How many places among the calls in flight all of it takes.
    pub(super) places: usize,
    /// The calls, which end where they are dropped.
    pub(super) calls: Option<UnderWay>,
    /// The notifications run on by themselves: this waits for them.
    pub(super) notifications: Option<UnderWay>,
    /// The answer to what was no envelope.
    pub(super) refused: Option<Bytes>,
}

/// Starts what a message asks for.
pub(super) fn start(
    client: &Arc<Client>,
    http: &Arc<Http>,
    account: &Account,
    text: &Bytes,
) -> Started {
    let received = Instant::now();
    let envelope = match envelope::parse(text, http.config.max_batch) {
        // To answer an answer may go on for ever.
        Ok(Envelope::Single(Entry { request: Err(_), .. })) if is_answer(text) => {
            return Started { places: 0, calls: None, notifications: None, refused: None };
        }
        Ok(envelope) => envelope,
        Err(fault) => {
            let refused = Some(requester(client, http, received).refuse_call(fault).text);
            return Started { places: 0, calls: None, notifications: None, refused };
        }
    };
    let (owed, notes) = count(&envelope);
    let (noted, ended) = oneshot::channel::<Infallible>();
    let calls = {
        let (client, http, account) = (Arc::clone(client), Arc::clone(http), account.clone());
        async move {
            let requester = requester(&client, &http, received);
            let Answered { text, .. } = requester.carry_out(envelope, &account, noted).await;
            Done { places: owed, text }
        }
    };
    let notifications = (notes > 0).then(|| {
        // Nobody sends anything: the other end is dropped.
        ended.map(move |_| Done { places: notes, text: Bytes::new() }).boxed()
    });
    Started { places: owed + notes, calls: Some(calls.boxed()), notifications, refused: None }
}

fn requester<'a>(client: &'a Client, http: &'a Arc<Http>, received: Instant) -> Requester<'a> {
    let caller = client.ears.caller();
    Requester {
        http,
        ears: Some(&client.ears),
        ingress: http.websocket,
        service: client.service.as_deref(),
        gemstone: client.gemstone,
        context: client.ears.context(&client.context, &caller),
        caller,
        timeout: client.timeout,
        key: None,
        headers: None,
        received,
    }
}

/// How many calls, and how many notifications, of an envelope are under way at once.
fn count(envelope: &Envelope) -> (usize, usize) {
    let entries = match envelope {
        Envelope::Single(entry) => std::slice::from_ref(entry),
        Envelope::Batch(entries) => entries,
        Envelope::TooLong(..) => &[],
    };
    let is_owed = |entry: &&Entry| entry.id.is_some();
    let owed = entries.iter().filter(is_owed).count();
    (owed.min(BATCH_AT_ONCE), (entries.len() - owed).min(BATCH_AT_ONCE))
}

/// Whether a text that is no request is an answer: to an event, say, which some libraries give to what they
/// make nothing of.
fn is_answer(text: &Bytes) -> bool {
    let (mut is_answer, mut is_request) = (false, false);
    let look = |member: Member<'_>| match &*unescaped(member.key) {
        b"result" | b"error" => is_answer = true,
        b"method" => is_request = true,
        _ => {}
    };
    let found = json::text(text).and_then(|text| outline(text, REQUEST_DEPTH, look).ok());
    found.is_some_and(|found| found.container == Some(Container::Object))
        && is_answer
        && !is_request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_broken_requests() {
        let cases = [
            (r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"method"},"id":null}"#, true),
            (r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"no"}}"#, true),
            (r#" {"id":1,"result":{"method":"m"},"jsonrpc":"2.0"}"#, true),
            (r#"{"jsonrpc":"2.0","method":1,"result":1}"#, false),
            (r#"{"jsonrpc":"2.0","id":1}"#, false),
            (r#"[{"jsonrpc":"2.0","id":1,"result":1}]"#, false),
            (r#"{"result":1"#, false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_answer(&Bytes::from(text)), expected, "{text}");
        }
    }
}
