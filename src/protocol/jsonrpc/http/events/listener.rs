//! Whoever reads a stream of events, and what is written to him.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::Http;
use super::super::progress::Progress;
use crate::call::Payload;
use crate::events::topics::{Notice, Subscription};
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

/// Whoever reads a stream.
pub(in super::super) struct Listener {
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
    is_last: bool,
    /// It says no more.
    is_sought: bool,
    _count: SubscriberCount,
}

impl Listener {
    /// A stream is a connection's last where its client has said that it asks for nothing more.
    pub(super) fn new(
        http: &Http,
        subscription: Subscription,
        by_number: bool,
        page: Option<Box<http::Request<()>>>,
        progress: Option<Arc<Progress>>,
        is_last: bool,
    ) -> Self {
        Self {
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
            is_last,
            is_sought: false,
            _count: SubscriberCount::new(INGRESS),
        }
    }

    /// Whether it has been told that the stream has begun.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether its connection ends with it.
    pub(in super::super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Whether its client says no more.
    pub(super) fn says_no_more(&self) -> bool {
        self.progress.as_deref().is_some_and(Progress::is_ended)
    }

    /// Its client has hung up on its side.
    pub(super) fn has_said_all(&self) {
        self.progress.as_deref().inspect(|progress| progress.has_ended());
    }

    /// What is written next; `None` at the stream's end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
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
        let Some(notice) = notice else {
            let patience = if self.is_sought { SEARCH } else { HEARTBEAT };
            self.heartbeat.as_mut().reset(self.told + patience);
            return Some(Bytes::from_static(STILL_THERE));
        };
        self.frame(notice)
    }

    /// What is to be written already; does not wait for more.
    pub(super) fn waiting(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let notice = self.subscription.try_next()?;
        self.frame(notice)
    }

    /// How a notice is told; `None` where that is the stream's end.
    fn frame(&mut self, notice: Notice) -> Option<Bytes> {
        match notice {
            Notice::Event(told) => Some(told.frame(self.by_number)),
            Notice::Gap { topic, missed } => Some(told_apart("gap", &topic, missed)),
            Notice::Lagged { topic, missed } => Some(told_apart("lagged", &topic, Some(missed))),
            Notice::Look => {
                let page = self.page.as_deref();
                match page.and_then(|page| self.pages.load().check(page).err()) {
                    Some(unwelcome) => {
                        self.is_over = true;
                        Some(told_of_the_end(&unwelcome.to_string(), None))
                    }
                    None => Some(Bytes::from_static(STILL_THERE)),
                }
            }
            Notice::Refused(topics) => {
                self.is_over = !self.subscription.wants_any();
                Some(told_of_the_end(Notice::REFUSED, Some(&topics)))
            }
            Notice::Ended(denial) => {
                self.is_over = true;
                Some(told_of_the_end(denial.message(), None))
            }
            Notice::TooSlow => None,
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
            is_last: false,
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
}
