//! Who may listen, and for how long.

use serde_json::{Value, json};

use super::issuer::{Signer, claims, now, table};
use super::{new_key, rpc};
use crate::events::{Listener, shop, trigger};
use crate::harness::process::Folder;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, as_fault};
use crate::hub::HUB;

const TOPICS: &str = "[[topics]]\nmatch = \"shop.secret\"\nfrom = \"hub:shop.secret\"\n[[topics]]\n\
                      match = \"shop.*\"\nfrom = \"hub:shop.*\"\nallow = [\"key:web\", \"sub:*\"]\n";

async fn ask(socket: &mut WebSocket, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    socket.ask(request.to_string()).await
}

#[tokio::test]
async fn a_stream_is_for_those_whom_its_row_allows() {
    let (key, lines) = new_key(&["web"]);
    let (other, more) = new_key(&["other"]);
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{lines}{more}")).await;
    let mut shop = shop(&gateway).await;
    let header = |key: &str| format!("X-API-Key: {key}\r\n");
    for (query, headers, status) in [
        ("?topic=shop.sold", String::new(), 401),
        ("?topic=shop.sold", header("wrong"), 401),
        ("?topic=shop.sold", header(&other), 403),
        ("?topic=shop.secret", header(&key), 403),
    ] {
        let refused = Listener::open(&gateway, query, &headers).await;
        assert!(refused.head.contains(&format!(" {status} ")), "{query}: {}", refused.head);
        assert_eq!(refused.head.contains("www-authenticate: bearer"), status == 401);
    }
    let mut all = Listener::open(&gateway, "?topic=shop.%2A", &header(&key)).await;
    all.greeted().await;
    for hook in ["secret", "sold", "secret", "opened"] {
        trigger(&mut shop, hook, json!({})).await;
    }
    for topic in ["shop.sold", "shop.opened"] {
        assert_eq!(all.event().await.data["topic"], topic, "a glob hears what may be heard");
    }
}

#[tokio::test]
async fn a_browser_shows_its_token_by_a_subprotocol_or_says_it_first() {
    let (key, lines) = new_key(&["web"]);
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{lines}")).await;
    let wanted = json!({"topics": ["shop.sold"]});
    let named = format!("jsonrpc, genkan.bearer.{key}");
    let headers = [("Sec-WebSocket-Protocol", named.as_str())];
    let mut known = WebSocket::open_with(&gateway.http, "/api", &headers).await;
    let told = ask(&mut known, "genkan.subscribe", wanted.clone()).await;
    assert_eq!(told["result"]["topics"], json!(["shop.sold"]), "{told}");
    // At a service's own address too: a service must not be told the token.
    for path in ["/api", "/api/shop"] {
        let mut late = WebSocket::open_with(&gateway.http, path, &[]).await;
        let refused = as_fault(&ask(&mut late, "genkan.subscribe", wanted.clone()).await);
        assert_eq!(refused.is("access_denied", "not_sent").code, -32001);
        let wrong =
            as_fault(&ask(&mut late, "genkan.authenticate", json!({"token": "wrong"})).await);
        wrong.is("access_denied", "not_sent");
        let told = ask(&mut late, "genkan.authenticate", json!({"token": key})).await;
        assert_eq!(told["result"], json!({"subject": "web", "expires": null}), "{told}");
        let told = ask(&mut late, "genkan.subscribe", wanted.clone()).await;
        assert_eq!(told["result"]["topics"], json!(["shop.sold"]), "{told}");
        for params in [json!({}), json!({"token": 7}), json!([]), json!({"token": "a", "x": 1})] {
            as_fault(&ask(&mut late, "genkan.authenticate", params).await)
                .is("invalid_params", "not_sent");
        }
    }
    assert!(!gateway.log_text().contains(&key));
}

#[tokio::test]
async fn over_http_each_request_shows_who_calls() {
    let (key, lines) = new_key(&["web"]);
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{lines}")).await;
    let fault = gateway.fault("genkan.authenticate", json!({ "token": key })).await;
    assert!(fault.message.contains("`Authorization`"), "{fault:?}");
    assert!(!gateway.log_text().contains(&key));
}

#[tokio::test]
async fn a_key_that_has_expired_makes_nobody_known() {
    let (key, lines) = new_key(&["web"]);
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{lines}expires = 2020-01-01\n")).await;
    let mut socket = WebSocket::open_with(&gateway.http, "/api", &[]).await;
    let told = as_fault(&ask(&mut socket, "genkan.authenticate", json!({"token": key})).await);
    assert!(told.is("access_denied", "not_sent").message.contains("has expired"), "{told:?}");
    let counted = [("reason", "expired")];
    assert_eq!(gateway.metric("genkan_credentials_refused_total", &counted).await, 1.0);
}

