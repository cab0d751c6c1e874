//! Faults as Python sees them: the exceptions that its library raises.

use serde_json::{Value, json};

use super::caller::{Caller, NONE};
use super::{World, raised, row};
use crate::harness::clients::nameko;
use crate::harness::{Gateway, Mailer, MicroService, NamekoVersion, RabbitMq, Shop};

const REMOTE: &str = "nameko.exceptions.RemoteError";

#[track_caller]
fn is_remote(outcome: &Value, exc_type: &str, words: &str) {
    let raised = raised(outcome);
    assert_eq!((&raised["raised"], &raised["exc_type"]), (&json!(REMOTE), &json!(exc_type)));
    let value = raised["value"].to_string();
    assert!(value.contains(words), "{value}");
}

#[tokio::test]
async fn what_a_javascript_service_says() {
    let rows = format!(
        "{}[[routes]]\nmatch = \"mailer.never\"\nupstream = \"bus\"\ntimeout = \"300ms\"\n",
        row("mailer", "")
    );
    let world = World::with("picom", &["mailer"], &rows).await;
    let mailer = Mailer::start(&world.nats, "mailer");
    let call = |method| ("mailer", method, json!([]), json!({}));
    let calls = [
        call("reject_error"),
        call("reject_text"),
        call("nope"),
        call("never"),
        ("mailer", "echo", json!([0]), json!({})),
        call("constructor"),
    ];
    for version in NamekoVersion::ALL {
        let outcomes = nameko(version, &world.vhost.url(), &calls).await;
        is_remote(&outcomes[0], "RemoteError", "an Error");
        is_remote(&outcomes[1], "RemoteError", "mailbox full");
        let unknown = raised(&outcomes[2]);
        assert_eq!(unknown["raised"], "nameko.exceptions.MethodNotFound", "{unknown}");
        assert!(unknown["args"][0].as_str().is_some_and(|said| said.contains("nope")), "{unknown}");
        is_remote(&outcomes[3], "RpcTimeout", "within 300ms");
        assert_eq!(raised(&outcomes[4])["raised"], "nameko.exceptions.IncorrectSignature");
        let refused = raised(&outcomes[5])["raised"].as_str().unwrap_or_default();
        assert!(refused.starts_with("nameko.exceptions."), "{refused}");
    }
    assert!(mailer.lives());
}

#[tokio::test]
async fn services_that_are_not_there() {
    let world = World::exposing("plain", &["ghost"]).await;
    let call = [("ghost", "x", json!([]), json!({}))];
    for version in NamekoVersion::ALL {
        let outcomes = nameko(version, &world.vhost.url(), &call).await;
        let raised = raised(&outcomes[0]);
        assert_eq!(raised["raised"], REMOTE, "{raised}");
        let exc_type = raised["exc_type"].as_str().unwrap_or_default();
        assert!(["UnknownService", "Unavailable"].contains(&exc_type), "{raised}");
    }
}

#[tokio::test]
async fn another_brokers_nameko_service_is_quoted_to_the_letter() {
    let vhost = RabbitMq::shared().vhost();
    for version in NamekoVersion::ALL {
        let shop = Shop::shared(version);
        let name = format!("shop{}", version as usize);
        let rows = format!(
            "{}\n[[expose]]\nservice = \"shop\"\nas = \"{name}\"\non = [\"here\"]\n",
            vhost.upstream("here")
        );
        let gateway = Gateway::ready(&format!("{}{rows}", shop.config())).await;
        super::exposed(&gateway, "shop", 1).await;
        let call = |method, args| (name.as_str(), method, args, json!({}));
        let calls = [
            call("custom", json!([])),
            call("fail", json!([])),
            call("add", json!([1])),
            call("nope", json!([])),
            call("big", json!([])),
            call("echo", json!([1, "é", null])),
        ];
        let outcomes = nameko(version, &vhost.url(), &calls).await;
        is_remote(&outcomes[0], "ShopError", "('a', 2, {'k': [1]})");
        is_remote(&outcomes[1], "ValueError", "bad 1");
        let wrong = raised(&outcomes[2]);
        assert_eq!(wrong["raised"], "nameko.exceptions.IncorrectSignature");
        assert!(wrong["args"][0].as_str().is_some_and(|said| said.contains("add()")), "{wrong}");
        let unknown = raised(&outcomes[3]);
        assert_eq!(unknown["raised"], "nameko.exceptions.MethodNotFound");
        assert_eq!(unknown["args"], json!(["nope"]));
        let big = outcomes[4].to_string();
        assert!(big.contains("[9007199254740993,"), "{big}");
        assert_eq!(outcomes[5]["result"], json!({"args": [1, "é", null], "kwargs": {}}));
        gateway.terminate();
        assert_eq!(gateway.exit_status().await, 0);
    }
}

#[tokio::test]
async fn a_micro_services_code_and_words_are_kept() {
    let world = World::exposing("micro", &["calc"]).await;
    let _calc = MicroService::calc(&world.nats);
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let reply = caller.call("calc.fail", caller.properties("7"), NONE).await;
    let error = &reply.body["error"];
    assert_eq!((reply.exc_path(), &error["data"]["code"]), ("genkan.RemoteError", &json!(422)));
    assert!(error["value"].to_string().contains("no numbers"), "{error}");
    assert_eq!(error["data"]["info"], json!({"field": "n"}));
    let body = r#"{"args": [[2, 4]], "kwargs": {}}"#;
    let reply = caller.call("calc.average", caller.properties("8"), body).await;
    assert_eq!(reply.body["result"], 3);
}
