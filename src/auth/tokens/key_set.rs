//! The keys that sign tokens: a PEM file, a secret, or a document of JSON (RFC 7517). A key is for one
//! algorithm, whatever a token says; what cannot be used of a document is skipped.

use std::collections::{HashMap, HashSet};

use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwk::Jwk;
use super::key_file::other_form;
use crate::caller::Standing;
use crate::der::{self, BIT_STRING, INTEGER, OBJECT_ID, SEQUENCE};
use crate::pem;

/// More keys than any issuer has.
const MOST_KEYS: usize = 1_000;
/// How many keys are tried for a token that names none, or where keys have no names. Each costs a verification, of
/// up to 100 µs, also for a token that nobody has signed: whoever sends such takes three milliseconds with one, and no
/// more.
const MOST_TRIED: usize = 32;
/// The shortest secret, in bytes (RFC 7518, section 3.2).
const LEAST_SECRET: usize = 32;

/// The object ids of kinds of keys, in DER.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A key, and what is verified by it.
#[derive(Clone, Debug)]
pub struct Key {
    /// What an issuer calls it.
    id: Option<String>,
    /// The one algorithm that it is for.
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// Tells one key from another.
    material: Vec<u8>,
    /// Whether the issuer still has it.
    pub(super) standing: Standing,
}

/// The keys that an issuer has.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    by_id: HashMap<String, Vec<usize>>,
    /// How many of the document cannot be used.
    pub skipped: usize,
}

