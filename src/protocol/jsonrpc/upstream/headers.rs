//! The headers of a call: what travels with it, and what the configuration adds.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::super::mark::CALL;
use super::config::Settings;
use super::{parts, wire};
use crate::call::Request;
use crate::config::secret::{FoundSecret, shown_path};
use crate::metrics::RefusedFile;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GENKAN: HeaderValue = HeaderValue::from_static(concat!("genkan/", env!("CARGO_PKG_VERSION")));

/// What the configuration adds, as it is now, and what it lets go on.
pub(super) struct Headers {
    /// Those of callers that go on, by name.
    forwarded: Vec<HeaderName>,
    added: ArcSwap<Vec<(HeaderName, HeaderValue)>>,
    found: Mutex<Vec<(HeaderName, FoundSecret)>>,
    /// A file of theirs cannot be used.
    refused: Mutex<Option<RefusedFile>>,
}

impl Headers {
    pub(super) fn new(settings: &Settings) -> Self {
        let found = &settings.headers;
        let added = ArcSwap::from_pointee(values(found));
        let forwarded = settings.forwarded.iter().filter_map(|name| name.parse().ok()).collect();
        Self { forwarded, added, found: Mutex::new(found.clone()), refused: Mutex::default() }
    }

    /// Whether any stands in a file.
    pub(super) fn have_files(found: &[(HeaderName, FoundSecret)]) -> bool {
        found.iter().any(|(_, value)| value.file.is_some())
    }

    /// Looks whether a file holds another value by now. Waits for the disk.
    pub(super) fn look_again(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut changed, mut is_refused) = (false, false);
        for (name, value) in found.iter_mut() {
            match value.rotated().and_then(|next| next.map(fit).transpose()) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    tracing::info!(header = %name, "a header's value was replaced");
                    parts::retire(name, value.secret.expose());
                    value.secret.was_replaced_by(&next.secret);
                    (*value, changed) = (next, true);
                }
                Err(complaint) => {
                    is_refused = true;
                    tracing::error!(header = %name, complaint, "a header's file cannot be used: the old value stays");
                }
            }
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if is_refused {
            refused.get_or_insert_with(|| RefusedFile::new("headers"));
        } else {
            *refused = None;
        }
        if changed {
            self.added.store(Arc::new(values(&found)));
        }
    }

    /// The headers of a call, but for those that are an instance's own; a notification has no mark.
    pub(super) fn of(&self, request: &Request<'_>, mark: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(24);
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT, JSON);
        headers.insert(header::USER_AGENT, GENKAN);
        wire::context(request, |name, value| {
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value.into_owned())) {
                headers.insert(name, value);
            }
        });
        for name in &self.forwarded {
            let of_caller =
                request.context.headers.iter().find(|(known, _)| **known == *name.as_str());
            let value = of_caller.and_then(|(_, value)| HeaderValue::from_str(value).ok());
            if let Some(mut value) = value {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        if let Some(mark) = mark.and_then(|mark| HeaderValue::from_str(mark).ok()) {
            headers.insert(CALL, mark);
        }
        for (name, value) in &**self.added.load() {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

/// What a file holds by now, where it can be a header's value.
fn fit(next: FoundSecret) -> Result<FoundSecret, String> {
    if HeaderValue::from_str(next.secret.expose()).is_ok() {
        return Ok(next);
    }
    let file = next.file.as_deref().map(shown_path).unwrap_or_default();
    Err(format!(
        "{file} holds what no header can: write one line of letters, digits and signs of ASCII"
    ))
}

fn values(found: &[(HeaderName, FoundSecret)]) -> Vec<(HeaderName, HeaderValue)> {
    let values = found.iter().filter_map(|(name, value)| {
        parts::register(name, value.secret.expose());
        let mut header = HeaderValue::from_str(value.secret.expose()).ok()?;
        header.set_sensitive(true);
        Some((name.clone(), header))
    });
    values.collect()
}
