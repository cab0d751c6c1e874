//! The claims of a token that was verified → who it is of.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::key_set::Key;
use crate::auth::settings::JwtConfig;
use crate::caller::{Denial, Identity, Scheme};

/// The longest text that is taken out of a token, and the most of them.
pub(super) const LONGEST: usize = 256;
const MOST: usize = 256;

/// What is made of the claims.
pub(super) fn read(
    claims: &Map<String, Value>,
    key: &Key,
    config: &JwtConfig,
) -> Result<Identity, Denial> {
    let one = |name: &str| find(claims, name).and_then(text);
    // RFC 7519, section 4.1.1: it is one.
    if claims.get("iss").is_some_and(|issuer| !issuer.is_string()) {
        return Err(Denial::WrongIssuer);
    }
    // Where there is one, it is whose all subjects are.
    let issuer = claims.get("iss").and_then(Value::as_str).filter(|_| config.issuers.len() != 1);
    let is_there = |name: &str| find(claims, name).is_some_and(|claim| !claim.is_null());
    let lacking = |name: &str| match is_there(name) {
        true => Denial::BadClaim,
        false => Denial::MissingClaim,
    };
    let subject = one(&config.subject).ok_or_else(|| lacking(&config.subject))?;
    let user_id = one(&config.user_id);
    let is_trimmed = |text: &str| text.trim() == text;
    if !is_trimmed(&subject)
        || user_id.as_deref().is_some_and(|id| !is_trimmed(id) || is_marked(id))
    {
        return Err(Denial::Ambiguous);
    }
    let expires = claims.get("exp").and_then(Value::as_f64).ok_or_else(|| lacking("exp"))?;
    // Beyond what the system can count, it does not end.
    let end = Duration::try_from_secs_f64(expires).ok();
    let end = end.and_then(|end| UNIX_EPOCH.checked_add(end));
    let scopes = match find(claims, &config.scopes) {
        Some(Value::String(listed)) => {
            listed.split_whitespace().take(MOST).map(str::to_owned).collect()
        }
        Some(Value::Array(listed)) => listed.iter().take(MOST).filter_map(text).collect(),
        _ => Vec::new(),
    };
    let kept = config.claims.iter().flat_map(|name| {
        let values = match find(claims, name) {
            Some(Value::Array(listed)) => listed.iter().take(MOST).filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect::<Vec<_>>(),
            None => Vec::new(),
        };
        values.into_iter().map(|value| (name.clone(), value))
    });
    let kept = kept.collect();
    Ok(Identity {
        issuer: issuer.map(str::to_owned),
        user_id,
        scopes,
        claims: kept,
        until: end.and_then(|end| end.checked_add(config.clock_skew)),
        standing: key.standing.clone(),
        ..Identity::new(Scheme::Token, subject)
    })
}

/// Whether services would take it for one that another means vouches for.
fn is_marked(user_id: &str) -> bool {
    let word = user_id.split_once(':').map(|(word, _)| word);
    word.is_some_and(|word| Scheme::IN_USER_IDS.contains(&word))
}

/// A claim by its name, or where that begins with `/` by its path.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(path) = name.strip_prefix('/') else { return claims.get(name) };
    let mut steps = path.split('/');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

/// What can go into a header, or be compared with a word.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let fits = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
    fits.then_some(text)
}
