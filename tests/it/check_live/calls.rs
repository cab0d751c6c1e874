//! Rows: what would keep calls from being answered.

use serde_json::json;

use super::{check, rows, stream, tells};
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, free_port, run};
use crate::harness::{MicroService, NamekoVersion, Nats, RabbitMq, Shop, Web, eventually, until};

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
        let settings = json!({"name": name, "subjects": [subjects], "storage": "memory",
            "no_ack": no_ack, "retention": "limits", "num_replicas": 1});
        stream(&client, settings).await;
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

/// Its calls go to the subject that the endpoint tells, and not to the service's name.
#[tokio::test]
async fn a_stream_over_the_subject_of_a_micro_services_endpoint() {
    let nats = Nats::with_streams();
    let _calc = MicroService::calc(&nats);
    let client = nats.client().await;
    for (name, subject) in [("means", "statistics.v2.*"), ("sums", "calc.sum")] {
        let settings = json!({"name": name, "subjects": [subject], "storage": "memory",
            "retention": "limits", "num_replicas": 1});
        stream(&client, settings).await;
    }
    let patterns = ["calc.average", "calc.fail", "calc.*"];
    let toml = format!("{}\n{}", nats.upstream("nats", "micro"), rows("nats", &patterns));
    let problems = eventually("calc answers", async || {
        let (_, problems) = check(&toml).await;
        (!format!("{problems:?}").contains("calls itself")).then_some(problems)
    })
    .await;
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let mean = ["`means` stores", "`statistics.v2.mean`"];
    tells(&problems, "error", &["#3 \"calc.*\"", mean[0], mean[1]]);
    tells(&problems, "error", &["#3 \"calc.*\"", "`sums` stores", "`calc.sum`"]);
    tells(&problems, "error", &["#1 \"calc.average\"", mean[0], mean[1]]);
    // Of a stream that is narrower than what it is looked for by, its own subject is told.
    let toml = format!("{}\n{}", nats.upstream("nats", "plain"), rows("nats", &["calc.*"]));
    let (_, problems) = check(&toml).await;
    tells(&problems, "error", &["`sums` stores what is sent to `calc.sum`,"]);
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
    // It ends before the service has taken the connection.
    eventually("a connection", async || (web.connections().0 == 1).then_some(())).await;
}
