//! What a WebSocket listens to: `genkan.subscribe` and `genkan.unsubscribe`, and the notifications
//! that come of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::json;

use super::super::envelope::invalid;
use crate::auth::Auth;
use crate::call::{Call, Context, Params, Payload};
use crate::caller::{Caller, Denial};
use crate::events::topics::{Notice, Resume, Subscription, Topics, bounded};
use crate::fault::{Fault, FaultKind};
use crate::metrics::{SubscriberCount, credential_refused};
use crate::route::access::fault_of;
use crate::route::pattern::Pattern;

/// A method of Genkan's own that is about events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Subscribe,
    Unsubscribe,
    Authenticate,
}

impl Method {
    /// The names.
    pub(in crate::protocol::jsonrpc) const NAMES: [&'static str; 3] =
        ["genkan.subscribe", "genkan.unsubscribe", "genkan.authenticate"];

    /// The one by that name.
    pub(super) fn of(name: &str) -> Option<Self> {
        match Self::NAMES.iter().position(|known| *known == name)? {
            0 => Some(Self::Subscribe),
            1 => Some(Self::Unsubscribe),
            _ => Some(Self::Authenticate),
        }
    }
}

/// The topics that one WebSocket listens to, and who that is.
pub(super) struct Ears {
    topics: Arc<Topics>,
    subscription: Arc<Subscription>,
    /// What travels with its calls, since it has said anew who it is.
    context: ArcSwapOption<Context>,
}

impl Ears {
    pub(super) fn new(topics: &Arc<Topics>, caller: Caller) -> Self {
        let subscription = Arc::new(Topics::listener(caller));
        Self { topics: Arc::clone(topics), subscription, context: ArcSwapOption::default() }
    }

    /// Who is at the other end.
    pub(super) fn caller(&self) -> Caller {
        self.subscription.caller()
    }

    /// What travels with its calls: what the opening request brought, unless it has said anew who it
    /// is. Who that is to services is the caller as it is known now.
    pub(super) fn context(&self, opening: &Arc<Context>, caller: &Caller) -> Arc<Context> {
        let context = self.context.load_full().unwrap_or_else(|| Arc::clone(opening));
        let user_id = caller.user_id();
        if context.user_id.as_deref() == user_id {
            return context;
        }
        Arc::new(context.of_user(user_id))
    }

    /// Lets the client say who it is, for the first time or before what it showed has ended. A
    /// connection stays one caller's.
    pub(super) async fn authenticate(
        &self,
        auth: &Arc<Auth>,
        call: &Call,
    ) -> Result<Payload, Fault> {
        if !auth.is_on() {
            return Err(invalid("nobody is asked who he is here: there is no [auth]"));
        }
        let token = token(&call.params)?;
        let denied = |denial: Denial| {
            credential_refused(denial.label());
            fault_of(denial, denial.message().to_owned())
        };
        let known = auth.identify(&token, call.timeout).await.map_err(denied)?;
        if let Some(denial) = known.ended(SystemTime::now) {
            return Err(denied(denial));
        }
        let caller = self.caller();
        if caller.shown().is_some_and(|before| !before.is_same_as(&known)) {
            let message = "this connection is somebody else's: open another one";
            return Err(Fault::not_sent(FaultKind::AccessDenied, message));
        }
        let since = |until: SystemTime| until.duration_since(UNIX_EPOCH).ok();
        let expires = known.until.and_then(since).map(|since| since.as_secs());
        let told = json!({"subject": known.subject, "expires": expires});
        let caller = caller.showing(Ok(known)).with_evidence(auth.evidence(&token));
        self.context.store(Some(Arc::new(call.context.of_user(caller.user_id()))));
        self.topics.renew(&self.subscription, caller);
        Ok(Payload::from_validated(told.to_string().into()))
    }

    /// Whether it listens to anything.
    pub(super) fn are_open(&self) -> bool {
        self.subscription.wants_any()
    }

    /// Whether the client was too slow to hear what it listens to.
    pub(super) fn are_too_slow(&self) -> bool {
        self.subscription.is_too_slow()
    }

