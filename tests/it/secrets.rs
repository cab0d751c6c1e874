//! A broker that repeats what it was sent does not bring the gateway's secrets into its log, its
//! pages or its answers.

use std::io::Result;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::process::Folder;
use crate::harness::{Answer, Asked, Gateway, Nats, NatsResponder, Web};

/// Needs escapes in a URL and in JSON.
const PASSWORD: &str = "h\"unt/er2";
const IN_URL: &str = "h%22unt%2Fer2";

/// Checks what the gateway shows of a broker's words, which begin with `echo`.
async fn shows_no_secret(gateway: Gateway, message: &str) {
    let line = gateway.wait_for_log(0, message).await;
    let fault = gateway.fault("orders.create", Value::Null).await;
    fault.is("unavailable", "not_sent");
    let page = gateway.page("/readyz").await;
    let shown = [gateway.log_text(), page.text().to_owned(), format!("{fault:?}")];
    let said = line["said"].as_str().or(line["detail"].as_str()).expect("the broker's words");
    assert!(said.contains("echo") && said.contains("***"), "{said}");
    for text in shown {
        assert!(!text.contains("unt/er2") && !text.contains("unt%2Fer2"), "{text}");
    }
}

/// A server for NATS that refuses each client, with what the client sent.
async fn echoing_nats(stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let info = json!({
        "server_id": "N", "server_name": "n", "version": "2.11.0", "host": "h", "port": 1,
        "headers": true, "max_payload": 1_048_576, "proto": 1, "auth_required": true,
    });
    stream.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    let mut connect = String::new();
    stream.read_line(&mut connect).await?;
    let said = format!("-ERR 'Authorization Violation: echo {}'\r\n", connect.trim());
    stream.write_all(said.as_bytes()).await
}

/// A broker for AMQP that refuses each client, with what the client sent.
async fn echoing_rabbitmq(mut stream: TcpStream) -> Result<()> {
    stream.read_exact(&mut [0; 8]).await?;
    let mut start = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0];
    for text in ["PLAIN", "en_US"] {
        start.extend((text.len() as u32).to_be_bytes());
        start.extend(text.as_bytes());
    }
    write_method(&mut stream, &start).await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut start_ok = vec![0; size + 1];
    stream.read_exact(&mut start_ok).await?;
    // `\0user\0password`: what stands before it are the client's properties.
    let at = start_ok.windows(6).position(|part| part == b"\0till\0").expect("PLAIN's response");
    let response = &start_ok[at + 6..at + 6 + PASSWORD.len()];
    let said = [b"ACCESS_REFUSED - echo till:", response].concat();
    let mut close = vec![0, 10, 0, 50, 1, 147, u8::try_from(said.len()).expect("short")];
    close.extend(said);
    close.extend([0; 4]);
    write_method(&mut stream, &close).await?;
    // Until the client has read it.
    stream.read(&mut head).await.map(drop)
}

async fn write_method(stream: &mut TcpStream, method: &[u8]) -> Result<()> {
    let mut frame = vec![1, 0, 0];
    frame.extend((method.len() as u32).to_be_bytes());
    frame.extend(method);
    frame.push(0xce);
    stream.write_all(&frame).await
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

const ROUTE: &str = "[[routes]]\nmatch = \"*\"\nupstream = \"broker\"\n";

#[tokio::test]
async fn a_nats_server_that_repeats_the_password() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(echoing_nats(stream).await);
        }
    });
    let toml = format!(
        "[log]\nlevel = \"trace\"\n[upstreams.broker]\nprotocol = \"nats\"\n\
         servers = [\"nats://{address}\"]\nuser = \"till\"\npassword = {}\n{ROUTE}",
        json!(PASSWORD)
    );
    shows_no_secret(Gateway::start(&toml).await, "no connection to NATS").await;
}

#[tokio::test]
async fn a_rabbitmq_that_repeats_the_password() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { drop(echoing_rabbitmq(stream).await) });
        }
    });
    let toml = format!(
        "[log]\nlevel = \"trace\"\n[upstreams.broker]\nprotocol = \"nameko\"\n\
         url = \"amqp://till:{IN_URL}@{address}/\"\n{ROUTE}"
    );
    shows_no_secret(Gateway::start(&toml).await, "rabbitmq cannot be used").await;
}

/// A secret of digits, too: it may come back as a number.
const HEADERS: &str =
    "[upstreams.web.headers]\nX-Api-Token = \"a-token-of-ours\"\nX-Pin = \"60486048\"\n";

