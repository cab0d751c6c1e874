//! The certificate of HTTPS is replaced while the gateway runs, without a signal.

use std::process::Command;

use crate::harness::certs::Certs;
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
