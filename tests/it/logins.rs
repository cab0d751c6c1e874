//! Every way to prove to a broker who is there, and TLS, with the real brokers asking for it.

use serde_json::json;

use crate::harness::certs::Certs;
use crate::harness::process::Folder;
use crate::harness::{Answer, Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq, eventually};

/// An operator, an account and a user, made for these tests alone: they guard nothing.
const NKEY_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const NKEY_PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

fn config(nats: &Nats, keys: &str) -> String {
    let servers = format!("[\"{}\"]", nats.url());
    format!(
        "[upstreams.nats]\nprotocol = \"nats\"\nservers = {servers}\n{keys}\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n"
    )
}

/// With the keys it is ready, and says so; with the wrong ones it is not, and says why.
async fn accepts(nats: &Nats, right: &str, wrong: &str) {
    let gateway = Gateway::ready(&config(nats, right)).await;
    gateway.fault("nobody.x", json!(["p"])).await.is("unknown_service", "not_sent");
    let refused = Gateway::start(&config(nats, wrong)).await;
    refused.wait_until_not_ready().await;
    eventually("the log says why", async || {
        let said = refused.log();
        let mut said = said.iter().filter(|line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("no connection to NATS"))
        });
        said.next().is_some().then_some(())
    })
    .await;
    refused.fault("nobody.x", json!(["p"])).await.is("unavailable", "not_sent");
    assert!(refused.runs());
}

#[tokio::test]
async fn nats_with_user_and_password() {
    let nats = Nats::configured("authorization { user: till, password: right }");
    accepts(
        &nats,
        "user = \"till\"\npassword = \"right\"",
        "user = \"till\"\npassword = \"wrong\"",
    )
    .await;
    let in_url = config(&nats, "").replace("nats://", "nats://till:right@");
    Gateway::ready(&in_url).await;
}

#[tokio::test]
async fn nats_with_a_token() {
    let nats = Nats::configured("authorization { token: right }");
    accepts(&nats, "token = \"right\"", "token = \"wrong\"").await;
}

#[tokio::test]
async fn nats_with_an_nkey() {
    let nats =
        Nats::configured(&format!("authorization {{ users: [ {{ nkey: {NKEY_PUBLIC} }} ] }}"));
    accepts(&nats, &format!("nkey = \"{NKEY_SEED}\""), "").await;
}

#[tokio::test]
async fn nats_over_tls_with_a_clients_certificate() {
    let certs = Certs::new();
    let tls = |verify: bool| {
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: {verify} }}",
            certs.path("server.pem"),
            certs.path("server.key"),
            certs.path("ca.pem")
        )
    };
    let ca = format!("ca_file = \"{}\"", certs.path("ca.pem"));
    let identity = format!(
        "{ca}\ncert_file = \"{}\"\nkey_file = \"{}\"",
        certs.path("client.pem"),
        certs.path("client.key")
    );
    let plain = Nats::configured(&tls(false));
    accepts(&plain, &ca, "").await;
    let by_url = config(&plain, &ca).replace("nats://", "tls://");
    Gateway::ready(&by_url).await;
    let mutual = Nats::configured(&tls(true));
    accepts(&mutual, &identity, &ca).await;
}

