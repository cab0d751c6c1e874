//! What a NATS server takes no more of.

use super::{as_json, ask, config, echo, exposed, row};
use crate::harness::{Answer, Gateway, NamekoResponder, Nats, RabbitMq, eventually};

const MEND: &str = "max_subscriptions";

#[tokio::test]
async fn services_that_the_server_takes_no_subscription_of_are_named_and_tried_again() {
    let nats = Nats::configured("max_subscriptions: 6");
    let vhost = RabbitMq::shared().vhost();
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    let mut services = Vec::new();
    for name in &names {
        services.push(NamekoResponder::serve(&vhost.url(), name, echo).await);
    }
    let rows: String = names.iter().map(|name| row(name, "picom", "")).collect();
    let gateway = Gateway::ready(&config(&nats, &vhost, &rows)).await;
    // One is for replies.
    let unexposed = async || {
        let page = gateway.page("/readyz").await;
        let lines = page.text().lines().filter(|line| line.contains(MEND));
        let name = |line: &str| line.split('`').nth(1).expect("its name").to_owned();
        lines.map(name).collect::<Vec<_>>()
    };
    let missing = eventually("five are named", async || {
        let named = unexposed().await;
        (named.len() == 5).then_some(named)
    })
    .await;
    let client = nats.client().await;
    for name in names.iter().filter(|name| !missing.contains(name)) {
        exposed(&gateway, name, 1).await;
        assert!(!ask(&client, &format!("{name}.x"), "").await.payload.is_empty());
    }
    let taken = gateway.logged("exposed: its calls are taken");
    assert!(taken.iter().all(|line| !missing.iter().any(|name| line["name"] == **name)));
    let refused = "NATS takes no more subscriptions: calls of an exposed service are not taken";
    for name in &missing {
        let told = gateway.logged(refused).into_iter().find(|line| line["name"] == **name);
        let told = told.unwrap_or_else(|| panic!("{name}: {}", gateway.log_text()));
        assert!(told["mend"].as_str().is_some_and(|mend| mend.contains(MEND)), "{told}");
    }
    // Room comes with the services that go.
    let kept: String = missing.iter().map(|name| row(name, "picom", "")).collect();
    gateway.write_config(&config(&nats, &vhost, &kept));
    gateway.hang_up();
    for name in &missing {
        exposed(&gateway, name, 1).await;
        assert!(!ask(&client, &format!("{name}.x"), "").await.payload.is_empty());
    }
    eventually("nobody is named", async || unexposed().await.is_empty().then_some(())).await;
    assert_eq!(gateway.logged(refused).len(), 5, "each once");
}

#[tokio::test]
async fn events_that_the_server_takes_no_subscription_of_are_told() {
    let nats = Nats::configured("max_subscriptions: 2");
    let rows = ["one", "two"]
        .map(|name| format!("[[bridges]]\nfrom = \"bus:{name}.*\"\nto = [\"bus:copy.{name}\"]\n"));
    let toml = format!("{}{}", nats.upstream("bus", "plain"), rows.concat());
    let gateway = Gateway::ready(&toml).await;
    let told = gateway.wait_for_log(0, "NATS takes no more subscriptions: events").await;
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains(MEND)), "{told}");
    assert!(told["subject"].as_str().is_some_and(|it| it.ends_with(".*")), "{told}");
}

/// It does not tell those who are connected, and ends the connection of whoever sends too much.
#[tokio::test]
async fn an_answer_that_a_server_takes_no_more_since_its_reload_is_told_as_that() {
    let nats = Nats::configured("max_payload: 1048576");
    let vhost = RabbitMq::shared().vhost();
    let large = format!(r#"{{"result": "{}", "error": null}}"#, "x".repeat(65_700));
    let desk = move |_: &_| Answer::new(large.clone());
    let _desk = NamekoResponder::serve(&vhost.url(), "desk", desk).await;
    let gateway = Gateway::ready(&config(&nats, &vhost, &row("desk", "plain", ""))).await;
    exposed(&gateway, "desk", 1).await;
    let client = nats.client().await;
    assert!(ask(&client, "desk.x", "[]").await.payload.len() > 65_700);
    nats.configure("max_payload: 65536");
    nats.reload();
    // The server may not have read it yet.
    let answer = eventually("it takes less", async || {
        let answer = ask(&client, "desk.x", "[]").await;
        (answer.payload.len() < 65_700).then_some(answer)
    })
    .await;
    let fault = as_json(&answer);
    let text = fault.to_string();
    assert!(text.contains("too_large") && text.contains("65536"), "{text}");
    assert!(text.contains("executed"), "{text}");
    gateway.wait_for_log(0, "the connection to NATS was lost; connecting again").await;
}
