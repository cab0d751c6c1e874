//! Callers that show a certificate when they connect.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Guarded, new_key};
use crate::events::{shop, trigger};
use crate::harness::certs::Certs;
use crate::harness::gateway::genkan;
use crate::harness::http::{self, Connection, Response};
use crate::harness::process::{self, Folder};
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, Tunnel, as_fault};
use crate::http2_resets::{PREFACE, SETTINGS, asking, frame, is_told_to_go};
use crate::hub::HUB;

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":[1],"id":1}"#;
const EDGE: &str = "subjectAltName=DNS:edge.example,email:a@example\nextendedKeyUsage=clientAuth";
const WORKLOAD: &str = "subjectAltName=DNS:w.example,URI:spiffe://shop/till";

/// An authority with a server's certificate, and those of two clients that have names.
fn authority() -> Certs {
    let certs = Certs::new();
    certs.issue("edge", EDGE);
    certs.issue("workload", WORKLOAD);
    certs
}

/// HTTPS with the authorities in that file.
fn tls(certs: &Certs, ca: &str, more: &str) -> String {
    let (cert, key) = (certs.path("server.pem"), certs.path("server.key"));
    format!(
        "[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\nclient_ca_file = \"{ca}\"\n{more}\n"
    )
}

/// A tunnel of a client that shows the certificate by that name.
async fn tunnel(gateway: &Gateway, certs: &Certs, issuer: &Certs, name: &str) -> Tunnel {
    Tunnel::to(&gateway.http, certs.client_as(issuer, name)).await
}

async fn post(tunnel: &Tunnel, headers: &[(&str, &str)]) -> Response {
    http::send(&tunnel.address, "POST", "/call/echo/x", headers, b"[1]").await
}

/// Whether the gateway hangs up on whoever comes through a tunnel.
async fn is_turned_away(tunnel: &Tunnel) -> bool {
    let mut connection = Connection::open(&tunnel.address).await;
    let call = http::encode("POST", "/call/echo/x", &[], b"[1]");
    connection.try_send(&call).await.is_err() || connection.receive().await.is_none()
}

#[tokio::test]
async fn a_certificate_makes_its_client_known() {
    let (certs, foreign) = (authority(), authority());
    let tables = tls(&certs, &certs.path("ca.pem"), "");
    let allow = "allow = [\"cert:edge.example\", \"sub:spiffe://shop/*\"]";
    let guarded = Guarded::start(&tables, allow).await;
    let as_user = async |name: &str| {
        let tunnel = tunnel(&guarded.gateway, &certs, &certs, name).await;
        let response = post(&tunnel, &[("X-User-Id", "root")]).await;
        let user = guarded.echo.requests.all().pop().map(|seen| seen.headers["X-User-Id"].clone());
        (response.status, user)
    };
    let user = |name: &str| Some(name.to_owned());
    assert_eq!(as_user("edge").await, (200, user("cert:edge.example")));
    assert_eq!(as_user("workload").await, (200, user("cert:spiffe://shop/till")));
    // It is known, by its common name, and may not.
    assert_eq!(as_user("client").await.0, 403);
    // None is no worse than nothing shown.
    let nobody = Tunnel::to(&guarded.gateway.http, certs.client()).await;
    let refused = post(&nobody, &[]).await;
    assert_eq!((refused.status, guarded.calls()), (401, 2), "{refused:?}");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"genkan\""));
    // One that nobody trusted has made ends the connection.
    assert!(is_turned_away(&tunnel(&guarded.gateway, &certs, &foreign, "edge").await).await);
    // Nor does a server's serve a client.
    certs.issue("other", "extendedKeyUsage=serverAuth");
    assert!(is_turned_away(&tunnel(&guarded.gateway, &certs, &certs, "other").await).await);
    let gateway = &guarded.gateway;
    let tunnel = tunnel(gateway, &certs, &certs, "edge").await;
    let mut socket = WebSocket::open(&tunnel.address).await;
    assert_eq!(socket.ask(CALL).await["result"], 1);
    for version in ["--http1.1", "--http2"] {
        let mut command = Command::new(process::program("curl", &[]));
        command.args(["-sS", version, "-w", "%{http_version}", "--cacert", &certs.path("ca.pem")]);
        command.args(["--cert", &certs.path("edge.pem"), "--key", &certs.path("edge.key")]);
        command.args(["--json", "[1]", &format!("https://{}/call/echo/x", gateway.http)]);
        let ran = tokio::task::spawn_blocking(move || process::run(&mut command)).await;
        let (status, out, err) = ran.expect("no panic");
        let spoken = version.trim_start_matches("--http");
        assert_eq!((status, out), (0, format!("1{spoken}")), "{err}");
    }
}

