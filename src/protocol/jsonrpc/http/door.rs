//! Looks at a request before anything is done for it: for whom it is, which web page sent it, and
//! whether everybody on its way reads the same end of it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, Uri, Version, header};

use super::super::envelope::invalid;
use super::exchange_body::RequestBody;
use super::{Http, bare, body, rpc};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind};
use crate::web::{SEC_FETCH_SITE, Unwelcome, WebPolicy};

/// Why a request is turned away, and what HTTP calls that.
pub(super) struct TurnedAway {
    fault: Fault,
    status: StatusCode,
}

/// Checks a request's head.
pub(super) fn check<B>(policy: &WebPolicy, request: &Request<B>) -> Result<(), TurnedAway> {
    policy.check(request).map_err(|unwelcome| {
        let status = unwelcome.status();
        let fault = match unwelcome {
            Unwelcome::Malformed(how) => invalid(how),
            unwelcome => Fault::not_sent(FaultKind::AccessDenied, unwelcome.to_string()),
        };
        TurnedAway { fault, status }
    })?;
    // hyper reads `gzip, chunked` as if it were `chunked`; others may not.
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).into_iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if chunked(coding) => Ok(()),
        _ => {
            let fault = invalid("the only Transfer-Encoding that is understood is `chunked`");
            Err(TurnedAway { fault, status: StatusCode::NOT_IMPLEMENTED })
        }
    }
}

/// What tells which page a request comes from, if it comes from one. Copied: what it says is a part
/// of the buffer that all of it came in.
pub(super) fn page<B>(request: &Request<B>) -> Option<Box<Request<()>>> {
    let headers = request.headers();
    if !headers.contains_key(header::ORIGIN) && !headers.contains_key(SEC_FETCH_SITE) {
        return None;
    }
    let mut page = Request::new(());
    *page.uri_mut() = Uri::try_from(request.uri().to_string()).ok()?;
    *page.version_mut() = request.version();
    for name in [header::HOST, header::ORIGIN, SEC_FETCH_SITE] {
        for value in headers.get_all(&name) {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            page.headers_mut().append(&name, value);
        }
    }
    Some(Box::new(page))
}

impl TurnedAway {
    /// The answer, in the terms of the path that was asked for. The connection ends with it where
    /// what follows cannot be trusted to be a request.
    pub(super) async fn answer(
        &self,
        http: &Arc<Http>,
        caller: &Caller,
        request: Request<RequestBody>,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let ends = self.status != StatusCode::FORBIDDEN && parts.version <= Version::HTTP_11;
        if ends {
            body.progress().stops_reading();
        } else {
            body::discard(http, &parts, body).await;
        }
        let Parts { uri, headers, .. } = &parts;
        let path = uri.path();
        if path == "/api" || path.starts_with("/api/") {
            rpc::refuse(http, (caller, headers), self.status, &self.fault).map(Body::new)
        } else {
            bare::refuse(http, (caller, headers), self.status, &self.fault)
        }
    }
}
