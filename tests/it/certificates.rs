//! The certificate of HTTPS is replaced while the gateway runs, without a signal.

use std::process::Command;

use crate::harness::certs::Certs;
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, program, run};
use crate::harness::{Gateway, eventually};

/// A gateway's certificate and key, and who can replace them.
struct Https {
    gateway: Gateway,
    folder: Folder,
}

impl Https {
    async fn start(certs: &Certs) -> Self {
        let folder = Folder::new();
        for file in ["server.pem", "server.key"] {
            std::fs::copy(certs.file(file), folder.path().join(file)).expect("copied");
        }
        let path = |file: &str| folder.path().join(file).display().to_string();
        let (cert, key) = (path("server.pem"), path("server.key"));
        let toml = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n");
        Self { gateway: Gateway::start(&toml).await, folder }
    }

    fn replace(&self, file: &str, certs: &Certs) {
        std::fs::copy(certs.file(file), self.folder.path().join(file)).expect("copied");
    }

    /// Whether a client that trusts this authority alone gets an answer.
    async fn answers_who_trusts(&self, certs: &Certs) -> bool {
        let call = r#"{"jsonrpc":"2.0","method":"nobody.x","id":1}"#;
        let mut command = Command::new(program("curl", &[]));
        let url = format!("https://{}/api", self.gateway.http);
        command.args(["-sS", "--cacert", &certs.path("ca.pem"), "-d", call]);
        command.args(["-H", "Content-Type: application/json", &url]);
        let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
        let (status, out, err) = ran.expect("no panic");
        // 60 is what curl says of a certificate that it does not trust.
        assert!(matches!(status, 0 | 60), "{status}: {out} {err}");
        status == 0
    }
}

#[tokio::test]
async fn a_replaced_certificate_serves_new_connections_and_one_that_does_not_fit_does_not() {
    let (old, new) = (Certs::new(), Certs::new());
    let https = Https::start(&old).await;
    assert!(https.answers_who_trusts(&old).await && !https.answers_who_trusts(&new).await);
    // Half of the pair: said once, and nobody is turned away.
    https.replace("server.pem", &new);
    let said = https.gateway.wait_for_log(0, "the new certificate cannot be used").await;
    assert_eq!(said["level"], "ERROR");
    assert!(said["problem"].as_str().is_some_and(|problem| problem.contains("server.key")));
    assert!(https.answers_who_trusts(&old).await);
    https.replace("server.key", &new);
    eventually("the new certificate serves", async || {
        https.answers_who_trusts(&new).await.then_some(())
    })
    .await;
    assert!(!https.answers_who_trusts(&old).await);
    let seen = https.gateway.log().len();
    std::fs::write(https.folder.path().join("server.key"), "rubbish").expect("written");
    https.gateway.wait_for_log(seen, "the new certificate cannot be used").await;
    assert!(https.answers_who_trusts(&new).await);
    std::fs::remove_file(https.folder.path().join("server.pem")).expect("removed");
    https.gateway.wait_for_log(seen + 1, "the new certificate cannot be used").await;
    assert!(https.answers_who_trusts(&new).await);
    let said = https.gateway.logged("the new certificate cannot be used: the old one stays");
    assert_eq!(said.len(), 3, "once for each change: {said:?}");
}

/// What `check` says of a file: the messages.
fn checked(arguments: &[&str], text: &str) -> (i32, String) {
    let folder = Folder::new();
    let file = folder.write("genkan.toml", text);
    let (status, out, err) = run(genkan().arg("check").args(arguments).arg("--config").arg(file));
    (status, format!("{out}{err}"))
}