#[tokio::test]
async fn names_of_certificates_are_told_apart_by_their_case() {
    let certs = Certs::new();
    certs.issue("mixed", "subjectAltName=DNS:Edge.Example\nextendedKeyUsage=clientAuth");
    certs.issue("Common", "extendedKeyUsage=clientAuth");
    let tables = tls(&certs, &certs.path("ca.pem"), "");
    let allow = |word: &str| format!("allow = [\"cert:{word}\"]");
    let mut guarded = Guarded::start(&tables, &allow("edge.example")).await;
    for (word, mixed, common) in [
        ("edge.example", 403, 403),
        ("*.example", 403, 403),
        ("Edge.Example", 200, 403),
        ("common", 403, 403),
        ("Common", 403, 200),
    ] {
        guarded.change(&tables, &allow(word)).await;
        for (name, expected) in [("mixed", mixed), ("Common", common)] {
            let tunnel = tunnel(&guarded.gateway, &certs, &certs, name).await;
            assert_eq!(post(&tunnel, &[]).await.status, expected, "{word} {name}");
        }
    }
    let user = guarded.echo.requests.last().headers["X-User-Id"].clone();
    assert_eq!(user, "cert:Common", "services learn it as it stands in the certificate");
}

#[tokio::test]
async fn what_a_request_shows_goes_before_the_certificate() {
    let certs = authority();
    let (key, lines) = new_key(&["web"]);
    let tables = format!("{}{lines}", tls(&certs, &certs.path("ca.pem"), ""));
    let guarded = Guarded::start(&tables, "allow = [\"cert:edge.example\", \"key:web\"]").await;
    let edge = tunnel(&guarded.gateway, &certs, &certs, "edge").await;
    let other = tunnel(&guarded.gateway, &certs, &certs, "workload").await;
    for (tunnel, key, expected) in [
        (&edge, "", (200, Some("cert:edge.example"))),
        (&edge, key.as_str(), (200, Some("key:web"))),
        // Its call is not made as the proxy's that hands it on.
        (&edge, "wrong", (401, None)),
        (&other, "", (403, None)),
        (&other, key.as_str(), (200, Some("key:web"))),
    ] {
        let before = guarded.calls();
        let response = post(tunnel, &[("X-API-Key", key)]).await;
        let user = (guarded.calls() > before)
            .then(|| guarded.echo.requests.last().headers["X-User-Id"].clone());
        assert_eq!((response.status, user.as_deref()), expected, "{key} {response:?}");
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert_eq!(challenge.contains("invalid_token"), response.status == 401, "{challenge}");
    }
}

#[tokio::test]
async fn where_one_is_required_nobody_comes_in_without() {
    let certs = authority();
    let more = "client_cert = \"required\"";
    let tables = tls(&certs, &certs.path("ca.pem"), more);
    let guarded = Guarded::start(&tables, "allow = [\"any\"]").await;
    assert!(is_turned_away(&Tunnel::to(&guarded.gateway.http, certs.client()).await).await);
    let edge = tunnel(&guarded.gateway, &certs, &certs, "edge").await;
    assert_eq!((post(&edge, &[]).await.status, guarded.calls()), (200, 1));
    // So from the command line, which tells the mend.
    let foreign = authority();
    let url = format!("https://{}", guarded.gateway.http);
    for (shown, status) in [(None, 3), (Some(&foreign), 3), (Some(&certs), 0)] {
        let mut command = genkan();
        command.args(["call", "--gateway", &url, "--ca", &certs.path("ca.pem"), "echo", "x"]);
        if let Some(issuer) = shown {
            command.args(["--cert", &issuer.path("edge.pem"), "--key", &issuer.path("edge.key")]);
        }
        let ran = tokio::task::spawn_blocking(move || process::run(&mut command)).await;
        let (ended, _, err) = ran.expect("no panic");
        assert_eq!((ended, err.contains("--cert FILE --key FILE")), (status, status != 0), "{err}");
    }
    assert_eq!(guarded.calls(), 2);
}