#[tokio::test]
async fn a_token_that_ends_ends_what_it_listens_to_unless_it_is_renewed() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = table(&format!("key_file = \"{}\"\nclock_skew = \"1ms\"", file.display()));
    let gateway = Gateway::start(&format!("{HUB}{TOPICS}{keys}")).await;
    let mut shop = shop(&gateway).await;
    let token = |subject: &str, seconds: u64| {
        let mut all = claims(subject);
        all["exp"] = json!(now() + seconds);
        signer.token("k", &all)
    };
    let short = token("alice", 4);
    let named = format!("jsonrpc, genkan.bearer.{short}");
    let open = || async {
        let headers = [("Sec-WebSocket-Protocol", named.as_str())];
        let mut socket = WebSocket::open_with(&gateway.http, "/api", &headers).await;
        let told = ask(&mut socket, "genkan.subscribe", json!({"topics": ["shop.sold"]})).await;
        assert_eq!(told["result"]["topics"], json!(["shop.sold"]), "{told}");
        socket
    };
    let (mut ends, mut goes_on) = (open().await, open().await);
    let bearer = format!("Authorization: Bearer {short}\r\n");
    let mut stream = Listener::open(&gateway, "?topic=shop.sold", &bearer).await;
    stream.greeted().await;
    let foreign = json!({"token": token("bob", 60)});
    as_fault(&ask(&mut goes_on, "genkan.authenticate", foreign).await)
        .is("access_denied", "not_sent");
    let renewed =
        ask(&mut goes_on, "genkan.authenticate", json!({"token": token("alice", 60)})).await;
    assert_eq!(renewed["result"]["subject"], "alice", "{renewed}");
    let ended = ends.json().await;
    assert_eq!(ended["method"], "ended", "{ended}");
    assert!(
        ended["params"]["reason"].as_str().is_some_and(|why| why.contains("expired")),
        "{ended}"
    );
    let told = stream.next().await.expect("it is told");
    assert_eq!((told.kind.as_str(), &told.data), ("ended", &ended["params"]));
    assert_eq!(stream.next().await, None, "the stream ends");
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    assert_eq!(goes_on.json().await["params"]["data"]["n"], 1);
    // The connection is still there, and may be somebody again.
    as_fault(&ends.ask(rpc("nobody.x")).await).is("access_denied", "not_sent");
    let again = ask(&mut ends, "genkan.authenticate", json!({"token": token("alice", 60)})).await;
    assert_eq!(again["result"]["subject"], "alice", "{again}");
    ask(&mut ends, "genkan.subscribe", json!({"topics": ["shop.sold"]})).await;
    trigger(&mut shop, "sold", json!({"n": 2})).await;
    assert_eq!(ends.json().await["params"]["data"]["n"], 2, "and once");
    assert_eq!(goes_on.json().await["params"]["data"]["n"], 2, "once");
}

#[tokio::test]
async fn a_token_that_allows_less_ends_what_it_does_not_allow() {
    let signer = Signer::es256();
    let folder = Folder::new();
    let file = folder.write("key.pem", &signer.pem());
    let keys = table(&format!("key_file = \"{}\"", file.display()));
    let topics = TOPICS.replacen(
        "from = \"hub:shop.secret\"",
        "from = \"hub:shop.secret\"\nallow = [\"scope:secret\"]",
        1,
    );
    let gateway = Gateway::start(&format!("{HUB}{topics}{keys}")).await;
    let mut shop = shop(&gateway).await;
    let token = |scopes: &str| {
        let mut all = claims("alice");
        all["scope"] = json!(scopes);
        signer.token("k", &all)
    };
    let named = format!("jsonrpc, genkan.bearer.{}", token("secret"));
    let headers = [("Sec-WebSocket-Protocol", named.as_str())];
    let mut socket = WebSocket::open_with(&gateway.http, "/api", &headers).await;
    let wanted = json!({"topics": ["shop.secret", "shop.sold"]});
    let told = ask(&mut socket, "genkan.subscribe", wanted.clone()).await;
    assert_eq!(told["result"], wanted, "{told}");
    let request = json!({"jsonrpc": "2.0", "id": 2, "method": "genkan.authenticate",
                         "params": {"token": token("other")}});
    let mut said = vec![socket.ask(request.to_string()).await, socket.json().await];
    said.sort_by_key(|said| said["method"].is_string());
    assert_eq!(said[0]["result"]["subject"], "alice", "{said:?}");
    assert_eq!(said[1]["method"], "ended", "{said:?}");
    assert_eq!(said[1]["params"]["topics"], json!(["shop.secret"]), "{said:?}");
    for hook in ["secret", "sold"] {
        trigger(&mut shop, hook, json!({})).await;
    }
    assert_eq!(socket.json().await["params"]["topic"], "shop.sold");
}

