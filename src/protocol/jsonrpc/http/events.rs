//! `GET /events?topic=…`: topics as a stream of Server-Sent Events (HTML Living Standard, 9.2).
//!
//! Where one topic is named, an event's id is the topic's own; else it is the event's number among
//! all, which alone tells a reader of several where it was. No id of the one kind is one of the other.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::answer;
use super::super::envelope::invalid;
use super::progress::Progress;
use super::{HttpRequest, HttpState, bare, body, door, headers};
use crate::call::Payload;
use crate::events::topics::{Notice, Resume, Subscription};
use crate::fault::Fault;
use crate::metrics::SubscriberCount;
use crate::route::pattern::Pattern;
use crate::web::WebPolicy;

/// The label of those who listen in this way.
const INGRESS: &str = "sse";
/// How long a stream is silent: proxies close what is silent for longer.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The same of a reader that says no more: it has left, or takes what comes all the same. Nothing but writing
/// tells.
const SEARCH: Duration = Duration::from_secs(1);
/// What a stream begins with: a browser that lost it comes back after so many milliseconds. Neither this nor
/// a heartbeat has an empty line: many libraries take each for the end of an event.
const GREETING: &[u8] = b"retry: 2000\n";
const STILL_THERE: &[u8] = b":\n";
/// No other charset is possible, but Python's `requests` reads text that names none as Latin-1.
const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";
const LAST_EVENT_ID: &str = "last-event-id";

