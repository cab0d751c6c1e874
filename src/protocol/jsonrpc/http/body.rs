//! Reads a request's body: not beyond its limit, not beyond its time, not beyond what its
//! connection may hold, and without a copy where it came in one piece. Or takes it off the wire
//! unread, which is how every request is refused.
//!
//! Most clients read the answer only when they have sent everything. Over HTTP/1 the connection of one
//! that sends far too much ends with its answer, and it is heard out behind that (`linger`). Over HTTP/2 the
//! answer waits for the end of the body: curl 7.88 hangs where a status below 400 comes before it, and
//! loses an answer, as others do, behind which the stream is reset.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Request, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::super::envelope::invalid;
use super::{Http, linger};
use crate::budget::{Account, Share};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::{format_duration, format_size};

/// How much room is made at once for a body that says its length, and may lie.
const AT_ONCE: u64 = 256 << 10;
/// How much of a body that is refused is taken off before the answer over HTTP/1.
const LARGEST_DISCARDED: usize = 16 << 20;
/// Up to this size, a body that is there and an answer are not counted: the limits on calls and
/// streams are enough.
pub(super) const UNCOUNTED: usize = 16 * 1024;
/// How long a body whose call is refused anyway may take to go on.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Reads all of a body, or says why it was refused; then the connection cannot be used on.
pub(super) async fn read<B>(
    http: &Http,
    parts: &Parts,
    body: B,
    account: &Account,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (config, draining) = (&http.config, http.draining());
    let announced = announced(&parts.headers);
    if announced.is_some_and(|size| size > config.max_body as u64) {
        discard(http, parts, body).await;
        return Err(too_large(config.max_body));
    }
    let mut body = body;
    let read = {
        let expected = announced.map_or(0, |size| size.min(AT_ONCE) as usize);
        let mut reading = pin!(collect(&mut body, config.max_body, expected, account.share()));
        // Nearly every body came with its head, and needs no clock.
        match futures_util::poll!(&mut reading) {
            Poll::Ready(read) => read,
            Poll::Pending => tokio::select! {
                // What has come counts, even if word of the end came first.
                biased;
                read = timeout(config.read_timeout, reading) => {
                    read.unwrap_or_else(|_| Err(too_slow(config.read_timeout)))
                }
                () = draining.cancelled() => Err(too_late()),
            },
        }
    };
    let over = [FaultKind::TooLarge, FaultKind::Overloaded];
    if read.as_ref().is_err_and(|fault| over.contains(&fault.kind())) {
        take_off(http, parts, body).await;
    }
    read
}

/// How long a body is, as its head says.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A place for an answer until its reader has taken it.
pub(super) fn place(account: &Account, size: usize) -> Result<Option<Share>, Fault> {
    if size <= UNCOUNTED {
        return Ok(None);
    }
    let mut share = account.share();
    share.grow(size).map_err(|exceeded| exceeded.fault(Outcome::Executed))?;
    Ok(Some(share))
}

/// Makes a place wide enough for what has been written, which quotes and the like have made longer.
pub(super) fn widen(
    account: &Account,
    place: Option<Share>,
    size: usize,
) -> Result<Option<Share>, Fault> {
    let Some(mut share) = place else { return self::place(account, size) };
    let more = size.saturating_sub(share.held());
    share.grow(more).map_err(|exceeded| exceeded.fault(Outcome::Executed))?;
    Ok(Some(share))
}

async fn collect<B>(
    body: &mut B,
    limit: usize,
    expected: usize,
    mut share: Share,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| invalid("the body broke off before its end"))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + chunk.len() > limit {
            return Err(too_large(limit));
        }
        share.grow(chunk.len()).map_err(|exceeded| exceeded.fault(Outcome::NotSent))?;
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&chunk),
            None if first.is_empty() => first = chunk,
            None => {
                let mut joined = BytesMut::with_capacity(expected.max(first.len() + chunk.len()));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&chunk);
                rest = Some(joined);
            }
        }
    }
    let body = rest.map_or(first, BytesMut::freeze);
    Ok(if body.len() > UNCOUNTED { share.keep_with(body) } else { body })
}

/// Takes the body of a request that is refused off the wire. Gives what is left of the request.
pub(super) async fn leave<B>(http: &Http, request: Request<B>) -> Parts
where
    B: Body<Data = Bytes> + Unpin,
{
    let (parts, body) = request.into_parts();
    discard(http, &parts, body).await;
    parts
}

/// Takes a refused body off the wire, within reason: most clients read the answer only when
/// they have sent everything.
pub(super) async fn discard<B>(http: &Http, parts: &Parts, body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    // Who asked first has sent nothing yet, and need not.
    if !parts.headers.contains_key(header::EXPECT) {
        take_off(http, parts, body).await;
    }
}

async fn take_off<B>(http: &Http, parts: &Parts, mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let (most, patience) = match parts.version {
        Version::HTTP_2 => (linger::MOST, linger::PATIENCE),
        _ => (LARGEST_DISCARDED, http.config.read_timeout),
    };
    // It is not waited for where it is known to take too much.
    if announced(&parts.headers).is_some_and(|size| size > most as u64) {
        return;
    }
    let drain = async {
        let mut left = most;
        // Who sends nothing more may be waiting for the answer.
        while let Ok(Some(Ok(frame))) = timeout(LAST_CALL, body.frame()).await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            left = match left.checked_sub(size) {
                Some(left) => left,
                None => return,
            };
        }
    };
    // Whether it ended or ran out of time, the answer follows.
    tokio::select! {
        biased;
        ended = timeout(patience, drain) => ended.unwrap_or_default(),
        () = http.draining().cancelled() => {}
    }
}

/// Why a request is not begun that had not wholly come when the gateway began to drain.
pub(super) fn too_late() -> Fault {
    let message = "the gateway is about to end, and not all of the request had come: send it again";
    Fault::not_sent(FaultKind::Unavailable, message)
}

fn too_slow(limit: Duration) -> Fault {
    let message = format!("the request's body did not arrive within {}", format_duration(limit));
    Fault::not_sent(FaultKind::Timeout, message)
}

fn too_large(limit: usize) -> Fault {
    let message = format!("the request's body is over the limit of {}", format_size(limit));
    Fault::not_sent(FaultKind::TooLarge, message)
}
