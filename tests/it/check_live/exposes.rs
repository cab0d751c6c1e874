//! Exposes: what would keep services from being called over there.

use serde_json::json;

use super::{check, rows, stream, tells};
use crate::harness::{Gateway, NamekoVersion, Nats, RabbitMq, Shop, eventually, until};

fn expose(service: &str, on: &str, name: &str) -> String {
    format!("[[expose]]\nservice = \"{service}\"\non = [\"{on}\"]\nas = \"{name}\"\n")
}

#[tokio::test]
async fn a_stream_that_swallows_the_calls_of_an_exposed_service() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    let settings = json!({"name": "JETS", "subjects": ["jets.>"], "storage": "memory",
        "retention": "limits", "num_replicas": 1});
    stream(&client, settings).await;
    let vhost = RabbitMq::shared().vhost();
    let _shop = Shop::start(NamekoVersion::Three, &vhost.url(), "orders");
    let toml = format!(
        "{}\n{}\n{}{}{}",
        nats.upstream("nats", "plain"),
        vhost.upstream("rabbit"),
        rows("rabbit", &["orders.*"]),
        expose("orders", "nats", "quiet"),
        expose("orders", "nats", "jets"),
    );
    let (status, problems) = check(&toml).await;
    assert_eq!((status, problems.len()), (1, 1), "{problems:#?}");
    let words = ["[[expose]] #2 \"orders\"", "`JETS` stores", "`jets.*`", "`no_ack`"];
    tells(&problems, "error", &words);
    // Whoever does not ask is told too.
    let gateway = Gateway::ready(&toml).await;
    let line = gateway.wait_for_log(0, "a JetStream stream stores the calls").await;
    assert_eq!((&line["service"], &line["level"]), (&json!("orders"), &json!("WARN")), "{line}");
    assert!(line["what"].as_str().expect("what").contains("`JETS` stores"), "{line}");
}

#[tokio::test]
async fn services_that_cannot_be_exposed() {
    let rabbit = RabbitMq::shared();
    let vhost = rabbit.vhost();
    let name = vhost.name();
    let quorum = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
    rabbit.put(&format!("queues/{name}/rpc-quo"), &quorum);
    rabbit.put(&format!("queues/{name}/rpc-taken"), &json!({"durable": true, "auto_delete": true}));
    rabbit.put(&format!("queues/{name}/rpc-fine"), &json!({"durable": true}));
    let nats = Nats::start();
    let exposes = ["quo", "taken", "fine", "new"].map(|name| expose("mailer", "rabbit", name));
    let toml = format!(
        "{}\n{}\n{}{}",
        vhost.upstream("rabbit"),
        nats.upstream("nats", "plain"),
        rows("nats", &["mailer.*"]),
        exposes.concat()
    );
    let (status, problems) = check(&toml).await;
    let problems: Vec<_> = problems.into_iter().filter(|it| it["severity"] == "error").collect();
    assert_eq!((status, problems.len()), (1, 2), "{problems:#?}");
    for (number, queue) in [(1, "rpc-quo"), (2, "rpc-taken")] {
        let about = format!("[[expose]] #{number} \"mailer\"");
        tells(&problems, "error", &[&about, queue, "other properties", "delete the other one"]);
    }
    let line = toml.lines().position(|line| line == "as = \"taken\"").expect("it is there");
    assert_eq!(problems[1]["line"], line - 2, "its row's");
    // It has made nothing.
    assert!(rabbit.get(&format!("queues/{name}/rpc-new")).is_null());
    // And who runs it sees it on its page.
    let gateway = Gateway::ready(&toml).await;
    eventually("its page tells", async || {
        let page = gateway.page("/readyz").await;
        let tells = |name: &str| {
            let line = format!("rabbit: `{name}` is not exposed: a queue of its name exists");
            page.text().contains(&line)
        };
        (tells("quo") && tells("taken") && page.status == 200).then_some(())
    })
    .await;
    let page = gateway.page("/readyz").await;
    assert!(!page.text().contains("`fine`") && !page.text().contains("`new`"), "{}", page.text());
    rabbit.delete(&format!("queues/{name}/rpc-quo"));
    until("it is exposed", async || !gateway.page("/readyz").await.text().contains("`quo`")).await;
}

#[tokio::test]
async fn services_for_which_there_are_too_few_channels() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let url = vhost.url();
    let few = vhost.upstream("rabbit").replace(&url, &format!("{url}?channel_max=2"));
    let exposes = ["one", "two", "three"].map(|name| expose("mailer", "rabbit", name));
    let bus = nats.upstream("nats", "plain");
    let toml = format!("{few}\n{bus}\n{}{}", rows("nats", &["mailer.*"]), exposes.concat());
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let words = ["2 channels", "3 services", "`channel_max`"];
    let told = |problem: &&serde_json::Value| {
        words.iter().all(|words| problem.to_string().contains(words))
    };
    assert_eq!(problems.iter().filter(told).count(), 1, "{problems:#?}");
}

#[tokio::test]
async fn some_methods_of_a_service_that_others_serve_whole() {
    let vhost = RabbitMq::shared().vhost();
    let nats = Nats::start();
    let _shop = Shop::start(NamekoVersion::Three, &vhost.url(), "orders");
    let some = format!("{}methods = [\"create\"]\n", expose("mailer", "rabbit", "orders"));
    let toml = |exposes: &str| {
        let (rabbit, bus) = (vhost.upstream("rabbit"), nats.upstream("nats", "plain"));
        format!("{rabbit}\n{bus}\n{}{exposes}", rows("nats", &["mailer.*"]))
    };
    let (_, problems) = check(&toml(&some)).await;
    tells(&problems, "warning", &["`rpc-orders` is consumed already (1)", "`MethodNotFound`"]);
    let (_, problems) = check(&toml(&expose("mailer", "rabbit", "orders"))).await;
    let consumed = |it: &serde_json::Value| it.to_string().contains("is consumed already");
    assert!(!problems.iter().any(consumed), "{problems:#?}");
}
