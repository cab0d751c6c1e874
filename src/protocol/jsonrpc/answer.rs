//! Writes JSON-RPC 2.0 answers, and holds the one table of fault codes (CONTRACT, section 5).

use http::StatusCode;

use crate::call::{Payload, Reply};
use crate::fault::{Fault, FaultKind, Outcome, RemoteCode, Stated};
use crate::json::REPLY_DEPTH;
use crate::json::lexer::Container;
use crate::json::outline::outline;
use crate::route::Dialect;

/// The JSON-RPC code of a fault.
fn code(kind: FaultKind, outcome: Outcome) -> i64 {
    match kind {
        // Clients repeat a call by themselves that ended with -32603 or -32005. Nor may this be a code
        // by which some provider of Ethereum's limits rates: viem repeats -32007 for that.
        FaultKind::Internal | FaultKind::Overloaded if outcome.may_have_run() => -32050,
        FaultKind::ParseError => -32700,
        FaultKind::InvalidRequest => -32600,
        FaultKind::UnknownMethod | FaultKind::UnknownService => -32601,
        FaultKind::InvalidParams => -32602,
        FaultKind::Internal => -32603,
        FaultKind::Application => -32000,
        FaultKind::AccessDenied => -32001,
        FaultKind::Timeout => -32003,
        FaultKind::Unavailable => -32004,
        FaultKind::Overloaded => -32005,
        FaultKind::TooLarge => -32006,
    }
}

/// What says of a request that it may be sent again, or has to be in another way, which clients do by
/// themselves: of a call that has run it is not true.
const FOR_REQUESTS: [u16; 8] = [401, 407, 408, 421, 425, 426, 429, 503];

/// The HTTP status of a fault where there is no envelope: `/call`. Where the service's own error
/// has a code that is one, it is that, unless clients would take it for a word about their request.
pub(super) fn status(fault: &Fault) -> StatusCode {
    let code = fault.remote().and_then(|remote| remote.code.as_ref()?.number());
    let own = code.filter(|code| fault.kind() == FaultKind::Application && *code >= 400);
    let own = own.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let is_its = |own: &StatusCode| own.as_u16() < 600 && !FOR_REQUESTS.contains(&own.as_u16());
    own.filter(is_its).unwrap_or_else(|| match fault.challenge() {
        Some(_) => StatusCode::UNAUTHORIZED,
        None => status_of(fault.kind(), fault.outcome()),
    })
}

fn status_of(kind: FaultKind, outcome: Outcome) -> StatusCode {
    match kind {
        // 429 says that nothing was done, and to come back.
        FaultKind::Overloaded if outcome.may_have_run() => StatusCode::SERVICE_UNAVAILABLE,
        FaultKind::ParseError | FaultKind::InvalidRequest => StatusCode::BAD_REQUEST,
        FaultKind::UnknownMethod | FaultKind::UnknownService => StatusCode::NOT_FOUND,
        FaultKind::InvalidParams => StatusCode::UNPROCESSABLE_ENTITY,
        FaultKind::Internal | FaultKind::Application => StatusCode::INTERNAL_SERVER_ERROR,
        FaultKind::AccessDenied => StatusCode::FORBIDDEN,
        FaultKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FaultKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        FaultKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        FaultKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

/// Appends one answer.
pub(super) fn write(
    out: &mut Vec<u8>,
    dialect: Dialect,
    id: &Payload,
    result: &Result<Reply, Fault>,
) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
    match (result, dialect) {
        (Ok(reply), Dialect::Strict) => write_result(out, reply),
        (Ok(reply), Dialect::Gemstone) => {
            write_result(out, reply);
            out.extend_from_slice(b",\"error\":null");
        }
        (Err(fault), Dialect::Strict) => write_error(out, fault),
        (Err(fault), Dialect::Gemstone) => {
            out.extend_from_slice(b"\"result\":null,");
            write_error(out, fault);
        }
    }
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.push(b'}');
}

/// What an answer ends with in the place of its bracket where it is another call's, which had the same key:
/// for those who cannot be told by a header.
pub(super) const REPLAYED: &str = r#","meta":{"idempotencyReplayed":true}}"#;

/// The size to reserve for an answer. Exact for a strict result: a buffer without spare room
/// becomes the response's body as it is.
pub(super) fn size_hint(id: &Payload, result: &Result<Reply, Fault>) -> usize {
    const AROUND_RESULT: usize = r#"{"jsonrpc":"2.0","result":,"id":}"#.len();
    let size = match result {
        Ok(reply) => AROUND_RESULT + reply.payload.as_bytes().len(),
        Err(fault) => 256 + fault.size(),
    };
    size + id.as_bytes().len()
}

/// Appends the members that tell a program about a fault: those of `error.data`, and the
/// extension members of an RFC 9457 problem (section 3.2).
pub(super) fn write_fault_members(out: &mut Vec<u8>, fault: &Fault) {
    for (nth, (name, value)) in own_members(fault).iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_member(out, name, value);
    }
    let Some(remote) = fault.remote() else { return };
    let text = |text: &Option<String>| text.as_deref().map(Payload::from_text);
    let code = remote.code.as_ref().map(RemoteCode::to_payload);
    let members = [
        ("class", text(&remote.class)),
        ("info", remote.info.clone()),
        ("args", remote.args.clone()),
        ("path", text(&remote.path)),
        ("code", code),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            out.push(b',');
            write_member(out, name, value.as_str());
        }
    }
}

