//! The one who owns the connection on which events leave, in the order in which they were handed over.
//!
//! Only one may publish on a channel of lapin's (see [`publisher`](super::super::publisher)). Each event
//! waits for its confirm, and none for another's. One that the broker refuses costs the connection: it
//! is found by the broker's words, and the others go out again over a new one; where the words do not
//! tell, they go one at a time, which shows it. An event may so come twice, with the same id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, ErrorKind, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::config::{Node, Settings};
use super::super::generation::End;
use super::super::outlet::Outlet;
use super::super::publisher::STUCK;
use super::super::pulse;
use super::super::refusal::Refusal;
use super::super::transport::is_goodbye;
use super::super::wire::header_size::header_frame;
use super::address::Target;
use super::lost;
use super::places::{Places, denial};
use crate::event::Undelivered;
use crate::redact::scrub;

/// How many events are taken out of the outbox at once.
const BATCH: usize = 256;
/// How many may be unconfirmed before no more are taken.
const MOST_UNCONFIRMED: usize = 4_096;
/// Not every way to lose a connection makes an event.
const LOOK: Duration = Duration::from_secs(1);
/// How long a closed channel has to say so for each of its messages.
const SETTLE: Duration = Duration::from_secs(1);

const BLOCKED: &str = "rabbitmq takes no messages now, for want of memory or disk space";

/// What a nack says: its queue's own limit is reached, or the broker has failed.
const NACKED: &str = "rabbitmq could not take it: a queue may be full (`x-overflow` of `reject-publish`): read what \
                      waits in it, or raise its `max-length`";

/// For how long nothing is sent to a place that is denied.
const DENIED_FOR: Duration = Duration::from_secs(10);

/// What became of an event.
type Outcome = Result<(), Undelivered>;

/// An event that is ready to go.
pub(super) struct Outgoing {
    pub(super) target: Target,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// Told what became of it.
    pub(super) done: oneshot::Sender<Outcome>,
}

impl Outgoing {
    /// Tells what became of it. Whoever handed it over may have gone.
    pub(super) fn end(self, outcome: Outcome) {
        drop(self.done.send(outcome));
    }
}

/// A publish whose confirm has come.
struct Published {
    number: u64,
    outcome: lapin::Result<Confirmation>,
}

type Confirms = FuturesUnordered<BoxFuture<'static, Published>>;

/// The channel takes no more; why, where that is known.
struct Lost(Option<lapin::Error>);

