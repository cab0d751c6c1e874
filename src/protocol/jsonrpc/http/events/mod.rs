//! `GET /events?topic=…`: topics as a stream of Server-Sent Events (HTML Living Standard, 9.2).
//!
//! Where one topic is named, an event's id is the topic's own; else it is the event's number among
//! all, which alone tells a reader of several where it was. No id of the one kind is one of the other.

mod listener;
mod socket;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use http::{HeaderValue, StatusCode, Uri, Version, header};
use http_body::Body as _;
use percent_encoding::percent_decode_str;

pub(super) use self::listener::Listener;
pub(super) use self::socket::run;
use super::super::answer;
use super::super::envelope::invalid;
use super::handover::{Handover, Next};
use super::progress::Progress;
use super::{HttpRequest, HttpState, bare, body, door, headers};
use crate::events::topics::Resume;
use crate::fault::Fault;
use crate::route::pattern::Pattern;

/// No other charset is possible, but Python's `requests` reads text that names none as Latin-1.
const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";
const LAST_EVENT_ID: &str = "last-event-id";

/// Serves a stream.
pub(super) async fn stream(State(http): HttpState, request: HttpRequest) -> Response {
    let caller = http.connected(&request).caller;
    let progress = request.extensions().get::<Arc<Progress>>().cloned();
    // What is left of a body would be taken for the next request.
    let goes_on_alone = request.version() == Version::HTTP_11 && request.body().is_end_stream();
    let handover = request.extensions().get::<Handover>().filter(|_| goes_on_alone).cloned();
    let is_last = headers::has_token(request.headers(), &header::CONNECTION, "close");
    let parts = body::leave(&http, request).await;
    let caller = http.identify_stream(&caller, &parts.headers).await;
    let allowance = match http.router.charge(&caller, "GET /events") {
        Ok(allowance) => allowance,
        Err((fault, allowance)) => {
            let (whom, status) = ((&caller, &parts.headers), answer::status(&fault));
            let mut response = bare::refuse(&http, whom, status, &fault);
            headers::write_allowance(response.headers_mut(), allowance);
            return response;
        }
    };
    let asked = read(&parts.uri, parts.headers.get(LAST_EVENT_ID));
    let subscription = asked.and_then(|(wanted, resume)| {
        Ok((http.topics.subscribe(caller.clone(), &wanted, &resume)?, !is_one_topic(&wanted)))
    });
    let (subscription, by_number) = match subscription {
        Ok(subscription) => subscription,
        Err(fault) => {
            let whom = (&caller, &parts.headers);
            let mut response = bare::refuse(&http, whom, answer::status(&fault), &fault);
            headers::write_allowance(response.headers_mut(), allowance);
            return response;
        }
    };
    let page = door::page(&http::Request::from_parts(parts, ()));
    let listener = Listener::new(&http, subscription, by_number, page, progress, is_last);
    let frames = stream::unfold((listener, handover), |(mut listener, mut handover)| async {
        // By then the connection knows how the answer begins.
        if listener.is_greeted()
            && let Some(handover) = handover.take()
        {
            handover.leave(Next::Events(Box::new(listener)));
            return pending().await;
        }
        let frame = listener.next().await?;
        Some((Ok::<_, Infallible>(frame), (listener, handover)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let fields = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Else nginx gathers what is to come at once.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    headers::write_allowance(response.headers_mut(), allowance);
    response
}

/// `POST /events` and the like.
pub(super) async fn not_get(State(http): HttpState, request: HttpRequest) -> Response {
    let fault = invalid("events are asked for with the HTTP method GET");
    let caller = http.connected(&request).caller;
    let parts = body::leave(&http, request).await;
    let mut response =
        bare::refuse(&http, (&caller, &parts.headers), StatusCode::METHOD_NOT_ALLOWED, &fault);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// The topics that a request names, and where it goes on.
fn read(uri: &Uri, last: Option<&HeaderValue>) -> Result<(Vec<Pattern>, Resume), Fault> {
    let (mut wanted, mut after) = (Vec::new(), None);
    let mut last = last.and_then(|last| last.to_str().ok()).map(str::to_owned);
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8();
        let value = value.map_err(|_| invalid("the query's percent-encoding is not UTF-8"))?;
        match key {
            "topic" => wanted.push(Pattern::new(&value)),
            // A browser's EventSource sends no header of one's own.
            "last_event_id" | "lastEventId" => last = last.or(Some(value.into_owned())),
            "after" => {
                let resume = behind(value.trim()).ok_or_else(|| {
                    invalid("`after` is the id in the data of an event, or `TOPIC:ID`")
                });
                after = Some(resume?);
            }
            _ => {
                let hint = format!(
                    "`{key}` is no parameter of /events: `topic`, `after` and `last_event_id` are"
                );
                return Err(invalid(hint));
            }
        }
    }
    if wanted.is_empty() {
        return Err(invalid("/events needs a topic: /events?topic=orders.*"));
    }
    let resume = match last.as_deref().map(str::trim).filter(|last| !last.is_empty()) {
        None => after.unwrap_or_default(),
        // What is no number is none of ours: all that is known is that something was missed.
        Some(last) => Resume::behind(last.parse().unwrap_or(0)),
    };
    Ok((wanted, resume))
}

/// Behind which event: its id alone, or with its topic, which may have colons.
fn behind(after: &str) -> Option<Resume> {
    let id = |text: &str| text.parse().ok();
    match after.rsplit_once(':') {
        Some((topic, after)) => Some(Resume::Event(topic.to_owned(), id(after)?)),
        None => id(after).map(Resume::behind),
    }
}

fn is_one_topic(wanted: &[Pattern]) -> bool {
    matches!(wanted, [one] if one.is_literal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, last: Option<&str>) -> Result<(Vec<String>, String), Fault> {
        let uri = format!("/events{query}").parse().expect("a URI");
        let last = last.map(|last| HeaderValue::from_str(last).expect("a value"));
        read(&uri, last.as_ref()).map(|(wanted, resume)| {
            (wanted.iter().map(|one| one.as_str().to_owned()).collect(), format!("{resume:?}"))
        })
    }

    #[test]
    fn topics_and_where_to_go_on() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let cases = [
            ("?topic=a.b", None, names(&["a.b"]), "Now"),
            ("?topic=a.b", Some("7"), names(&["a.b"]), "Id(7)"),
            ("?topic=a.b&last_event_id=8", None, names(&["a.b"]), "Id(8)"),
            ("?topic=a.b&last_event_id=8", Some("7"), names(&["a.b"]), "Id(7)"),
            ("?topic=a.%2A&topic=b", Some("7"), names(&["a.*", "b"]), "Id(7)"),
            ("?topic=a.b", Some("4503599627370503"), names(&["a.b"]), "Number(7)"),
            ("?topic=a", Some("what"), names(&["a"]), "Id(0)"),
            ("?topic=a", Some(""), names(&["a"]), "Now"),
            ("?topic=a.*&after=9", None, names(&["a.*"]), "Id(9)"),
            ("?topic=a.*&after=a:b:9", None, names(&["a.*"]), r#"Event("a:b", 9)"#),
            // A stream that was lost goes on where it was.
            ("?topic=a.*&after=9", Some("4503599627370508"), names(&["a.*"]), "Number(12)"),
        ];
        for (query, last, wanted, resume) in cases {
            let found = asked(query, last).unwrap_or_else(|fault| panic!("{query}: {fault:?}"));
            assert_eq!(found, (wanted, resume.to_owned()), "{query} {last:?}");
        }
        for bad in ["", "?", "?topics=a", "?topic=%ff", "?topic=a&after=x"] {
            assert!(asked(bad, None).is_err(), "{bad}");
        }
    }
}
