//! Several instances of one service: calls go to those that work, and to the faster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{config, config_of};
use crate::harness::process::{Folder, free_port};
use crate::harness::{Asked, Gateway, Say, Web, until};

fn named(name: &'static str) -> impl Fn(&Asked) -> Say + Send + Sync + 'static {
    move |asked| asked.result(&format!("\"{name}\""))
}

/// How many of so many calls were answered by each.
async fn shares(gateway: &Gateway, calls: usize) -> BTreeMap<String, usize> {
    shares_of(gateway, calls, 1).await
}

/// The same of so many at a time.
async fn shares_of(gateway: &Gateway, calls: usize, at_once: usize) -> BTreeMap<String, usize> {
    let called = stream::iter(0..calls).map(async |_| {
        let answer = gateway.rpc("a.f", json!([])).await;
        let name = answer.get("result").unwrap_or(&answer["error"]["data"]["kind"]);
        name.as_str().unwrap_or("an error").to_owned()
    });
    let count = async |mut shares: BTreeMap<String, usize>, name| {
        *shares.entry(name).or_default() += 1;
        shares
    };
    called.buffer_unordered(at_once).fold(BTreeMap::new(), count).await
}

#[tokio::test]
async fn calls_are_spread() {
    let (one, two, three) =
        (Web::serve(named("1")).await, Web::serve(named("2")).await, Web::serve(named("3")).await);
    let gateway = Gateway::ready(&config_of(&[&one.url, &two.url, &three.url], "")).await;
    until("all of them get calls", async || shares(&gateway, 30).await.len() == 3).await;
}

#[tokio::test]
async fn a_url_that_is_replaced_in_its_file_is_in_force_by_itself() {
    let (one, two) = (Web::serve(named("1")).await, Web::serve(named("2")).await);
    let folder = Folder::new();
    let file = folder.write("url", &format!("{}\n", one.url));
    let gateway = Gateway::ready(&format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl_file = \"{}\"\n[[routes]]\nmatch = \"*\"\n\
         upstream = \"web\"\n",
        file.display()
    ))
    .await;
    assert_eq!(gateway.result("a.f", json!([])).await, "1");
    let seen = gateway.log().len();
    folder.write("url", "s3cr3t-and-no-url");
    let line = gateway.wait_for_log(seen, "the file of an upstream's URL cannot be used").await;
    let complaint = line["complaint"].as_str().expect("a complaint");
    assert!(complaint.contains("must be a URL") && !complaint.contains("s3cr3t"), "{complaint}");
    assert_eq!(gateway.result("a.f", json!([])).await, "1");
    let with_login = two.url.replace("http://", "http://till:s3cr3t-of-two@");
    folder.write("url", &with_login);
    gateway.wait_for_log(seen, "the upstream's URL was replaced").await;
    assert_eq!(gateway.result("a.f", json!([])).await, "2");
    let login = two.last().header("authorization").map(str::to_owned);
    assert!(login.is_some_and(|login| login.starts_with("Basic ")));
    until("it is ready", async || gateway.page("/readyz").await.status == 200).await;
    assert!(!gateway.log_text().contains("s3cr3t"), "{}", gateway.log_text());
}

#[tokio::test]
async fn one_that_is_down_costs_no_call_and_comes_back() {
    let address = format!("127.0.0.1:{}", free_port());
    let one = Web::serve(named("1")).await;
    let two = Web::at(&address, named("2")).await;
    let gateway = Gateway::ready(&config_of(&[&one.url, &two.url], "")).await;
    until("both answer", async || shares(&gateway, 20).await.len() == 2).await;
    drop(two);
    // Calls that were under way may be lost with it; all that come later go to the other one.
    until("it is seen", async || {
        gateway.log_text().contains("an instance is out")
            || shares(&gateway, 10).await.contains_key("unavailable")
    })
    .await;
    until("calls go to the other", async || shares(&gateway, 20).await.len() == 1).await;
    assert_eq!(shares(&gateway, 100).await, [("1".to_owned(), 100)].into());
    assert_eq!(gateway.metric("genkan_upstream_up", &[("upstream", "web")]).await, 1.0);
    let _two = Web::at(&address, named("2")).await;
    until("it is back", async || shares(&gateway, 20).await.contains_key("2")).await;
    gateway.wait_for_metric("genkan_upstream_reconnects_total", &[("upstream", "web")], 1.0).await;
}

