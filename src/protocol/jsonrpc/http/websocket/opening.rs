//! The opening handshake (RFC 6455, section 4.2), and what it says about the client's calls.
//!
//! Where it is refused, nothing has been run, and the answer is one of HTTP's. Which page asks
//! has been looked at by then (`door`): browsers ask no leave before they open a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use ring::digest::{Context as Digest, SHA1_FOR_LEGACY_USE_ONLY};
use tokio::time::Instant;

use super::super::super::envelope::invalid;
use super::super::ears::Ears;
use super::super::handover::{Handover, Next};
use super::super::{Http, door, headers, rpc};
use crate::call::Context;
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};

/// What the key is joined with before it is hashed (RFC 6455, section 1.3).
const ACCEPT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The one version that is spoken.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// A client that asks for subprotocols fails where none is chosen: by these names JSON-RPC 2.0 is
/// meant.
const SUBPROTOCOLS: [&str; 4] = ["jsonrpc", "jsonrpc-2.0", "jsonrpc2.0", "json-rpc"];

/// An answer to the opening request.
type Response = http::Response<Full<Bytes>>;

/// A connection that has been opened.
pub(in super::super) struct Opening {
    /// Gives the connection's bytes when the answer has gone.
    pub(in super::super) upgrade: OnUpgrade,
    pub(super) client: Client,
}

/// What the opening request said about the client: it holds for every call.
pub(super) struct Client {
    /// The service at whose own address it asks.
    pub(super) service: Option<String>,
    pub(super) gemstone: bool,
    pub(super) context: Arc<Context>,
    pub(super) timeout: Option<Duration>,
    /// What it listens to.
    pub(super) ears: Ears,
    /// Which page it is, where it is one: which pages may call can change.
    pub(super) page: Option<Box<Request<()>>>,
}

/// Whether a request asks for a WebSocket, where one is served.
pub(in super::super) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && headers::has_token(request.headers(), &header::UPGRADE, "websocket")
        && service(request.uri().path()).is_some()
}

/// Answers a request that asks for a WebSocket. What is opened is handed over.
pub(in super::super) fn open<B>(
    http: &Arc<Http>,
    handover: &Handover,
    caller: Caller,
    mut request: Request<B>,
    is_late: bool,
) -> Response {
    let started = Instant::now();
    let whom = caller.clone();
    let refuse = |status, fault| rpc::refuse(http, (&whom, request.headers()), status, &fault);
    if is_late {
        let message = "the gateway takes no more connections here: connect again";
        let fault = Fault::not_sent(FaultKind::Unavailable, message);
        return refuse(StatusCode::SERVICE_UNAVAILABLE, fault);
    }
    if request.headers().get(header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        let fault = invalid("the one version of WebSocket that is spoken is 13");
        let mut response = refuse(StatusCode::UPGRADE_REQUIRED, fault);
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, VERSION);
        return response;
    }
    let accepted =
        check(&request).and_then(|key| Ok((accept(key)?, client(http, caller, &request)?)));
    let (accept, client) = match accepted {
        Ok(accepted) => accepted,
        Err(fault) => return refuse(StatusCode::BAD_REQUEST, fault),
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol(request.headers()) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    headers::write(answer, &client.context, None, started.elapsed(), None);
    let upgrade = hyper::upgrade::on(&mut request);
    handover.leave(Next::WebSocket(Opening { upgrade, client }));
    response
}

/// The service at whose address a path asks, or none; `None` where no WebSocket is served.
fn service(path: &str) -> Option<Option<&str>> {
    let rest = path.strip_prefix("/api")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Some(None);
    }
    let service = rest.strip_prefix('/')?;
    (!service.is_empty() && !service.contains('/')).then_some(Some(service))
}

/// Gives the key.
fn check<B>(request: &Request<B>) -> Result<&HeaderValue, Fault> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(invalid("a WebSocket is opened over HTTP/1.1"));
    }
    if !headers::has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(invalid("a WebSocket is asked for with `Connection: Upgrade`"));
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        return Err(invalid("a request that opens a WebSocket has no body"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    let key = keys.next().filter(|_| keys.next().is_none());
    let is_key =
        |key: &&HeaderValue| STANDARD.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16);
    key.filter(is_key)
        .ok_or_else(|| invalid("`Sec-WebSocket-Key` is there once, and holds 16 bytes in base64"))
}

/// What tells the client that its key was read.
fn accept(key: &HeaderValue) -> Result<HeaderValue, Fault> {
    let mut digest = Digest::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(ACCEPT);
    let accept = STANDARD.encode(digest.finish());
    HeaderValue::try_from(accept).map_err(|_| invalid("`Sec-WebSocket-Key` has no answer"))
}

fn client<B>(http: &Http, caller: Caller, request: &Request<B>) -> Result<Client, Fault> {
    let headers = request.headers();
    let service = service(request.uri().path()).flatten();
    let service = service.map(|service| percent_decode_str(service).decode_utf8());
    let service = service.transpose().map_err(|_| rpc::unreadable_path())?;
    let forward = http.config.forward_authorization;
    let wanted = http.router.wanted_headers();
    let wanted = wanted.as_ref().map(|wanted| wanted.as_slice());
    Ok(Client {
        service: service.map(|service| service.into_owned()),
        gemstone: headers::is_gemstone(headers),
        context: Arc::new(headers::read_context(headers, &caller, forward, wanted)),
        timeout: headers::read_timeout(headers)?,
        ears: Ears::new(&http.topics, caller),
        page: door::page(request),
    })
}

/// The first that the client asks for and that is known.
fn subprotocol(headers: &HeaderMap) -> Option<&'static str> {
    let mut asked = headers::tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    asked.find_map(|asked| SUBPROTOCOLS.into_iter().find(|known| *known == asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_specification_says() {
        let accept = accept(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept.expect("an answer"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn where_a_websocket_is_served() {
        for (path, expected) in [
            ("/api", Some(None)),
            ("/api/", Some(None)),
            ("/api/shop", Some(Some("shop"))),
            ("/api/shop/", Some(Some("shop"))),
            ("/api//", None),
            ("/api/shop/x", None),
            ("/apis", None),
            ("/", None),
            ("/call/a/b", None),
        ] {
            assert_eq!(service(path), expected, "{path}");
        }
    }

    #[test]
    fn who_asks() {
        let asks = |method: &str, path: &str, upgrade: &str| {
            let request = Request::builder().method(method).uri(path).header("upgrade", upgrade);
            is_asked(&request.body(()).expect("a request"))
        };
        assert!(asks("GET", "/api", "websocket"));
        assert!(asks("GET", "/api/shop", "h2c, WebSocket"));
        assert!(!asks("GET", "/api", "h2c"));
        assert!(!asks("POST", "/api", "websocket"));
        assert!(!asks("GET", "/call/a/b", "websocket"));
    }
}