    /// Answers a call: with what it listens to then.
    pub(super) fn answer(&self, method: Method, params: &Params) -> Result<Payload, Fault> {
        let (wanted, resume) = read(params)?;
        match method {
            Method::Subscribe => self.topics.add(&self.subscription, &wanted, &resume)?,
            Method::Unsubscribe | Method::Authenticate => {
                self.topics.remove(&self.subscription, &wanted);
            }
        }
        let wanted = self.subscription.wanted();
        let names: Vec<&str> = wanted.iter().map(Pattern::as_str).collect();
        Ok(Payload::from_validated(json!({ "topics": names }).to_string().into()))
    }

    /// What it hears, as notifications of JSON-RPC's; an empty one where the settings in force are to be looked at. It ends where the client is too slow, and where
    /// what it showed has ended: then it listens to nothing any more.
    pub(super) fn hear(&self, ingress: &'static str) -> BoxStream<'static, Bytes> {
        let (topics, subscription) = (Arc::clone(&self.topics), Arc::clone(&self.subscription));
        let state = Some((topics, subscription, SubscriberCount::new(ingress)));
        let notices = stream::unfold(state, |state| async move {
            let (topics, subscription, count) = state?;
            let text = match subscription.next().await {
                Notice::Event(told) => told.notification(),
                Notice::Gap { topic, missed } => told_apart("gap", &topic, missed),
                Notice::Lagged { topic, missed } => told_apart("lagged", &topic, Some(missed)),
                Notice::Refused(topics) => told_of_refused(&topics),
                Notice::Look => Bytes::new(),
                Notice::TooSlow => return None,
                Notice::Ended(denial) => {
                    topics.remove(&subscription, &subscription.wanted());
                    subscription.forget();
                    return Some((told_of_the_end(denial), None));
                }
            };
            Some((text, Some((topics, subscription, count))))
        });
        notices.boxed()
    }
}

/// What is no event of a topic, but about them.
fn told_apart(method: &str, topic: &str, missed: Option<u64>) -> Bytes {
    let params = json!({"topic": topic, "missed": missed});
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string().into()
}

/// What the client showed has ended, and so has what it listened to.
fn told_of_the_end(denial: Denial) -> Bytes {
    let params = json!({"reason": denial.message()});
    json!({"jsonrpc": "2.0", "method": "ended", "params": params}).to_string().into()
}

/// The client may not listen to these topics any more.
fn told_of_refused(topics: &[Pattern]) -> Bytes {
    let names: Vec<&str> = topics.iter().map(Pattern::as_str).collect();
    let params = json!({"reason": Notice::REFUSED, "topics": names});
    json!({"jsonrpc": "2.0", "method": "ended", "params": params}).to_string().into()
}

/// The token in the params of `genkan.authenticate`.
fn token(params: &Params) -> Result<String, Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shown {
        token: String,
    }
    let shown = match params {
        Params::Object(object) => serde_json::from_slice(object.as_bytes()),
        Params::Array(array) => {
            serde_json::from_slice(array.as_bytes()).map(|[token]: [_; 1]| Shown { token })
        }
        Params::None | Params::Both { .. } => return Err(no_token()),
    };
    shown.map(|shown| shown.token).map_err(|_| no_token())
}

fn no_token() -> Fault {
    Fault::not_sent(FaultKind::InvalidParams, "the params are `{\"token\": \"…\"}`")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    topics: Vec<String>,
    #[serde(default)]
    after: Option<After>,
}

/// Behind which events to go on: one id for all topics, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum After {
    Id(u64),
    Ids(HashMap<String, u64>),
}

