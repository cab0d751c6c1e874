//! `genkan check --live`, through real brokers: what would keep calls from being answered, each with
//! the mend.

use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, free_port, run};
use crate::harness::{
    Gateway, MicroService, NamekoVersion, Nats, RabbitMq, Shop, Web, eventually, until,
};

/// Checks a configuration: the status, and the problems.
async fn check(toml: &str) -> (i32, Vec<Value>) {
    let folder = Folder::new();
    let config = folder.write("genkan.toml", toml);
    let mut command = genkan();
    command.args(["check", "--live", "--config"]).arg(config);
    let (status, out, err) =
        tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
    let problems = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (status, problems)
}

#[track_caller]
fn tells(problems: &[Value], severity: &str, words: &[&str]) {
    let fits = |problem: &&Value| {
        let message = problem["message"].as_str().unwrap_or_default();
        problem["severity"] == severity && words.iter().all(|words| message.contains(words))
    };
    assert!(problems.iter().find(fits).is_some(), "{severity} {words:?}: {problems:#?}");
}

fn rows(upstream: &str, patterns: &[&str]) -> String {
    let row =
        |pattern: &&str| format!("[[routes]]\nmatch = \"{pattern}\"\nupstream = \"{upstream}\"\n");
    patterns.iter().map(row).collect()
}

#[tokio::test]
async fn rows_that_nobody_answers_on_rabbitmq() {
    let vhost = RabbitMq::shared().vhost();
    let _shop = Shop::start(NamekoVersion::Three, &vhost.url(), "shop");
    let toml = format!("{}\n{}", vhost.upstream("rabbit"), rows("rabbit", &["shop.*", "nobody.*"]));
    let (status, problems) = check(&toml).await;
    assert_eq!((status, problems.len()), (0, 1), "{problems:#?}");
    tells(
        &problems,
        "warning",
        &["[[routes]] #2 \"nobody.*\"", "no queue `rpc-nobody`", "start the service"],
    );
}

#[tokio::test]
async fn a_queue_without_consumers_and_an_exchange_of_another_type() {
    let vhost = RabbitMq::shared().vhost();
    let rabbit = RabbitMq::shared();
    let name = vhost.name();
    let exchange = json!({"type": "fanout", "durable": true});
    rabbit.put(&format!("exchanges/{name}/nameko-rpc"), &exchange);
    rabbit.put(&format!("queues/{name}/rpc-old"), &json!({"durable": true}));
    let toml = format!("{}\n{}", vhost.upstream("rabbit"), rows("rabbit", &["old.*"]));
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    tells(
        &problems,
        "error",
        &["[upstreams.rabbit]", "`nameko-rpc` is of another type", "delete it"],
    );
    tells(&problems, "warning", &["\"old.*\"", "`rpc-old` has no consumer"]);
    // It has changed nothing.
    assert_eq!(rabbit.get(&format!("exchanges/{name}/nameko-rpc"))["type"], "fanout");
    let vhost = RabbitMq::shared().vhost();
    let toml = format!("{}\n{}", vhost.upstream("rabbit"), rows("rabbit", &["a.*"]));
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 0, "{problems:#?}");
    tells(&problems, "warning", &["no exchange `nameko-rpc` yet"]);
    let exchanges = rabbit.get(&format!("exchanges/{}", vhost.name()));
    let names: Vec<_> = exchanges.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert!(!names.contains(&&json!("nameko-rpc")), "{names:?}");
}

#[tokio::test]
async fn a_broker_that_blocks() {
    let rabbit = RabbitMq::private();
    let toml = format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n{}",
        rabbit.url(),
        rows("rabbit", &["a.*"])
    );
    let blocks = async || {
        let (_, problems) = check(&toml).await;
        problems.iter().any(|it| it["message"].as_str().unwrap().contains("takes no messages"))
    };
    assert!(!blocks().await);
    rabbit.control(&["set_vm_memory_high_watermark", "0"]);
    until("the alarm is told", blocks).await;
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1);
    tells(
        &problems,
        "error",
        &["[upstreams.rabbit]", "an alarm is set", "rabbitmq-diagnostics alarms"],
    );
}

