//! What `-v` shows of an exchange.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::cli::output::{Output, Role};
use crate::printable::printable;

/// The request.
pub(super) fn show_request(request: &Request<Full<Bytes>>, body: &Bytes, output: &Output) {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut lines = vec![format!("POST {path} HTTP/1.1")];
    if !request.headers().contains_key(HOST) {
        lines.push(format!("host: {}", uri.authority().map_or("", |host| host.as_str())));
    }
    show_headers(request.headers(), &mut lines);
    lines.push(String::new());
    lines.push(String::from_utf8_lossy(body).into_owned());
    show(">", &lines, output);
}

/// The head of the answer.
pub(super) fn show_answer(answer: &Response<Incoming>, output: &Output) {
    let mut lines = vec![format!("{:?} {}", answer.version(), answer.status())];
    show_headers(answer.headers(), &mut lines);
    show("<", &lines, output);
}

fn show_headers(headers: &HeaderMap, lines: &mut Vec<String>) {
    for (name, value) in headers {
        let secret = value.is_sensitive() || super::is_secret(name);
        let value = if secret { "***".into() } else { String::from_utf8_lossy(value.as_bytes()) };
        lines.push(format!("{name}: {value}"));
    }
}

fn show(mark: &str, lines: &[String], output: &Output) {
    let paint = output.err();
    let mark = paint.paint(Role::Faint, mark);
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| line.split('\n')) {
        text.push_str(format!("{mark} {}", printable(line)).trim_end());
        text.push('\n');
    }
    output.note(&text);
}
