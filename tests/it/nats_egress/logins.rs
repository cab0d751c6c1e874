//! Every way to prove to a server who is there, and TLS.

use genkan::fault::{FaultKind, Outcome};

use super::world::{Egress, is};
use crate::harness::Nats;
use crate::harness::certs::Certs;
use crate::harness::process::Folder;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_to_log_in() {
    let folder = Folder::new();
    let password = folder.write("password", "g ü@:/%\n");
    let user = nkeys::KeyPair::new_user();
    let seed = user.seed().unwrap();
    let user_line = "authorization { user: me, password: \"g ü@:/%\" }";
    let nkey_line = format!("authorization {{ users = [ {{nkey: {}}} ] }}", user.public_key());
    let (operator, credentials) = operator();
    let credentials = folder.write("me.creds", &credentials);

    for (server, url, rest) in [
        (user_line, "", format!("user = \"me\"\npassword_file = \"{}\"", password.display())),
        (user_line, "me:g%20%C3%BC%40%3A%2F%25@", String::new()),
        ("authorization { token: t0p }", "t0p@", String::new()),
        ("authorization { token: t0p }", "", "token = \"t0p\"".to_owned()),
        (nkey_line.as_str(), "", format!("nkey = \"{seed}\"")),
        (operator.as_str(), "", format!("credentials_file = \"{}\"", credentials.display())),
    ] {
        let server = Nats::configured(server);
        let url = server.url().replace("nats://", &format!("nats://{url}"));
        let egress = Egress::new(&format!("servers = \"{url}\"\n{rest}"));
        egress.ready().await;
        is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
        let without = Egress::new(&format!("servers = \"{}\"", server.url()));
        without.not_ready("NATS asks for credentials").await;
    }
}

/// The server's part and the user's credentials file of a set-up with an operator.
fn operator() -> (String, String) {
    let (operator, account, user) =
        (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let operator_jwt = jwt(&operator, &operator, r#""type":"operator","version":2"#);
    let account_limits = format!(
        r#""limits":{{{limits},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}},
        "type":"account","version":2"#
    );
    let account_jwt = jwt(&operator, &account, &account_limits);
    let user_jwt = jwt(&account, &user, &format!(r#"{limits},"type":"user","version":2"#));
    let server = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    (server, credentials)
}

fn jwt(issuer: &nkeys::KeyPair, subject: &nkeys::KeyPair, claims: &str) -> String {
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let claims = format!(
        r#"{{"jti":"{sub}","iat":1700000000,"iss":"{iss}","name":"test","sub":"{sub}","nats":{{{claims}}}}}"#
    );
    let header = base64_url(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", base64_url(claims.as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64_url(&signature))
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=chunk.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(DIGITS[value as usize]));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls() {
    let certs = Certs::new();
    let path = |name: &str| certs.path(name);
    let server = Nats::configured(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    ));
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    let ca = format!("ca_file = \"{}\"\n", path("ca.pem"));
    let identity =
        format!("cert_file = \"{}\"\nkey_file = \"{}\"\n", path("client.pem"), path("client.key"));
    for scheme in ["tls", "nats"] {
        let servers = format!("servers = \"{scheme}://localhost:{port}\"\n");
        let egress = Egress::new(&format!("{servers}{ca}{identity}"));
        egress.ready().await;
        is(&egress.fault("nobody.home", "").await, FaultKind::UnknownService, Outcome::NotSent);
        let distrusting = Egress::new(&format!("{servers}{identity}"));
        distrusting.not_ready("signed by no authority that this system trusts").await;
        let anonymous = Egress::new(&format!("{servers}{ca}"));
        anonymous.not_ready("wants a client certificate").await;
    }
}
