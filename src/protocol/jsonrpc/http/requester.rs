//! Carries out what an envelope holds, and writes the answers, whichever way it came and they go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use tokio::time::Instant;

use super::super::answer;
use super::super::envelope::{Entry, Envelope, Unfit, invalid};
use super::super::name;
use super::ears::Ears;
use super::{Http, body, builtin, headers};
use crate::budget::{Account, Share};
use crate::call::{Call, CallKind, CallName, Context, Payload, Reply};
use crate::caller::Caller;
use crate::fault::{Fault, FaultKind, Outcome};
use crate::idempotency_key::IdempotencyKey;
use crate::route::Dialect;
use crate::router::ledger::IngressLabel;
use crate::router::{Allowance, Called, Dispatched};
use crate::trace::TraceParent;

/// How many calls of one batch are under way at once: it is one caller among many.
pub(super) const BATCH_AT_ONCE: usize = 64;

/// Who asks: what the calls of an envelope have in common.
pub(super) struct Requester<'a> {
    pub(super) http: &'a Arc<Http>,
    /// What it listens to, where it can.
    pub(super) ears: Option<&'a Ears>,
    pub(super) ingress: IngressLabel,
    /// The service at whose own address it asks.
    pub(super) service: Option<&'a str>,
    /// Whether it said that it is one of Gemstone's clients.
    pub(super) gemstone: bool,
    pub(super) caller: Caller,
    pub(super) context: Arc<Context>,
    /// Its own limit on each call.
    pub(super) timeout: Option<Duration>,
    /// By what it knows its one call again, where the request says it and not the call itself.
    pub(super) key: Option<IdempotencyKey>,
    /// The headers of a request that is one envelope.
    pub(super) headers: Option<&'a HeaderMap>,
    /// When all of the envelope had come.
    pub(super) received: Instant,
}

/// What an envelope is answered with.
pub(super) struct Answered {
    /// The text, which counts for the connection as long as it is kept. Empty where nobody is owed
    /// an answer.
    pub(super) text: Bytes,
    /// The trace that a single reply belongs to.
    pub(super) trace: Option<TraceParent>,
    /// The time that the services took.
    pub(super) service_time: Option<Duration>,
    /// The fault that a single call ended in.
    pub(super) fault: Option<(FaultKind, Outcome)>,
    /// What the caller has left of its rate; of several the least.
    pub(super) allowance: Option<Allowance>,
    /// A single answer is that of another request under the same key.
    pub(super) replayed: bool,
}

impl Answered {
    fn new(text: Vec<u8>, place: Option<Share>) -> Self {
        let text = Bytes::from(text);
        let text = match place {
            Some(share) => share.keep_with(text),
            None => text,
        };
        Self {
            text,
            trace: None,
            service_time: None,
            fault: None,
            allowance: None,
            replayed: false,
        }
    }
}

/// Why a request is no call, and what its caller has left of its rate.
type NoCall = (Fault, Option<Allowance>);

/// An answer that is owed: to whom, and what.
struct Answer {
    id: Payload,
    dispatched: Dispatched,
    /// Whether the method was Genkan's own.
    is_own: bool,
    /// Whether it is said in the answer where that is another call's.
    tells_replay: bool,
}

impl Answer {
    fn new(id: Payload, dispatched: Dispatched) -> Self {
        Self { id, dispatched, is_own: false, tells_replay: false }
    }

    /// How many bytes it takes, about.
    fn size(&self) -> usize {
        let mark = if self.is_marked() { answer::REPLAYED.len() } else { 0 };
        answer::size_hint(&self.id, &self.dispatched.result) + mark
    }

    /// Whether it says that it is another call's.
    fn is_marked(&self) -> bool {
        self.tells_replay && self.dispatched.replayed
    }

    fn write(&self, out: &mut Vec<u8>, dialect: Dialect) {
        answer::write(out, dialect, &self.id, &self.dispatched.result);
        if self.is_marked() {
            // Before the bracket that ends it.
            out.pop();
            out.extend_from_slice(answer::REPLAYED.as_bytes());
        }
    }
}

/// Writes answers, of about that size, within the connection's part of `max_memory`. Where it has no room for them, they
/// are the fault that says so: results, and what services say of their own errors.
fn write_within(
    account: &Account,
    answers: &mut [Answer],
    size: usize,
    write: impl Fn(&[Answer], &mut Vec<u8>),
) -> (Vec<u8>, Option<Share>) {
    let written = body::place(account, size).and_then(|place| {
        let mut out = Vec::with_capacity(size);
        write(answers, &mut out);
        let place = body::widen(account, place, out.len())?;
        Ok((out, place))
    });
    written.unwrap_or_else(|no_room| {
        for Answer { dispatched, .. } in answers.iter_mut() {
            if dispatched.result.as_ref().err().is_none_or(|fault| fault.remote().is_some()) {
                dispatched.result = Err(no_room.clone());
            }
        }
        let mut out = Vec::new();
        write(answers, &mut out);
        (out, None)
    })
}