/// What every fault tells.
fn own_members(fault: &Fault) -> [(&'static str, String); 3] {
    [
        ("kind", format!("\"{}\"", fault.kind().as_str())),
        ("outcome", format!("\"{}\"", fault.outcome().as_str())),
        ("retryable", fault.retryable().to_string()),
    ]
}

fn write_member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.as_bytes());
}

/// Appends a string as JSON.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(Payload::from_text(text).as_bytes());
}

fn write_result(out: &mut Vec<u8>, reply: &Reply) {
    out.extend_from_slice(b"\"result\":");
    out.extend_from_slice(reply.payload.as_bytes());
}

/// Appends an error that came as one, as it came: only what its data does not say is added to it,
/// where it is an object.
fn write_stated(out: &mut Vec<u8>, fault: &Fault, stated: &Stated) {
    out.extend_from_slice(b"\"error\":{\"code\":");
    out.extend_from_slice(stated.code.as_bytes());
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(stated.message.as_bytes());
    out.extend_from_slice(b",\"data\":");
    match &stated.data {
        None => write_data(out, fault, &Payload::from_validated("{}".into())),
        Some(data) => write_data(out, fault, data),
    }
    out.push(b'}');
}

fn write_data(out: &mut Vec<u8>, fault: &Fault, data: &Payload) {
    let mut keys = Vec::new();
    let found = outline(data.as_str(), REPLY_DEPTH, |member| keys.push(member.key));
    let is_object = found.is_ok_and(|found| found.container == Some(Container::Object));
    let inside = data.as_bytes().strip_suffix(b"}").filter(|_| is_object);
    let Some(inside) = inside else {
        out.extend_from_slice(data.as_bytes());
        return;
    };
    out.extend_from_slice(inside);
    let mut is_empty = keys.is_empty();
    for (name, value) in own_members(fault) {
        if keys.contains(&name) {
            continue;
        }
        if !is_empty {
            out.push(b',');
        }
        is_empty = false;
        write_member(out, name, &value);
    }
    out.push(b'}');
}

