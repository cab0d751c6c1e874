//! Tokens that an issuer has signed.

use serde_json::{Value, json};

use super::issuer::{Jwks, Signer, claims, now, table};
use super::{Guarded, rpc};
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, run};
use crate::harness::websocket::WebSocket;
use crate::harness::{as_fault, eventually};

const ALLOW: &str =
    "allow = [\"sub:*@example.com\", \"scope:orders.write\", \"claim:tenant=acme\"]";

impl Guarded {
    /// The status of a call with a token.
    async fn with(&self, token: &str) -> u16 {
        self.status(&[("Authorization", &format!("Bearer {token}"))]).await
    }

    /// What a call with a token that is not taken is told.
    async fn refused(&self, token: &str) -> String {
        let bearer = format!("Bearer {token}");
        let refused = self.gateway.post("/call/echo/x", &[("Authorization", &bearer)], "[1]").await;
        assert_eq!(refused.status, 401, "{refused:?}");
        let challenge = "Bearer realm=\"genkan\", error=\"invalid_token\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge));
        refused.json()["detail"].as_str().expect("a text").to_owned()
    }
}

fn alice() -> Value {
    claims("alice@example.com")
}

#[tokio::test]
async fn tokens_of_four_algorithms_are_taken() {
    let signers = [Signer::rs256(), Signer::es256(), Signer::eddsa()];
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk(signer.algorithm())).collect();
    let jwks = Jwks::serve(&keys).await;
    let guarded = Guarded::start(&jwks.table("10m"), ALLOW).await;
    for signer in &signers {
        let token = signer.token(signer.algorithm(), &alice());
        // The second time it is known.
        for _ in 0..2 {
            assert_eq!(guarded.with(&token).await, 200, "{}", signer.algorithm());
        }
        let unnamed = signer.sign(&json!({"alg": signer.algorithm()}), &alice());
        assert_eq!(guarded.with(&unnamed).await, 200, "without a key's name");
    }
    assert_eq!(jwks.asked(), 1);
    // A token is no key of HTTP's own header, but sent there it is one all the same.
    let token = signers[1].token("ES256", &alice());
    assert_eq!(guarded.status(&[("X-API-Key", &token)]).await, 200);
    let folder = Folder::new();
    for signer in &signers {
        let file = folder.write("key.pem", &signer.pem());
        let keys = format!("key_file = \"{}\"", file.display());
        let guarded = Guarded::start(&table(&keys), ALLOW).await;
        assert_eq!(guarded.with(&signer.token("any", &alice())).await, 200);
    }
    let secret = "0123456789abcdef0123456789abcdef";
    let file = folder.write("secret", secret);
    let keys = format!("secret_file = \"{}\"", file.display());
    let guarded = Guarded::start(&table(&keys), ALLOW).await;
    assert_eq!(guarded.with(&Signer::hs256(secret).token("any", &alice())).await, 200);
}

#[tokio::test]
async fn keys_without_names_beyond_those_that_are_tried_are_told() {
    let signer = Signer::eddsa();
    let folder = Folder::new();
    // In PEM no key has a name.
    let behind = |others: usize| {
        let others: String = (0..others).map(|_| Signer::eddsa().pem()).collect();
        folder.write("keys.pem", &format!("{others}{}", signer.pem()))
    };
    let keys = table(&format!("key_file = \"{}\"", behind(32).display()));
    let config = folder.write("genkan.toml", &keys);
    let (status, _, said) = run(genkan().args(["check", "--config"]).arg(&config));
    assert!(status == 0 && said.contains("holds 33 keys for EdDSA"), "{said}");
    let guarded = Guarded::start(&keys, ALLOW).await;
    assert!(guarded.gateway.log_text().contains("holds 33 keys for EdDSA"));
    assert_eq!(guarded.with(&signer.token("any", &alice())).await, 401);
    behind(31);
    guarded.gateway.wait_for_log(0, "the keys of tokens were replaced").await;
    assert_eq!(guarded.with(&signer.token("any", &alice())).await, 200);
    behind(40);
    let line = guarded.gateway.wait_for_log(0, "not all keys of tokens are tried").await;
    assert!(line["excess"].as_str().is_some_and(|told| told.contains("holds 41 keys")), "{line}");
}

