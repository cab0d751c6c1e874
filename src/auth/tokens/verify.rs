//! A token, the keys, the rules → who it is, or why not. Nothing of a token is believed before its
//! signature is: the head alone is read, to know which key to ask.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::verify;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::hmac;
use ring::rand::{SystemRandom, generate};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::{self, LONGEST};
use super::key_set::{Key, KeySet};
use super::rules::Rules;
use crate::auth::settings::JwtConfig;
use crate::caller::{Denial, Identity};

/// RFC 9864, section 2.2.
const BY_CURVE: &str = "Ed25519";

/// What a token says of its signature.
pub(super) struct Head {
    pub(super) algorithm: Algorithm,
    /// Whether it has the name that RFC 9864 gives EdDSA over this curve.
    by_curve: bool,
    pub(super) key: Option<String>,
}

impl Head {
    /// Reads the first of a token's three parts.
    pub(super) fn read(token: &str) -> Result<Self, Denial> {
        #[derive(Deserialize)]
        struct Read {
            alg: String,
            kid: Option<String>,
            crit: Option<Value>,
        }
        let mut parts = token.split('.');
        let head = parts.next().unwrap_or_default();
        if parts.count() != 2 {
            return Err(Denial::Malformed);
        }
        let head = URL_SAFE_NO_PAD.decode(head).map_err(|_| Denial::Malformed)?;
        let Read { alg, kid, crit } =
            serde_json::from_slice(&head).map_err(|_| Denial::Malformed)?;
        // RFC 7515, section 4.1.11: whoever does not understand it must not go on.
        if crit.is_some() {
            return Err(Denial::UnknownCritical);
        }
        let algorithm = match alg.as_str() {
            "HS256" => Algorithm::HS256,
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" | BY_CURVE => Algorithm::EdDSA,
            _ => return Err(Denial::Algorithm),
        };
        if kid.as_ref().is_some_and(|kid| kid.len() > LONGEST) {
            return Err(Denial::BadSignature);
        }
        Ok(Self { algorithm, by_curve: alg == BY_CURVE, key: kid })
    }
}

/// Who a token is of.
pub(super) fn identity(
    token: &str,
    head: &Head,
    keys: &KeySet,
    (config, rules): (&JwtConfig, &Rules),
) -> Result<Identity, Denial> {
    let mut denial = Denial::BadSignature;
    for key in keys.find(head.key.as_deref(), head.algorithm) {
        match decode(token, head, key, rules) {
            Ok(claims) => return claims::read(&claims, key, config),
            // It may be another key's.
            Err(Denial::BadSignature) => {}
            Err(other) => denial = other,
        }
    }
    Err(denial)
}

fn decode(
    token: &str,
    head: &Head,
    key: &Key,
    rules: &Rules,
) -> Result<Map<String, Value>, Denial> {
    if head.by_curve {
        let (token, seal) = sealed_anew(token, key)?;
        return decode_as(&token, Algorithm::HS256, &seal, rules);
    }
    decode_as(token, key.algorithm, &key.key, rules)
}

/// A token whose algorithm goes by its curve, which jsonwebtoken does not know, and does not read: its signature is
/// verified as it stands, and only then are its claims put under a seal that nobody else can have made, for the
/// same rules to be applied to them.
fn sealed_anew(token: &str, key: &Key) -> Result<(String, DecodingKey), Denial> {
    let (message, signature) = token.rsplit_once('.').ok_or(Denial::Malformed)?;
    let verified = verify(signature, message.as_bytes(), &key.key, key.algorithm);
    if !verified.unwrap_or(false) {
        return Err(Denial::BadSignature);
    }
    let (_, claims) = message.split_once('.').ok_or(Denial::Malformed)?;
    let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
    let secret: [u8; 32] = generate(&SystemRandom::new()).map_err(|_| Denial::Malformed)?.expose();
    let seal = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
    let key = DecodingKey::from_secret(&secret).map_err(|_| Denial::Malformed)?;
    Ok((format!("{message}.{}", URL_SAFE_NO_PAD.encode(seal)), key))
}

fn decode_as(
    token: &str,
    algorithm: Algorithm,
    key: &DecodingKey,
    rules: &Rules,
) -> Result<Map<String, Value>, Denial> {
    let rules = rules.of_algorithm(algorithm).ok_or(Denial::BadSignature)?;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, rules);
    decoded.map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Denial::BadSignature,
        ErrorKind::ExpiredSignature => Denial::Expired,
        ErrorKind::ImmatureSignature => Denial::NotYet,
        ErrorKind::InvalidIssuer => Denial::WrongIssuer,
        ErrorKind::InvalidAudience => Denial::WrongAudience,
        // One of another type is missing to them as well. The signature was good by then.
        ErrorKind::MissingRequiredClaim(name) if has(token, name) => Denial::BadClaim,
        ErrorKind::MissingRequiredClaim(_) => Denial::MissingClaim,
        ErrorKind::InvalidClaimFormat(_) => Denial::BadClaim,
        _ => Denial::Malformed,
    })
}