#[tokio::test]
async fn a_service_that_repeats_a_header_in_its_errors() {
    let service = Web::serve(|asked: &Asked| {
        let (token, pin) = (asked.header("x-api-token"), asked.header("x-pin"));
        let (token, pin) = (token.expect("a token"), pin.expect("a pin"));
        match asked.method().as_str() {
            "number" => asked.error(&format!(r#"{{"code":7,"message":"no","data":[{pin}]}}"#)),
            "result" => asked.result(&format!(r#""{token}""#)),
            _ => asked.error(&format!(
                r#"{{"code":7,"message":"not with {token}","data":{{"sent":{{"t":"{token}"}},"n":1e400}}}}"#
            )),
        }
    })
    .await;
    let route = "[[routes]]\nmatch = \"*\"\nupstream = \"web\"\n";
    let upstream = format!("[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n", service.url);
    let gateway = Gateway::ready(&format!("{upstream}{HEADERS}{route}")).await;
    let body = r#"{"jsonrpc":"2.0","method":"a.text","id":1}"#;
    let answer = gateway.post("/api", &[], body).await;
    let expected = concat!(
        r#"{"jsonrpc":"2.0","error":{"code":7,"message":"not with ***","data":{"sent":{"t":"***"},"n":1e400,"#,
        r#""kind":"application","outcome":"executed","retryable":false}},"id":1}"#
    );
    assert_eq!(answer.text(), expected);
    let problem = gateway.post("/call/a/text", &[], "").await;
    assert!(!problem.text().contains("token-of-ours"), "{problem:?}");
    let fault = gateway.rpc("a.number", json!([])).await;
    assert_eq!(fault["error"]["data"], json!("***"));
    // What a service gives as its result is its own matter.
    assert_eq!(gateway.result("a.result", json!([])).await, "a-token-of-ours");
}

/// What a service may repeat alone of what it is sent: each is a secret by itself.
const PARTS: [&str; 9] = [
    "s3cr3t-BEARER",
    "s3cr3t-COOKIE",
    "s3cr3t QUOTED",
    "s3cr3t-QUERY/1",
    "s3cr3t-QUERY%2F1",
    "till:s3cr3t-BASIC",
    "s3cr3t-BASIC",
    "s3cr3t-IN-FILE",
    "s3cr3t-ROTATED",
];

#[tokio::test]
async fn a_service_that_repeats_a_part_of_what_it_was_sent() {
    let service = Web::serve(|asked: &Asked| {
        let part = &asked.json()["params"][0];
        asked.error(&format!(r#"{{"code":7,"message":{part},"data":[{part}]}}"#))
    })
    .await;
    let folder = Folder::new();
    let file = folder.write("token", "Bearer s3cr3t-IN-FILE\n");
    // `till:s3cr3t-BASIC` in base64.
    let headers = r#"Authorization = "Bearer s3cr3t-BEARER"
Cookie = "lang=de; mode=plain; sid=s3cr3t-COOKIE; two=\"s3cr3t QUOTED\""
X-Login = "Basic dGlsbDpzM2NyM3QtQkFTSUM=""#;
    let toml = format!(
        "[log]\nlevel = \"trace\"\n[upstreams.web]\nprotocol = \"jsonrpc\"\n\
         urls = [\"{}?key=s3cr3t-QUERY%2F1&v=2\"]\n[upstreams.web.headers]\n{headers}\n\
         X-Api-Token = {{ file = \"{}\" }}\n[[routes]]\nmatch = \"*\"\nupstream = \"web\"\n",
        service.url,
        file.display()
    );
    let gateway = Gateway::ready(&toml).await;
    folder.write("token", "Bearer s3cr3t-ROTATED\n");
    gateway.wait_for_log(0, "a header's value was replaced").await;
    for part in PARTS {
        let fault = gateway.rpc("a.x", json!([format!("not with {part}!")])).await;
        let error = &fault["error"];
        let shown = (&error["message"], &error["data"][0]);
        assert_eq!(shown, (&json!("not with ***!"), &json!("not with ***!")), "{part}: {fault}");
    }
    // What is short, or a scheme, is none.
    let said = "lang=de with Bearer and Basic, mode=plain, v=2";
    let fault = gateway.rpc("a.x", json!([said])).await;
    assert_eq!(fault["error"]["message"], said);
    assert!(!gateway.log_text().contains("s3cr3t"), "{}", gateway.log_text());
}

#[tokio::test]
async fn a_file_whose_content_no_header_can_have_keeps_the_old_one() {
    let service = Web::serve(|asked: &Asked| asked.result("1")).await;
    let folder = Folder::new();
    let file = folder.write("token", "the-old-token");
    let toml = format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n[upstreams.web.headers]\n\
         X-Api-Token = {{ file = \"{}\" }}\n[[routes]]\nmatch = \"*\"\nupstream = \"web\"\n",
        service.url,
        file.display()
    );
    let gateway = Gateway::ready(&toml).await;
    for bad in ["a-new-token\nand a line", "a-new\u{1}token", ""] {
        let seen = gateway.log().len();
        folder.write("token", bad);
        let line = gateway.wait_for_log(seen, "a header's file cannot be used").await;
        let complaint = line["complaint"].as_str().expect("a complaint");
        assert!(complaint.contains("token") && !complaint.contains("a-new"), "{complaint}");
        assert_eq!(gateway.result("a.x", json!([])).await, 1);
        assert_eq!(service.last().header("x-api-token"), Some("the-old-token"), "{bad:?}");
    }
    assert!(!gateway.log_text().contains("was replaced"));
}

#[tokio::test]
async fn a_nats_service_that_knows_the_password() {
    let nats = Nats::start();
    let answer = |_: &_| Answer::new(r#"{"error":"the password is s3cret-of-ours"}"#);
    let _service = NatsResponder::serve(nats.client().await, "svc", answer).await;
    // The server takes whoever comes.
    let login = "user = \"till\"\npassword = \"s3cret-of-ours\"\n[[routes]]";
    let config = nats.config("picom").replacen("[[routes]]", login, 1);
    let gateway = Gateway::ready(&config).await;
    let fault = gateway.fault("svc.x", json!([])).await;
    assert_eq!(fault.message, "the password is ***");
    assert!(!format!("{fault:?}").contains("s3cret"), "{fault:?}");
}
