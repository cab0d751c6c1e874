//! What a client takes to send its request is neither the gateway's time nor the service's: a call
//! begins when all of it has come.

use std::time::{Duration, Instant};

use crate::harness::Echo;
use crate::harness::http::encode;

/// Longer than the deadline that the caller asks for.
const UPLOAD: Duration = Duration::from_millis(600);
const DEADLINE: (&str, &str) = ("X-Request-Timeout", "400ms");

#[tokio::test]
async fn an_upload_is_no_part_of_its_call() {
    let echo = Echo::start().await;
    let envelope = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;
    for (count, (path, body)) in
        [("/api", envelope), ("/call/echo/x", r#"["p"]"#)].iter().enumerate()
    {
        let request = encode("POST", path, &[DEADLINE], body.as_bytes());
        let (first, rest) = request.split_at(request.len() - 5);
        let mut connection = echo.gateway.connect().await;
        connection.send(first).await;
        let began = Instant::now();
        tokio::time::sleep(UPLOAD).await;
        let uploading = began.elapsed().as_secs_f64();
        connection.send(rest).await;
        let response = connection.receive().await.expect("an answer");
        assert_eq!(
            response.status, 200,
            "its deadline counts from the whole request: {response:?}"
        );
        assert!(response.text().contains(r#""p""#), "{path}: {response:?}");
        let timing = response.header("server-timing").expect("the header");
        let gateway = timing.split("gateway;dur=").nth(1).and_then(|rest| rest.split(',').next());
        let gateway: f64 = gateway.expect("a share").trim().parse().expect("a number");
        assert!(
            gateway < uploading * 1e3,
            "{path}: {timing}, of which {uploading} s are the upload"
        );
        let calls = [("ingress", "http"), ("route", "echo.*")];
        let counted = echo.gateway.metric("genkan_call_duration_seconds_count", &calls).await;
        assert_eq!(counted, count as f64 + 1.0);
        let took = echo.gateway.metric("genkan_call_duration_seconds_sum", &calls).await;
        assert!(took < uploading, "{path}: {took} s, of which {uploading} are the upload");
    }
}