/// A gateway whose file of authorities a test replaces.
struct Replaceable {
    gateway: Gateway,
    file: PathBuf,
    _folder: Folder,
}

impl Replaceable {
    async fn start(certs: &Certs, tables: &str) -> Self {
        let folder = Folder::new();
        let file = folder.path().join("authorities.pem");
        std::fs::copy(certs.file("ca.pem"), &file).expect("copied");
        let tls = tls(certs, &file.display().to_string(), "");
        let gateway = Gateway::start(&format!("{tables}{tls}")).await;
        Self { gateway, file, _folder: folder }
    }

    /// Puts these authorities into the file, and waits until they are in force.
    async fn replace(&self, authorities: &[&Certs]) {
        let seen = self.gateway.log().len();
        let read = |certs: &&Certs| std::fs::read_to_string(certs.file("ca.pem")).expect("a file");
        let bundle: String = authorities.iter().map(read).collect();
        std::fs::write(&self.file, bundle).expect("written");
        self.gateway
            .wait_for_log(seen, "the authorities of clients' certificates, or what they revoked")
            .await;
    }
}

#[tokio::test]
async fn authorities_are_replaced_and_connections_live_on() {
    let (old, new) = (authority(), authority());
    let topics = "[[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\nallow = [\"cert:*\"]\n";
    let row =
        "[[routes]]\nmatch = \"shop.*\"\nupstream = \"hub\"\nallow = [\"cert:edge.example\"]\n";
    let gate = Replaceable::start(&old, &format!("{HUB}{topics}{row}")).await;
    let mut module = shop(&gate.gateway).await;
    let by_old = tunnel(&gate.gateway, &old, &old, "edge").await;
    let by_new = tunnel(&gate.gateway, &old, &new, "edge").await;
    let mut plain = Connection::open(&by_old.address).await;
    let known = async |plain: &mut Connection| {
        plain.request("POST", "/call/shop/nothing", &[], b"").await;
        // Who is known is told that there is no such function.
        plain.receive().await.expect("the connection lives").status == 404
    };
    let mut socket = WebSocket::open(&by_old.address).await;
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "genkan.subscribe",
                           "params": {"topics": ["shop.sold"]}});
    assert!(socket.ask(subscribe.to_string()).await["result"].is_object());
    assert!(known(&mut plain).await && is_turned_away(&by_new).await);
    // What cannot be used is said, and the old ones stay.
    for rubbish in ["rubbish", ""] {
        let seen = gate.gateway.log().len();
        std::fs::write(&gate.file, rubbish).expect("written");
        let said = gate.gateway.wait_for_log(seen, "the new certificate cannot be used").await;
        assert!(said["problem"].as_str().expect("text").contains("authorities.pem"), "{said}");
    }
    assert!(!is_turned_away(&by_old).await && known(&mut plain).await);
    gate.replace(&[&old, &new]).await;
    assert!(
        !is_turned_away(&by_old).await && !is_turned_away(&by_new).await && known(&mut plain).await
    );
    trigger(&mut module, "sold", json!({"n": 1})).await;
    assert_eq!(socket.json().await["params"]["data"], json!({"n": 1}));
    // Whom nobody vouches for any more is not known, and not cut off either, but for its next request: it is
    // told to come again, or it would not be known when somebody vouches for it again.
    let mut enveloped = Connection::open(&by_old.address).await;
    let envelope = r#"{"jsonrpc":"2.0","method":"shop.nothing","id":1}"#;
    enveloped.request("POST", "/api", &[], envelope.as_bytes()).await;
    assert_eq!(enveloped.receive().await.expect("an answer").header("connection"), None);
    let mut streams = TcpStream::connect(&by_old.address).await.expect("it accepts");
    let open = [PREFACE, &frame(SETTINGS, 0, 0, b""), &asking(1, "/call/shop/x")].concat();
    streams.write_all(&open).await.expect("written");
    gate.replace(&[&new]).await;
    plain.request("POST", "/call/shop/nothing", &[], b"").await;
    enveloped.request("POST", "/api", &[], envelope.as_bytes()).await;
    for (connection, status) in [(&mut plain, 401), (&mut enveloped, 200)] {
        let refused = connection.receive().await.expect("the connection lives");
        assert_eq!((refused.status, refused.header("connection")), (status, Some("close")));
        assert!(connection.receive().await.is_none(), "it ends");
    }
    streams.write_all(&asking(3, "/call/shop/x")).await.expect("written");
    assert!(is_told_to_go(&mut streams).await, "over HTTP/2 it is a GOAWAY");
    assert!(is_turned_away(&by_old).await && !is_turned_away(&by_new).await);
    socket.say(r#"{"jsonrpc":"2.0","method":"shop.nothing","id":2}"#).await;
    let (mut ended, mut refused) = (None, None);
    while ended.is_none() || refused.is_none() {
        let told = socket.json().await;
        let place = if told["id"] == 2 { &mut refused } else { &mut ended };
        *place = Some(told);
    }
    let refused = as_fault(&refused.expect("an answer"));
    assert_eq!(refused.is("access_denied", "not_sent").code, -32001);
    assert_eq!(ended.expect("a notice")["method"], "ended");
}

