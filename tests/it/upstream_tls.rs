//! What goes wrong with TLS towards an upstream is told in the same words to the caller, on `/readyz`, in the log and by
//! `check --live`, with the mend; the last two say where, too.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::check_live::{check, tells};
use crate::harness::certs::Certs;
use crate::harness::nats::Nats;
use crate::harness::process::PATIENCE;
use crate::harness::{Gateway, NodeService, until};

/// An upstream by its protocol, and a row that sends everything there.
fn config(protocol: &str, url: &str, keys: &str) -> String {
    let key = if protocol == "nats" { "servers" } else { "url" };
    format!(
        "[upstreams.up]\nprotocol = \"{protocol}\"\n{key} = \"{url}\"\n{keys}\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"up\"\n"
    )
}

/// That all places tell what is wrong at a URL, and the mend, in one breath; the log and the look have the details.
async fn is_told(protocol: &str, url: &str, keys: &str, words: &str, details: &[&str]) {
    let config = config(protocol, url, keys);
    let gateway = Gateway::start(&config).await;
    let address = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a host");
    let address = address.rsplit('@').next().expect("a host");
    let until_told = format!("{protocol} at {url} is told to be: {words}");
    until(&until_told, async || gateway.page("/readyz").await.text().contains(words)).await;
    let page = gateway.page("/readyz").await;
    assert!(page.status == 503 && !page.text().contains(address), "{}", page.text());
    let fault = gateway.fault("a.f", json!([])).await;
    let message = &fault.is("unavailable", "not_sent").message;
    assert!(message.contains(words), "{words}: {message}");
    assert!(!message.contains(address), "{message}");
    let log = gateway.log();
    let line = log.iter().find(|line| line["level"] == "ERROR").expect("a line");
    // Each protocol has its own message, and the reason in it or beside it.
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let reason = if text("reason").is_empty() { text("message") } else { text("reason") };
    let told = format!("{reason}: {}", text("mend")).replace("; trying again", "");
    assert!(told.contains(words), "{words}: {line}");
    let at = line.to_string();
    assert!(at.contains(address), "{line}");
    let (_, problems) = check(&config).await;
    tells(&problems, "error", &[words, address]);
    for detail in details {
        assert!(at.contains(detail), "{detail}: {line}");
        tells(&problems, "error", &[words, detail]);
    }
}

fn authority(certs: &Certs) -> String {
    format!("ca_file = \"{}\"\n", certs.path("ca.pem"))
}

