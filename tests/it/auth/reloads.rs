//! What a reload of `[auth]`, and an issuer that comes back, are to those who are let in already.

use serde_json::{Value, json};

use super::issuer::{Jwks, Signer, claims, now, table};
use super::{Guarded, new_key, rpc};
use crate::events::{Listener, shop, trigger};
use crate::harness::http::Connection;
use crate::harness::process::Folder;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, as_fault, eventually};
use crate::hub::{HUB, Peer};

const ROWS: &str = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nallow = [\"sub:*\", \
                    \"key:*\"]\n[[routes]]\nmatch = \"shop.*\"\nupstream = \"hub\"\nallow = \
                    [\"sub:*\", \"key:*\"]\n";
const ENDED: &str = "the key, token or certificate is not accepted any more";

async fn ask(socket: &mut WebSocket, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    socket.ask(request.to_string()).await
}

/// A gateway whose topics somebody hears.
struct Heard {
    gateway: Gateway,
    shop: Peer,
    socket: WebSocket,
    /// One that hears nothing.
    deaf: WebSocket,
    stream: Listener,
}

impl Heard {
    async fn start(auth: &str, shown: &str) -> Self {
        let gateway = Gateway::start(&format!("{HUB}{ROWS}{auth}")).await;
        let shop = shop(&gateway).await;
        let bearer = format!("Bearer {shown}");
        let headers = [("Authorization", bearer.as_str())];
        let mut socket = WebSocket::open_with(&gateway.http, "/api", &headers).await;
        let wanted = json!({"topics": ["shop.sold"]});
        let told = ask(&mut socket, "genkan.subscribe", wanted.clone()).await;
        assert_eq!(told["result"], wanted, "{told}");
        let deaf = WebSocket::open_with(&gateway.http, "/api", &headers).await;
        let header = format!("Authorization: {bearer}\r\n");
        let mut stream = Listener::open(&gateway, "?topic=shop.sold", &header).await;
        stream.greeted().await;
        Self { gateway, shop, socket, deaf, stream }
    }

    async fn reload(&self, auth: &str) {
        let seen = self.gateway.log().len();
        self.gateway.write_config(&format!("{HUB}{ROWS}{auth}"));
        self.gateway.hang_up();
        self.gateway.wait_for_log(seen, "reloaded").await;
    }

    /// All of them are who they were.
    async fn goes_on(&mut self, count: u64) {
        // Nobody has the function: a row lets the call in, and the hub knows none.
        for socket in [&mut self.deaf, &mut self.socket] {
            let told = as_fault(&socket.ask(rpc("shop.nothing")).await);
            assert_eq!(told.data["kind"], "unknown_method", "{count}");
        }
        trigger(&mut self.shop, "sold", json!({ "n": count })).await;
        assert_eq!(self.socket.json().await["params"]["data"]["n"], count);
        assert_eq!(self.stream.event().await.data["data"]["n"], count);
    }
}

#[tokio::test]
async fn a_token_that_the_new_table_takes_stays() {
    let (signer, other) = (Signer::es256(), Signer::es256());
    let jwks = Jwks::serve(&[signer.jwk("k")]).await;
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let two = folder.write("keys.pem", &format!("{}{}", other.pem(), signer.pem()));
    let keys = |file: &std::path::Path, more: &str| {
        table(&format!("key_file = \"{}\"\n{more}", file.display()))
    };
    let moved = table(&format!("{}\nclaims = [\"tenant\"]", url(&jwks, "/keys?v=2")));
    for (number, tables) in [
        vec![keys(&file, ""), keys(&file, "claims = [\"tenant\"]"), keys(&two, "")],
        vec![jwks.table("10m"), table(&format!("{}\nclaims = [\"x\"]", url(&jwks, "/keys?v=1")))],
        // The keys are elsewhere from now on.
        vec![jwks.table("10m"), moved, keys(&file, ""), jwks.table("10m")],
    ]
    .into_iter()
    .enumerate()
    {
        let token = signer.token("k", &claims("alice"));
        let mut heard = Heard::start(&tables[0], &token).await;
        for (count, table) in tables.iter().enumerate().skip(1) {
            heard.reload(table).await;
            heard.goes_on(10 * number as u64 + count as u64).await;
        }
    }
}

/// The lines that name an issuer's keys, at another place of its.
fn url(jwks: &Jwks, path: &str) -> String {
    let table = jwks.table("10m");
    let lines = table.lines().filter(|line| line.starts_with("jwks_url") || line.starts_with("ca"));
    lines.collect::<Vec<_>>().join("\n").replace("/keys?v=1", path)
}

#[tokio::test]
async fn what_is_made_of_a_token_is_what_the_new_table_says() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = |more: &str| table(&format!("key_file = \"{}\"\n{more}", file.display()));
    let allow = "allow = [\"claim:tenant=acme\"]";
    let mut guarded = Guarded::start(&keys(""), allow).await;
    let mut all = claims("alice");
    all["tenant"] = json!("acme");
    all["uid"] = json!(7);
    let bearer = format!("Bearer {}", signer.token("k", &all));
    let headers = [("Authorization", bearer.as_str())];
    let mut socket = WebSocket::open_with(&guarded.gateway.http, "/api", &headers).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
    guarded.change(&keys("claims = [\"tenant\"]\nuser_id = \"uid\""), allow).await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    let user = guarded.echo.requests.last().headers.get("X-User-Id").cloned();
    assert_eq!(user.as_deref(), Some("7"));
    // What was taken back is not good again by itself.
    guarded.change(&keys("").replace("\"genkan\"", "\"other\""), allow).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
    guarded.change(&keys("claims = [\"tenant\"]"), allow).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
}

