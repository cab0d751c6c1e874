//! From where a call comes that a proxy hands on, and whom that is believed of.

use std::process::Command;

use tokio::sync::Mutex;

use crate::harness::gateway::genkan;
use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, Gateway, as_fault, eventually, process};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":[1],"id":1}"#;
const TRUSTING: &str = "[http]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";

/// A gateway where each caller has one call a day: who has one left has not called.
async fn one_each(http: &str) -> Echo {
    Echo::with_row(http, "rate = \"1/d\"").await
}

/// Whether a call with these headers is let through.
async fn passes(echo: &Echo, headers: &[(&str, &str)]) -> bool {
    let response = echo.gateway.post("/call/echo/x", headers, "[1]").await;
    assert!(matches!(response.status, 200 | 429), "{response:?}");
    response.status == 200
}

#[tokio::test]
async fn a_trusted_proxy_tells_who_calls() {
    let echo = one_each(TRUSTING).await;
    let (forwarded, list) = ("Forwarded", "X-Forwarded-For");
    for (headers, expected) in [
        (&[(list, "192.0.2.1")][..], true),
        (&[(list, "192.0.2.1")], false),
        (&[(forwarded, "for=192.0.2.1;proto=https")], false),
        (&[(list, "192.0.2.2")], true),
        // What a client makes up stands further left.
        (&[(list, "198.51.100.7, 192.0.2.1")], false),
        (&[(list, "198.51.100.7"), (list, "192.0.2.1, 10.0.0.3")], false),
        (&[(forwarded, "for=\"198.51.100.7, for=\"192.0.2.1:4711\"")], false),
        (&[(forwarded, "for=\"[2001:db8::1]:4711\"")], true),
        (&[(list, "2001:db8::2")], false),
        (&[(list, "::ffff:192.0.2.2")], false),
        // Nothing, or nothing that can be read: it is the proxy's own.
        (&[], true),
        (&[(list, "unknown")], false),
        (&[(forwarded, "for=192.0.2.9"), (list, "192.0.2.3")], false),
    ] {
        assert_eq!(passes(&echo, headers).await, expected, "{headers:?}");
    }
    // A WebSocket is its opening request's.
    let headers = [(list, "192.0.2.4")];
    let mut socket = WebSocket::open_with(&echo.gateway.http, "/api", &headers).await;
    assert_eq!(socket.ask(CALL).await["result"], 1);
    as_fault(&socket.ask(CALL).await).is("overloaded", "not_sent");
    assert!(!passes(&echo, &headers).await);
}

#[tokio::test]
async fn over_http_2_a_proxy_tells_it_too() {
    let echo = one_each(TRUSTING).await;
    let url = format!("http://{}/call/echo/x", echo.gateway.http);
    for (address, expected) in [("192.0.2.1", "200"), ("192.0.2.2", "200"), ("192.0.2.1", "429")] {
        let mut command = Command::new(process::program("curl", &[]));
        command.args(["-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}"]);
        command.args(["-H", &format!("X-Forwarded-For: {address}"), "--json", "[1]", &url]);
        let ran = tokio::task::spawn_blocking(move || process::run(&mut command)).await;
        let (status, out, err) = ran.expect("no panic");
        assert_eq!((status, out.as_str()), (0, expected), "{address} {err}");
    }
}

#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_is_who_it_is_whatever_it_says() {
    for trusted in ["", "[http]\ntrusted_proxies = [\"10.0.0.0/8\"]\n"] {
        let echo = one_each(trusted).await;
        assert!(passes(&echo, &[("X-Forwarded-For", "192.0.2.1")]).await);
        for n in 0..500 {
            let (address, other) = (format!("10.1.{}.{}", n / 250, n % 250), "for=192.0.2.1");
            assert!(!passes(&echo, &[("X-Forwarded-For", &address), ("Forwarded", other)]).await);
        }
        let long = "10.0.0.1,".repeat(5_000);
        assert!(!passes(&echo, &[("X-Forwarded-For", &long)]).await);
        assert_eq!(echo.called().len(), 1, "{trusted}");
    }
}

#[tokio::test]
async fn whom_to_trust_can_change_while_connections_are_open() {
    let echo = one_each("[http]\ntrusted_proxies = []\n").await;
    let connection = Mutex::new(echo.gateway.connect().await);
    let call = async |address: &str| {
        let mut connection = connection.lock().await;
        let headers = [("X-Forwarded-For", address)];
        connection.request("POST", "/call/echo/x", &headers, b"[1]").await;
        connection.receive().await.expect("a response").status
    };
    assert_eq!([call("192.0.2.1").await, call("192.0.2.2").await], [200, 429]);
    let config = std::fs::read_to_string(echo.gateway.config()).expect("a file");
    echo.gateway.write_config(&config.replace("proxies = []", "proxies = [\"127.0.0.1\"]"));
    echo.gateway.hang_up();
    eventually("the proxy is trusted", async || (call("192.0.2.3").await == 200).then_some(()))
        .await;
    assert_eq!([call("192.0.2.3").await, call("192.0.2.4").await], [429, 200]);
}

#[tokio::test]
async fn networks_that_are_none_are_told_with_their_mend() {
    let gateway = Gateway::start("").await;
    gateway.write_config("[http]\ntrusted_proxies = [\"10.1.0.0/8\", \"proxy.example\"]\n");
    let mut command = genkan();
    command.arg("check").arg("--config").arg(gateway.config());
    let (status, _, said) = process::run(&mut command);
    assert_eq!(status, 1, "{said}");
    for told in ["`trusted_proxies` in [http]", "write \"10.0.0.0/8\"", "\"proxy.example\" is no"] {
        assert!(said.contains(told), "{told}: {said}");
    }
}