#[tokio::test]
async fn nats_with_a_permission_that_is_missing_says_so() {
    let permissions = "{ publish: [\"allowed.>\"], subscribe: [\"_INBOX.>\", \"allowed.>\"] }";
    let nats = Nats::configured(&format!(
        "authorization {{ users: [ {{ user: till, password: p, permissions: {permissions} }},\
         {{ user: service, password: p }} ] }}"
    ));
    let options = async_nats::ConnectOptions::with_user_and_password("service".into(), "p".into());
    let client = options.connect(nats.url()).await.expect("the server accepts");
    let _service =
        NatsResponder::serve(client.clone(), "allowed", |_| Answer::new(r#"{"payload":1}"#)).await;
    let _denied = NatsResponder::serve(client, "denied", |_| Answer::new(r#"{"payload":1}"#)).await;
    let gateway = Gateway::ready(&config(&nats, "user = \"till\"\npassword = \"p\"")).await;
    assert_eq!(gateway.result("allowed.x", json!(["p"])).await, 1);
    let fault = gateway.fault("denied.x", json!(["p"])).await;
    assert_eq!(fault.is("access_denied", "rejected").code, -32001);
    assert_eq!(gateway.post("/call/denied/x", &[], "[1]").await.status, 403);
    assert_eq!(gateway.result("allowed.x", json!(["p"])).await, 1, "others are not touched");
}

/// A node that also listens for TLS on `port`, with more lines for its configuration.
fn rabbit_over_tls(certs: &Certs, port: u16, more: &str) -> RabbitMq {
    RabbitMq::configured(&format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\nssl_options.keyfile = {}\n{more}\n",
        certs.path("ca.pem"),
        certs.path("server.pem"),
        certs.path("server.key")
    ))
}

fn rabbit_config(url: &str, keys: &str) -> String {
    format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{url}\"\n{keys}\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n"
    )
}

#[tokio::test]
async fn rabbitmq_over_tls_and_with_a_wrong_password() {
    let (certs, strangers) = (Certs::new(), Certs::new());
    let port = crate::harness::process::free_port();
    let rabbit = rabbit_over_tls(&certs, port, "ssl_options.verify = verify_none");
    let config = rabbit_config;
    let service =
        NamekoResponder::serve(&rabbit.url(), "svc", |_| Answer::new(r#"{"result":"ok"}"#)).await;
    let password = crate::harness::rabbit::PASSWORD;
    let amqps = format!("amqps://gateway:{password}@127.0.0.1:{port}/%2f");
    let ca = format!("ca_file = \"{}\"", certs.path("ca.pem"));
    let gateway = Gateway::ready(&config(&amqps, &ca)).await;
    assert_eq!(gateway.result("svc.x", json!([])).await, "ok");
    assert_eq!(service.requests.count(), 1);
    // Without the authority's certificate nobody is trusted.
    let distrustful = Gateway::start(&config(&amqps, "")).await;
    distrustful.wait_until_not_ready().await;
    distrustful.fault("svc.x", json!([])).await.is("unavailable", "not_sent");
    let stranger = format!("ca_file = \"{}\"", strangers.path("ca.pem"));
    let misled = Gateway::start(&config(&amqps, &stranger)).await;
    eventually("the certificate is named", async || {
        misled.page("/readyz").await.text().contains("certificate").then_some(())
    })
    .await;

    let wrong = rabbit.url().replace(password, "wrong-hunter2");
    let refused = Gateway::start(&config(&wrong, "")).await;
    refused.wait_until_not_ready().await;
    refused.fault("svc.x", json!([])).await.is("unavailable", "not_sent");
    eventually("the log says something of it", async || {
        refused
            .log()
            .iter()
            .any(|line| line["level"] == "WARN" || line["level"] == "ERROR")
            .then_some(())
    })
    .await;
    for gateway in [gateway, distrustful, misled, refused] {
        let log = gateway.log_text();
        assert!(!log.contains(password) && !log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn rabbitmq_with_a_clients_certificate() {
    let (certs, strangers) = (Certs::new(), Certs::new());
    let port = crate::harness::process::free_port();
    let rabbit = rabbit_over_tls(
        &certs,
        port,
        "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n\
         ssl_cert_login_from = common_name\nauth_mechanisms.1 = EXTERNAL\n\
         auth_mechanisms.2 = PLAIN",
    );
    rabbit.put("users/client", &json!({"password_hash": "", "tags": ""}));
    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    rabbit.put("permissions/%2f/client", &everything);
    let _service =
        NamekoResponder::serve(&rabbit.url(), "svc", |_| Answer::new(r#"{"result":"ok"}"#)).await;
    let password = crate::harness::rabbit::PASSWORD;
    let amqps = format!("amqps://gateway:{password}@127.0.0.1:{port}/%2f");
    let ca = format!("ca_file = \"{}\"", certs.path("ca.pem"));
    let identity = |of: &Certs| {
        let (cert, key) = (of.path("client.pem"), of.path("client.key"));
        format!("{ca}\ncert_file = \"{cert}\"\nkey_file = \"{key}\"")
    };
    let gateway = Gateway::ready(&rabbit_config(&amqps, &identity(&certs))).await;
    assert_eq!(gateway.result("svc.x", json!([])).await, "ok");
    for (keys, mend) in [
        (ca.clone(), "wants a client certificate"),
        (identity(&strangers), "certificate in `cert_file`"),
    ] {
        let refused = Gateway::start(&rabbit_config(&amqps, &keys)).await;
        refused.wait_until_not_ready().await;
        refused.fault("svc.x", json!([])).await.is("unavailable", "not_sent");
        // The broker's alert may be lost with a connection that it resets: another attempt's comes.
        let told = eventually("the log says what to do", async || {
            let said = refused.log().into_iter().map(|line| line.to_string());
            said.into_iter().find(|line| line.contains(mend))
        });
        assert!(told.await.contains("cert_file"));
        assert!(refused.runs());
    }
    // Where the broker takes the certificate for the login too, the URL names no user.
    let url = format!("amqps://127.0.0.1:{port}/%2f?auth_mechanism=external");
    let gateway = Gateway::ready(&rabbit_config(&url, &identity(&certs))).await;
    assert_eq!(gateway.result("svc.x", json!([])).await, "ok");
}

/// What the configuration names is read for every connection, and no signal says so.
#[tokio::test]
async fn nats_with_a_password_that_is_rotated_in_its_file() {
    let wants = |password: &str| format!("authorization {{ user: till, password: {password} }}");
    let (nats, folder) = (Nats::configured(&wants("first-secret")), Folder::new());
    let file = folder.write("password", "first-secret\n");
    let keys = format!("user = \"till\"\npassword_file = \"{}\"", file.display());
    let gateway = Gateway::ready(&config(&nats, &keys)).await;
    let connections = async |count: f64| {
        gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], count).await;
        gateway.wait_until_ready().await;
        gateway.fault("nobody.x", json!(["p"])).await.is("unknown_service", "not_sent");
    };
    // The file is ahead of its broker, which disturbs nobody.
    folder.write("password", "second-secret\n");
    gateway.fault("nobody.x", json!(["p"])).await.is("unknown_service", "not_sent");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    nats.configure(&wants("second-secret"));
    nats.stop();
    nats.restart();
    connections(1.0).await;
    // One that cannot be read keeps the old, loudly.
    std::fs::remove_file(&file).expect("it is there");
    nats.stop();
    nats.restart();
    connections(2.0).await;
    let log = gateway.log_text();
    assert!(log.contains("the old one stays"), "{log}");
    assert!(!log.contains("first-secret") && !log.contains("second-secret"), "{log}");
    // Whose server it is may be told.
    assert!(log.contains(&nats.address()), "{log}");
}

#[tokio::test]
async fn nats_with_certificates_that_are_rotated_in_their_files() {
    let (old, new, used) = (Certs::new(), Certs::new(), Folder::new());
    let put = |certs: &Certs| {
        for name in ["ca.pem", "client.pem", "client.key"] {
            std::fs::copy(certs.file(name), used.path().join(name)).expect("a copy");
        }
    };
    let serves = |certs: &Certs| {
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
            certs.path("server.pem"),
            certs.path("server.key"),
            certs.path("ca.pem")
        )
    };
    put(&old);
    let nats = Nats::configured(&serves(&old));
    let path = |name: &str| used.path().join(name).display().to_string();
    let keys = format!(
        "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"",
        path("ca.pem"),
        path("client.pem"),
        path("client.key")
    );
    let gateway = Gateway::ready(&config(&nats, &keys)).await;
    put(&new);
    nats.configure(&serves(&new));
    nats.stop();
    nats.restart();
    gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], 1.0).await;
    // A key that does not fit its certificate is no reason to go without.
    std::fs::copy(old.file("client.key"), used.path().join("client.key")).expect("a copy");
    nats.stop();
    nats.restart();
    gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], 2.0).await;
    gateway.wait_until_ready().await;
    assert!(gateway.log_text().contains("the old ones stay"), "{}", gateway.log_text());
}