#[tokio::test]
async fn claims_decide_and_the_user_travels() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys =
        format!("key_file = \"{}\"\nuser_id = \"uid\"\nclaims = [\"tenant\"]", file.display());
    let guarded = Guarded::start(&table(&keys), ALLOW).await;
    let with = |key: &str, value: Value| {
        let mut all = claims("bob");
        all["uid"] = json!(7);
        all[key] = value;
        signer.token("k", &all)
    };
    for (token, status) in [
        (with("x", json!(1)), 403),
        (with("scope", json!("orders.read orders.write")), 200),
        (with("scope", json!(["orders.write"])), 200),
        (with("scope", json!("orders.writer")), 403),
        (with("tenant", json!("acme")), 200),
        (with("tenant", json!("evil")), 403),
        (with("sub", json!("bob@example.com")), 200),
    ] {
        assert_eq!(guarded.with(&token).await, status, "{token}");
    }
    let headers = guarded.echo.requests.last().headers;
    assert_eq!(headers.get("X-User-Id").map(String::as_str), Some("7"));
    assert_eq!(headers.get("Authorization"), None, "the token stays at the door");
}

#[tokio::test]
async fn what_is_not_good_is_refused_as_what_it_is() {
    let (signer, other) = (Signer::rs256(), Signer::rs256());
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = format!("key_file = \"{}\"", file.display());
    let guarded = Guarded::start(&table(&keys), ALLOW).await;
    let with = |key: &str, value: Value| {
        let mut all = alice();
        all[key] = value;
        signer.token("k", &all)
    };
    let none = Signer::hs256("").sign(&json!({"alg": "none"}), &alice());
    let unsigned = format!("{}.", none.rsplit_once('.').expect("three parts").0);
    // The public key as a secret, as whoever has it could sign.
    let confused = Signer::hs256(&signer.pem()).sign(&json!({"alg": "HS256"}), &alice());
    let disguised = Signer::hs256(&signer.pem()).sign(&json!({"alg": "RS256"}), &alice());
    let critical = signer.sign(&json!({"alg": "RS256", "crit": ["b64"], "b64": false}), &alice());
    let embedded =
        other.sign(&json!({"alg": "RS256", "jwk": other.jwk("k"), "kid": "k"}), &alice());
    for (token, words) in [
        (none, "algorithm that is taken"),
        (unsigned, "algorithm that is taken"),
        (confused, "not signed by a key that is known"),
        (disguised, "not signed by a key that is known"),
        (other.token("k", &alice()), "not signed by a key that is known"),
        (embedded, "not signed by a key that is known"),
        (critical, "critical header"),
        (with("exp", json!(now() - 100)), "has expired"),
        (with("nbf", json!(now() + 100)), "not valid yet"),
        (with("aud", json!("other")), "another audience"),
        (with("iss", json!("https://evil.example/")), "another issuer"),
        (with("sub", Value::Null), "lacks a claim"),
        (with("pad", json!("x".repeat(20_000))), "too long"),
        ("a.b.c".to_owned(), "no API key and no token"),
        ("gk_key".to_owned(), "no API key and no token"),
        (format!("{} x", with("a", json!(1))), "no API key and no token"),
    ] {
        let said = guarded.refused(&token).await;
        assert!(said.contains(words), "{said}: {token}");
        assert!(!said.contains("issuer.example") && !said.contains("genkan"), "{said}");
    }
    assert_eq!(guarded.calls(), 0);
    assert!(!guarded.gateway.log_text().contains("eyJ"), "no token is logged");
}