fn write_error(out: &mut Vec<u8>, fault: &Fault) {
    if let Some(stated) = fault.remote().and_then(|remote| remote.stated.as_ref()) {
        return write_stated(out, fault, stated);
    }
    out.extend_from_slice(b"\"error\":{\"code\":");
    out.extend_from_slice(code(fault.kind(), fault.outcome()).to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    write_text(out, fault.message());
    out.extend_from_slice(b",\"data\":{");
    write_fault_members(out, fault);
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::RemoteError;

    fn written(dialect: Dialect, result: Result<Reply, Fault>) -> String {
        let mut out = Vec::new();
        write(&mut out, dialect, &Payload::from_text("a"), &result);
        String::from_utf8(out).expect("UTF-8")
    }

    fn reply() -> Result<Reply, Fault> {
        Ok(Reply::new(Payload::from_validated("{\"n\":1.10}".into())))
    }

    fn fault() -> Result<Reply, Fault> {
        Err(Fault::application(
            "ValueError: bad \"1\"",
            RemoteError {
                class: Some("ValueError".to_owned()),
                info: Some(Payload::from_text("bad 1")),
                args: Some(Payload::from_validated("[1e400]".into())),
                path: Some("builtins.ValueError".to_owned()),
                ..RemoteError::default()
            },
        ))
    }

    #[test]
    fn strict_answers() {
        let id = Payload::from_text("a");
        assert_eq!(written(Dialect::Strict, reply()).len(), size_hint(&id, &reply()));
        assert_eq!(
            written(Dialect::Strict, reply()),
            r#"{"jsonrpc":"2.0","result":{"n":1.10},"id":"a"}"#
        );
        assert_eq!(
            written(Dialect::Strict, fault()),
            concat!(
                r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"ValueError: bad \"1\"","#,
                r#""data":{"kind":"application","outcome":"executed","retryable":false,"#,
                r#""class":"ValueError","info":"bad 1","args":[1e400],"#,
                r#""path":"builtins.ValueError"}},"id":"a"}"#
            )
        );
    }

    #[test]
    fn gemstone_answers_have_both_keys() {
        assert_eq!(
            written(Dialect::Gemstone, reply()),
            r#"{"jsonrpc":"2.0","result":{"n":1.10},"error":null,"id":"a"}"#
        );
        let answer = written(Dialect::Gemstone, fault());
        assert!(answer.starts_with(r#"{"jsonrpc":"2.0","result":null,"error":{"code":-32000"#));
    }

    #[test]
    fn codes_and_statuses_are_those_of_the_contract() {
        let rows = [
            (FaultKind::ParseError, -32700, 400),
            (FaultKind::InvalidRequest, -32600, 400),
            (FaultKind::UnknownMethod, -32601, 404),
            (FaultKind::UnknownService, -32601, 404),
            (FaultKind::InvalidParams, -32602, 422),
            (FaultKind::Internal, -32603, 500),
            (FaultKind::Application, -32000, 500),
            (FaultKind::AccessDenied, -32001, 403),
            (FaultKind::Timeout, -32003, 504),
            (FaultKind::Unavailable, -32004, 503),
            (FaultKind::Overloaded, -32005, 429),
            (FaultKind::TooLarge, -32006, 413),
        ];
        assert_eq!(rows.map(|row| row.0), FaultKind::ALL);
        for (kind, expected_code, expected_status) in rows {
            assert_eq!(code(kind, Outcome::NotSent), expected_code);
            let repeated = matches!(kind, FaultKind::Internal | FaultKind::Overloaded);
            let of_one_that_ran = if repeated { -32050 } else { expected_code };
            assert_eq!(code(kind, Outcome::Executed), of_one_that_ran);
            assert_eq!(code(kind, Outcome::Unknown), of_one_that_ran);
            assert_eq!(status_of(kind, Outcome::NotSent).as_u16(), expected_status);
            // 429 would have the call repeated.
            let ran = if expected_status == 429 { 503 } else { expected_status };
            assert_eq!(status_of(kind, Outcome::Executed).as_u16(), ran);
        }
    }

    #[test]
    fn the_page_on_faults_has_every_kind_with_its_code_and_status() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let numbers = |cell: &str| -> Vec<i64> {
            let words = cell.split(|c: char| !(c.is_ascii_digit() || c == '-'));
            words.filter_map(|word| word.parse().ok()).collect()
        };
        for kind in FaultKind::ALL {
            let start = format!("| `{}` |", kind.as_str());
            let rows: Vec<_> = page.lines().filter(|line| line.starts_with(&start)).collect();
            assert_eq!(rows.len(), 1, "{kind:?}: {rows:?}");
            let cells: Vec<_> = rows[0].split('|').collect();
            let mut codes: Vec<_> =
                [Outcome::NotSent, Outcome::Executed].map(|outcome| code(kind, outcome)).to_vec();
            codes.dedup();
            assert_eq!(numbers(cells[2]), codes, "{kind:?}");
            let both = [Outcome::NotSent, Outcome::Executed];
            let status = |outcome| i64::from(status_of(kind, outcome).as_u16());
            let mut statuses: Vec<_> = both.map(status).to_vec();
            statuses.dedup();
            // The last cell may repeat one where it gives the reason.
            let said = numbers(cells[3]);
            assert_eq!(said[..statuses.len()], statuses, "{kind:?}");
        }
        let outcomes = [Outcome::NotSent, Outcome::Rejected, Outcome::Executed, Outcome::Unknown];
        for outcome in outcomes {
            let start = format!("| `{}` |", outcome.as_str());
            assert!(page.lines().any(|line| line.starts_with(&start)), "{outcome:?}");
        }
    }

    #[test]
    fn an_error_whose_code_is_a_status_has_that() {
        for (code, expected) in [
            ("404", 404),
            ("409", 409),
            ("599", 599),
            // Clients would send it again.
            ("503", 500),
            ("429", 500),
            ("408", 500),
            ("200", 500),
            ("399", 500),
            ("600", 500),
            ("-404", 500),
            ("66040", 500),
            ("E42", 500),
        ] {
            let remote = RemoteError { code: Some(RemoteCode::parse(code)), ..Default::default() };
            let fault = Fault::application("no", remote.clone());
            assert_eq!(status(&fault).as_u16(), expected, "{code}");
            let ours = Fault::new(FaultKind::Internal, Outcome::Unknown, "no").with_remote(remote);
            assert_eq!(status(&ours).as_u16(), 500, "{code}: the service's errors alone");
        }
    }

    #[test]
    fn an_error_that_came_as_one_goes_on_as_it_came() {
        let json = |text: &str| Payload::from_validated(text.to_owned().into());
        let own = r#""kind":"application","outcome":"executed","retryable":false"#;
        for (data, expected) in [
            (None, format!("{{{own}}}")),
            (Some("{}"), format!("{{{own}}}")),
            (Some("{ }"), format!("{{ {own}}}")),
            (Some(r#"{"b":1e400,"a":1.10 }"#), format!(r#"{{"b":1e400,"a":1.10 ,{own}}}"#)),
            (
                Some(r#"{"kind":7,"outcome":{"retryable":1}}"#),
                r#"{"kind":7,"outcome":{"retryable":1},"retryable":false}"#.to_owned(),
            ),
            (Some("null"), "null".to_owned()),
            (Some("[{}]"), "[{}]".to_owned()),
            (Some("\"}\""), "\"}\"".to_owned()),
        ] {
            let stated = Stated {
                code: json("1180591620717411303424"),
                message: json(r#""\ud83d\ude00""#),
                data: data.map(json),
            };
            let remote = RemoteError { stated: Some(stated), ..RemoteError::default() };
            let fault = Fault::application("other words", remote);
            assert_eq!(
                written(Dialect::Strict, Err(fault)),
                format!(
                    r#"{{"jsonrpc":"2.0","error":{{"code":1180591620717411303424,"message":"\ud83d\ude00","data":{expected}}},"id":"a"}}"#
                )
            );
        }
    }

    #[test]
    fn a_fault_without_a_remote_error_has_three_members() {
        let fault = Fault::new(FaultKind::Unavailable, Outcome::NotSent, "down");
        let mut out = Vec::new();
        write_fault_members(&mut out, &fault);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#""kind":"unavailable","outcome":"not_sent","retryable":true"#
        );
    }
}