#[tokio::test]
async fn whose_subscription_ends_by_a_reload_keeps_its_socket() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let tokens = table(&format!("key_file = \"{}\"", file.display()));
    let (key, lines) = new_key(&["web"]);
    let late = format!("{lines}expires = 2020-01-01\n");
    let token = signer.token("k", &claims("alice"));
    let renewed = signer.token("k", &claims("alice"));
    for (before, shown, after, why) in [
        (&lines, &key, new_key(&["web"]).1, ENDED),
        (&lines, &key, late, "the key, token or certificate has expired"),
        (&tokens, &token, tokens.replace("\"genkan\"", "\"other\""), ENDED),
    ] {
        let mut heard = Heard::start(before, shown).await;
        heard.reload(&after).await;
        let ended = heard.socket.json().await;
        assert_eq!(ended["method"], "ended", "{ended}");
        assert_eq!(ended["params"], json!({ "reason": why }), "{ended}");
        let told = heard.stream.next().await.expect("it is told");
        assert_eq!((told.kind.as_str(), &told.data), ("ended", &ended["params"]));
        assert_eq!(heard.stream.next().await, None);
        as_fault(&heard.socket.ask(rpc("shop.nothing")).await).is("access_denied", "not_sent");
        // It may listen again, once it is good again.
        heard.reload(before).await;
        let socket = &mut heard.socket;
        let shown = if shown == &token { &renewed } else { shown };
        let told = ask(socket, "genkan.authenticate", json!({ "token": shown })).await;
        assert!(told["result"]["subject"].is_string(), "{told}");
        let wanted = json!({"topics": ["shop.sold"]});
        let told = ask(socket, "genkan.subscribe", wanted.clone()).await;
        assert_eq!(told["result"], wanted, "{told}");
        trigger(&mut heard.shop, "sold", json!({"n": 5})).await;
        assert_eq!(socket.json().await["params"]["data"]["n"], 5);
    }
}

#[tokio::test]
async fn the_keys_of_an_issuer_outlive_a_reload_while_it_is_down() {
    let signer = Signer::es256();
    let jwks = Jwks::serve(&[signer.jwk("k")]).await;
    let allow = "allow = [\"sub:*\"]";
    let mut guarded = Guarded::start(&jwks.table("10m"), allow).await;
    let status = async |guarded: &Guarded, subject: &str| {
        let bearer = format!("Bearer {}", signer.token("k", &claims(subject)));
        guarded.status(&[("Authorization", &bearer)]).await
    };
    assert_eq!(status(&guarded, "one").await, 200);
    jwks.say("500 Oops", "", "");
    let tables = [
        format!("{}claims = [\"tenant\"]\n", jwks.table("10m")),
        jwks.table("9m"),
        jwks.table("9m").replace("audience = \"genkan\"", "audience = [\"genkan\", \"x\"]"),
    ];
    for (number, table) in tables.iter().enumerate() {
        guarded.change(table, allow).await;
        assert_eq!(status(&guarded, &format!("new {number}")).await, 200, "{table}");
    }
}