impl Requester<'_> {
    /// Carries an envelope out. The calls end where the future is dropped; notifications run on,
    /// and hold `noted` until they have ended.
    pub(super) async fn carry_out<N>(
        &self,
        envelope: Envelope,
        account: &Account,
        noted: N,
    ) -> Answered
    where
        N: Send + 'static,
    {
        match envelope {
            Envelope::Single(entry) => match self.read_call(entry) {
                (Some(id), call) => self.write_single(self.answer(id, call).await, account),
                (None, call) => {
                    self.notify(call.into_iter().collect(), noted).await;
                    Answered::new(Vec::new(), None)
                }
            },
            Envelope::Batch(entries) => {
                // In a box, so that a single call does not carry its room.
                let answers = Box::pin(self.answer_all(entries, noted)).await;
                self.write_batch(answers, account)
            }
            Envelope::TooLong(ids, fault) => {
                let answers = ids.into_iter().map(|id| {
                    let (fault, allowance) = self.charge(fault.clone());
                    self.count(&fault);
                    Answer::new(id, Dispatched { allowance, ..Dispatched::refused(fault) })
                });
                self.write_batch(answers.collect(), account)
            }
        }
    }

    /// Answers what is no envelope, or none that was taken, and was to be one: it counts for its caller.
    pub(super) fn refuse_call(&self, fault: Fault) -> Answered {
        let (fault, allowance) = self.charge(fault);
        Answered { allowance, ..self.refuse(&fault) }
    }

    /// What is told of a request that is no call: that its caller makes too many, where it does.
    fn charge(&self, fault: Fault) -> NoCall {
        let what = if self.headers.is_some() { "POST /api" } else { "a message" };
        match self.http.router.charge(&self.caller, what) {
            Ok(allowance) => (fault, allowance),
            Err(too_many) => too_many,
        }
    }

    /// Answers what is no call at all.
    pub(super) fn refuse(&self, fault: &Fault) -> Answered {
        self.count(fault);
        let result = Err(fault.clone());
        let mut out = Vec::with_capacity(answer::size_hint(&Payload::NULL, &result));
        answer::write(&mut out, self.dialect(None), &Payload::NULL, &result);
        Answered { fault: Some((fault.kind(), fault.outcome())), ..Answered::new(out, None) }
    }

    /// Carries the requests of a batch out side by side, though not all at once.
    async fn answer_all<N>(&self, entries: Vec<Entry>, noted: N) -> Vec<Answer>
    where
        N: Send + 'static,
    {
        let mut notifications = Vec::new();
        let mut owed = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.read_call(entry) {
                (Some(id), call) => owed.push((id, call)),
                (None, call) => notifications.extend(call),
            }
        }
        self.notify(notifications, noted).await;
        let answering = owed
            .into_iter()
            .enumerate()
            .map(|(place, (id, call))| async move { (place, self.answer(id, call).await) });
        let answers = stream::iter(answering).buffer_unordered(BATCH_AT_ONCE);
        let mut answers: Vec<_> = answers.collect().await;
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// What an entry of the envelope calls, and to whom the answer is owed: to nobody where it is
    /// a notification.
    fn read_call(&self, entry: Entry) -> (Option<Payload>, Result<Call, NoCall>) {
        let Entry { id, request } = entry;
        let kind = if id.is_some() { CallKind::Call } else { CallKind::Notification };
        let call = request
            .map_err(|Unfit { method, fault }| {
                let name = method.and_then(|method| name::read(self.service, method).ok());
                (name, fault)
            })
            .and_then(|request| {
                let name = name::read(self.service, request.method).map_err(|why| (None, why))?;
                match self.context_with(request.key) {
                    Ok(context) => Ok((name, request.params, context)),
                    Err(fault) => Err((Some(name), fault)),
                }
            });
        let call = match call {
            Ok((name, params, context)) => Ok(Call {
                name,
                params,
                kind,
                caller: self.caller.clone(),
                context,
                received: self.received,
                timeout: self.timeout,
                may_have_run: false,
            }),
            Err((name, fault)) => {
                let (fault, allowance) = self.charge(fault);
                self.count_call(name.as_ref(), &fault);
                Err((fault, allowance))
            }
        };
        (id, call)
    }

    /// What travels with a call that has a key of its own, or none.
    fn context_with(&self, key: Option<IdempotencyKey>) -> Result<Arc<Context>, Fault> {
        let key = match (key, &self.key) {
            (None, None) => return Ok(Arc::clone(&self.context)),
            (Some(own), Some(key)) if own.as_str() != key.as_str() => {
                let message =
                    "`meta.idempotencyKey` and the header Idempotency-Key differ: send one";
                return Err(invalid(message));
            }
            (_, Some(key)) => key.clone(),
            (Some(own), None) => own.claimed_by(self.headers.and_then(headers::claimed_user)),
        };
        Ok(Arc::new(self.context.keyed(key)))
    }

    async fn answer(&self, id: Payload, call: Result<Call, NoCall>) -> Answer {
        let mut tells_replay = false;
        let (dispatched, is_own) = match call {
            Ok(call) => {
                // Else a header tells.
                tells_replay = self.key.is_none() && call.context.idempotency_key.is_some();
                builtin::dispatch(self.http, (self.ingress, self.ears), self.service, call).await
            }
            Err((fault, allowance)) => {
                (Dispatched { allowance, ..Dispatched::refused(fault) }, false)
            }
        };
        Answer { id, dispatched, is_own, tells_replay }
    }

    /// Carries notifications out. The caller does not wait, and may hang up: they run on without
    /// it. The upstream's limit on calls in flight bounds them.
    async fn notify<N>(&self, calls: Vec<Call>, noted: N)
    where
        N: Send + 'static,
    {
        let calls = self.listen_unanswered(calls).await;
        if calls.is_empty() {
            return;
        }
        let (http, ingress) = (Arc::clone(self.http), self.ingress);
        let service = self.service.map(str::to_owned);
        self.http.notifications.spawn_session(async move {
            let (http, service) = (&http, service.as_deref());
            let notify = |call| async move {
                drop(builtin::dispatch(http, (ingress, None), service, call).await)
            };
            stream::iter(calls).for_each_concurrent(BATCH_AT_ONCE, notify).await;
            drop(noted);
        });
    }

    /// Does at once what notifications ask for that is about topics, which is the connection's own matter.
    /// The others.
    async fn listen_unanswered(&self, calls: Vec<Call>) -> Vec<Call> {
        if self.ears.is_none() {
            return calls;
        }
        let mut others = Vec::new();
        for call in calls {
            if builtin::about_topics(self.http, self.service, &call.name).is_none() {
                others.push(call);
                continue;
            }
            // Whoever wants to know how it ended gives it an id.
            let whom = (self.ingress, self.ears);
            drop(Box::pin(builtin::dispatch(self.http, whom, self.service, call)).await);
        }
        others
    }

    /// Counts and logs a fault of something of which it is not known what it calls.
    fn count(&self, fault: &Fault) {
        self.count_call(None, fault);
    }

    /// The same of a call that is not to be made.
    fn count_call(&self, name: Option<&CallName>, fault: &Fault) {
        let called = match name {
            None => Called::Unknown,
            Some(name) if builtin::is_own(self.http, self.service, name) => {
                Called::Own(name.as_str())
            }
            Some(name) => Called::Routed(name.as_str()),
        };
        let whom = (called, &self.caller, &self.context.trace);
        self.http.router.refuse(self.ingress, whom, self.received, fault);
    }

    /// The form of an answer.
    fn dialect_of(&self, answer: &Answer) -> Dialect {
        // Only Gemstone's clients ask for these, and those that do not say so want both keys.
        if answer.is_own && answer.dispatched.result.is_ok() {
            return Dialect::Gemstone;
        }
        self.dialect(answer.dispatched.dialect)
    }

    /// At a service's own address, the one of the row that decided.
    fn dialect(&self, of_row: Option<Dialect>) -> Dialect {
        match self.service {
            _ if self.gemstone => Dialect::Gemstone,
            Some(service) => of_row.unwrap_or_else(|| self.http.router.dialect(service)),
            None => Dialect::Strict,
        }
    }

    fn write_single(&self, mut answer: Answer, account: &Account) -> Answered {
        let size = answer.size();
        let answers = std::slice::from_mut(&mut answer);
        let (out, place) = write_within(account, answers, size, |answers, out| {
            answers.iter().for_each(|answer| answer.write(out, self.dialect_of(answer)));
        });
        let result = &answer.dispatched.result;
        let trace = result.as_ref().ok().and_then(|reply: &Reply| reply.trace);
        let fault = result.as_ref().err().map(|fault| (fault.kind(), fault.outcome()));
        let Dispatched { service_time, allowance, replayed, .. } = answer.dispatched;
        Answered { trace, service_time, fault, allowance, replayed, ..Answered::new(out, place) }
    }

    fn write_batch(&self, mut answers: Vec<Answer>, account: &Account) -> Answered {
        let service_time = answers.iter().filter_map(|answer| answer.dispatched.service_time).max();
        let allowances = answers.iter().filter_map(|answer| answer.dispatched.allowance);
        let allowance = allowances.min_by_key(|allowance| allowance.remaining);
        if answers.is_empty() {
            let gemstone = self.dialect(None) == Dialect::Gemstone;
            let nothing = if gemstone { b"[]".to_vec() } else { Vec::new() };
            return Answered { service_time, ..Answered::new(nothing, None) };
        }
        let size = answers.iter().map(|answer| answer.size() + 1).sum::<usize>() + 1;
        let (out, place) = write_within(account, &mut answers, size, |answers, out| {
            for (index, answer) in answers.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                answer.write(out, self.dialect_of(answer));
            }
            out.push(b']');
        });
        Answered { service_time, allowance, ..Answered::new(out, place) }
    }
}