fn identity(certs: &Certs, name: &str) -> String {
    let [cert, key] = ["pem", "key"].map(|kind| certs.path(&format!("{name}.{kind}")));
    format!("cert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
}

/// What speaks TLS, and shows the certificate of that name; what it is spoken to in by `protocol`, and its URL there.
struct Peer {
    url: String,
    _web: Option<Gateway>,
    _nats: Option<Nats>,
}

impl Peer {
    /// One that may ask its clients for a certificate. No broker is needed where TLS is all that is spoken.
    async fn start(protocol: &str, certs: &Certs, name: &str, asks: bool) -> Self {
        let ca = certs.path("ca.pem");
        if protocol == "nats" {
            let files = identity(certs, name).replace("_file =", "_file:").replace('\n', ", ");
            let asked =
                if asks { format!("ca_file: \"{ca}\", verify: true") } else { String::new() };
            let nats = Nats::configured(&format!("tls {{ {files} {asked} }}"));
            let url = format!("tls://{}", nats.address());
            return Self { url, _web: None, _nats: Some(nats) };
        }
        let asked = format!("client_ca_file = \"{ca}\"\nclient_cert = \"required\"\n");
        let asked = if asks { asked } else { String::new() };
        let web = Gateway::start(&format!("[http.tls]\n{}{asked}", identity(certs, name))).await;
        let url = match protocol {
            "nameko" => format!("amqps://u:p@{}/", web.http),
            _ => format!("https://{}/api", web.http),
        };
        Self { url, _web: Some(web), _nats: None }
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_trusted() {
    let (certs, others) = (Certs::new(), Certs::new());
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    certs.issue_long_ago("ended", names);
    certs.issue("elsewhere", "subjectAltName=DNS:elsewhere.example");
    certs.issue("anybody", &format!("{names}\nextendedKeyUsage=clientAuth"));
    for protocol in ["jsonrpc", "nameko", "nats"] {
        for (name, keys, words, details) in [
            (
                "server",
                authority(&others),
                "its certificate is signed by nobody in `ca_file`: put the",
                &[][..],
            ),
            ("server", String::new(), "by no authority that this system trusts: name", &[]),
            (
                "ended",
                authority(&certs),
                "its certificate ended 2021-01-01T00:00:00Z: renew it",
                &[],
            ),
            (
                "elsewhere",
                authority(&certs),
                "its certificate is not for the name in its URL: write",
                &["it is for elsewhere.example, and not for 127.0.0.1"],
            ),
            (
                "anybody",
                authority(&certs),
                "its certificate is not one for servers: let",
                &["client authentication"],
            ),
        ] {
            let peer = Peer::start(protocol, &certs, name, false).await;
            is_told(protocol, &peer.url, &keys, words, details).await;
        }
    }
}

#[tokio::test]
async fn ports_that_speak_no_tls() {
    let (plain, nats) = (Gateway::start("").await, Nats::start());
    let words = "what answers speaks no TLS: its port is a plain one";
    for (protocol, url) in [
        ("jsonrpc", format!("https://{}/api", plain.http)),
        ("nameko", format!("amqps://u:p@{}/", plain.http)),
        ("nats", format!("tls://{}", nats.address())),
    ] {
        is_told(protocol, &url, "", words, &[]).await;
    }
    let closing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = closing.local_addr().expect("bound");
    tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    for (protocol, scheme) in [("jsonrpc", "https"), ("nameko", "amqps")] {
        let words = "it ends the connection as TLS begins: its port may speak no TLS";
        is_told(protocol, &format!("{scheme}://{address}/"), "", words, &[]).await;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/api", silent.local_addr().expect("bound"));
    let keys = "connect_timeout = \"300ms\"\n";
    let words = "it does not answer TLS: its port may speak no TLS: write";
    is_told("jsonrpc", &url, keys, words, &[]).await;
}

#[tokio::test]
async fn ports_that_speak_tls_where_it_was_not_to_be_spoken() {
    let certs = Certs::new();
    let peer = Peer::start("jsonrpc", &certs, "server", false).await;
    let address = peer.url.split('/').nth(2).expect("a host");
    // Node hangs up without a word.
    let files = [("CERT", certs.path("server.pem")), ("KEY", certs.path("server.key"))];
    let files = files.each_ref().map(|(name, path)| (*name, path.as_str()));
    let node = NodeService::start("https", &files);
    let silent = config("jsonrpc", &format!("http://{}/", node.address), "");
    let gateway = Gateway::start(&silent).await;
    let words = "it speaks TLS: write https:// for http://";
    until("it is told", async || gateway.page("/readyz").await.text().contains(words)).await;
    tells(&check(&silent).await.1, "error", &[words, &node.address]);
    for (protocol, scheme, keys, words) in [
        ("jsonrpc", "http", "", "it speaks TLS: write https:// for http://"),
        ("jsonrpc", "http", "http2 = true\n", "it speaks TLS: write https:// for http://"),
        ("nameko", "amqp", "", "it speaks TLS: write amqps:// for amqp://"),
    ] {
        is_told(protocol, &format!("{scheme}://{address}/"), keys, words, &[]).await;
    }
}

/// Who speaks TLS 1.3 is told when its own part is done, by an alert.
#[tokio::test]
async fn client_certificates_that_are_not_taken() {
    let (certs, others) = (Certs::new(), Certs::new());
    certs.issue_long_ago("ended", "extendedKeyUsage=clientAuth");
    for protocol in ["jsonrpc", "nameko", "nats"] {
        let peer = Peer::start(protocol, &certs, "server", true).await;
        for (keys, words) in [
            (String::new(), "it wants a client certificate that it knows: name `cert_file`"),
            (identity(&others, "client"), "certificate in `cert_file`"),
            (identity(&certs, "ended"), "certificate in `cert_file`"),
        ] {
            let keys = format!("{}{keys}", authority(&certs));
            is_told(protocol, &peer.url, &keys, words, &["alert"]).await;
        }
    }
}

/// Whoever stands on the way can write in the clear, and be taken for the server behind the handshake.
#[tokio::test]
async fn nothing_that_came_before_tls_is_taken_for_the_servers() {
    let certs = Certs::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let config = config("nats", &url, &authority(&certs));
    let gateway = Gateway::start(&config);
    let met = async {
        let (mut stream, _) = listener.accept().await.expect("it connects");
        let said = b"INFO {\"server_id\":\"a\",\"version\":\"2.9.0\",\"max_payload\":1048576,\"headers\":true,\
            \"tls_required\":true}\r\nPONG\r\n";
        stream.write_all(said).await.expect("it reads");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("an end");
        heard
    };
    let (gateway, heard) = tokio::join!(gateway, tokio::time::timeout(PATIENCE, met));
    assert_eq!(heard.expect("in time"), b"", "it shakes hands with nobody who does so");
    until("that is told", async || {
        gateway.page("/readyz").await.text().contains("in the clear where TLS was to begin")
    })
    .await;
}