#[tokio::test]
async fn the_first_connection_is_no_other_one_however_late_it_comes() {
    let address = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&config(&format!("http://{address}"), "")).await;
    gateway.wait_for_log(0, "an instance is out").await;
    let up = Web::at(&address, named("1")).await;
    let reconnects = async || {
        let upstream = [("upstream", "web")];
        gateway.metric("genkan_upstream_reconnects_total", &upstream).await
    };
    gateway.wait_for_log(0, "an instance is in service").await;
    assert_eq!(reconnects().await, 0.0);
    drop(up);
    until("it is gone", async || shares(&gateway, 1).await.contains_key("unavailable")).await;
    let seen = gateway.lines_logged();
    let _up = Web::at(&address, named("1")).await;
    gateway.wait_for_log(seen, "an instance is in service").await;
    assert_eq!(reconnects().await, 1.0);
}

#[tokio::test]
async fn one_that_fails_fast_does_not_attract_calls() {
    let slow = Web::serve(|asked: &Asked| {
        std::thread::sleep(Duration::from_millis(5));
        asked.result("\"slow\"")
    })
    .await;
    let failing = Web::serve(|_: &Asked| Say::status("503 Down", "", "")).await;
    let gateway = Gateway::ready(&config_of(&[&slow.url, &failing.url], "")).await;
    let shares = shares(&gateway, 300).await;
    assert!(shares["slow"] > 285, "{shares:?}");
}

#[tokio::test]
async fn one_that_errs_fast_does_not_attract_calls() {
    let slow = Web::serve(|asked: &Asked| {
        std::thread::sleep(Duration::from_millis(10));
        asked.result("\"slow\"")
    })
    .await;
    let error = r#"{"code":-32603,"message":"db down"}"#;
    let erring = Web::serve(move |asked: &Asked| asked.error(error)).await;
    let gateway = Gateway::ready(&config_of(&[&slow.url, &erring.url], "")).await;
    let shares = shares(&gateway, 300).await;
    assert!(shares["slow"] > 150 && shares["application"] > 0, "{shares:?}");
}