/// What is asked for; refused where it is more than anybody may name.
fn read(params: &Params) -> Result<(Vec<Pattern>, Resume), Fault> {
    let asked = match params {
        Params::Object(object) => serde_json::from_slice(object.as_bytes()),
        Params::Array(array) => serde_json::from_slice(array.as_bytes())
            .or_else(|_| serde_json::from_slice(array.as_bytes()).map(|[topics]: [_; 1]| topics))
            .map(|topics| Asked { topics, after: None }),
        Params::None | Params::Both { .. } => return Err(unreadable()),
    };
    let Asked { topics, after } = asked.map_err(|_| unreadable())?;
    let resume = match after {
        None => Resume::Now,
        Some(After::Id(id)) => Resume::behind(id),
        Some(After::Ids(ids)) => Resume::Ids(ids),
    };
    let wanted: Vec<_> = topics.iter().map(|topic| Pattern::new(topic)).collect();
    bounded(&wanted, &resume)?;
    Ok((wanted, resume))
}

fn unreadable() -> Fault {
    let message = "the params are `{\"topics\": [\"orders.*\"]}`, and `after`: an event's id, or an \
                   object of such ids by topics";
    Fault::not_sent(FaultKind::InvalidParams, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(params: &str) -> Option<(Vec<String>, String)> {
        let payload = Payload::from_validated(params.to_owned().into());
        let params =
            if params.starts_with('[') { Params::Array(payload) } else { Params::Object(payload) };
        let (wanted, resume) = read(&params).ok()?;
        let names = wanted.iter().map(|pattern| pattern.as_str().to_owned()).collect();
        Some((names, format!("{resume:?}")))
    }

    #[test]
    fn params_by_name_and_by_position() {
        let two = vec!["a".to_owned(), "b.*".to_owned()];
        for params in [r#"{"topics":["a","b.*"]}"#, r#"["a","b.*"]"#, r#"[["a","b.*"]]"#] {
            assert_eq!(asked(params), Some((two.clone(), "Now".to_owned())), "{params}");
        }
        let behind = |after: &str| asked(&format!(r#"{{"topics":["a"],"after":{after}}}"#));
        assert_eq!(behind("7").map(|(_, resume)| resume).as_deref(), Some("Id(7)"));
        assert_eq!(behind(r#"{"a":7}"#).map(|(_, to)| to).as_deref(), Some(r#"Ids({"a": 7})"#));
        assert_eq!(behind("null").map(|(_, resume)| resume).as_deref(), Some("Now"));
        for bad in ["{}", r#"{"topics":"a"}"#, r#"{"topics":[1]}"#, "[1]", r#"{"topics":[],"x":1}"#]
        {
            assert_eq!(asked(bad), None, "{bad}");
        }
        assert_eq!(behind("-1"), None);
    }

    #[test]
    fn what_names_more_than_anybody_hears_is_refused_before_it_is_looked_at() {
        let topics = |count: usize| (0..count).map(|number| format!("*{number}")).collect();
        let ids = |count: usize| (0..count).map(|number| (format!("t.{number}"), 7)).collect();
        let [names, ids]: [&dyn Fn(usize) -> serde_json::Value; 2] = [&topics, &ids];
        let long = "x".repeat(257);
        let ears = Ears::new(&Arc::new(Topics::new(Vec::new())), Caller::NOBODY);
        let refused = |asked: &serde_json::Value| {
            let params = Params::Object(Payload::from_validated(asked.to_string().into()));
            let fault = ears.answer(Method::Unsubscribe, &params).err()?;
            assert_eq!(fault.kind(), FaultKind::InvalidParams);
            Some(fault.message().to_owned())
        };
        let many = "1000 topics at most may be named at once, not 1001".to_owned();
        assert_eq!(refused(&json!({"topics": names(1_001)})), Some(many));
        let many = "`after` may name 1000 topics at most, not 1001".to_owned();
        assert_eq!(refused(&json!({"topics": ["a"], "after": ids(1_001)})), Some(many));
        let length = Some("a topic's name has 1 to 256 bytes, not 257".to_owned());
        assert_eq!(refused(&json!({"topics": [long]})), length);
        assert_eq!(refused(&json!({"topics": ["a"], "after": {long: 7}})), length);
        assert_eq!(refused(&json!({"topics": names(1_000), "after": ids(1_000)})), None);
    }
}
