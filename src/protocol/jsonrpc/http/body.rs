//! Reads a request's body: not beyond its limit, not beyond its time, without a copy where it
//! came in one piece.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::config::HttpConfig;
use super::super::envelope::invalid;
use crate::fault::{Fault, FaultKind};
use crate::units::{format_duration, format_size};

/// How much of a body that is too large is read off and thrown away.
const LARGEST_DISCARDED: usize = 16 << 20;
/// How long after the gateway was told to end a body that is on its way may take to come.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Reads all of a body, or says why it was refused; then the connection cannot be used on.
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    config: &HttpConfig,
    draining: &CancellationToken,
) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|size| size > config.max_body as u64) {
        // Who asked first has sent nothing yet, and need not.
        if !headers.contains_key(header::EXPECT) {
            discard(body, config.read_timeout, draining).await;
        }
        return Err(too_large(config.max_body));
    }
    let mut body = body;
    let read = {
        let mut reading = pin!(collect(&mut body, config.max_body));
        // Nearly every body came with its head, and needs no clock.
        match futures_util::poll!(&mut reading) {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => tokio::select! {
                read = timeout(config.read_timeout, reading) => read,
                () = after(draining) => return Err(too_late()),
            },
        }
    };
    match read {
        Ok(Err(fault)) if fault.kind() == FaultKind::TooLarge => {
            discard(body, config.read_timeout, draining).await;
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

/// Waits until the gateway drains, and then a little for what is under way.
async fn after(draining: &CancellationToken) {
    draining.cancelled().await;
    sleep(LAST_CALL).await;
}

async fn collect<B>(body: &mut B, limit: usize) -> Result<Bytes, Fault>
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
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&chunk),
            None if first.is_empty() => first = chunk,
            None => {
                let mut joined = BytesMut::with_capacity(first.len() + chunk.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&chunk);
                rest = Some(joined);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Takes a refused body off the wire, within reason: most clients read the answer only when
/// they have sent everything, and a connection closed under them would cost them the answer.
async fn discard<B>(mut body: B, patience: Duration, draining: &CancellationToken)
where
    B: Body<Data = Bytes> + Unpin,
{
    let drain = async {
        let mut left = LARGEST_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            left = match left.checked_sub(size) {
                Some(left) => left,
                None => return,
            };
        }
    };
    // Whether it ended or ran out of time, the answer follows.
    tokio::select! {
        ended = timeout(patience, drain) => ended.unwrap_or_default(),
        () = after(draining) => {}
    }
}

fn too_late() -> Fault {
    let message = "the gateway is about to end, and the request's body had not come: send it again";
    Fault::not_sent(FaultKind::Unavailable, message)
}

fn too_large(limit: usize) -> Fault {
    let message = format!("the request's body is over the limit of {}", format_size(limit));
    Fault::not_sent(FaultKind::TooLarge, message)
}