/// One that works takes a while, and one whose database has gone, say, is always free.
#[tokio::test]
async fn one_that_errs_at_once_gets_no_more_than_its_share_of_calls_that_come_together() {
    let error = |code: i32, asked: &Asked| {
        asked.error(&format!(r#"{{"code":{code},"message":"db down","data":{{"class":"E"}}}}"#))
    };
    let told = |told: &str, asked: &Asked| {
        let mark = asked.header("genkan-call").expect("a mark");
        let headers = format!("Genkan-Call: {mark}\r\nGenkan-Fault: {told}\r\n");
        let error = r#"{"code":-32004,"message":"rabbitmq is not connected"}"#;
        let body = format!(r#"{{"jsonrpc":"2.0","error":{error},"id":{}}}"#, asked.id());
        Say::status("200 OK", &headers, &body)
    };
    for kind in ["-32603", "-32601", "-32000", "500", "unavailable unknown", "application executed"]
    {
        let works =
            Web::serve(|asked: &Asked| asked.result("\"works\"").after(Duration::from_millis(40)))
                .await;
        let errs = Web::serve(move |asked: &Asked| match kind {
            "500" => {
                let body = r#"{"jsonrpc":"2.0","error":{"code":1,"message":"down"},"id":null}"#;
                Say::status("500 Oh", "Content-Type: application/json\r\n", body)
            }
            code if code.starts_with('-') => error(code.parse().expect("a code"), asked),
            said => told(said, asked),
        })
        .await;
        let gateway = Gateway::ready(&config_of(&[&works.url, &errs.url], "")).await;
        let shares = shares_of(&gateway, 200, 4).await;
        assert!(shares["works"] >= 100, "{kind}: {shares:?}");
    }
}

#[tokio::test]
async fn what_another_gateway_has_certainly_not_sent_goes_to_the_next() {
    let works =
        Web::serve(|asked: &Asked| asked.result("\"works\"").after(Duration::from_millis(10)))
            .await;
    let down = Web::serve(|asked: &Asked| {
        let mark = asked.header("genkan-call").expect("a mark");
        let headers = format!("Genkan-Call: {mark}\r\nGenkan-Fault: unavailable not_sent\r\n");
        let error = r#"{"code":-32004,"message":"rabbitmq is not connected"}"#;
        let body = format!(r#"{{"jsonrpc":"2.0","error":{error},"id":{}}}"#, asked.id());
        Say::status("200 OK", &headers, &body)
    })
    .await;
    let gateway = Gateway::ready(&config_of(&[&works.url, &down.url], "")).await;
    assert_eq!(shares_of(&gateway, 200, 4).await, [("works".to_owned(), 200)].into());
    let asked = down.asked().len();
    assert!((1..=100).contains(&asked), "{asked}");
    // Where none takes it, the caller hears why.
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let gateway = Gateway::ready(&config_of(&[&nobody, &down.url], "")).await;
    let fault = gateway.fault("a.f", json!([])).await;
    assert!(fault.is("unavailable", "not_sent").message.contains("rabbitmq"), "{fault:?}");
}

#[tokio::test]
async fn errors_that_all_give_alike_leave_the_shares_as_they_are() {
    let failing = |name: &'static str| {
        move |asked: &Asked| match asked.json()["id"].as_u64().unwrap_or_default() % 2 {
            0 => {
                asked.error(&format!(r#"{{"code":-1,"message":"no","data":{{"kind":"{name}"}}}}"#))
            }
            _ => asked.result(&format!("\"{name}\"")).after(Duration::from_millis(5)),
        }
    };
    let (one, two) = (Web::serve(failing("1")).await, Web::serve(failing("2")).await);
    let gateway = Gateway::ready(&config_of(&[&one.url, &two.url], "")).await;
    shares_of(&gateway, 300, 4).await;
    let [one, two] = [&one, &two].map(|web| web.asked().len());
    assert!(one.min(two) > 75, "{one} {two}");
}

#[tokio::test]
async fn the_slower_one_gets_less() {
    let fast = Web::serve(named("fast")).await;
    let slow = Web::serve(|asked: &Asked| {
        std::thread::sleep(Duration::from_millis(50));
        asked.result("\"slow\"")
    })
    .await;
    let gateway = Gateway::ready(&config_of(&[&fast.url, &slow.url], "")).await;
    let shares = shares(&gateway, 200).await;
    assert!(shares["fast"] > 150, "{shares:?}");
}

#[tokio::test]
async fn with_none_of_them_nothing_is_sent() {
    let (one, two) = (format!("http://127.0.0.1:{}/", free_port()), free_port());
    let gateway =
        Gateway::start(&config_of(&[&one, &format!("http://127.0.0.1:{two}/")], "")).await;
    let fault = gateway.fault("a.f", Value::Null).await;
    assert!(fault.is("unavailable", "not_sent").message.contains("nobody listens"), "{fault:?}");
    assert_eq!(fault.data["retryable"], true);
    assert!(!fault.message.contains("127.0.0.1"), "{fault:?}");
    until("that is told", async || {
        gateway.wait_until_not_ready().await.contains("none of its 2 instances")
    })
    .await;
    assert_eq!(gateway.metric("genkan_upstream_up", &[("upstream", "web")]).await, 0.0);
    // They are tried all the same: the first call after one has come need not wait for anything.
    let _two = Web::at(&format!("127.0.0.1:{two}"), named("2")).await;
    assert_eq!(gateway.result("a.f", Value::Null).await, "2");
    gateway.wait_until_ready().await;
}

/// One that takes connections and closes them is found out by its calls, not by connecting. So it is a call that is
/// answered that brings it back.
#[tokio::test]
async fn one_that_breaks_off_calls_is_put_out_until_it_answers_one() {
    let breaks = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&breaks);
    let breaking = Web::serve(move |asked: &Asked| match is_broken.load(Ordering::SeqCst) {
        true => Say::bytes("").and_close(),
        false => asked.result("1"),
    })
    .await;
    let gateway = Gateway::ready(&config(&breaking.url, "")).await;
    for _ in 0..3 {
        gateway.fault("a.f", Value::Null).await.is("unavailable", "unknown");
    }
    let line = gateway.wait_for_log(0, "an instance is out").await;
    assert!(line["message"].as_str().unwrap().contains("breaks off calls"), "{line}");
    let seen = breaking.asked().len();
    let knocks = || breaking.connections().0 - breaking.asked().len();
    let before = knocks();
    until("it was knocked at again and again", async || {
        gateway.fault("a.f", Value::Null).await.is("unavailable", "unknown");
        knocks() > before + 3 && breaking.asked().len() > seen + 3
    })
    .await;
    for words in ["an instance is in service", "an instance is out"] {
        assert_eq!(gateway.log_text().matches(words).count(), 1, "{}", gateway.log_text());
    }
    assert!(gateway.wait_until_not_ready().await.contains("breaks off calls"));
    breaks.store(false, Ordering::SeqCst);
    assert_eq!(gateway.result("a.f", Value::Null).await, 1);
    gateway.wait_until_ready().await;
}

/// Whoever gets no calls while he is not ready need not wait for one to be ready again.
#[tokio::test]
async fn one_that_broke_off_calls_is_back_when_none_has_told_otherwise_for_a_while() {
    let breaking = Web::serve(|_: &Asked| Say::bytes("").and_close()).await;
    let gateway = Gateway::ready(&config(&breaking.url, "")).await;
    for _ in 0..3 {
        gateway.fault("a.f", Value::Null).await.is("unavailable", "unknown");
    }
    gateway.wait_until_not_ready().await;
    gateway.wait_until_ready().await;
}