#[tokio::test]
async fn certificates_are_checked_and_explained() {
    let certs = authority();
    let gateway = Gateway::start("").await;
    let row = "[[routes]]\nmatch = \"shop.*\"\nupstream = \"hub\"\nallow = [\"cert:edge.*\"]\n";
    gateway.write_config(&format!("{row}{}", tls(&certs, &certs.path("ca.pem"), "")));
    let run = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(gateway.config());
        process::run(&mut command)
    };
    for (whom, expected) in [("cert:edge.example", true), ("cert:other", false), ("nobody", false)]
    {
        let (status, told, err) = run(&["explain", "shop.x", "--as", whom]);
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!((status == 0, &told["may_call"]), (expected, &json!(expected)), "{told} {err}");
    }
    let (_, told, _) = run(&["explain", "other.x"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        told["allow"],
        json!([]),
        "where callers can be known, what no row allows is closed"
    );
    let key = certs.path("server.key");
    for (bad, told) in [
        (tls(&certs, &key, ""), "`client_ca_file` in [http.tls]"),
        (tls(&certs, &certs.path("ca.pem"), "client_cert = \"always\""), "\"required\""),
    ] {
        gateway.write_config(&format!("{row}{bad}"));
        let (status, _, said) = run(&["check"]);
        assert!(status == 1 && said.contains(told), "{said}");
    }
}