#[tokio::test]
async fn brokers_and_services_that_are_not_there() {
    let port = free_port();
    let web = Web::serve(|asked| asked.result("1")).await;
    let toml = format!(
        "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://u:geheim@127.0.0.1:{port}/\"\n\
         [upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:{port}\"]\n\
         [upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:{port}/api\"\n\
         [upstreams.half]\nprotocol = \"jsonrpc\"\nurls = [\"{}\", \"http://127.0.0.1:{port}/\"]\n{}{}{}{}",
        web.url,
        rows("rabbit", &["a.*"]),
        rows("nats", &["b.*"]),
        rows("web", &["c.*"]),
        rows("half", &["d.*"])
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    for upstream in ["rabbit", "nats", "web", "half"] {
        tells(&problems, "error", &[&format!("[upstreams.{upstream}]")]);
    }
    for upstream in ["rabbit", "nats"] {
        let about = format!("[upstreams.{upstream}]: ");
        tells(&problems, "error", &[&about, &format!("127.0.0.1:{port}"), "start it"]);
    }
    tells(&problems, "error", &["[upstreams.rabbit]", "connection refused"]);
    assert!(problems.iter().all(|it| it["line"].is_number()), "each has its line: {problems:#?}");
    tells(&problems, "warning", &["\"c.*\"", "nobody answers"]);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(web.asked().is_empty(), "nothing was asked");
    assert!(!format!("{problems:?}").contains("geheim"));
}

#[tokio::test]
async fn a_stream_that_swallows_a_subject() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    for (name, subjects, no_ack) in [("acmes", "mailer.>", false), ("quiet", "log.>", true)] {
        let stream = json!({"name": name, "subjects": [subjects], "storage": "memory", "no_ack": no_ack,
            "retention": "limits", "num_replicas": 1});
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let answer = client.request(subject, stream.to_string().into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(answer.get("error"), None, "{answer}");
    }
    let rows = rows("nats", &["mailer.send", "mailer.*", "log.*", "other.*"]);
    let toml = format!("{}\n{rows}", nats.upstream("nats", "plain"));
    let (status, problems) = check(&toml).await;
    assert_eq!((status, problems.len()), (1, 2), "{problems:#?}");
    tells(
        &problems,
        "error",
        &["#1 \"mailer.send\"", "`acmes` stores", "`mailer.send`", "`no_ack`"],
    );
    tells(&problems, "error", &["#2 \"mailer.*\"", "`acmes`"]);
}

/// Makes a stream by its configuration.
async fn stream(client: &async_nats::Client, config: Value) {
    let subject = format!("$JS.API.STREAM.CREATE.{}", config["name"].as_str().expect("a name"));
    let answer = client.request(subject, config.to_string().into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer.get("error"), None, "{answer}");
}

#[tokio::test]
async fn exchanges_that_events_cannot_go_through() {
    let rabbit = RabbitMq::shared();
    let vhost = rabbit.vhost();
    let name = vhost.name();
    for (exchange, kind, durable) in [
        ("orders.events", "fanout", true),
        ("stock.events", "topic", true),
        ("gemstone.broadcast.price", "fanout", true),
        ("gemstone.broadcast.stock", "fanout", false),
    ] {
        let made = json!({"type": kind, "durable": durable});
        rabbit.put(&format!("exchanges/{name}/{exchange}"), &made);
    }
    let toml = format!(
        "{}\n{}",
        vhost.upstream("rabbit"),
        r#"
        [[bridges]]
        from = "rabbit:stock.*"
        to = ["rabbit:gemstone/stock", "rabbit:copies.$1", "rabbit:$1.copied"]
        dead_letter = "rabbit:queue/letters"

        [[bridges]]
        from = "rabbit:orders.created"
        to = ["web:orders.created"]

        [[bridges]]
        from = "rabbit:stock.sold"
        to = ["rabbit:orders.sold", "rabbit:gemstone/price"]

        [[bridges]]
        from = "rabbit:nobodys.*"
        to = ["web:orders.$1"]

        [[topics]]
        match = "orders.*"

        [[topics]]
        match = "price"
        from = "rabbit:gemstone/price"
        "#
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let nameko = "`orders.events` is of another type";
    let gemstone = "`gemstone.broadcast.price` is of another type";
    for (about, words) in [
        ("[[bridges]] #2 \"rabbit:orders.created\": its exchange", nameko),
        ("[[bridges]] #3 \"rabbit:stock.sold\": `rabbit:orders.sold`", nameko),
        ("[[bridges]] #3 \"rabbit:stock.sold\": `rabbit:gemstone/price`", gemstone),
        ("[[topics]] #2 \"price\": `rabbit:gemstone/price`", gemstone),
    ] {
        tells(&problems, "error", &[about, words, "delete it"]);
    }
    let nobodys = ["[[bridges]] #4 \"rabbit:nobodys.*\"", "no exchange `nobodys.events` yet"];
    tells(&problems, "warning", &nobodys);
    assert_eq!(problems.len(), 6, "and that there is no `nameko-rpc`: {problems:#?}");
    let line = toml.lines().position(|line| line.contains("orders.created")).expect("it is there");
    let its = problems.iter().find(|it| it["message"].as_str().unwrap().contains("#2 \"rabbit"));
    assert_eq!(its.expect("told")["line"], line, "its row's: {problems:#?}");
    // It has made nothing, and changed nothing.
    assert!(rabbit.get(&format!("queues/{name}/letters")).is_null());
    for exchange in ["copies.events", "nobodys.events"] {
        assert!(rabbit.get(&format!("exchanges/{name}/{exchange}")).is_null(), "{exchange}");
    }
    assert_eq!(rabbit.get(&format!("exchanges/{name}/orders.events"))["type"], "fanout");
}

#[tokio::test]
async fn a_queue_for_dead_letters_that_somebody_has_for_himself() {
    let vhost = RabbitMq::shared().vhost();
    let other = lapin::Connection::connect(&vhost.url(), Default::default()).await.expect("up");
    let channel = other.create_channel().await.expect("a channel");
    let alone = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("taken".into(), alone, Default::default()).await.expect("declared");
    let toml = format!(
        "{}\n[[bridges]]\nfrom = \"rabbit:a.b\"\nto = [\"web:x\"]\ndead_letter = \"rabbit:queue/taken\"\n\
         [[topics]]\nmatch = \"x\"\n",
        vhost.upstream("rabbit")
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let words = ["[[bridges]] #1 \"rabbit:a.b\": `rabbit:queue/taken`", "for itself alone"];
    tells(&problems, "error", &words);
}

/// Streams with subjects by their names, and what fills some.
async fn streams_of_all_kinds(client: &async_nats::Client) {
    for (name, more) in [
        ("ORDERS", json!({})),
        ("FULL", json!({"max_msgs": 1, "discard": "new"})),
        ("BRIM", json!({"max_msgs": 1, "discard": "new", "max_age": 3_600_000_000_000_u64})),
        ("ROLL", json!({"max_msgs": 1, "discard": "old"})),
        ("HEAVY", json!({"max_bytes": 1_000, "discard": "new"})),
        ("MUTE", json!({"no_ack": true})),
    ] {
        let subjects = json!([format!("{}.>", name.to_lowercase())]);
        let mut config = json!({"name": name, "subjects": subjects, "storage": "memory",
            "retention": "limits", "num_replicas": 1});
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        stream(client, config).await;
    }
    stream(
        client,
        json!({"name": "COPY", "mirror": {"name": "ORDERS"}, "storage": "memory",
            "retention": "limits", "num_replicas": 1}),
    )
    .await;
    for (subject, size) in
        [("full.a", 1), ("brim.a", 1), ("roll.a", 1), ("heavy.a", 350), ("heavy.a", 350)]
    {
        let stored = client.request(subject.to_owned(), vec![b' '; size].into()).await;
        assert!(stored.is_ok_and(|it| it.payload.starts_with(b"{\"stream\"")), "{subject}");
    }
}

#[tokio::test]
async fn streams_that_events_cannot_come_from_or_go_to() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    streams_of_all_kinds(&client).await;
    let toml = format!(
        "{}\n{}",
        nats.upstream("bus", "plain"),
        r#"
        [[bridges]]
        from = "bus:stream/ORDERS/orders.*"
        to = ["bus:stream/ROLL/roll.$1", "bus:plain.$1", "web:x"]
        dead_letter = "bus:stream/NOWHERE/dead"

        [[bridges]]
        from = "bus:stream/GONE"
        to = ["web:x"]

        [[bridges]]
        from = "bus:stream/ORDERS"
        to = ["bus:stream/ROLL/stock.sold"]

        [[bridges]]
        from = "bus:a.*"
        to = ["bus:stream/FULL/full.$1", "bus:stream/BRIM/brim.b", "bus:stream/HEAVY/heavy.b",
              "bus:stream/MUTE/mute.b", "bus:stream/COPY/orders.$1", "bus:stream/ORDERS/$1"]

        [[topics]]
        match = "x"

        [[topics]]
        match = "stock.*"
        from = "bus:stream/ORDERS/stock.*"

        [[topics]]
        match = "copied.*"
        from = "bus:stream/COPY/orders.*"
        "#
    );
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    let sold = "[[bridges]] #4 \"bus:a.*\": ";
    for (severity, about, words) in [
        (
            "error",
            "[[bridges]] #1 \"bus:stream/ORDERS/orders.*\": `bus:stream/NOWHERE/dead`",
            "no stream `NOWHERE`",
        ),
        ("error", "[[bridges]] #2 \"bus:stream/GONE\": ", "no stream `GONE`: make it"),
        (
            "error",
            "[[bridges]] #3 \"bus:stream/ORDERS\": `bus:stream/ROLL/stock.sold`",
            "does not take `stock.sold`, only `roll.>`",
        ),
        ("error", &format!("{sold}`bus:stream/FULL/full.$1`"), "full: it has 1 message"),
        ("warning", &format!("{sold}`bus:stream/BRIM/brim.b`"), "full: it has 1 message"),
        ("error", &format!("{sold}`bus:stream/HEAVY/heavy.b`"), "full: it has"),
        ("error", &format!("{sold}`bus:stream/MUTE/mute.b`"), "`no_ack`"),
        ("error", &format!("{sold}`bus:stream/COPY/orders.$1`"), "mirror"),
        (
            "error",
            "[[topics]] #2 \"stock.*\": `bus:stream/ORDERS/stock.*`",
            "nothing under `stock.*`",
        ),
    ] {
        tells(&problems, severity, &[about, words]);
    }
    assert_eq!(problems.len(), 9, "{problems:#?}");
    // It has made no consumer.
    let info = client.request("$JS.API.STREAM.INFO.ORDERS", "".into()).await.expect("an answer");
    let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
    assert_eq!(info["state"]["consumer_count"], 0, "{info}");
}

#[tokio::test]
async fn a_nats_without_streams() {
    let nats = Nats::start();
    let toml = format!(
        "{}\n[[bridges]]\nfrom = \"bus:stream/ORDERS\"\nto = [\"web:x\"]\n[[topics]]\nmatch = \"x\"\n",
        nats.upstream("bus", "plain")
    );
    let (status, problems) = check(&toml).await;
    assert_eq!((status, problems.len()), (1, 1), "{problems:#?}");
    tells(&problems, "error", &["[[bridges]] #1 \"bus:stream/ORDERS\"", "no JetStream", "(-js)"]);
}

fn expose(service: &str, on: &str, name: &str) -> String {
    format!("[[expose]]\nservice = \"{service}\"\non = [\"{on}\"]\nas = \"{name}\"\n")
}

#[tokio::test]
async fn a_stream_that_swallows_the_calls_of_an_exposed_service() {
    let nats = Nats::with_streams();
    let client = nats.client().await;
    let stream = json!({"name": "JETS", "subjects": ["jets.>"], "storage": "memory",
        "retention": "limits", "num_replicas": 1});
    let subject = "$JS.API.STREAM.CREATE.JETS".to_owned();
    let made = client.request(subject, stream.to_string().into()).await.expect("an answer");
    assert!(!String::from_utf8_lossy(&made.payload).contains("error"));
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
async fn endpoints_that_a_micro_service_does_not_have() {
    let nats = Nats::start();
    let _calc = MicroService::calc(&nats);
    let patterns = ["calc.nope", "calc.sum", "calc.*"];
    let toml = format!("{}\n{}", nats.upstream("nats", "micro"), rows("nats", &patterns));
    let problems = eventually("calc answers", async || {
        let (_, problems) = check(&toml).await;
        (!format!("{problems:?}").contains("calls itself")).then_some(problems)
    })
    .await;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    tells(&problems, "warning", &["#1 \"calc.nope\"", "no endpoint `nope`", "it has `"]);
    let line = toml.lines().position(|line| line.contains("calc.nope")).expect("it is there");
    assert_eq!(problems[0]["line"], line, "its row's: {problems:#?}");
}

#[tokio::test]
async fn micro_services_that_nobody_has_started() {
    let nats = Nats::start();
    let _calc = MicroService::calc(&nats);
    let toml =
        format!("{}\n{}", nats.upstream("nats", "micro"), rows("nats", &["calc.*", "nobody.*"]));
    let problems = eventually("calc answers", async || {
        let (status, problems) = check(&toml).await;
        (status == 0 && problems.len() == 1).then_some(problems)
    })
    .await;
    tells(&problems, "warning", &["#2 \"nobody.*\"", "no NATS service calls itself `nobody`"]);
}

#[tokio::test]
async fn without_live_nothing_is_connected_to() {
    let web = Web::serve(|asked| asked.result("1")).await;
    let toml = format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n{}",
        web.url,
        rows("web", &["a.*"])
    );
    let folder = Folder::new();
    let config = folder.write("genkan.toml", &toml);
    let mut command = genkan();
    command.arg("check").arg("--config").arg(config);
    let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
    assert_eq!(ran.expect("no panic").0, 0);
    assert_eq!(web.connections().0, 0);
    assert_eq!(check(&toml).await.0, 0);
    assert_eq!(web.connections().0, 1);
}
