//! One exchange of HTTP: what came back, or why nothing did, and what is certain of it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};

use super::connect::Unreachable;
use crate::budget::{Account, Exceeded};

/// A call on its way to hyper.
pub(super) type Outgoing = Request<Full<Bytes>>;

/// An answer that came in whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Its body, with its share of the memory.
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing of the call has left, nor will; why, without addresses. Another may take it.
    Unsent(Cow<'static, str>),
    /// Nothing of the call has left, nor will: it would come too late, when its turn is there.
    TooLate(InUse),
    /// The peer has refused us, and read nothing of the call; why.
    Refused(Box<Unreachable>),
    /// The connection had been closed by the peer before anything was sent over it.
    Stale,
    /// It has left, and the connection ended before its answer, or in the midst of it.
    Lost,
    /// What came back is no HTTP.
    NoHttp,
    /// The head of the answer has more headers, or longer ones, than are read.
    HeadTooLarge,
    /// The answer is larger than is taken: so many bytes, as far as was looked.
    TooLarge(u64),
    /// There is no room for it.
    NoRoom(Exceeded),
}

/// What a call has waited for.
#[derive(Debug)]
pub(super) enum InUse {
    /// A connection of HTTP/1.1: there are as many as are allowed.
    Connections,
    /// A stream of HTTP/2: the service lets so many be open.
    Streams(usize),
}

/// What answers may take.
#[derive(Clone)]
pub(super) struct Limits {
    /// The largest answer.
    pub(super) largest: usize,
    /// What is counted against the memory of all.
    pub(super) account: Account,
}

/// Gathers an answer's body, counted as it comes. One piece stays where it is.
pub(super) async fn gather(
    response: Response<Incoming>,
    limits: &Limits,
) -> Result<Answer, Failure> {
    let (head, mut body) = response.into_parts();
    let announced = body.size_hint().lower();
    if announced > limits.largest as u64 {
        return Err(Failure::TooLarge(announced));
    }
    let mut share = limits.account.share();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Lost)?;
        let Ok(piece) = frame.into_data() else { continue };
        let size = first.len() + rest.len() + piece.len();
        if size > limits.largest {
            return Err(Failure::TooLarge(size as u64));
        }
        share.grow(piece.len()).map_err(Failure::NoRoom)?;
        if first.is_empty() && rest.is_empty() {
            first = piece;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(size.max(usize::try_from(announced).unwrap_or(size)));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&piece);
    }
    let body = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Answer { status: head.status, headers: head.headers, body: share.keep_with(body) })
}

/// How long the peer keeps an idle connection, as it says: `Keep-Alive: timeout=5`.
pub(super) fn kept_alive(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get("keep-alive")?.to_str().ok()?;
    said.split(',').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let seconds = value.trim().parse().ok()?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| Duration::from_secs(seconds))
    })
}

/// How long an idle connection may be used, of a peer that keeps it so long and counts in whole
/// seconds, rounded down. What leaves a moment before the end would arrive after it.
pub(super) fn usable(kept: Option<Duration>, limit: Duration) -> Duration {
    const MARGIN: Duration = Duration::from_secs(1);
    match kept {
        None => limit,
        Some(kept) if kept <= MARGIN => limit.min(kept / 2),
        Some(kept) => limit.min(kept - MARGIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_say_of_idle_connections() {
        for (said, kept) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100,Timeout = 15", Some(15)),
            ("timeout=0", Some(0)),
            ("timeout=soon", None),
            ("timeout=-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", said.parse().expect("a value"));
            assert_eq!(kept_alive(&headers), kept.map(Duration::from_secs), "{said}");
        }
        assert_eq!(kept_alive(&HeaderMap::new()), None);
    }

    #[test]
    fn an_idle_connection_is_left_before_its_peer_leaves_it() {
        let (ms, limit) = (Duration::from_millis, Duration::from_secs(4));
        for (kept, expected) in [
            (None, 4_000),
            (Some(0), 0),
            (Some(1), 500),
            (Some(2), 1_000),
            (Some(5), 4_000),
            (Some(60), 4_000),
        ] {
            assert_eq!(usable(kept.map(Duration::from_secs), limit), ms(expected), "{kept:?}");
        }
    }
}