#[tokio::test]
async fn who_has_been_revoked_is_turned_away_and_known_no_more_on_open_connections() {
    let certs = authority();
    certs.revoke(&[]);
    let folder = Folder::new();
    let file = folder.path().join("crl.pem");
    let put = |certs: &Certs| std::fs::copy(certs.file("crl.pem"), &file).expect("copied");
    put(&certs);
    let list = format!("client_crl_file = \"{}\"", file.display());
    let tables = tls(&certs, &certs.path("ca.pem"), &list);
    let allow = "allow = [\"cert:edge.example\", \"cert:spiffe://shop/*\"]";
    let guarded = Guarded::start(&tables, allow).await;
    let edge = tunnel(&guarded.gateway, &certs, &certs, "edge").await;
    let workload = tunnel(&guarded.gateway, &certs, &certs, "workload").await;
    let mut kept = Connection::open(&edge.address).await;
    let mut known = async || {
        kept.request("POST", "/call/echo/x", &[], b"[1]").await;
        kept.receive().await.expect("the connection lives").status
    };
    assert_eq!((known().await, post(&workload, &[]).await.status), (200, 200));
    // Half a list keeps the old one, and is said.
    let seen = guarded.gateway.log().len();
    std::fs::write(&file, "rubbish").expect("written");
    let said = guarded.gateway.wait_for_log(seen, "the new certificate cannot be used").await;
    assert!(
        said["problem"].as_str().is_some_and(|what| what.contains("client_crl_file")),
        "{said}"
    );
    assert_eq!(known().await, 200);
    certs.revoke(&["edge"]);
    let seen = guarded.gateway.log().len();
    put(&certs);
    let replaced = "the authorities of clients' certificates, or what they revoked";
    guarded.gateway.wait_for_log(seen, replaced).await;
    assert_eq!(known().await, 401, "who was let in is known no more");
    assert!(is_turned_away(&tunnel(&guarded.gateway, &certs, &certs, "edge").await).await);
    assert_eq!(post(&workload, &[]).await.status, 200);
}

/// One list of two is missing in the file that replaces it: those of that authority are turned away from now on.
#[tokio::test]
async fn a_list_that_is_missing_where_it_was_is_told_when_the_file_is_read_again() {
    let certs = authority();
    certs.revoke(&[]);
    let list = format!("client_crl_file = \"{}\"", certs.path("crl.pem"));
    let folder = Folder::new();
    let file = folder.path().join("authorities.pem");
    let read = |name: &str| std::fs::read_to_string(certs.file(name)).expect("a file");
    std::fs::write(&file, read("ca.pem")).expect("written");
    let gateway = Gateway::start(&tls(&certs, &file.display().to_string(), &list)).await;
    let seen = gateway.log().len();
    std::fs::write(&file, [read("ca.pem"), read("server.pem")].concat()).expect("written");
    let said = gateway.wait_for_log(seen, "dubious lists of what was revoked").await;
    let problem = said["problem"].as_str().expect("text");
    assert!(problem.contains("holds no list of 1 of the 2 authorities"), "{said}");
    assert_eq!(said["level"], "WARN");
    assert!(said["client_crl_file"].as_str().is_some_and(|it| it.ends_with("crl.pem")), "{said}");
}

#[test]
fn lists_of_what_was_revoked_are_checked() {
    let (certs, folder) = (authority(), Folder::new());
    let told = |ca: &str, list: &str| {
        let list = format!("client_crl_file = \"{list}\"");
        let file = folder.write("genkan.toml", &tls(&certs, ca, &list));
        let (status, out, err) = process::run(genkan().arg("check").arg("--config").arg(file));
        (status, format!("{out}{err}"))
    };
    certs.revoke(&["edge"]);
    let (ca, list) = (certs.path("ca.pem"), certs.path("crl.pem"));
    let (status, said) = told(&ca, &list);
    assert!(status == 0 && !said.contains("client_crl_file"), "{said}");
    let read = |name: &str| std::fs::read_to_string(certs.file(name)).expect("a file");
    let both = folder.write("both.pem", &[read("ca.pem"), read("server.pem")].concat());
    let (status, said) = told(&both.display().to_string(), &list);
    assert!(status == 0 && said.contains("holds no list of 1 of the 2 authorities"), "{said}");
    certs.revoke_until("20210101000000Z", &[]);
    let (status, said) = told(&ca, &list);
    assert!(status == 0 && said.contains("though the next one was due"), "{said}");
    certs.list_without_a_number();
    for (list, words) in [
        (certs.path("unnumbered.pem"), "number 1, that has no number: make it anew with one"),
        (certs.path("server.key"), "holds no `X509 CRL`"),
        ("/nowhere".to_owned(), "cannot be read"),
    ] {
        let (status, said) = told(&ca, &list);
        assert!(status == 1 && said.contains("client_crl_file") && said.contains(words), "{said}");
    }
}
