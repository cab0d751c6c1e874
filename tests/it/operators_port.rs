//! Who may ask for the pages for operators: programs of this machine and those who were named, and
//! no web page; and nobody holds a connection to them for ever.

use crate::harness::http::{self, Connection};
use crate::harness::{Gateway, eventually};

#[tokio::test]
async fn a_web_page_reads_nothing() {
    let gateway = Gateway::start("").await;
    let port = gateway.admin.rsplit(':').next().expect("a port");
    let evil = format!("evil.example:{port}");
    // A page whose name was pointed at 127.0.0.1 is same-origin for its browser.
    let foreign: [&[(&str, &str)]; 3] = [
        &[("Host", &evil), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "https://evil.example")],
        &[("Sec-Fetch-Site", "cross-site")],
    ];
    for headers in foreign {
        for page in ["/metrics", "/healthz", "/hub/modules"] {
            let answer = http::send(&gateway.admin, "GET", page, headers, b"").await;
            assert_eq!(answer.status, 403, "{headers:?} {page}: {answer:?}");
        }
    }
    let localhost = format!("localhost:{port}");
    let own = [("Host", localhost.as_str())];
    assert_eq!(http::send(&gateway.admin, "GET", "/metrics", &own, b"").await.status, 200);
    assert_eq!(gateway.page("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_name_can_be_allowed_and_takes_effect_at_a_reload() {
    let gateway = Gateway::start("").await;
    let named = [("Host", "genkan.example")];
    assert_eq!(http::send(&gateway.admin, "GET", "/readyz", &named, b"").await.status, 403);
    gateway.write_config("[admin]\nhosts = \"genkan.example\"\n");
    gateway.hang_up();
    eventually("the name is known", async || {
        let answer = http::send(&gateway.admin, "GET", "/readyz", &named, b"").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn half_a_head_does_not_stay() {
    let gateway = Gateway::start("").await;
    let mut slow = Connection::open(&gateway.admin).await;
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: 127").await;
    let answer = slow.receive().await.expect("it is told");
    assert!(answer.status == 408 && answer.text().contains("10s"), "{answer:?}");
    assert!(slow.is_closed_within(std::time::Duration::from_secs(30)).await);
}