#[tokio::test]
async fn a_reload_that_allows_less_ends_what_it_does_not_allow_and_tells_so() {
    let ((web, lines), (boss, more)) = (new_key(&["web"]), new_key(&["boss"]));
    let row = |name: &str, allow: &str| {
        format!(
            "[[topics]]\nmatch = \"shop.{name}\"\nfrom = \"hub:shop.{name}\"\nallow = [{allow}]\n"
        )
    };
    let of = |rows: &[String]| format!("{HUB}{}{lines}{more}", rows.concat());
    let all = [row("sold", "\"key:*\""), row("lost", "\"key:*\""), row("open", "\"key:*\"")];
    let gateway = Gateway::start(&of(&all)).await;
    let mut shop = shop(&gateway).await;
    let listening = async |key: &str| {
        let mut socket = WebSocket::open_with(&gateway.http, "/api", &[("X-API-Key", key)]).await;
        let wanted = json!({"topics": ["shop.sold", "shop.lost", "shop.open"]});
        let told = ask(&mut socket, "genkan.subscribe", wanted.clone()).await;
        assert_eq!(told["result"], wanted, "{told}");
        let header = format!("X-API-Key: {key}\r\n");
        let query = "?topic=shop.sold&topic=shop.lost&topic=shop.open";
        let mut all = Listener::open(&gateway, query, &header).await;
        let mut one = Listener::open(&gateway, "?topic=shop.sold", &header).await;
        all.greeted().await;
        one.greeted().await;
        (socket, all, one)
    };
    let (mut webs, mut all_of_web, mut one_of_web) = listening(&web).await;
    let (mut bosses, mut all_of_boss, mut one_of_boss) = listening(&boss).await;
    let reload = async |rows: &[String]| {
        let seen = gateway.log().len();
        gateway.write_config(&of(rows));
        gateway.hang_up();
        gateway.wait_for_log(seen, "reloaded").await;
    };
    // One row allows less, one goes, and one stays as it is.
    let fewer = [row("sold", "\"key:boss\""), row("open", "\"key:*\"")];
    reload(&fewer).await;
    for hook in ["sold", "open"] {
        trigger(&mut shop, hook, json!({})).await;
    }
    let reason = "the client may not listen to these topics any more";
    let ended = |topics: &[&str]| json!({"reason": reason, "topics": topics});
    let both = ended(&["shop.sold", "shop.lost"]);
    let told = webs.json().await;
    assert_eq!((&told["method"], &told["params"]), (&json!("ended"), &both));
    assert_eq!(webs.json().await["params"]["topic"], "shop.open", "it goes on");
    let heard = all_of_web.next().await.expect("it is told");
    assert_eq!((heard.kind.as_str(), &heard.data), ("ended", &both));
    assert_eq!(all_of_web.event().await.data["topic"], "shop.open", "it goes on");
    let heard = one_of_web.next().await.expect("it is told");
    assert_eq!((heard.kind.as_str(), heard.data), ("ended", ended(&["shop.sold"])));
    assert_eq!(one_of_web.next().await, None, "nothing is left to hear");
    let lost = ended(&["shop.lost"]);
    assert_eq!(bosses.json().await["params"], lost);
    assert_eq!(all_of_boss.next().await.expect("it is told").data, lost);
    for topic in ["shop.sold", "shop.open"] {
        assert_eq!(bosses.json().await["params"]["topic"], topic);
        assert_eq!(all_of_boss.event().await.data["topic"], topic);
    }
    assert_eq!(one_of_boss.event().await.data["topic"], "shop.sold");
    // Whoever comes back learns the same.
    let header = format!("X-API-Key: {web}\r\n");
    let refused = Listener::open(&gateway, "?topic=shop.sold", &header).await;
    assert!(refused.head.contains(" 403 "), "{}", refused.head);
    // A row that comes back is listened to anew by those who ask for it.
    reload(&all).await;
    trigger(&mut shop, "lost", json!({})).await;
    trigger(&mut shop, "open", json!({})).await;
    assert_eq!(webs.json().await["params"]["topic"], "shop.open");
}