pub(super) struct Emitter<'a> {
    settings: &'a Arc<Settings>,
    node: &'a Arc<Node>,
    outlet: Outlet,
    /// In their order.
    unconfirmed: BTreeMap<u64, Outgoing>,
    published: u64,
    acked: Vec<u64>,
    places: Places,
    /// The largest message that the broker takes, where it has said so.
    largest: usize,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(settings: &'a Arc<Settings>, node: &'a Arc<Node>, outlet: Outlet) -> Self {
        Self {
            settings,
            node,
            outlet,
            unconfirmed: BTreeMap::new(),
            published: 0,
            acked: Vec::new(),
            places: Places::default(),
            largest: usize::MAX,
        }
    }

    /// Publishes until the connection is lost or the generation ends. Tells why.
    pub(super) async fn run(
        mut self,
        first: Outgoing,
        queue: &mut mpsc::UnboundedReceiver<Outgoing>,
        end: &End,
    ) -> String {
        let mut confirms = Confirms::new();
        let mut batch = vec![first];
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reason = loop {
            for outgoing in batch.drain(..) {
                if let Some(outgoing) = self.ready(outgoing).await {
                    confirms.push(self.publish(outgoing));
                }
            }
            let room = MOST_UNCONFIRMED.saturating_sub(confirms.len()).min(BATCH);
            let lost = tokio::select! {
                biased;
                () = end.wait() => break "genkan is leaving this connection to rabbitmq".to_owned(),
                Some(published) = confirms.next(), if !confirms.is_empty() => {
                    self.confirmed(published)
                }
                // After two looks without a finding: `FuturesUnordered` may hold work back once.
                () = tokio::task::yield_now(), if !self.acked.is_empty() => {
                    self.settle();
                    None
                }
                event = self.outlet.events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(%reason, "rabbitmq takes no messages: events wait");
                        look.reset_after(STUCK);
                        None
                    }
                    Some(Event::ConnectionUnblocked) if self.outlet.holds_back() => {
                        break "rabbitmq takes messages again".to_owned();
                    }
                    Some(Event::Error(error)) => Some(Lost(Some(error))),
                    None => Some(Lost(None)),
                    Some(_) => self.look().await,
                },
                _ = look.tick() => self.look().await,
                taken = queue.recv_many(&mut batch, room), if room > 0 => {
                    if taken == 0 {
                        break "nobody is left to publish for".to_owned();
                    }
                    None
                }
            };
            let Some(lost) = lost else { continue };
            if self.outlet.holds_back() {
                confirms.clear();
                break BLOCKED.to_owned();
            }
            match self.recover(lost, &mut confirms).await {
                // What is to go again goes before what waits.
                Ok(again) => batch = again,
                Err(reason) => break reason,
            }
        };
        confirms.clear();
        self.settle();
        for outgoing in std::mem::take(&mut self.unconfirmed).into_values() {
            outgoing.end(Err(lost(&reason)));
        }
        self.outlet.close().await;
        reason
    }

    /// Sees to it that an event can go, and gives it back; else tells it why not.
    async fn ready(&mut self, outgoing: Outgoing) -> Option<Outgoing> {
        if outgoing.done.is_closed() {
            return None;
        }
        match self.objection(&outgoing).await {
            None => Some(outgoing),
            Some(undelivered) => {
                outgoing.end(Err(undelivered));
                None
            }
        }
    }

    async fn objection(&mut self, outgoing: &Outgoing) -> Option<Undelivered> {
        if self.outlet.status.blocked() {
            return Some(lost(BLOCKED));
        }
        let Outgoing { target, properties, body, .. } = outgoing;
        if body.len() > self.largest {
            return Some(too_large(body.len(), self.largest));
        }
        let (header, frame) = (header_frame(properties), self.outlet.frame_max());
        if frame > 0 && header > frame {
            return Some(Undelivered::Refused(format!(
                "its headers take {header} bytes, and an AMQP frame {frame} at most: raise \
                 `frame_max` in the upstream's `url`"
            )));
        }
        let limit = self.settings.connect_timeout;
        self.places.prepare(self.outlet.transport(), target, limit).await.err()
    }

    /// Publishes an event, and waits for its confirm. An event may have no listeners: only a queue that
    /// is named has to be there.
    fn publish(&mut self, outgoing: Outgoing) -> BoxFuture<'static, Published> {
        self.published += 1;
        let number = self.published;
        let (exchange, key) = outgoing.target.way();
        let (exchange, key) = (ShortString::from(exchange), ShortString::from(key));
        let mandatory = matches!(outgoing.target, Target::Queue(_));
        let (properties, body) = (outgoing.properties.clone(), outgoing.body.clone());
        self.unconfirmed.insert(number, outgoing);
        let channel = self.outlet.channel.clone();
        let publish = async move {
            let options = BasicPublishOptions { mandatory, immediate: false };
            let published = channel.basic_publish(exchange, key, options, &body, properties).await;
            drop(body);
            let outcome = match published {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            Published { number, outcome }
        };
        Box::pin(publish)
    }

    fn confirmed(&mut self, Published { number, outcome }: Published) -> Option<Lost> {
        let returned = match outcome {
            // It stays where it is, to be sorted out with the others.
            Err(error) => return Some(Lost(Some(error))),
            Ok(Confirmation::Ack(returned)) => {
                self.acked.push(number);
                returned
            }
            Ok(Confirmation::Nack(returned)) => {
                if let Some(outgoing) = self.unconfirmed.remove(&number) {
                    outgoing.end(Err(not_now(NACKED)));
                }
                returned
            }
            Ok(Confirmation::NotRequested) => None,
        };
        if let Some(returned) = returned {
            self.returned(&returned);
        }
        None
    }

    /// Nobody took an event: its queue is gone. lapin hangs it on whichever confirm comes next, so it is
    /// known by what it says.
    fn returned(&mut self, returned: &BasicReturnMessage) {
        let delivery = &returned.delivery;
        let is_it = |outgoing: &Outgoing| {
            let (exchange, key) = outgoing.target.way();
            exchange.is_empty()
                && key == delivery.routing_key.as_str()
                && outgoing.properties.message_id() == delivery.properties.message_id()
        };
        for outgoing in self.take_out(is_it) {
            self.places.forget(&outgoing.target);
            outgoing.end(Err(not_now("its queue is gone")));
        }
    }

    /// Takes those out of the unconfirmed that are meant, in their order.
    fn take_out(&mut self, is_meant: impl Fn(&Outgoing) -> bool) -> Vec<Outgoing> {
        let meant = self.unconfirmed.iter().filter(|(_, outgoing)| is_meant(outgoing));
        let numbers: Vec<u64> = meant.map(|(number, _)| *number).collect();
        numbers.iter().filter_map(|number| self.unconfirmed.remove(number)).collect()
    }

    /// Acts upon acks, once no return can come any more for what was acked.
    fn settle(&mut self) {
        for number in self.acked.drain(..) {
            if let Some(outgoing) = self.unconfirmed.remove(&number) {
                outgoing.end(Ok(()));
            }
        }
    }

    async fn look(&mut self) -> Option<Lost> {
        if self.outlet.status.blocked() {
            // What is still on this side is not to leave: whoever waits is told, and sends it again.
            for outgoing in std::mem::take(&mut self.unconfirmed).into_values() {
                self.outlet.hold_back();
                outgoing.end(Err(lost(BLOCKED)));
            }
            return None;
        }
        if !self.outlet.status.connected() || !self.outlet.channel.status().connected() {
            return Some(Lost(None));
        }
        let asks = !self.unconfirmed.is_empty() && self.outlet.heard().is_quiet();
        let silent = asks && !pulse::answers(self.outlet.channel.clone()).await;
        // An alarm may have come meanwhile: then it reads nothing.
        (silent && !self.outlet.status.blocked()).then_some(Lost(None))
    }

    /// Goes on over a new connection after the broker has refused an event: the events that are to go
    /// again. Else why the connection is lost.
    async fn recover(
        &mut self,
        Lost(mut error): Lost,
        confirms: &mut Confirms,
    ) -> Result<Vec<Outgoing>, String> {
        let settle = async {
            while let Some(published) = confirms.next().await {
                if let Some(Lost(Some(other))) = self.confirmed(published) {
                    let told = error.as_ref().and_then(code).is_some();
                    error = if told { error.take() } else { Some(other) };
                }
            }
        };
        drop(timeout(SETTLE, settle).await);
        confirms.clear();
        self.settle();
        if error.as_ref().and_then(code).is_none()
            && let Some(cause) = self.outlet.cause(SETTLE).await
        {
            error = Some(cause);
        }
        let said = error.as_ref().map(|error| scrub(&error.to_string()).into_owned());
        let said = said.unwrap_or_else(|| "the connection is closed".to_owned());
        let refused = error.as_ref().filter(|error| code(error).is_some() && !is_goodbye(error));
        let Some(refused) = refused else { return Err(said) };
        let is_known = self.sort_out(refused, &said);
        self.reopen().await?;
        if is_known {
            return Ok(std::mem::take(&mut self.unconfirmed).into_values().collect());
        }
        self.one_by_one().await?;
        Ok(Vec::new())
    }

    /// Finds what the broker has refused by what it said. False where that does not tell.
    fn sort_out(&mut self, error: &lapin::Error, said: &str) -> bool {
        if code(error) == Some(NOT_FOUND) {
            // An exchange that was there: it is made again.
            return true;
        }
        if let Some(Refusal::TooLarge { size, limit }) = Refusal::of(error) {
            self.largest = limit;
            tracing::warn!(
                size,
                limit,
                mend = "raise `max_message_size` in the broker's rabbitmq.conf",
                "rabbitmq takes no messages of that size: events that are so large are refused"
            );
            return true;
        }
        if code(error) != Some(ACCESS_REFUSED) {
            return false;
        }
        let is_denied = |outgoing: &Outgoing| {
            let (exchange, key) = outgoing.target.way();
            let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
            let named = said.contains(&format!("exchange '{exchange}'"));
            named && (!said.contains("access to topic '") || said.contains(&format!("'{key}'")))
        };
        let denied = self.take_out(is_denied);
        for outgoing in &denied {
            let refused = Undelivered::Refused(denial(&outgoing.target));
            self.places.shut(outgoing.target.clone(), DENIED_FOR, refused);
        }
        let is_known = !denied.is_empty();
        for outgoing in denied {
            let refused = Undelivered::Refused(denial(&outgoing.target));
            outgoing.end(Err(refused));
        }
        is_known
    }

    /// Sends what was not confirmed again, one at a time: so it is found what the broker refuses.
    async fn one_by_one(&mut self) -> Result<(), String> {
        while let Some((_, outgoing)) = self.unconfirmed.pop_first() {
            let Some(outgoing) = self.ready(outgoing).await else { continue };
            let Published { number, outcome } = self.publish(outgoing).await;
            let error = match outcome {
                Err(error) => error,
                Ok(confirmation) => {
                    self.confirmed(Published { number, outcome: Ok(confirmation) });
                    self.settle();
                    continue;
                }
            };
            let said = scrub(&error.to_string()).into_owned();
            if let Some(outgoing) = self.unconfirmed.remove(&number) {
                outgoing.end(Err(match code(&error) {
                    None => lost(&said),
                    Some(_) if is_goodbye(&error) => lost(&said),
                    Some(NOT_FOUND | INTERNAL_ERROR) => not_now(&said),
                    Some(_) => Undelivered::Refused(format!("rabbitmq refuses it: {said}")),
                }));
            }
            self.reopen().await?;
        }
        Ok(())
    }

    /// Goes on over a new connection.
    async fn reopen(&mut self) -> Result<(), String> {
        let limit = self.settings.connect_timeout;
        let node = self.settings.renewed(self.node);
        let open = Outlet::open_for(self.settings, &node, "events out");
        match timeout(limit, open).await {
            Ok(Ok(outlet)) => {
                std::mem::replace(&mut self.outlet, outlet).close().await;
                self.places.forget_all();
                Ok(())
            }
            Ok(Err(error)) => Err(scrub(&error.to_string()).into_owned()),
            Err(_) => Err(format!("no connection within {limit:?}")),
        }
    }
}

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const INTERNAL_ERROR: u16 = 541;

/// The place is there, and does not take an event now.
fn not_now(reason: &str) -> Undelivered {
    Undelivered::Unavailable(reason.to_owned())
}

/// What the broker has refused something with.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => Some(refusal.get_id()),
        _ => None,
    }
}

fn too_large(size: usize, limit: usize) -> Undelivered {
    Undelivered::Refused(format!(
        "it is {size} bytes, and this rabbitmq takes {limit} at most: raise `max_message_size` in its \
         rabbitmq.conf"
    ))
}