impl KeySet {
    /// A secret that both sides know; the complaint says what is wrong with it.
    pub fn of_secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < LEAST_SECRET {
            return Err(format!(
                "a secret of {} bytes can be guessed: use {LEAST_SECRET} random ones at least",
                secret.len()
            ));
        }
        if memchr::memmem::find(secret, b"-----BEGIN ").is_some() {
            // Whoever knows a public key could sign with it.
            return Err("it is a key in PEM, and no secret: name its file as `key_file`".to_owned());
        }
        let key = DecodingKey::from_secret(secret).map_err(|error| error.to_string())?;
        let material = super::hash(&String::from_utf8_lossy(secret)).to_vec();
        Ok(Self::of(vec![Key::new(None, Algorithm::HS256, key, material)], 0))
    }

    /// What stands in a file: public keys in PEM, or a document of JSON.
    pub fn of_file(content: &[u8]) -> Result<Self, String> {
        let content = pem::unmarked(content);
        if content.trim_ascii_start().starts_with(b"{") {
            return Self::of_document(content);
        }
        let keys: Result<Vec<_>, _> = SubjectPublicKeyInfoDer::pem_slice_iter(content).collect();
        let keys = keys.map_err(|error| format!("it cannot be read: {error}"))?;
        let read = keys.iter().map(|key| read_info(key.as_ref()));
        let keys: Option<Vec<Key>> = read.collect();
        match keys {
            None => Err("it holds a key that is none of RSA of 2048 bits or more, P-256 and \
                         Ed25519"
                .to_owned()),
            Some(keys) if keys.is_empty() => Err(format!(
                "it holds no `PUBLIC KEY` in PEM, and is no set of keys in JSON{}",
                other_form(content)
            )),
            Some(keys) => Ok(Self::of(keys, 0)),
        }
    }

    /// An issuer's document. Keys that cannot be used are skipped; one without any is no good.
    pub fn of_document(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let document: Document<'_> = serde_json::from_slice(text)
            .map_err(|_| "it is no set of keys: `{\"keys\": […]}`".to_owned())?;
        if document.keys.len() > MOST_KEYS {
            return Err(format!(
                "it holds {} keys, and {MOST_KEYS} are read at most",
                document.keys.len()
            ));
        }
        let all = document.keys.len();
        let read = |key: &&RawValue| serde_json::from_str(key.get()).ok().and_then(Jwk::read);
        let keys: Vec<_> = document.keys.iter().filter_map(read).collect();
        if keys.is_empty() {
            return Err(format!(
                "none of its {all} keys can be used: RSA of 2048 bits or more, P-256 or Ed25519, to \
                 verify signatures"
            ));
        }
        let skipped = all - keys.len();
        Ok(Self::of(keys, skipped))
    }

    fn of(keys: Vec<Key>, skipped: usize) -> Self {
        let mut by_id: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            if let Some(id) = &key.id {
                by_id.entry(id.clone()).or_default().push(index);
            }
        }
        Self { keys, by_id, skipped }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have signed a token: by the name that it gives, or where it gives none by
    /// its algorithm.
    pub(super) fn find<'a>(
        &'a self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Key> {
        let named = id.and_then(|id| self.by_id.get(id)).map_or(&[][..], Vec::as_slice);
        let named = named.iter().filter_map(|index| self.keys.get(*index));
        // A key without a name may be meant by any.
        let is_any = id.is_none();
        let others = self.keys.iter().filter(move |key| is_any || key.id.is_none());
        named.chain(others).filter(move |key| key.algorithm == algorithm).take(MOST_TRIED)
    }

    /// What is to be said where there are more keys than are tried for a token.
    pub fn excess(&self) -> Option<String> {
        let count = |fits: &dyn Fn(&Key) -> bool| {
            let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
            let counted = algorithms.map(|algorithm| {
                let of_it = self.keys.iter().filter(|key| key.algorithm == algorithm && fits(key));
                (of_it.count(), algorithm)
            });
            counted.into_iter().max_by_key(|(count, _)| *count).filter(|it| it.0 > MOST_TRIED)
        };
        if let Some((count, algorithm)) = count(&|key| key.id.is_none()) {
            return Some(format!(
                "it holds {count} keys for {algorithm:?} without a name (PEM has none), and the first \
                 {MOST_TRIED} are tried for a token: those behind them verify nothing: make it a set of \
                 keys (JWKS) with a `kid` for each, and let tokens name theirs"
            ));
        }
        let (count, algorithm) = count(&|_| true)?;
        Some(format!(
            "it holds {count} keys for {algorithm:?}, and for a token that names none (`kid`) the first \
             {MOST_TRIED} are tried: let tokens name theirs"
        ))
    }

    /// Whether there is a key by that name.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| {
            self.by_id.contains_key(id) || self.keys.iter().any(|it| it.id.is_none())
        })
    }

    /// Whether it has the keys of another one, and no others.
    pub(super) fn is_like(&self, other: &KeySet) -> bool {
        let keys = |set: &'_ KeySet| {
            set.keys
                .iter()
                .map(|key| (key.id.clone(), key.material.clone()))
                .collect::<HashSet<_>>()
        };
        keys(self) == keys(other)
    }

    /// Takes the place of another one: the keys that stay stand as before, those that go are
    /// withdrawn.
    pub(super) fn succeed(&mut self, before: &KeySet) {
        let mut known: HashMap<_, &Key> =
            before.keys.iter().map(|key| ((&key.id, &key.material), key)).collect();
        for key in &mut self.keys {
            if let Some(same) = known.remove(&(&key.id, &key.material)) {
                key.standing = same.standing.clone();
            }
        }
        known.values().for_each(|gone| gone.standing.withdraw());
    }

    /// The same keys, for other rules: those who are known by the old ones are to be told apart from those
    /// who will be by these.
    pub(super) fn anew(&self) -> Self {
        let keys = self.keys.iter().map(|key| Key { standing: Standing::default(), ..key.clone() });
        Self { keys: keys.collect(), by_id: self.by_id.clone(), skipped: self.skipped }
    }

    /// Gives way to others, for other rules. What was signed by a key that is among them is to be judged
    /// again; a key that is not is trusted no more.
    pub(super) fn give_way_to(&self, others: Option<&KeySet>) {
        let others = others.map(|others| &others.keys[..]).unwrap_or_default();
        let known: HashSet<&[u8]> = others.iter().map(|key| &key.material[..]).collect();
        for key in &self.keys {
            match known.contains(&key.material[..]) {
                true => key.standing.supersede(),
                false => key.standing.withdraw(),
            }
        }
    }
}