#[tokio::test]
async fn an_unknown_key_is_fetched_once_and_known_ones_serve_while_the_issuer_is_down() {
    let (old, new) = (Signer::es256(), Signer::eddsa());
    let jwks = Jwks::serve(&[old.jwk("old"), json!({"kty": "oct"})]).await;
    let guarded = Guarded::start(&jwks.table("10m"), ALLOW).await;
    assert_eq!(guarded.with(&old.token("old", &alice())).await, 200);
    assert_eq!(jwks.asked(), 1);
    // Names that somebody makes up lead to no fetch so soon after the last one.
    for name in 0..20 {
        let made_up = new.token(&format!("made up {name}"), &alice());
        assert!(guarded.refused(&made_up).await.contains("not signed by a key"));
    }
    assert_eq!(jwks.asked(), 1);
    jwks.tell(&[old.jwk("old"), new.jwk("new")]);
    eventually("the new key is fetched", async || {
        (guarded.with(&new.token("new", &alice())).await == 200).then_some(())
    })
    .await;
    assert_eq!(jwks.asked(), 2);
    assert_eq!(guarded.with(&old.token("old", &alice())).await, 200);
}

#[tokio::test]
async fn an_issuer_that_is_down_or_tells_rubbish_costs_nobody_who_is_known() {
    let (signer, second) = (Signer::es256(), Signer::es256());
    let jwks = Jwks::serve(&[signer.jwk("k"), second.jwk("gone")]).await;
    let guarded = Guarded::start(&jwks.table("300ms"), ALLOW).await;
    let gone = second.token("gone", &alice());
    assert_eq!(guarded.with(&gone).await, 200);
    let mut socket = WebSocket::open_with(
        &guarded.gateway.http,
        "/api",
        &[("Authorization", &format!("Bearer {gone}"))],
    )
    .await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    let many = vec![signer.jwk("k"); 10_000];
    let all = json!({ "keys": many }).to_string();
    let small = json!({"keys": vec![json!({"kty": "x"}); 10_000]}).to_string();
    let loopback = format!("Location: https://127.0.0.1:{}/\r\n", guarded.gateway.http);
    for (status, headers, body, words) in [
        ("200 OK", "", "garbage", "no set of keys"),
        ("200 OK", "", all.as_str(), "larger than 1MiB"),
        ("200 OK", "", small.as_str(), "10000 keys"),
        ("200 OK", "", "{\"keys\":[]}", "can be used"),
        ("302 Found", loopback.as_str(), "", "redirects are not followed"),
        ("500 Oops", "", "", "answered 500"),
    ] {
        let seen = guarded.gateway.log().len();
        jwks.say(status, headers, body);
        let said = guarded.gateway.wait_for_log(seen, "the keys of the issuer").await;
        let problem = said["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(words), "{said}");
        // A new token, of a key that is known.
        assert_eq!(guarded.with(&signer.token("k", &alice())).await, 200, "{words}");
        let seen = guarded.gateway.log().len();
        jwks.tell(&[signer.jwk("k"), second.jwk("gone")]);
        guarded.gateway.wait_for_log(seen, "the keys of the issuer of tokens are here").await;
    }
    jwks.break_off();
    assert_eq!(guarded.with(&signer.token("k", &alice())).await, 200);
    // A key that the issuer has taken back is good no more, for tokens that were taken neither.
    jwks.tell(&[signer.jwk("k")]);
    eventually("the key is gone", async || (guarded.with(&gone).await == 401).then_some(())).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
}

#[tokio::test]
async fn before_the_issuer_has_told_its_keys_nobody_is_taken_for_a_stranger() {
    let signer = Signer::es256();
    let jwks = Jwks::serve(&[]).await;
    jwks.break_off();
    let guarded = Guarded::begin(&jwks.table("10m"), ALLOW).await;
    let bearer = format!("Bearer {}", signer.token("k", &alice()));
    let headers = [("Authorization", bearer.as_str())];
    let answer = guarded.gateway.post("/call/echo/x", &headers, "[1]").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(guarded.status(&[]).await, 401, "who shows nothing is not known all the same");
    jwks.tell(&[signer.jwk("k")]);
    eventually("it has", async || (guarded.status(&headers).await == 200).then_some(())).await;
}

#[tokio::test]
async fn who_waits_for_no_longer_does_not_wait_for_the_issuer() {
    let signer = Signer::es256();
    let bearer = format!("Bearer {}", signer.token("k", &alice()));
    let headers = [("Authorization", bearer.as_str()), ("X-Request-Timeout", "300ms")];
    let rpc = r#"{"jsonrpc":"2.0","method":"echo.x","params":[1],"id":1}"#;
    // Five seconds from its start on a gateway's first fetch has failed: a slow machine has another try.
    for _ in 0..5 {
        let jwks = Jwks::serve(&[]).await;
        jwks.fall_silent();
        let guarded = Guarded::begin(&jwks.table("10m"), ALLOW).await;
        for (path, body) in [("/call/echo/x", "[1]"), ("/api", rpc)] {
            let answer = guarded.gateway.post(path, &headers, body).await;
            assert!(answer.text().contains("unavailable"), "{answer:?}");
        }
        let failed = [("outcome", "failed")];
        if guarded.gateway.metric("genkan_issuer_fetches_total", &failed).await == 0.0 {
            return;
        }
    }
    panic!("it waits for the issuer");
}

#[tokio::test]
async fn a_socket_that_shows_a_token_while_the_issuer_is_away_is_told_so() {
    let signer = Signer::es256();
    let jwks = Jwks::serve(&[]).await;
    jwks.break_off();
    let guarded = Guarded::begin(&jwks.table("10m"), ALLOW).await;
    let mut socket = WebSocket::open(&guarded.gateway.http).await;
    let token = signer.token("k", &alice());
    let shown = json!({"jsonrpc": "2.0", "id": 1, "method": "genkan.authenticate", "params": {"token": token}});
    // Its client has not to ask its user who he is.
    as_fault(&socket.ask(shown.to_string()).await).is("unavailable", "not_sent");
}

#[tokio::test]
async fn other_rules_are_in_force_for_those_who_are_let_in_already() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = format!("key_file = \"{}\"", file.display());
    let mut guarded = Guarded::start(&table(&keys), ALLOW).await;
    let token = signer.token("k", &alice());
    let bearer = format!("Bearer {token}");
    let address = guarded.gateway.http.clone();
    let headers = [("Authorization", bearer.as_str())];
    let mut socket = WebSocket::open_with(&address, "/api", &headers).await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    guarded.change(&table(&keys).replace("\"genkan\"", "\"other\""), ALLOW).await;
    assert_eq!(guarded.with(&token).await, 401);
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
}

