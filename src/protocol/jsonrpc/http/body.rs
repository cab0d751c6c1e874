//! Reads a request's body: not beyond its limit, not beyond its time, not beyond what its
//! connection may hold, and without a copy where it came in one piece. Or takes it off the wire
//! unread, which is how every request is refused.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Request, header};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::envelope::invalid;
use super::Http;
use crate::budget::{Account, Share};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::units::{format_duration, format_size};

/// How much room is made at once for a body that says its length, and may lie.
const AT_ONCE: u64 = 256 << 10;
/// How much of a body that is too large is read off and thrown away.
const LARGEST_DISCARDED: usize = 16 << 20;
/// Up to this size, a body that is there and an answer are not counted: the limits on calls and
/// streams are enough.
pub(super) const UNCOUNTED: usize = 16 * 1024;
/// How long a body whose call is refused anyway may take to go on.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Reads all of a body, or says why it was refused; then the connection cannot be used on.
pub(super) async fn read<B>(
    http: &Http,
    Parts { headers, .. }: &Parts,
    body: B,
    account: &Account,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (config, draining) = (&http.config, http.draining());
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|size| size > config.max_body as u64) {
        discard(http, headers, body).await;
        return Err(too_large(config.max_body));
    }
    let mut body = body;
    let read = {
        let expected = announced.map_or(0, |size| size.min(AT_ONCE) as usize);
        let mut reading = pin!(collect(&mut body, config.max_body, expected, account.share()));
        // Nearly every body came with its head, and needs no clock.
        match futures_util::poll!(&mut reading) {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => tokio::select! {
                // What has come counts, even if word of the end came first.
                biased;
                read = timeout(config.read_timeout, reading) => read,
                () = draining.cancelled() => return Err(too_late()),
            },
        }
    };
    match read {
        Ok(Err(fault)) if matches!(fault.kind(), FaultKind::TooLarge | FaultKind::Overloaded) => {
            take_off(body, config.read_timeout, draining).await;
            Err(fault)
        }
        Ok(read) => read,
        Err(_) => {
            let message = format!(
                "the request's body did not arrive within {}",
                format_duration(config.read_timeout)
            );
            Err(Fault::not_sent(FaultKind::Timeout, message))
        }
    }
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
    discard(http, &parts.headers, body).await;
    parts
}

/// Takes a refused body off the wire, within reason: most clients read the answer only when
/// they have sent everything, and a connection closed under them, or a stream that is reset, would
/// cost some of them the answer.
pub(super) async fn discard<B>(http: &Http, headers: &HeaderMap, body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    // Who asked first has sent nothing yet, and need not.
    if !headers.contains_key(header::EXPECT) {
        take_off(body, http.config.read_timeout, http.draining()).await;
    }
}

async fn take_off<B>(mut body: B, patience: Duration, draining: &CancellationToken)
where
    B: Body<Data = Bytes> + Unpin,
{
    let drain = async {
        let mut left = LARGEST_DISCARDED;
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
        () = draining.cancelled() => {}
    }
}

/// Why a request is not begun that had not wholly come when the gateway began to drain.
pub(super) fn too_late() -> Fault {
    let message = "the gateway is about to end, and not all of the request had come: send it again";
    Fault::not_sent(FaultKind::Unavailable, message)
}

fn too_large(limit: usize) -> Fault {
    let message = format!("the request's body is over the limit of {}", format_size(limit));
    Fault::not_sent(FaultKind::TooLarge, message)
}