impl Key {
    fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey, material: Vec<u8>) -> Self {
        Self { id, algorithm, key, material, standing: Standing::default() }
    }

    pub(super) fn rsa(id: Option<String>, n: &[u8], e: &[u8]) -> Option<Self> {
        let n = &n[n.iter().position(|byte| *byte != 0)?..];
        let e = &e[e.iter().position(|byte| *byte != 0)?..];
        let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
        let fits = (2_048..=8_192).contains(&bits) && e.len() <= 4;
        let key = || DecodingKey::from_rsa_raw_components(n, e);
        fits.then(|| Self::new(id, Algorithm::RS256, key(), [n, b"/", e].concat()))
    }

    pub(super) fn p256(id: Option<String>, point: &[u8]) -> Option<Self> {
        let fits = point.len() == 65 && point.first() == Some(&4);
        let key = || DecodingKey::from_ec_der(point);
        fits.then(|| Self::new(id, Algorithm::ES256, key(), point.to_vec()))
    }

    pub(super) fn ed25519(id: Option<String>, point: &[u8]) -> Option<Self> {
        let key = || DecodingKey::from_ed_der(point);
        (point.len() == 32).then(|| Self::new(id, Algorithm::EdDSA, key(), point.to_vec()))
    }
}

/// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1).
fn read_info(der: &[u8]) -> Option<Key> {
    let (info, _) = der::expect(der, SEQUENCE)?;
    let (kind, rest) = der::expect(info, SEQUENCE)?;
    let (bits, _) = der::expect(rest, BIT_STRING)?;
    // The first byte says how many bits of the last one are none.
    let bits = bits.strip_prefix(&[0])?;
    let (name, parameters) = der::expect(kind, OBJECT_ID)?;
    match name {
        RSA => {
            let (numbers, _) = der::expect(bits, SEQUENCE)?;
            let (n, rest) = der::expect(numbers, INTEGER)?;
            let (e, _) = der::expect(rest, INTEGER)?;
            Key::rsa(None, n, e)
        }
        ELLIPTIC => {
            let (curve, _) = der::expect(parameters, OBJECT_ID)?;
            (curve == P256).then(|| Key::p256(None, bits))?
        }
        ED25519 => Key::ed25519(None, bits),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    fn p256() -> serde_json::Value {
        let random = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(how, pair.as_ref(), &random).expect("a key");
        let point = pair.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..]);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "kid": "one"})
    }

    fn set(keys: &[serde_json::Value]) -> Result<KeySet, String> {
        KeySet::of_document(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn what_cannot_be_used_is_skipped() {
        let good = p256();
        let with = |key: &str, value: serde_json::Value| {
            let mut key_of = good.clone();
            key_of[key] = value;
            key_of
        };
        let unusable = [
            json!(7),
            json!({}),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "RSA", "n": "", "e": ""}),
            json!({"kty": "OKP", "crv": "X25519", "x": "AQAB"}),
            with("crv", json!("P-384")),
            with("x", json!("AQAB")),
            with("x", json!("not base64!")),
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("HS256")),
            with("kty", json!("oct")),
        ];
        for key in &unusable {
            assert!(set(std::slice::from_ref(key)).is_err(), "{key}");
        }
        let all = [&unusable[..], &[good]].concat();
        let read = set(&all).expect("one is good");
        assert_eq!((read.len(), read.skipped), (1, unusable.len()));
        assert_eq!(read.find(Some("one"), Algorithm::ES256).count(), 1);
        assert_eq!(read.find(Some("two"), Algorithm::ES256).count(), 0);
        assert_eq!(read.find(None, Algorithm::ES256).count(), 1);
        assert_eq!(read.find(Some("one"), Algorithm::HS256).count(), 0);
    }

    #[test]
    fn a_key_that_is_named_is_tried_before_those_without_a_name() {
        let nameless = || {
            let mut key = p256();
            key.as_object_mut().expect("a key").remove("kid");
            key
        };
        let mut all: Vec<_> = (0..40).map(|_| nameless()).collect();
        all.push(p256());
        let read = set(&all).expect("keys");
        let material = &read.keys[40].material;
        let first = read.find(Some("one"), Algorithm::ES256).next().expect("a key");
        assert_eq!(&first.material, material);
        assert_eq!(read.find(Some("one"), Algorithm::ES256).count(), MOST_TRIED);
        assert_eq!(read.find(Some("two"), Algorithm::ES256).count(), MOST_TRIED);
    }

    #[test]
    fn documents_that_are_none() {
        for text in
            ["", "[]", "{}", "{\"keys\": 1}", "garbage", "{\"keys\": []}", "{\"keys\":[\u{1}]}"]
        {
            assert!(KeySet::of_document(text.as_bytes()).is_err(), "{text}");
        }
        let many = vec![p256(); 10_000];
        assert!(set(&many).expect_err("too many").contains("10000 keys"));
    }

    #[test]
    fn a_key_that_stays_stands_and_one_that_goes_is_withdrawn() {
        let (one, mut two) = (p256(), p256());
        two["kid"] = json!("two");
        let before = set(&[one.clone(), two]).expect("keys");
        let mut after = set(&[one]).expect("a key");
        after.succeed(&before);
        let standing = |set: &KeySet, id: &str| {
            set.find(Some(id), Algorithm::ES256).next().expect("it is there").standing.clone()
        };
        assert!(!standing(&before, "one").is_withdrawn());
        assert!(standing(&before, "two").is_withdrawn());
        after.give_way_to(Some(&after.anew()));
        assert!(!standing(&before, "one").is_withdrawn());
        after.give_way_to(None);
        assert!(standing(&before, "one").is_withdrawn(), "it is the same");
        assert!(!standing(&after.anew(), "one").is_withdrawn(), "it is another's");
    }

    #[test]
    fn a_file_of_pem_holds_public_keys() {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).expect("a key");
        let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let der = [&head[..], pair.public_key().as_ref()].concat();
        let pem = |der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        };
        let read = KeySet::of_file(pem(&der).as_bytes()).expect("a key");
        assert_eq!(read.find(None, Algorithm::EdDSA).count(), 1);
        let block = |word: &str| format!("-----BEGIN {word}-----\nAA==\n-----END {word}-----\n");
        for (text, words) in [
            (String::new(), "no `PUBLIC KEY`"),
            (block("CERTIFICATE"), "`openssl x509 -in FILE -noout -pubkey`"),
            (block("RSA PUBLIC KEY"), "`openssl rsa -RSAPublicKey_in -in FILE -pubout`"),
            (block("EC PRIVATE KEY"), "which its issuer alone should have"),
            ("0\u{1}x".to_owned(), "looks like DER"),
            (pem(&der[..der.len() - 1]), "none of RSA"),
            ("{\"keys\": []}".to_owned(), "can be used"),
        ] {
            let complaint = KeySet::of_file(text.as_bytes()).expect_err(&text);
            assert!(complaint.contains(words), "{complaint}");
        }
        let marked = format!("\u{feff}{}", json!({ "keys": [p256()] }));
        assert_eq!(KeySet::of_file(marked.as_bytes()).map(|read| read.len()), Ok(1));
        for (first, length, fits) in
            [(0x80, 256, true), (0x40, 256, false), (0x80, 1_024, true), (1, 1_025, false)]
        {
            let n = [&[0, first][..], &vec![7; length - 1]].concat();
            assert_eq!(Key::rsa(None, &n, &[1, 0, 1]).is_some(), fits, "{first:x} {length}");
        }
        assert!(KeySet::of_secret(&[7; 31]).is_err() && KeySet::of_secret(&[7; 32]).is_ok());
        let public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n";
        assert!(KeySet::of_secret(public).expect_err("no secret").contains("`key_file`"));
    }
}
