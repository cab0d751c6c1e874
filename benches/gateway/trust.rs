//! What it takes to know who calls and to hold him to limits: calls with an API key, a rate and a breaker,
//! with a token that was seen before, and with new ones, beside calls with nothing and the bare verification.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

use super::backends::PICOM_SERVICE;
use super::measure::{CONNECTIONS, HTTP_CALLS, Stage, What, World};
use super::scale;
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::{Gateway, PROGRAM};
use crate::support::place::folder;
use crate::support::role::{Session, Threads, client};
use crate::support::subject::Subject;

const SECRET: &str = "a secret that the issuer and the gateway share";
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "bench";
/// How long the token lasts.
const LASTS: Duration = Duration::from_secs(3_600);
/// How many new tokens there are: more than the gateway remembers, so that each is new again in its turn.
const NEW_TOKENS: u64 = 20_000;
/// What stands before the point of a P-256 key in DER (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Sets up what takes turns.
pub(super) fn set(stage: &mut Stage, args: &Args, world: &World) -> Result<()> {
    if !args.wants(Part::Trust) || args.floors {
        return Ok(());
    }
    let made = Command::new(PROGRAM).args(["key", "new", "web"]).output()?;
    let made: Value = serde_json::from_slice(&made.stdout).context("a key")?;
    let text = |name: &str| made[name].as_str().map(str::to_owned).context("a key has it");
    // It ends with the service's row, which goes on.
    let row = scale::configuration(1, &world.nats.url);
    let keyed = format!(
        "{row}rate = \"1000000/s\"\nallow = [\"key:web\"]\n[upstreams.nats.breaker]\n{}",
        text("toml")?
    );
    let token = format!(
        "{row}allow = [\"sub:ada\"]\n[auth.jwt]\nsecret = \"{SECRET}\"\nissuer = \"{ISSUER}\"\n\
         audience = \"{AUDIENCE}\"\n"
    );
    for (what, name, rest, shown) in [
        (What::GatewayKeyed, "keyed", keyed, text("key")?),
        (What::GatewayToken, "token", token, signed()?),
    ] {
        let gateway = Gateway::start(name, &rest)?;
        let address = gateway.address.to_string();
        let method = format!("{PICOM_SERVICE}.echo");
        let load = Copy::start(&["http-load", &address, &method, "result", "--bearer", &shown])?;
        let subject = Subject::new(load, Some(gateway.pid()));
        stage.add(what, &CONNECTIONS, subject, args.calls(HTTP_CALLS));
        stage.more.push(gateway);
    }
    new_tokens(stage, args, &row)
}

/// Calls with tokens that are new each, and the bare verification of one.
fn new_tokens(stage: &mut Stage, args: &Args, row: &str) -> Result<()> {
    let random = SystemRandom::new();
    let unusable = |error| anyhow::anyhow!("no key: {error}");
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let pair = pair.map_err(|_| anyhow::anyhow!("no key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random);
    let pair = pair.map_err(unusable)?;
    let mut tokens = String::new();
    for number in 0..NEW_TOKENS {
        let text = unsigned("ES256", number)?;
        let signature =
            pair.sign(&random, text.as_bytes()).map_err(|_| anyhow::anyhow!("unsigned"))?;
        writeln!(tokens, "{text}.{}", URL_SAFE_NO_PAD.encode(signature))?;
    }
    let folder = folder("tokens")?;
    let (bearers, public) = (folder.join("tokens"), folder.join("key.pem"));
    let der = [&P256[..], pair.public_key().as_ref()].concat();
    let pem = STANDARD.encode(der);
    fs::write(&public, format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n"))?;
    fs::write(&bearers, &tokens)?;
    let rest = format!(
        "{row}allow = [\"sub:ada\"]\n[auth.jwt]\nkey_file = \"{}\"\nissuer = \"{ISSUER}\"\n\
         audience = \"{AUDIENCE}\"\n",
        public.display()
    );
    let gateway = Gateway::start("new-tokens", &rest)?;
    let (address, method) = (gateway.address.to_string(), format!("{PICOM_SERVICE}.echo"));
    let bearers = bearers.display().to_string();
    let load = Copy::start(&["http-load", &address, &method, "result", "--bearers", &bearers])?;
    let key = URL_SAFE_NO_PAD.encode(pair.public_key());
    let alone = Copy::start(&["verify-tokens", &bearers, &key])?;
    fs::remove_dir_all(folder)?;
    let calls = args.calls(HTTP_CALLS);
    stage.add(What::GatewayNewTokens, &CONNECTIONS, Subject::new(load, Some(gateway.pid())), calls);
    stage.more.push(gateway);
    stage.add(What::Verification, &CONNECTIONS, Subject::new(alone, None), calls);
    Ok(())
}

/// The role that verifies tokens and does nothing else. Each is another one, as it is to the gateway: one that is verified
/// again and again has its branches foretold.
pub(crate) fn verify(file: &Path, key: &str) -> Result<()> {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, URL_SAFE_NO_PAD.decode(key)?);
    let tokens: Result<Vec<_>> = fs::read_to_string(file)?
        .lines()
        .map(|token| {
            let (text, signature) = token.rsplit_once('.').context("a token")?;
            Ok((text.to_owned(), URL_SAFE_NO_PAD.decode(signature)?))
        })
        .collect();
    let tokens: Arc<[_]> = tokens?.into();
    client(Threads::One, async { Ok(()) }, async |()| {
        Ok(Verifier { key: key.clone(), tokens: Arc::clone(&tokens) })
    })
}

struct Verifier {
    key: UnparsedPublicKey<Vec<u8>>,
    tokens: Arc<[(String, Vec<u8>)]>,
}

impl Session for Verifier {
    async fn call(&mut self, number: u64) -> Result<()> {
        let at = number as usize % self.tokens.len().max(1);
        let (text, signature) = self.tokens.get(at).context("a token")?;
        let verified = self.key.verify(text.as_bytes(), signature);
        verified.map_err(|_| anyhow::anyhow!("the token is not good"))
    }
}

/// A token of the issuer's that is known by a secret.
fn signed() -> Result<String> {
    let text = unsigned("HS256", 0)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    Ok(format!("{text}.{signature}"))
}

/// What of a token is signed.
fn unsigned(algorithm: &str, number: u64) -> Result<String> {
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)? + LASTS;
    let claims = json!({
        "sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": ends.as_secs(), "jti": number.to_string(),
    });
    let head = json!({"alg": algorithm, "typ": "JWT"});
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    Ok(format!("{head}.{claims}"))
}
