//! How a request shows who sends it: `Authorization: Bearer …` or `X-API-Key: …`, one of them.
//! `Basic` and others are for the services, and not looked at.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Http;
use super::headers::read_timeout;
use crate::caller::{Caller, Denial};
use crate::metrics::credential_refused;

pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What a subprotocol begins with that shows a token.
const SUBPROTOCOL: &str = "genkan.bearer.";
/// RFC 6750, section 2.1; a scheme's case means nothing (RFC 9110, section 11.1).
const BEARER: &[u8] = b"bearer";

impl Http {
    /// Who sends a request.
    pub(super) async fn identify(&self, caller: &Caller, headers: &HeaderMap) -> Caller {
        self.known_by(caller, read(headers), headers).await
    }

    /// The same, of a request whose answer is a stream.
    pub(super) async fn identify_stream(&self, caller: &Caller, headers: &HeaderMap) -> Caller {
        self.known_for_long(caller, read(headers), headers).await
    }

    /// The same, of a request that opens a WebSocket: a browser's can show a token by the name of a
    /// subprotocol alone.
    pub(super) async fn identify_socket(&self, caller: &Caller, headers: &HeaderMap) -> Caller {
        let shown = match (read(headers), subprotocol(headers)) {
            (Ok(Some(_)), Ok(Some(_))) => Err(Denial::Several),
            (Ok(header), Ok(named)) => Ok(header.or(named)),
            (Err(denial), _) | (_, Err(denial)) => Err(denial),
        };
        self.known_for_long(caller, shown, headers).await
    }

    /// A caller who is let in for longer than a call.
    async fn known_for_long(
        &self,
        caller: &Caller,
        shown: Result<Option<&str>, Denial>,
        headers: &HeaderMap,
    ) -> Caller {
        let evidence = shown.ok().flatten().filter(|_| self.auth.is_on());
        let evidence = evidence.and_then(|shown| self.auth.evidence(shown));
        self.known_by(caller, shown, headers).await.with_evidence(evidence)
    }

    async fn known_by(
        &self,
        caller: &Caller,
        shown: Result<Option<&str>, Denial>,
        headers: &HeaderMap,
    ) -> Caller {
        if !self.auth.is_on() {
            return caller.clone();
        }
        let known = match shown {
            Ok(None) => return caller.clone(),
            Ok(Some(shown)) => {
                // One that is none is refused when the call is read.
                let patience = read_timeout(headers).ok().flatten();
                self.auth.identify(shown, patience).await
            }
            Err(denial) => Err(denial),
        };
        // A key whose end has passed is known as that: a reload may give it another one.
        let denial = match &known {
            Ok(identity) => identity.ended(SystemTime::now),
            Err(denial) => Some(*denial),
        };
        if let Some(denial) = denial {
            credential_refused(denial.label());
        }
        caller.clone().showing(known)
    }
}

/// What the headers show; none where they show nothing.
fn read(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let mut keys = headers.get_all(API_KEY).into_iter();
    let mut authorizations = headers.get_all(header::AUTHORIZATION).into_iter();
    let (key, authorization) = (keys.next(), authorizations.next());
    // Which of two holds, whoever stands in between may see otherwise.
    if keys.next().is_some() || authorizations.next().is_some() {
        return Err(Denial::Several);
    }
    let bearer = authorization.and_then(bearer);
    match (key, bearer) {
        (Some(_), Some(_)) => Err(Denial::Several),
        (Some(key), None) => text(key.as_bytes()).map(Some),
        (None, Some(token)) => text(token).map(Some),
        (None, None) => Ok(None),
    }
}

/// What stands behind `genkan.bearer.` among the subprotocols.
fn subprotocol(headers: &HeaderMap) -> Result<Option<&str>, Denial> {
    let listed = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let listed = listed.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut shown = listed.filter_map(|name| name.trim().strip_prefix(SUBPROTOCOL));
    match (shown.next(), shown.next()) {
        (_, Some(_)) => Err(Denial::Several),
        (shown, None) => Ok(shown),
    }
}

/// What stands behind `Bearer`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let (scheme, rest) = value.split_at_checked(BEARER.len())?;
    let is_one = scheme.eq_ignore_ascii_case(BEARER) && rest.first().is_none_or(|b| *b == b' ');
    is_one.then(|| rest.trim_ascii())
}

fn text(value: &[u8]) -> Result<&str, Denial> {
    std::str::from_utf8(value).map_err(|_| Denial::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &[(HeaderName, &str)]) -> Result<Option<String>, Denial> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        read(&headers).map(|shown| shown.map(str::to_owned))
    }

    #[test]
    fn one_thing_is_shown_one_way() {
        let (key, authorization) = (API_KEY, header::AUTHORIZATION);
        let is = |text: &str| Ok(Some(text.to_owned()));
        for (lines, expected) in [
            (vec![], Ok(None)),
            (vec![(&key, "k")], is("k")),
            (vec![(&authorization, "Bearer t")], is("t")),
            (vec![(&authorization, "bearer  t")], is("t")),
            (vec![(&authorization, "Bearer")], is("")),
            (vec![(&authorization, "Bearer a b")], is("a b")),
            (vec![(&authorization, "Bearers t")], Ok(None)),
            (vec![(&authorization, "Basic dTpw")], Ok(None)),
            (vec![(&authorization, "Basic dTpw"), (&key, "k")], is("k")),
            (vec![(&authorization, "Bearer t"), (&key, "t")], Err(Denial::Several)),
            (vec![(&authorization, "Bearer t"), (&authorization, "Basic x")], Err(Denial::Several)),
            (vec![(&key, "k"), (&key, "k")], Err(Denial::Several)),
            (vec![(&key, "\u{e9}")], is("\u{e9}")),
        ] {
            let owned: Vec<_> =
                lines.iter().map(|(name, value)| ((*name).clone(), *value)).collect();
            assert_eq!(shown(&owned), expected, "{lines:?}");
        }
        let mut broken = HeaderMap::new();
        broken.insert(API_KEY, HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(read(&broken), Err(Denial::Malformed));
    }
}
