//! An issuer of tokens: keys of all kinds, tokens signed by them, and a server that tells the keys.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::certs::Certs;
use crate::harness::process::{Folder, program, run};

/// A key that signs tokens.
pub enum Signer {
    Hs256(Vec<u8>),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Signer {
    pub fn hs256(secret: &str) -> Self {
        Signer::Hs256(secret.as_bytes().to_vec())
    }

    pub fn rs256() -> Self {
        let folder = Folder::new();
        let file = folder.path().join("key.der");
        let mut command = Command::new(program("openssl", &[]));
        command.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let (status, _, err) = run(command.args(["-outform", "DER", "-out"]).arg(&file));
        assert_eq!(status, 0, "{err}");
        let der = std::fs::read(file).expect("the key");
        // Which of the two forms openssl writes depends on its version.
        let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
        Signer::Rs256(pair.expect("a key"))
    }

    pub fn es256() -> Self {
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let der = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        Signer::Es256(EcdsaKeyPair::from_pkcs8(how, der.as_ref(), &random).expect("a key"))
    }

    pub fn eddsa() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Signer::EdDsa(Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key"))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Signer::Hs256(_) => "HS256",
            Signer::Rs256(_) => "RS256",
            Signer::Es256(_) => "ES256",
            Signer::EdDsa(_) => "EdDSA",
        }
    }

    /// The public key as an issuer tells it.
    pub fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Hs256(secret) => json!({"kty": "oct", "kid": id, "k": text(secret)}),
            Signer::Rs256(pair) => {
                // SEQUENCE { INTEGER of 257 bytes, the first of which is 0, INTEGER of 3 bytes }.
                let der = pair.public().as_ref();
                let (n, e) = (&der[9..265], &der[der.len() - 3..]);
                json!({"kty": "RSA", "kid": id, "n": text(n), "e": text(e), "use": "sig"})
            }
            Signer::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y, "alg": "ES256"})
            }
            Signer::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(pair.public_key().as_ref())})
            }
        }
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let (head, key): (&[u8], &[u8]) = match self {
            Signer::Hs256(_) => panic!("a secret has no public key"),
            Signer::Rs256(pair) => (
                &[
                    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                    0x0d, 0x01, 0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00,
                ],
                pair.public().as_ref(),
            ),
            Signer::Es256(pair) => (
                &[
                    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
                ],
                pair.public_key().as_ref(),
            ),
            Signer::EdDsa(pair) => (
                &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
                pair.public_key().as_ref(),
            ),
        };
        let text = STANDARD.encode([head, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// A token with these claims, signed; `id` is the key's name.
    pub fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": id, "typ": "JWT"}), claims)
    }

    /// A token with a head of the test's own.
    pub fn sign(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(head), part(claims));
        let (bytes, random) = (message.as_bytes(), SystemRandom::new());
        let signed = match self {
            Signer::Hs256(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes).as_ref().to_vec()
            }
            Signer::Rs256(pair) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signed).expect("signed");
                signed
            }
            Signer::Es256(pair) => pair.sign(&random, bytes).expect("signed").as_ref().to_vec(),
            Signer::EdDsa(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_secs()
}

/// The claims of somebody, for a minute.
pub fn claims(subject: &str) -> Value {
    json!({"sub": subject, "iss": "https://issuer.example/", "aud": "genkan", "exp": now() + 60})
}

/// The lines of `[auth.jwt]` that those claims fit.
pub fn table(keys: &str) -> String {
    format!("[auth.jwt]\n{keys}\nissuer = \"https://issuer.example/\"\naudience = \"genkan\"\n")
}

const SILENCE: &[u8] = b"silence";

/// A server over TLS that tells keys, or whatever a test says.
pub struct Jwks {
    pub certs: Certs,
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Jwks {
    pub async fn serve(keys: &[Value]) -> Self {
        let certs = Certs::new();
        let chain = CertificateDer::from_pem_file(certs.file("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(certs.file("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("they fit");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (answer, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (said, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, said, count) =
                    (acceptor.clone(), Arc::clone(&said), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut read = Vec::new();
                    while !read.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => read.push(byte),
                            Err(_) => return,
                        }
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    let answer = said.lock().unwrap().clone();
                    if answer == SILENCE {
                        std::future::pending::<()>().await;
                    }
                    drop(stream.write_all(&answer).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        let jwks = Self { certs, port, answer, asked, task };
        jwks.tell(keys);
        jwks
    }

    /// Tells those keys from now on.
    pub fn tell(&self, keys: &[Value]) {
        self.say("200 OK", "", &json!({ "keys": keys }).to_string());
    }

    /// Answers so from now on.
    pub fn say(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        *self.answer.lock().unwrap() = text.into_bytes();
    }

    /// Breaks off from now on.
    pub fn break_off(&self) {
        self.answer.lock().unwrap().clear();
    }

    /// Takes requests and says nothing from now on.
    pub fn fall_silent(&self) {
        *self.answer.lock().unwrap() = SILENCE.to_vec();
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The lines of `[auth.jwt]`.
    pub fn table(&self, refresh: &str) -> String {
        let ca = self.certs.path("ca.pem");
        let url = format!("https://127.0.0.1:{}/keys?v=1", self.port);
        table(&format!("jwks_url = \"{url}\"\nca_file = \"{ca}\"\nrefresh = \"{refresh}\""))
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}
