//! The one who owns the connection on which replies leave.
//!
//! Only one may publish on a channel of lapin's (see [`publisher`](super::super::publisher)), and a
//! request is acked when its reply is confirmed. A reply is no call: sent twice, its caller ignores
//! the second. So where the connection goes, with a reply that the broker refuses or without a reason,
//! what was not confirmed is sent again over a new one, one at a time; that shows which one it was.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation, ErrorKind, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::config::Node;
use super::super::outlet::Outlet;
use super::super::pulse;
use super::Exposes;
use crate::batch::gather;

/// How many replies wait for the replier before their calls do.
pub(super) const QUEUE: usize = 256;
/// How many replies may be unconfirmed before no more are taken.
const MOST_UNCONFIRMED: usize = 4_096;
/// Not every way to lose a connection makes an event.
const LOOK: Duration = Duration::from_secs(1);
/// How long a closed channel has to say so for each of its messages.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a connection is opened for one reply.
const TRIES: u32 = 3;

/// A reply that is ready to go.
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    /// Told what became of it. Dropped, the connection is lost.
    pub(super) sent: oneshot::Sender<Sent>,
}

/// What became of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The broker has it. Whether its caller is still there, nobody knows.
    Confirmed,
    /// The broker does not take it.
    Refused(Refused),
}

/// Why the broker does not take a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// It is larger than messages may be.
    TooLarge,
    /// Nothing goes there, or not from here.
    NoWay,
    /// A queue where it goes takes no more.
    Full,
}

pub(super) struct Replier {
    exposes: Arc<Exposes>,
    node: Arc<Node>,
    outlet: Outlet,
    queue: mpsc::Receiver<Outgoing>,
    /// Each refused reply costs a connection, so what is known is not tried.
    known: Known,
}

/// What the broker is known to refuse.
#[derive(Default)]
struct Known {
    /// The size of the smallest reply that was too large.
    too_large: Option<usize>,
    /// Whether direct replies may not leave.
    no_direct: bool,
}

impl Known {
    fn refuses(&self, reply: &Outgoing) -> Option<Refused> {
        if self.too_large.is_some_and(|size| reply.body.len() >= size) {
            return Some(Refused::TooLarge);
        }
        (self.no_direct && reply.exchange.as_str().is_empty()).then_some(Refused::NoWay)
    }

    fn remember(&mut self, reply: &Outgoing, refused: Refused) {
        let size = reply.body.len();
        match refused {
            Refused::TooLarge => {
                self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
            }
            Refused::NoWay => self.no_direct |= reply.exchange.as_str().is_empty(),
            // There may be room for the next one.
            Refused::Full => {}
        }
    }
}

impl Replier {
    pub(super) fn new(
        exposes: &Arc<Exposes>,
        node: &Arc<Node>,
        outlet: Outlet,
        queue: mpsc::Receiver<Outgoing>,
    ) -> Self {
        let (exposes, node) = (Arc::clone(exposes), Arc::clone(node));
        Self { exposes, node, outlet, queue, known: Known::default() }
    }

