//! What of a header's value is a secret by itself: a service may repeat a token without its scheme, or one cookie
//! of several. (What of a URL is one, `redact` knows.) Words that are short are none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use http::HeaderName;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};

use crate::redact;

/// Schemes in front of credentials, in headers of any name. In those that HTTP has for credentials, any is.
const SCHEMES: [&str; 8] =
    ["api-key", "apikey", "basic", "bearer", "digest", "dpop", "key", "token"];

/// Makes the parts of a header's value known as secrets. The whole of it is known already.
pub(super) fn register(name: &HeaderName, value: &str) {
    parts(name, value).iter().for_each(|part| redact::register(part));
}

/// Another value has taken its place, whose parts are made known behind this.
pub(super) fn retire(name: &HeaderName, value: &str) {
    parts(name, value).iter().for_each(|part| redact::replace(part, ""));
}

fn parts(name: &HeaderName, value: &str) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some((scheme, credentials)) = value.trim().split_once(char::is_whitespace) {
        let scheme = scheme.to_ascii_lowercase();
        let is_for_credentials = [AUTHORIZATION, PROXY_AUTHORIZATION].contains(name);
        if is_for_credentials || SCHEMES.contains(&scheme.as_str()) {
            let credentials = credentials.trim();
            parts.push(credentials.to_owned());
            parts.extend(login(credentials).into_iter().flatten());
        }
    }
    // Cookies are parted by `;`, what a scheme has beside its name by `,`.
    let texts = [&[';'][..], &[';', ',', '&']].into_iter().flat_map(|marks| value.split(marks));
    let values = texts.filter_map(|text| Some(text.split_once('=')?.1));
    parts.extend(values.map(|value| value.trim().trim_matches('"').to_owned()));
    parts
}

/// `user:password` and the password, of what the scheme Basic has (RFC 7617).
fn login(credentials: &str) -> Option<[String; 2]> {
    let text = BASE64.decode(credentials.trim_end_matches('=')).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (_, password) = text.split_once(':')?;
    let password = password.to_owned();
    Some([text, password])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_scheme_and_each_cookie() {
        let tenant = HeaderName::from_static("x-tenant");
        let cookie = HeaderName::from_static("cookie");
        let cases: [(&HeaderName, &str, &[&str]); 8] = [
            (&AUTHORIZATION, "Bearer abc", &["abc"]),
            (&AUTHORIZATION, "Ours  abc", &["abc"]),
            (&AUTHORIZATION, "basic dTpwOnc=", &["dTpwOnc=", "u:p:w", "p:w", ""]),
            (&AUTHORIZATION, "Token token=\"a b\", n=7", &["token=\"a b\", n=7", "a b", "7"]),
            (&tenant, "token abc", &["abc"]),
            (&tenant, "Tokyo office", &[]),
            (&tenant, "dG9reW8", &[]),
            (&cookie, "lang=de; sid=a=b,c ;x", &["de", "a=b,c", "a=b"]),
        ];
        for (name, value, expected) in cases {
            let found = parts(name, value);
            for part in expected {
                assert!(found.iter().any(|found| found == part), "{value}: {part}: {found:?}");
            }
            assert!(found.iter().all(|part| !part.is_empty() || value.contains('=')), "{found:?}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{value}: {found:?}");
        }
    }
}