/// Serves a stream.
pub(super) async fn stream(State(http): HttpState, request: HttpRequest) -> Response {
    let caller = http.connected(&request).caller;
    let progress = request.extensions().get::<Arc<Progress>>().cloned();
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
    let listener = Listener {
        subscription,
        by_number,
        page,
        pages: Arc::clone(&http.pages),
        draining: Box::pin(http.draining().clone().cancelled_owned()),
        heartbeat: Box::pin(sleep(HEARTBEAT)),
        told: Instant::now(),
        greeted: false,
        is_over: false,
        progress,
        is_sought: false,
        _count: SubscriberCount::new(INGRESS),
    };
    let frames = stream::unfold(listener, |mut listener| async {
        let frame = listener.next().await?;
        Some((Ok::<_, Infallible>(frame), listener))
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

/// Whoever reads a stream.
struct Listener {
    subscription: Subscription,
    by_number: bool,
    /// Which page it is, where it is one, and which may listen.
    page: Option<Box<http::Request<()>>>,
    pages: Arc<ArcSwap<WebPolicy>>,
    /// Both are kept from one event to the next: to make them anew takes more than to write one.
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    heartbeat: Pin<Box<Sleep>>,
    /// When it was last told something.
    told: Instant,
    greeted: bool,
    is_over: bool,
    /// Its connection's.
    progress: Option<Arc<Progress>>,
    /// It says no more.
    is_sought: bool,
    _count: SubscriberCount,
}

impl Listener {
    /// What is written next; `None` at the stream's end.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(Bytes::from_static(GREETING));
        }
        if self.is_over {
            return None;
        }
        let (progress, is_sought) = (self.progress.as_deref(), self.is_sought);
        // The connection is polled when its end comes, and polls this.
        let ends = poll_fn(|_| match progress.is_some_and(Progress::is_ended) && !is_sought {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        let (heartbeat, told) = (self.heartbeat.as_mut(), self.told);
        let notice = tokio::select! {
            biased;
            () = self.draining.as_mut() => return None,
            () = ends => {
                self.is_sought = true;
                None
            }
            notice = self.subscription.next() => Some(notice),
            () = silence(heartbeat, told, if is_sought { SEARCH } else { HEARTBEAT }) => None,
        };
        self.told = Instant::now();
        match notice {
            None => {
                let patience = if self.is_sought { SEARCH } else { HEARTBEAT };
                self.heartbeat.as_mut().reset(self.told + patience);
                Some(Bytes::from_static(STILL_THERE))
            }
            Some(Notice::Event(told)) => Some(told.frame(self.by_number)),
            Some(Notice::Gap { topic, missed }) => Some(told_apart("gap", &topic, missed)),
            Some(Notice::Lagged { topic, missed }) => {
                Some(told_apart("lagged", &topic, Some(missed)))
            }
            Some(Notice::Look) => {
                let page = self.page.as_deref();
                match page.and_then(|page| self.pages.load().check(page).err()) {
                    Some(unwelcome) => {
                        self.is_over = true;
                        Some(told_of_the_end(&unwelcome.to_string(), None))
                    }
                    None => Some(Bytes::from_static(STILL_THERE)),
                }
            }
            Some(Notice::Refused(topics)) => {
                self.is_over = !self.subscription.wants_any();
                Some(told_of_the_end(Notice::REFUSED, Some(&topics)))
            }
            Some(Notice::Ended(denial)) => {
                self.is_over = true;
                Some(told_of_the_end(denial.message(), None))
            }
            Some(Notice::TooSlow) => None,
        }
    }
}

/// Waits until nothing has been told for that long. The clock is set when it has run down alone.
async fn silence(mut clock: Pin<&mut Sleep>, told: Instant, patience: Duration) {
    loop {
        clock.as_mut().await;
        let due = told + patience;
        if due <= Instant::now() {
            return;
        }
        clock.as_mut().reset(due);
    }
}

/// What is no event of a topic, but about them: of a type of its own.
fn told_apart(kind: &str, topic: &str, missed: Option<u64>) -> Bytes {
    let topic = Payload::from_text(topic);
    let missed = missed.map_or("null".to_owned(), |missed| missed.to_string());
    let topic = topic.as_str();
    format!("event: {kind}\ndata: {{\"topic\":{topic},\"missed\":{missed}}}\n\n").into()
}

/// Nothing is heard any more, or not of these topics, and why. Whoever comes back is told so too.
fn told_of_the_end(reason: &str, topics: Option<&[Pattern]>) -> Bytes {
    let mut told = json!({ "reason": reason });
    if let Some(topics) = topics {
        told["topics"] = topics.iter().map(Pattern::as_str).collect();
    }
    format!("event: ended\ndata: {told}\n\n").into()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::caller::Caller;
    use crate::events::topics::Topics;

    fn asked(query: &str, last: Option<&str>) -> Result<(Vec<String>, String), Fault> {
        let uri = format!("/events{query}").parse().expect("a URI");
        let last = last.map(|last| HeaderValue::from_str(last).expect("a value"));
        read(&uri, last.as_ref()).map(|(wanted, resume)| {
            (wanted.iter().map(|one| one.as_str().to_owned()).collect(), format!("{resume:?}"))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_no_more_is_sought() {
        let progress = Arc::new(Progress::new());
        let mut listener = Listener {
            subscription: Topics::listener(Caller::NOBODY),
            by_number: false,
            page: None,
            pages: Arc::new(ArcSwap::from_pointee(WebPolicy::new(
                ([127, 0, 0, 1], 0).into(),
                false,
                &[],
                &[],
            ))),
            draining: Box::pin(CancellationToken::new().cancelled_owned()),
            heartbeat: Box::pin(sleep(HEARTBEAT)),
            told: Instant::now(),
            greeted: true,
            is_over: false,
            progress: Some(Arc::clone(&progress)),
            is_sought: false,
            _count: SubscriberCount::new(INGRESS),
        };
        let started = Instant::now();
        assert_eq!(listener.next().await.as_deref(), Some(STILL_THERE));
        assert_eq!(started.elapsed(), HEARTBEAT);
        progress.has_ended();
        for pause in [Duration::ZERO, SEARCH, SEARCH] {
            let since = Instant::now();
            assert_eq!(listener.next().await.as_deref(), Some(STILL_THERE));
            assert_eq!(since.elapsed(), pause);
        }
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