    /// Sends replies until nobody is left who has any, or the broker is.
    pub(super) async fn run(mut self) {
        let mut confirms = FuturesUnordered::new();
        let mut batch = Vec::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = MOST_UNCONFIRMED.saturating_sub(confirms.len()).min(QUEUE);
            let mut failed = None;
            tokio::select! {
                biased;
                Some(published) = confirms.next(), if !confirms.is_empty() => {
                    failed = settled(published);
                }
                event = self.outlet.events.next() => {
                    if matches!(event, None | Some(Event::Error(_))) && !self.is_connected() {
                        break;
                    }
                }
                _ = look.tick() => {
                    self.exposes.unsent.sum_up(false);
                    if !self.is_connected() && confirms.is_empty()
                        || !confirms.is_empty() && !self.broker_answers().await
                    {
                        break;
                    }
                }
                taken = self.queue.recv_many(&mut batch, room), if room > 0 => {
                    if taken == 0 {
                        break;
                    }
                    // lapin's thread is woken, and the broker reads, once for all of them.
                    gather(&mut batch, &mut self.queue, room).await;
                    for reply in batch.drain(..) {
                        match self.known.refuses(&reply) {
                            Some(refused) => drop(reply.sent.send(Sent::Refused(refused))),
                            None => confirms.push(publish(self.outlet.channel.clone(), reply)),
                        }
                    }
                }
            }
            if let Some(failed) = failed {
                let mut unconfirmed = vec![failed];
                let settle = async {
                    while let Some(published) = confirms.next().await {
                        unconfirmed.extend(settled(published));
                    }
                };
                let in_time = timeout(SETTLE, settle).await.is_ok();
                confirms.clear();
                if !in_time || !self.send_again(unconfirmed).await {
                    break;
                }
            }
        }
        drop(confirms);
        self.outlet.close().await;
    }

    /// Whether the broker is still there, where it owes confirms and says nothing. One that takes no
    /// messages reads nothing either: it said so, and is not asked.
    async fn broker_answers(&mut self) -> bool {
        if !self.outlet.heard().is_quiet() || self.outlet.status.blocked() {
            return true;
        }
        pulse::answers(self.outlet.channel.clone()).await
    }

    fn is_connected(&self) -> bool {
        self.outlet.status.connected()
    }

    /// Sends what was not confirmed over a new connection, one at a time. False where there is none.
    async fn send_again(&mut self, unconfirmed: Vec<Outgoing>) -> bool {
        if !self.reopen().await {
            return false;
        }
        for mut reply in unconfirmed {
            let mut tries = 0;
            loop {
                match publish(self.outlet.channel.clone(), reply).await {
                    Published { reply, outcome: Ok(confirmation) } => {
                        tell(reply, &confirmation);
                        break;
                    }
                    Published { reply: again, outcome: Err(error) } => {
                        tries += 1;
                        if !self.reopen().await {
                            return false;
                        }
                        reply = again;
                        let refused =
                            refusal(&error).or((tries == TRIES).then_some(Refused::NoWay));
                        if let Some(refused) = refused {
                            self.known.remember(&reply, refused);
                            drop(reply.sent.send(Sent::Refused(refused)));
                            break;
                        }
                    }
                }
            }
        }
        true
    }

    /// Goes on over a new connection.
    async fn reopen(&mut self) -> bool {
        let settings = &self.exposes.settings;
        let node = settings.renewed(&self.node);
        let open = Outlet::open_for(settings, &node, "reply");
        match timeout(settings.connect_timeout, open).await {
            Ok(Ok(outlet)) => {
                let old = std::mem::replace(&mut self.outlet, outlet);
                old.close().await;
                true
            }
            _ => false,
        }
    }
}

/// A reply that was published, and the confirm of it.
struct Published {
    reply: Outgoing,
    outcome: lapin::Result<Confirmation>,
}

async fn publish(channel: lapin::Channel, reply: Outgoing) -> Published {
    let options = BasicPublishOptions { mandatory: false, immediate: false };
    let (exchange, key) = (reply.exchange.clone(), reply.key.clone());
    let properties = reply.properties.clone();
    let published = channel.basic_publish(exchange, key, options, &reply.body, properties).await;
    let outcome = match published {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    Published { reply, outcome }
}

/// Tells what became of a reply. Gives it back where the connection went first.
fn settled(published: Published) -> Option<Outgoing> {
    match published.outcome {
        Ok(confirmation) => {
            tell(published.reply, &confirmation);
            None
        }
        Err(_) => Some(published.reply),
    }
}

fn tell(reply: Outgoing, confirmation: &Confirmation) {
    let sent = match confirmation {
        Confirmation::Ack(_) | Confirmation::NotRequested => Sent::Confirmed,
        Confirmation::Nack(_) => Sent::Refused(Refused::Full),
    };
    // Whoever took the call may have been told to end.
    drop(reply.sent.send(sent));
}

/// Why the broker closed the channel on which there was one reply; `None` where it is not about it.
fn refusal(error: &lapin::Error) -> Option<Refused> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    match refusal.get_id() {
        406 => Some(Refused::TooLarge),
        403 | 404 => Some(Refused::NoWay),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(exchange: &str, size: usize) -> Outgoing {
        Outgoing {
            exchange: exchange.into(),
            key: "9f0c".into(),
            properties: BasicProperties::default(),
            body: vec![b' '; size].into(),
            sent: oneshot::channel().0,
        }
    }

    #[test]
    fn what_was_refused_once_is_not_tried_again() {
        let mut known = Known::default();
        assert_eq!(known.refuses(&reply("", 5_000)), None);
        known.remember(&reply("nameko-rpc", 5_000), Refused::TooLarge);
        known.remember(&reply("nameko-rpc", 7_000), Refused::TooLarge);
        assert_eq!(known.refuses(&reply("nameko-rpc", 5_000)), Some(Refused::TooLarge));
        assert_eq!(known.refuses(&reply("nameko-rpc", 4_999)), None);
        known.remember(&reply("nameko-rpc", 9), Refused::NoWay);
        assert_eq!(known.refuses(&reply("nameko-rpc", 9)), None, "another key may be permitted");
        known.remember(&reply("", 9), Refused::NoWay);
        assert_eq!(known.refuses(&reply("", 9)), Some(Refused::NoWay));
    }
}
