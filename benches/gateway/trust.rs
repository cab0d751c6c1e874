//! What it takes to know who calls and to hold him to limits: calls with an API key, a rate and a breaker, and
//! calls with a token that was seen before, beside calls with nothing.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::backends::PICOM_SERVICE;
use super::measure::{CONNECTIONS, HTTP_CALLS, Stage, What, World};
use super::scale;
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::{Gateway, PROGRAM};
use crate::support::subject::Subject;

const SECRET: &str = "a secret that the issuer and the gateway share";
const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "bench";
/// How long the token lasts.
const LASTS: Duration = Duration::from_secs(3_600);

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
    Ok(())
}

/// A token of the issuer's.
fn signed() -> Result<String> {
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)? + LASTS;
    let claims = json!({"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": ends.as_secs()});
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    Ok(format!("{text}.{signature}"))
}
