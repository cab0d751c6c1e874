use super::*;

fn received(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Received {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a value"));
    }
    let status = StatusCode::from_u16(status).expect("a status");
    decode("a.f", (7, "mark"), (status, &map, Bytes::copy_from_slice(body)))
}

fn result(body: &str) -> Result<String, String> {
    let received = received(200, &[], body.as_bytes());
    received.result.map(|reply| reply.payload.as_str().to_owned()).map_err(|fault| {
        format!("{} {} {}", fault.kind().as_str(), fault.outcome().as_str(), fault.message())
    })
}

#[test]
fn results_pass_byte_for_byte() {
    for value in [
        "null",
        "1180591620717411303424",
        "1e400",
        "1.10",
        r#"{"b":1,"a":2,"b":3}"#,
        r#""\ud800\u00e9""#,
        r#"[ 1 , {"x": "NaN Infinity"} ]"#,
    ] {
        for answer in [
            format!("\u{feff}{{\"result\":{value},\"id\":7}}"),
            format!(r#"{{"jsonrpc":"2.0","result":{value},"id":7}}"#),
            format!(r#"{{"jsonrpc": "2.0", "result": {value}, "error": null, "id": 7}}"#),
            format!(r#"{{"jsonrpc": "2.0", "result": {value}, "error": null}}"#),
            format!(r#" {{"id":"7","result":{value}}} "#),
        ] {
            assert_eq!(result(&answer).as_deref(), Ok(value), "{answer}");
        }
    }
}

#[test]
fn an_id_is_a_number_however_it_is_written() {
    for id in ["7", "\"7\"", "7.0", "7e0", "70e-1", "0.7E+1", "\"7.0\""] {
        let found = result(&format!(r#"{{"jsonrpc":"2.0","result":1,"id":{id}}}"#));
        assert_eq!(found.as_deref(), Ok("1"), "{id}");
    }
}

#[test]
fn pythons_numbers_are_repaired() {
    let received = received(200, &[], br#"{"result": [NaN, -Infinity], "id": 7}"#);
    assert!(received.repaired && received.is_own);
    assert_eq!(received.result.expect("a result").payload.as_str(), "[null, null]");
}

#[test]
fn another_calls_answer_is_nobodys() {
    for id in ["8", "\"8\"", "0", "\"\"", "[7]", "7.5", "null"] {
        let fault = result(&format!(r#"{{"result":1,"id":{id}}}"#)).expect_err(id);
        assert!(fault.starts_with("internal unknown") && fault.contains("another call"), "{fault}");
    }
    let error = r#""error":{"code":-32700,"message":"Parse error"}"#;
    let fault = result(&format!("{{{error},\"id\":null}}")).expect_err("an error");
    assert_eq!(fault, "application unknown Parse error");
    let fault = result(&format!("{{{error},\"id\":8}}")).expect_err("an error");
    assert!(fault.contains("another call"), "{fault}");
}

#[test]
fn what_is_no_answer_is_told() {
    for (body, words) in [
        ("", "nothing at all"),
        (" \n", "nothing at all"),
        ("<html>", "not JSON"),
        ("{\"result\":1", "not JSON"),
        ("[{\"result\":1,\"id\":7}]", "a batch"),
        ("\"ok\"", "no object"),
        ("{}", "neither a result nor an error"),
        ("{\"error\":null,\"id\":7}", "neither a result nor an error"),
    ] {
        let fault = result(body).expect_err(body);
        assert!(fault.starts_with("internal unknown ") && fault.contains(words), "{body}: {fault}");
    }
    let html = received(200, &[("content-type", "text/html; charset=x")], b"<p>");
    let fault = html.result.expect_err("html");
    assert!(fault.message().contains("(it says text/html; charset=x)"), "{}", fault.message());
    let packed = received(200, &[("content-encoding", "gzip")], b"\x1f\x8b\x08");
    let fault = packed.result.expect_err("packed");
    assert!(fault.message().contains("is packed, as gzip,"), "{}", fault.message());
}

#[test]
fn the_mend_is_one_for_what_is_wrong() {
    let url = "check that the upstream's URL leads to a JSON-RPC service";
    let deep = format!("{{\"result\":{}{},\"id\":7}}", "[".repeat(5000), "]".repeat(5000));
    for (headers, body, mend) in [
        (&[][..], &*deep, "have it answer with less deep lists and objects"),
        (&[("content-encoding", "gzip")], "\u{1f}", "have it answer without Content-Encoding"),
        (&[], r#"{"result":1,"id":8}"#, "it has to give back the id that it was sent"),
        (&[], "<html>", url),
        (&[], "[]", url),
    ] {
        let fault = received(200, headers, body.as_bytes()).result.expect_err(mend);
        let message = fault.message();
        assert!(message.contains(mend), "{message}");
        assert_eq!(message.contains(url), mend == url, "{message}");
    }
    for (status, mend) in [(414, "shorter URL"), (431, "fewer or shorter headers")] {
        let fault = received(status, &[], b"").result.expect_err(mend);
        assert!(fault.message().contains(mend), "{}", fault.message());
    }
}

#[test]
fn a_notification_has_failed_where_its_answer_is_an_error() {
    let receipt = |status: u16, body: &'static str| {
        let status = StatusCode::from_u16(status).expect("a status");
        let received = decode_receipt("a.b", (status, &HeaderMap::new(), body.into()));
        (received.result.err().map(|fault| fault.message().to_owned()), received.is_own)
    };
    let error = r#"{"jsonrpc":"2.0","error":{"code":5,"message":"mine"},"id":null}"#;
    for status in [200, 202, 500] {
        assert_eq!(receipt(status, error), (Some("mine".to_owned()), true), "{status}");
    }
    // Of any shape, as a call's would be.
    for (body, message) in [
        (r#"{"error":"boom"}"#, "boom"),
        (r#"{"error":{"code":"5","message":"mine"}}"#, "mine"),
        (r#"{"error":{"message":"mine"},"result":1}"#, "mine"),
    ] {
        assert_eq!(receipt(200, body), (Some(message.to_owned()), true), "{body}");
    }
    for body in ["", " \n", "ok", "[]", "null", r#"{"error":null,"result":1,"id":null}"#] {
        assert_eq!(receipt(200, body), (None, true), "{body}");
    }
}

/// JSON-RPC 2.0 has nothing answered to a notification, and by HTTP something always is. Words, or JSON that is
/// no error, are a service's own way to say that it is there. A page is somebody else's: where a proxy asks to
/// log in, or one web application answers every path, no service has had what was sent. And in JSON that
/// is cut off an error may have stood.
#[test]
fn a_notification_has_failed_where_no_json_rpc_service_answers() {
    let receipt = |content_type: &'static str, body: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        let received = decode_receipt("a.b", (StatusCode::OK, &headers, body.into()));
        let told = received.result.err().map(|fault| {
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Unknown));
            fault.message().to_owned()
        });
        (told, received.is_own)
    };
    for (content_type, body) in [
        ("text/html; charset=utf-8", "Welcome"),
        ("application/xhtml+xml", "Welcome"),
        ("text/plain", " <!DOCTYPE html>"),
        ("application/octet-stream", "<html>"),
        ("application/json", r#"{"error":"#),
    ] {
        let (told, is_own) = receipt(content_type, body);
        let told = told.unwrap_or_else(|| panic!("{content_type} {body} is no receipt"));
        assert!(told.contains("leads to a JSON-RPC service") && !is_own, "{told}");
    }
    for (content_type, body) in [
        ("text/plain", "ok"),
        ("text/html", " "),
        ("application/json", "\"ok\""),
        ("text/html", r#"{"result":1}"#),
    ] {
        assert_eq!(receipt(content_type, body), (None, true), "{content_type} {body}");
    }
}

#[test]
fn another_gateway_that_takes_no_calls_is_no_service_that_answers() {
    for (told, mark, is_own) in [
        ("unavailable not_sent", "mark", false),
        ("overloaded not_sent", "mark", false),
        ("unavailable unknown", "mark", false),
        ("unavailable not_sent", "another", true),
        ("application executed", "mark", true),
        ("invalid_params not_sent", "mark", true),
    ] {
        let headers = [("genkan-fault", told), ("genkan-call", mark)];
        let error = br#"{"jsonrpc":"2.0","error":{"code":-32004,"message":"down"},"id":7}"#;
        for status in [200, 503] {
            assert_eq!(received(status, &headers, error).is_own, is_own, "{told} {mark}");
        }
    }
}

#[test]
fn statuses() {
    for (status, kind, outcome, words) in [
        (301, "internal", "unknown", "redirects are not followed: write the final URL"),
        (307, "internal", "unknown", "redirects are not followed"),
        (400, "internal", "unknown", "status 400"),
        (401, "access_denied", "unknown", "credentials"),
        (403, "access_denied", "unknown", "credentials"),
        (404, "unknown_service", "unknown", "path"),
        (413, "too_large", "unknown", "send less"),
        (429, "overloaded", "unknown", "it may have run, or not"),
        (500, "internal", "unknown", "status 500"),
        (502, "unavailable", "unknown", "may have run"),
        (503, "unavailable", "unknown", "may have run"),
        (504, "timeout", "unknown", "may have run"),
    ] {
        for body in [&b"<html>"[..], b"", br#"{"error":"no"}"#, br#"{"result":1,"id":7}"#] {
            let received = received(status, &[("retry-after", "3")], body);
            assert!(!received.is_own);
            let fault = received.result.expect_err("a fault");
            let found = (fault.kind().as_str(), fault.outcome().as_str());
            assert_eq!(found, (kind, outcome), "{status}");
            assert!(fault.message().contains(words), "{}", fault.message());
            let after = (outcome == "rejected").then_some(Duration::from_secs(3));
            assert_eq!(fault.retry_after(), after, "{status}");
        }
        for id in ["7", "null"] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","error":{{"code":5,"message":"mine"}},"id":{id}}}"#);
            let received = received(status, &[], body.as_bytes());
            assert!(received.is_own, "{status}");
            let fault = received.result.expect_err("an error");
            let found = (fault.message(), fault.kind().as_str(), fault.outcome().as_str());
            let expected = match status {
                401 | 403 => ("mine", "access_denied", "unknown"),
                _ => ("mine", "application", "executed"),
            };
            assert_eq!(found, expected, "{status}");
        }
    }
}