#[tokio::test]
async fn a_token_that_ends_is_good_no_more_on_an_open_connection() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = format!("key_file = \"{}\"\nclock_skew = \"1ms\"", file.display());
    let guarded = Guarded::start(&table(&keys), ALLOW).await;
    let mut short = alice();
    short["exp"] = json!(now() + 3);
    let bearer = format!("Bearer {}", signer.token("k", &short));
    let headers = [("Authorization", bearer.as_str())];
    let mut socket = WebSocket::open_with(&guarded.gateway.http, "/api", &headers).await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    let fault = eventually("it has ended", async || {
        let answer = guarded.gateway.post("/call/echo/x", &headers, "[1]").await;
        (answer.status == 401).then(|| answer.json()["detail"].to_string())
    })
    .await;
    assert!(fault.contains("has expired"), "{fault}");
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
}

#[tokio::test]
async fn methods_of_genkan_s_own_are_for_those_whom_it_allows() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let own = "[auth]\nown_methods = [\"sub:ops\"]\n";
    let toml = format!("{own}{}", table(&format!("key_file = \"{}\"", file.display())));
    let guarded = Guarded::start(&toml, ALLOW).await;
    let ask = async |method: &str, subject: &str| {
        let bearer = format!("Bearer {}", signer.token("k", &claims(subject)));
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"name":"*"}},"id":1}}"#);
        guarded.gateway.post("/api", &[("Authorization", &bearer)], body).await.json()
    };
    for method in ["locate_service", "get_service_specs"] {
        let refused = ask(method, "alice@example.com").await;
        assert_eq!(refused["error"]["code"], -32001, "{method}: {refused}");
        let answer = ask(method, "ops").await;
        assert_ne!(answer["error"]["code"], -32001, "{method}: {answer}");
        let nobody = guarded.gateway.api(rpc(method)).await;
        assert_eq!(nobody["error"]["code"], -32001, "{method}: {nobody}");
    }
}