/// Whether a token has a claim, whatever it is.
fn has(token: &str, name: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
    claims.is_some_and(|claims| claims.get(name).is_some_and(|claim| !claim.is_null()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::auth::settings::KeySource;
    use crate::auth::tokens::crypto;

    const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

    fn config() -> JwtConfig {
        JwtConfig {
            keys: KeySource::Fixed(Arc::new(KeySet::of_secret(SECRET).expect("a secret"))),
            file: None,
            issuers: vec!["https://issuer.example/".to_owned()],
            audiences: vec!["genkan".to_owned()],
            clock_skew: Duration::from_secs(30),
            subject: "sub".to_owned(),
            user_id: "/user/id".to_owned(),
            scopes: "scope".to_owned(),
            claims: vec!["tenant".to_owned(), "roles".to_owned()],
            fingerprint: 0,
        }
    }

    fn token(head: &Value, claims: &Value, secret: &[u8]) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(head), part(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
        format!("{message}.{signed}")
    }

    fn now() -> u64 {
        UNIX_EPOCH.elapsed().expect("now").as_secs()
    }

    fn claims() -> Value {
        json!({
            "sub": "alice", "user": {"id": 7}, "scope": "orders.read  orders.write",
            "tenant": "acme", "roles": ["a", "b", {}], "iss": "https://issuer.example/",
            "aud": ["other", "genkan"], "exp": now() + 60,
        })
    }

    fn known(token: &str) -> Result<Identity, Denial> {
        crypto::install();
        let config = config();
        let KeySource::Fixed(keys) = &config.keys else { return Err(Denial::NoKeys) };
        let head = Head::read(token)?;
        identity(token, &head, keys, (&config, &Rules::of(&config)))
    }

    fn a_pair() -> Ed25519KeyPair {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key")
    }

    /// RFC 9864 has a name of its own for it.
    #[test]
    fn eddsa_goes_by_the_name_of_its_curve_too() {
        crypto::install();
        let (pair, other) = (a_pair(), a_pair());
        let set = |alg: &str| {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": alg, "x": x});
            KeySet::of_document(json!({ "keys": [key] }).to_string().as_bytes()).expect("a set")
        };
        let signed = |alg: &str, claims: &Value, pair: &Ed25519KeyPair| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(&json!({ "alg": alg })), part(claims));
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
            format!("{message}.{signature}")
        };
        let judged = |token: &str, keys: &KeySet| {
            let head = Head::read(token)?;
            identity(token, &head, keys, (&config(), &Rules::of(&config())))
                .map(|known| known.subject)
        };
        let mut ended = claims();
        ended["exp"] = json!(now() - 31);
        for alg in ["Ed25519", "EdDSA"] {
            let good = signed(alg, &claims(), &pair);
            for of_key in ["Ed25519", "EdDSA"] {
                assert_eq!(judged(&good, &set(of_key)).as_deref(), Ok("alice"), "{alg} {of_key}");
            }
            let (head, rest) = good.split_once('.').expect("three parts");
            let (_, signature) = rest.split_once('.').expect("three parts");
            let claimed = URL_SAFE_NO_PAD.encode(ended.to_string());
            let others = format!("{head}.{claimed}.{signature}");
            for (token, denial) in [
                (signed(alg, &claims(), &other), Denial::BadSignature),
                (signed(alg, &ended, &pair), Denial::Expired),
                (others, Denial::BadSignature),
                (format!("{head}.{rest}AAAA"), Denial::BadSignature),
            ] {
                assert_eq!(judged(&token, &set(alg)), Err(denial), "{alg}: {token}");
            }
            // Nobody's key of another kind is asked.
            let secret = KeySet::of_secret(SECRET).expect("a secret");
            assert_eq!(judged(&good, &secret), Err(Denial::BadSignature));
            let sealed = token(&json!({ "alg": alg }), &claims(), SECRET);
            assert_eq!(judged(&sealed, &secret), Err(Denial::BadSignature));
        }
        let point = pair.public_key().as_ref();
        let confused = token(&json!({"alg": "HS256"}), &claims(), point);
        assert_eq!(judged(&confused, &set("Ed25519")), Err(Denial::BadSignature));
        assert_eq!(
            Head::read(&signed("Ed448", &claims(), &pair)).map(|_| ()),
            Err(Denial::Algorithm)
        );
    }

    #[test]
    fn claims_become_a_subject_a_user_and_scopes() {
        let known = known(&token(&json!({"alg": "HS256"}), &claims(), SECRET)).expect("good");
        assert_eq!((known.subject.as_str(), known.user_id.as_deref()), ("alice", Some("7")));
        assert_eq!(known.scopes, ["orders.read", "orders.write"]);
        let kept: Vec<_> = known.claims.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(kept, ["tenant=acme", "roles=a", "roles=b"]);
        let until = known.until.expect("an end").duration_since(UNIX_EPOCH).expect("later");
        assert!((80..=91).contains(&(until.as_secs() - now())), "{until:?}");
    }

    #[test]
    fn a_subject_is_its_issuer_s_where_there_are_several() {
        let known = |issuers: &[&str]| {
            crypto::install();
            let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
            let config = JwtConfig { issuers, ..config() };
            let KeySource::Fixed(keys) = &config.keys else { return None };
            let token = token(&json!({"alg": "HS256"}), &claims(), SECRET);
            let head = Head::read(&token).ok()?;
            identity(&token, &head, keys, (&config, &Rules::of(&config))).expect("good").issuer
        };
        let own = "https://issuer.example/";
        assert_eq!(known(&[own]), None);
        assert_eq!(known(&["https://other.example/", own]).as_deref(), Some(own));
        assert_eq!(known(&[]).as_deref(), Some(own));
    }

    #[test]
    fn what_is_not_good_is_told_as_what_it_is() {
        let with = |key: &str, value: Value| {
            let mut all = claims();
            all[key] = value;
            all
        };
        let without = |key: &str| {
            let mut all = claims();
            all.as_object_mut().expect("an object").remove(key);
            all
        };
        let head = json!({"alg": "HS256"});
        let good = token(&head, &claims(), SECRET);
        let (message, signed) = good.rsplit_once('.').expect("three parts");
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode([7; 32]));
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let deep = URL_SAFE_NO_PAD.encode(deep);
        let cases = [
            (token(&json!({"alg": "none"}), &claims(), b""), Denial::Algorithm),
            (token(&json!({"alg": "HS512"}), &claims(), SECRET), Denial::Algorithm),
            (token(&json!({"alg": "RS256"}), &claims(), SECRET), Denial::BadSignature),
            (
                token(&json!({"alg": "HS256", "crit": ["x"]}), &claims(), SECRET),
                Denial::UnknownCritical,
            ),
            (
                token(&json!({"alg": "HS256", "crit": []}), &claims(), SECRET),
                Denial::UnknownCritical,
            ),
            (token(&head, &claims(), b"another secret"), Denial::BadSignature),
            (forged, Denial::BadSignature),
            (format!("{message}."), Denial::BadSignature),
            (token(&head, &with("exp", json!(now() - 31)), SECRET), Denial::Expired),
            (token(&head, &with("nbf", json!(now() + 40)), SECRET), Denial::NotYet),
            (
                token(&head, &with("iss", json!("https://evil.example/")), SECRET),
                Denial::WrongIssuer,
            ),
            (
                token(&head, &with("iss", json!(["https://issuer.example/"])), SECRET),
                Denial::WrongIssuer,
            ),
            (token(&head, &with("user", json!({"id": "key:web"})), SECRET), Denial::Ambiguous),
            (token(&head, &with("user", json!({"id": "unix:root"})), SECRET), Denial::Ambiguous),
            (token(&head, &with("user", json!({"id": " 7"})), SECRET), Denial::Ambiguous),
            (token(&head, &with("sub", json!("alice ")), SECRET), Denial::Ambiguous),
            (token(&head, &with("aud", json!("other")), SECRET), Denial::WrongAudience),
            (token(&head, &without("aud"), SECRET), Denial::MissingClaim),
            (token(&head, &without("iss"), SECRET), Denial::MissingClaim),
            (token(&head, &without("exp"), SECRET), Denial::MissingClaim),
            (token(&head, &without("sub"), SECRET), Denial::MissingClaim),
            (token(&head, &with("sub", json!("a\r\nb")), SECRET), Denial::BadClaim),
            (token(&head, &with("sub", json!("x".repeat(LONGEST + 1))), SECRET), Denial::BadClaim),
            (token(&head, &with("sub", Value::Null), SECRET), Denial::MissingClaim),
            (token(&head, &with("exp", json!("soon")), SECRET), Denial::BadClaim),
            (token(&head, &json!("text"), SECRET), Denial::Malformed),
            (format!("{signed}.{signed}"), Denial::Malformed),
            ("a.b.c".to_owned(), Denial::Malformed),
            ("..".to_owned(), Denial::Malformed),
            (String::new(), Denial::Malformed),
            (format!("{good}.x"), Denial::Malformed),
            (format!("{deep}.{deep}.{deep}"), Denial::Malformed),
        ];
        for (token, denial) in cases {
            assert_eq!(known(&token).map(|_| ()), Err(denial), "{token}");
        }
        assert!(known(&token(&head, &with("exp", json!(now() - 20)), SECRET)).is_ok(), "the skew");
        assert!(known(&token(&head, &with("nbf", json!(now() + 20)), SECRET)).is_ok(), "the skew");
        for user in ["system:serviceaccount:x", "keys:x", "key", "a b"] {
            assert!(
                known(&token(&head, &with("user", json!({"id": user})), SECRET)).is_ok(),
                "{user}"
            );
        }
        let huge = known(&token(&head, &with("exp", json!(u64::MAX)), SECRET));
        assert!(huge.is_ok_and(|known| known.ended(SystemTime::now).is_none()));
    }
}