#[tokio::test]
async fn a_socket_that_was_opened_while_the_issuer_was_away_is_known_when_it_is_back() {
    let signer = Signer::es256();
    let jwks = Jwks::serve(&[]).await;
    jwks.say("500 Oops", "", "");
    let toml = format!("{HUB}{ROWS}{}", jwks.table("10m"));
    let gateway = Gateway::start(&toml).await;
    let _shop = shop(&gateway).await;
    let bearer = format!("Bearer {}", signer.token("k", &claims("alice")));
    let headers = [("Authorization", bearer.as_str())];
    let mut calls = WebSocket::open_with(&gateway.http, "/api", &headers).await;
    let mut hears = WebSocket::open_with(&gateway.http, "/api", &headers).await;
    for _ in 0..50 {
        as_fault(&calls.ask(rpc("shop.nothing")).await).is("unavailable", "not_sent");
    }
    let asked = jwks.asked();
    assert!(asked < 10, "the issuer is not asked for each call: {asked}");
    jwks.tell(&[signer.jwk("k")]);
    eventually("its calls are let in", async || {
        let told = as_fault(&calls.ask(rpc("shop.nothing")).await);
        (told.data["kind"] == "unknown_method").then_some(())
    })
    .await;
    let wanted = json!({"topics": ["shop.sold"]});
    eventually("it may listen", async || {
        let told = ask(&mut hears, "genkan.subscribe", wanted.clone()).await;
        (told["result"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_shown_before_its_begin_is_good_from_then_on() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = table(&format!("key_file = \"{}\"\nclock_skew = \"1ms\"", file.display()));
    let guarded = Guarded::start(&keys, "allow = [\"sub:*\"]").await;
    let mut all = claims("alice");
    all["nbf"] = json!(now() + 3);
    let bearer = format!("Bearer {}", signer.token("k", &all));
    let headers = [("Authorization", bearer.as_str())];
    let mut socket = WebSocket::open_with(&guarded.gateway.http, "/api", &headers).await;
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
    eventually("its begin has come", async || {
        (socket.ask(rpc("echo.x")).await["result"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_of_keys_that_is_replaced_is_in_force_by_itself() {
    let (signer, other) = (Signer::es256(), Signer::es256());
    let secrets = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
    let [old, new] = secrets.map(Signer::hs256);
    let folder = Folder::new();
    for (key, name, (before, of_before), (after, of_after)) in [
        ("key_file", "key.pem", (signer.pem(), &signer), (other.pem(), &other)),
        ("secret_file", "secret", (secrets[0].to_owned(), &old), (secrets[1].to_owned(), &new)),
    ] {
        let file = folder.write(name, &before);
        let keys = table(&format!("{key} = \"{}\"", file.display()));
        let guarded = Guarded::start(&keys, "allow = [\"sub:*\"]").await;
        let bearer = |of: &Signer| format!("Bearer {}", of.token("k", &claims("alice")));
        let (first, second) = (bearer(of_before), bearer(of_after));
        let headers = [("Authorization", first.as_str())];
        let mut socket = WebSocket::open_with(&guarded.gateway.http, "/api", &headers).await;
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
        // What cannot be used changes nothing, and is said once.
        let seen = guarded.gateway.log().len();
        folder.write(name, "short");
        guarded.gateway.wait_for_log(seen, "the file of the keys of tokens cannot be used").await;
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
        folder.write(name, &after);
        eventually("the new key is in force", async || {
            (guarded.status(&[("Authorization", &second)]).await == 200).then_some(())
        })
        .await;
        assert_eq!(guarded.status(&headers).await, 401);
        as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
        assert!(!guarded.gateway.log_text().contains(secrets[1]));
    }
}

#[tokio::test]
async fn a_token_of_the_admin_pages_that_is_replaced_is_in_force_by_itself() {
    let folder = Folder::new();
    let file = folder.write("token", "hunter2hunter2\n");
    let gateway = Gateway::start(&format!("[admin]\ntoken_file = \"{}\"\n", file.display())).await;
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let mut connection = Connection::open(&gateway.admin).await;
        connection.request("GET", "/metrics", &[("Authorization", &bearer)], b"").await;
        connection.receive().await.expect("an answer").status
    };
    assert_eq!(status("hunter2hunter2").await, 200);
    let seen = gateway.log().len();
    folder.write("token", "with blanks\n");
    gateway.wait_for_log(seen, "the file of the token of [admin] cannot be used").await;
    assert_eq!(status("hunter2hunter2").await, 200);
    folder.write("token", "correct-horse\n");
    eventually("the new token is in force", async || {
        (status("correct-horse").await == 200).then_some(())
    })
    .await;
    assert_eq!(status("hunter2hunter2").await, 401);
    assert!(!gateway.log_text().contains("correct-horse"));
}

#[tokio::test]
async fn a_key_is_replaced_by_another_one_of_its_name() {
    let [(old, of_old), (new, of_new)] = [new_key(&["web"]), new_key(&["web"])];
    let hash = |lines: &str| {
        let line = lines.lines().find_map(|line| line.strip_prefix("hash = "));
        line.expect("a hash").to_owned()
    };
    let both = of_old.replace(&hash(&of_old), &format!("[{}, {}]", hash(&of_old), hash(&of_new)));
    let allow = "allow = [\"key:web\"]";
    let limit = "rate = \"4/h\"\n";
    let of = |lines: &str| format!("{lines}{limit}");
    let mut guarded = Guarded::start(&of(&of_old), allow).await;
    let headers = [("X-API-Key", old.as_str())];
    let mut socket = WebSocket::open_with(&guarded.gateway.http, "/api", &headers).await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(guarded.status(&[("X-API-Key", &new)]).await, 401);
    guarded.change(&of(&both), allow).await;
    assert_eq!(guarded.status(&[("X-API-Key", &new)]).await, 200);
    assert_eq!(guarded.status(&headers).await, 200);
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(guarded.status(&[("X-API-Key", &new)]).await, 429, "they have one limit");
    guarded.change(&of(&of_new), allow).await;
    assert_eq!(guarded.status(&headers).await, 401);
    as_fault(&socket.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
    assert_eq!(guarded.status(&[("X-API-Key", &new)]).await, 429, "it is the same key's");
}

#[tokio::test]
async fn operators_are_told_how_it_is_with_the_issuer_and_of_tokens_that_are_refused() {
    let signer = Signer::es256();
    let jwks = Jwks::serve(&[]).await;
    jwks.say("500 Oops", "", "");
    let guarded = Guarded::begin(&jwks.table("300ms"), "allow = [\"sub:*\"]").await;
    let gateway = &guarded.gateway;
    let page = gateway.page("/readyz").await;
    let why = "auth: no keys of the issuer of tokens yet, from https://";
    assert!(page.status == 503 && page.text().contains(why), "{page:?}");
    let refused = "genkan_credentials_refused_total";
    let bearer = |subject: &str, of: &Signer| {
        let token = of.token("k", &claims(subject));
        format!("Bearer {token}")
    };
    let token = bearer("alice", &signer);
    assert_eq!(guarded.status(&[("Authorization", &token)]).await, 503);
    assert_eq!(gateway.metric(refused, &[("reason", "no_keys")]).await, 1.0);
    assert_eq!(guarded.status(&[("Authorization", "Bearer a.b.c")]).await, 401);
    assert_eq!(gateway.metric(refused, &[("reason", "malformed")]).await, 1.0);
    let fetches = "genkan_issuer_fetches_total";
    assert!(gateway.metric(fetches, &[("outcome", "failed")]).await > 0.0);
    jwks.tell(&[signer.jwk("k")]);
    gateway.wait_until_ready().await;
    gateway.wait_for_metric("genkan_issuer_keys", &[], 1.0).await;
    assert!(gateway.metric(fetches, &[("outcome", "ok")]).await > 0.0);
    assert!(gateway.metric("genkan_issuer_fetched_timestamp_seconds", &[]).await > 1e9);
    // That it is down again makes nothing unready.
    let failed = gateway.metric(fetches, &[("outcome", "failed")]).await;
    jwks.say("500 Oops", "", "");
    eventually("it is asked again", async || {
        (gateway.metric(fetches, &[("outcome", "failed")]).await > failed).then_some(())
    })
    .await;
    assert_eq!(gateway.page("/readyz").await.status, 200);
    assert_eq!(guarded.status(&[("Authorization", &token)]).await, 200);
}
