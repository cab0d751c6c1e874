//! Payload bytes pass through unparsed, both ways, over both protocols. The service answers with
//! the very bytes it was sent, so what comes back is what went in, twice over.

use crate::harness::{Answer, Gateway, NamekoResponder, NamekoVersion, Nats, NatsResponder};
use crate::harness::{RabbitMq, Seen, Shop};

/// Values that a parser between would change.
const VALUES: &[&str] = &[
    "9007199254740993",
    "1180591620717411303424",
    "-9223372036854775809",
    "1e400",
    "-1E+400",
    "-0",
    "-0.0",
    "1.10",
    "1.0",
    "0.1000000000000000055511151231257827021181583404541015625",
    "3.14159265358979323846264338327950288419716",
    "1e2",
    "1E-7",
    r#""\ud800""#,
    r#""\uDC00\ud800""#,
    r#""\ud83c\udfe0 \u0041 \/ \u2028""#,
    "\"\u{7384}\u{95a2} \u{2028} \u{1f3e0} \u{7f}\"",
    r#""\u0000\b\f\n\r\t\"\\""#,
    r#"{"b":1,"a":2,"b":3}"#,
    r#"{"\ud800":1,"a":1,"\u0061":2}"#,
    r#"{"z":1,"y":{"b":[],"a":{}},"10":1,"9":2}"#,
    "[ 1 ,\t2 ,\r\n 3 ]",
    r#"{ "a" : [ { } , [ ] ] }"#,
    "[true,false,null]",
    "\"\"",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
];

/// Params by position and by name, for every value.
fn params() -> impl Iterator<Item = String> {
    VALUES.iter().flat_map(|value| {
        [format!("[\"first\", {value}]"), format!("{{\"second\" : {value}, \"first\":1}}")]
    })
}

#[tokio::test]
async fn through_nameko() {
    let vhost = RabbitMq::shared().vhost();
    let echo = |seen: &Seen| Answer::new(format!("{{\"result\": {}, \"error\": null}}", seen.body));
    let _service = NamekoResponder::serve(&vhost.url(), "echo", echo).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    for params in params() {
        let body = if params.starts_with('[') {
            format!(r#"{{"args":{params},"kwargs":{{}}}}"#)
        } else {
            format!(r#"{{"args":[],"kwargs":{params}}}"#)
        };
        assert_eq!(gateway.raw("echo.x", &params).await, body);
    }
}

#[tokio::test]
async fn through_picom_and_plain_nats() {
    let nats = Nats::start();
    let client = nats.client().await;
    let wrapped = |seen: &Seen| Answer::new(format!("{{\"payload\":{}}}", seen.body));
    let _picom = NatsResponder::serve(client.clone(), "picom", wrapped).await;
    let _plain = NatsResponder::serve(client, "plain", |seen| Answer::new(seen.body.clone())).await;
    let routes = "[[routes]]\nmatch = \"picom.*\"\nupstream = \"picom\"\n\
                  [[routes]]\nmatch = \"plain.*\"\nupstream = \"plain\"\n";
    let (picom, plain) = (nats.upstream("picom", "picom"), nats.upstream("plain", "plain"));
    let gateway = Gateway::ready(&format!("{picom}{plain}{routes}")).await;
    for params in params() {
        assert_eq!(gateway.raw("picom.x", &params).await, params);
        assert_eq!(gateway.raw("plain.x", &params).await, params);
    }
    // One element alone is the message.
    for value in VALUES.iter().filter(|value| !matches!(**value, "\"\"" | "-0" | "-0.0")) {
        assert_eq!(gateway.raw("picom.x", &format!("[{value}]")).await, *value);
    }
    for value in VALUES {
        assert_eq!(gateway.raw("plain.x", &format!("[ {value} ]")).await, *value);
    }
}

#[tokio::test]
async fn through_call_without_an_envelope() {
    let nats = Nats::start();
    let client = nats.client().await;
    let _plain = NatsResponder::serve(client, "plain", |seen| Answer::new(seen.body.clone())).await;
    let gateway = Gateway::ready(&nats.config("plain")).await;
    for params in params() {
        let response = gateway.post("/call/plain/x", &[], &params).await;
        assert_eq!((response.status, response.text()), (200, params.as_str()));
    }
}

#[tokio::test]
async fn errors_of_a_service_keep_their_bytes_too() {
    let vhost = RabbitMq::shared().vhost();
    let error = r#"{"exc_type":"E","exc_path":"m.E","exc_args":[1.10,"\ud800",{"b":1,"a":2}],"value":{"n":1e400,"s":"\u00e9"}}"#;
    let reply = format!("{{\"result\": null, \"error\": {error}}}");
    let _service =
        NamekoResponder::serve(&vhost.url(), "e", move |_| Answer::new(reply.clone())).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let body = r#"{"jsonrpc":"2.0","method":"e.x","id":1}"#;
    let text = gateway.post("/api", &[], body).await.text().to_owned();
    assert!(text.contains(r#""args":[1.10,"\ud800",{"b":1,"a":2}]"#), "{text}");
    assert!(text.contains(r#""info":{"n":1e400,"s":"\u00e9"}"#), "{text}");
}

#[tokio::test]
async fn a_megabyte_passes_through() {
    let nats = Nats::start();
    let wrapped = |seen: &Seen| Answer::new(format!("{{\"payload\":{}}}", seen.body));
    let _picom = NatsResponder::serve(nats.client().await, "picom", wrapped).await;
    let gateway = Gateway::ready(&nats.config("picom")).await;
    let big = format!("[\"{}\", 1]", "x".repeat(1_000_000));
    assert_eq!(gateway.raw("picom.x", &big).await, big);
}

#[tokio::test]
async fn what_real_python_makes_of_them() {
    for version in [NamekoVersion::Two, NamekoVersion::Three] {
        let gateway = Gateway::ready(&Shop::shared(version).config()).await;
        for (params, result) in [
            ("[9007199254740993]", "9007199254740993"),
            ("[1180591620717411303424]", "1180591620717411303424"),
            (r#"["\ud83c\udfe0 \u00e9"]"#, r#""\ud83c\udfe0 \u00e9""#),
            (r#"["\ud800"]"#, r#""\ud800""#),
            (r#"[{"b": 1, "a": 2}]"#, r#"{"b": 1, "a": 2}"#),
            (r#"[{"a": 1, "a": 2}]"#, r#"{"a": 2}"#),
            // What Python takes for infinity it answers with bare Infinity: null, and counted.
            ("[1e400]", "null"),
        ] {
            let raw = gateway.raw("shop.echo", params).await;
            let expected = format!("{{\"args\": [{result}], \"kwargs\": {{}}}}");
            assert_eq!(raw, expected, "{version:?} {params}");
        }
    }
}