#[test]
fn a_certificate_that_has_ended_or_soon_will_is_told_wherever_one_is_named() {
    let certs = Certs::new();
    certs.issue_for(-1, "old", "subjectAltName=DNS:localhost");
    let path = |file: &str| certs.path(file);
    let shown = |name: &str| {
        let (cert, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        format!("cert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
    };
    let limits = "[limits]\nrate = \"9/s\"\n";
    let row = "[[routes]]\nmatch = \"a.*\"\nupstream = \"x\"\n";
    let upstream = |protocol: &str, at: &str, keys: &str| {
        format!("{limits}[upstreams.x]\nprotocol = \"{protocol}\"\n{at}\n{keys}{row}")
    };
    for (at, keys) in [
        ("https", format!("{limits}[http.tls]\nCERT")),
        ("jsonrpc", upstream("jsonrpc", "url = \"https://h/api\"", "CERT")),
        ("nats", upstream("nats", "servers = \"tls://h:4222\"", "CERT")),
        ("nameko", upstream("nameko", "url = \"amqps://h/%2f\"", "CERT")),
    ] {
        let (status, said) = checked(&[], &keys.replace("CERT", &shown("old")));
        assert_eq!(status, 0, "{at}: {said}");
        assert!(said.contains("old.pem") && said.contains("that ended 20"), "{at}: {said}");
        let (status, said) = checked(&["--audit"], &keys.replace("CERT", &shown("old")));
        assert!(status == 1 && said.contains("that ended 20"), "{at}: {said}");
        let (_, said) = checked(&[], &keys.replace("CERT", &shown("server")));
        assert!(!said.contains("holds a certificate"), "{at}: {said}");
        // Nobody vouches for anybody with an authority that has ended.
        let ca = format!("ca_file = \"{}\"\n", path("old.pem"));
        let ca = if at == "https" { format!("{}client_{ca}", shown("server")) } else { ca };
        let (status, said) = checked(&[], &keys.replace("CERT", &ca));
        assert!(status == 0 && said.contains("ended 20"), "{at}: {said}");
    }
}

#[tokio::test]
async fn an_ended_certificate_is_told_when_the_gateway_starts_and_when_it_is_replaced_by_one() {
    let certs = Certs::new();
    certs.issue_for(-1, "old", "subjectAltName=IP:127.0.0.1");
    let https = Https::start(&certs).await;
    for kind in ["pem", "key"] {
        let to = https.folder.path().join(format!("server.{kind}"));
        std::fs::copy(certs.file(&format!("old.{kind}")), to).expect("copied");
    }
    let said =
        https.gateway.wait_for_log(0, "HTTPS has a certificate that is out of its time").await;
    assert_eq!(said["level"], "WARN");
    assert!(said["problem"].as_str().is_some_and(|what| what.contains("that ended 20")), "{said}");
    let (cert, key) = (certs.path("old.pem"), certs.path("old.key"));
    let toml = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n");
    let gateway = Gateway::start(&toml).await;
    let said = gateway.wait_for_log(0, "dubious configuration").await;
    assert!(said["problem"].as_str().is_some_and(|what| what.contains("that ended 20")), "{said}");
}

/// When a certificate ends, in seconds since 1970, as openssl reads it.
fn ends(file: &str) -> f64 {
    let mut openssl = Command::new(program("openssl", &[]));
    openssl.args(["x509", "-noout", "-enddate", "-in", file]);
    let (_, out, _) = run(&mut openssl);
    let (_, date) = out.trim().split_once('=').expect("a date");
    let (_, out, _) = run(Command::new(program("date", &[])).args(["-d", date, "+%s"]));
    out.trim().parse().expect("a number")
}

#[tokio::test]
async fn metrics_tell_when_each_certificate_ends_that_a_table_names() {
    let certs = Certs::new();
    certs.issue_for(-1, "old", "extendedKeyUsage=clientAuth");
    certs.issue_for(9, "new", "subjectAltName=IP:127.0.0.1");
    let folder = Folder::new();
    let shown = folder.path().join("shown.pem");
    let (client, old) = (certs.path("client.pem"), certs.path("old.pem"));
    std::fs::write(&shown, [client, old].map(|it| std::fs::read(it).expect(".pem")).concat())
        .expect("written");
    let (ca, key) = (certs.path("ca.pem"), certs.path("client.key"));
    let (cert, server_key) = (certs.path("server.pem"), certs.path("server.key"));
    let mut toml = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{server_key}\"\n");
    for (protocol, at) in [
        ("jsonrpc", "url = \"https://127.0.0.1:1/api\""),
        ("nats", "servers = \"tls://127.0.0.1:1\""),
        ("nameko", "url = \"amqps://127.0.0.1:1/%2f\""),
    ] {
        let shown = shown.display();
        toml += &format!(
            "[upstreams.{protocol}]\nprotocol = \"{protocol}\"\n{at}\nca_file = \"{ca}\"\n\
             cert_file = \"{shown}\"\nkey_file = \"{key}\"\n"
        );
    }
    let gateway = Gateway::start(&toml).await;
    let expires = "genkan_certificate_expires_timestamp_seconds";
    let of = async |table: &str, key: &str| {
        gateway.metric(expires, &[("table", table), ("key", key)]).await
    };
    let (ended, good) = (ends(&certs.path("old.pem")), ends(&ca));
    eventually("metrics tell", async || {
        (of("http.tls", "cert_file").await == ends(&cert)).then_some(())
    })
    .await;
    for protocol in ["jsonrpc", "nats", "nameko"] {
        let table = format!("upstreams.{protocol}");
        assert_eq!(of(&table, "cert_file").await, ended, "{protocol}: the first that ends");
        assert_eq!(of(&table, "ca_file").await, good, "{protocol}");
    }
    let begins = "genkan_certificate_begins_timestamp_seconds";
    let begins = gateway.metric(begins, &[("table", "http.tls"), ("key", "cert_file")]).await;
    assert!(begins > 1e9 && begins < ends(&cert), "{begins}");
    std::fs::copy(certs.file("new.pem"), &shown).expect("copied");
    eventually("what is put there is told of", async || {
        (of("upstreams.nats", "cert_file").await == ends(&certs.path("new.pem"))).then_some(())
    })
    .await;
    let (seen, without) = (gateway.log().len(), toml.split_once("[upstreams.nameko]"));
    gateway.write_config(without.expect("a table").0);
    gateway.wait_for_log(seen, "reloaded").await;
    eventually("a table that is gone is not told of", async || {
        let page = gateway.page("/metrics").await;
        let left = |table: &str| page.text().contains(&format!("table=\"upstreams.{table}\""));
        (left("nats") && !left("nameko")).then_some(())
    })
    .await;
}
