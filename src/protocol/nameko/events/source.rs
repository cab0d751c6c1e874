//! One source: its queue, the events that come out of it, and the acks for those that are settled.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use lapin::{Channel, Consumer};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::intake::Intake;
use super::super::transport::Transport;
use super::super::wire::compression::is_packed;
use super::super::wire::context;
use super::super::wire::event::{self as wire, LeftOut};
use super::binding::Purpose;
use super::complaint::{Complaint, Step};
use super::hold::Hold;
use super::intakes::Intakes;
use super::outstanding::{Fate, Outstanding};
use super::{Events, Wanted};
use crate::backoff::Backoff;
use crate::budget::Exceeded;
use crate::event::{Delivery, Event, Receipt, Unusable};
use crate::exposer::Credence;
use crate::tasks;
use crate::units::format_size;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a consumer has to live for the next one to be set up at once.
const STABLE: Duration = Duration::from_secs(5);
/// How long the broker has to agree that a queue is left.
pub(super) const CANCEL: Duration = Duration::from_secs(2);
/// How long another connection may take to leave a queue.
const TURN: Duration = Duration::from_secs(10);
/// How long nothing comes out of a queue that is empty.
const IDLE: Duration = Duration::from_millis(300);
/// How long an event waits for room before it is offered again.
const OFFER: Duration = Duration::from_millis(100);
/// By how much fewer events are taken at once where they are too large for the memory.
const SMALLER: u16 = 8;
/// How many are taken so before more are tried.
const CAUTIOUS: u32 = 1_000;

const LOST: &str = "the connection to rabbitmq was lost";

/// A source that is listened to over a connection.
pub(super) struct Listening {
    pub(super) events: Arc<Events>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) transport: Arc<Transport>,
    pub(super) intakes: Arc<Intakes>,
    /// Told when the source is not wanted any more: what it has taken is waited for.
    pub(super) stop: CancellationToken,
    /// Told when nothing is to be waited for.
    pub(super) over: CancellationToken,
    /// To be told that the connection is.
    pub(super) lost: CancellationToken,
}

/// A queue that is consumed.
pub(super) struct Open {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
    pub(super) intake: Arc<Intake>,
    pub(super) queue: String,
}

/// Why a queue is consumed no more.
enum Left {
    Stopped,
    /// The source goes for good, and what was taken is settled.
    Gone,
    /// Nothing has come for a while.
    Idle,
    Ended(Complaint),
    /// There was no room for what came, and all that had come before is settled.
    Full,
    /// There may be room for more at once.
    Roomy,
}

impl Listening {
    /// Takes events until it is told to stop or the connection is gone. A queue that nobody will ask for
    /// is left.
    pub(super) async fn run(self) {
        let leaving = &self.wanted.leaving;
        let turn = self.told_to_end(timeout(TURN, self.wanted.turn.acquire())).await;
        if turn.is_some() && !leaving.is_over() && !leaving.is_unbound() {
            self.listen(Purpose::All).await;
        }
        if leaving.is_under_way() && !self.is_told_to_end() {
            self.leave().await;
        }
        drop(turn);
        if leaving.is_over() {
            self.events.gone(&self.wanted);
        }
        if leaving.is_under_way() && self.events.tasks.shutdown().is_cancelled() && self.is_ours() {
            self.events.tell_left(&self.wanted, "its upstream has gone");
        }
    }

    /// Takes events: all, until the source goes, or the rest, until none comes.
    pub(super) async fn listen(&self, purpose: Purpose) {
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let mut said: Option<Cow<'static, str>> = None;
        let most = u16::try_from(self.wanted.source.taker.room()).unwrap_or(u16::MAX).max(1);
        let mut prefetch = most;
        loop {
            let opened = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.over.cancelled() => return,
                opened = self.open(prefetch, purpose) => opened,
            };
            let since = Instant::now();
            let complaint = match opened {
                Ok(open) => {
                    let (upstream, address) = self.names();
                    if purpose == Purpose::All {
                        tracing::info!(upstream, address, queue = open.queue, "taking events");
                    }
                    said = None;
                    self.wanted.source.taker.unheard(None);
                    let left = self.take(open, purpose, prefetch < most).await;
                    backoff.lived(since.elapsed());
                    let is_gap = !self.wanted.keeps() && !self.stop.is_cancelled();
                    match left {
                        Left::Stopped => {
                            if is_gap {
                                self.wanted.source.taker.gap(LOST);
                            }
                            return;
                        }
                        Left::Gone | Left::Idle => return,
                        Left::Full => {
                            prefetch = (prefetch / SMALLER).max(1);
                            None
                        }
                        Left::Roomy => {
                            prefetch = prefetch.saturating_mul(SMALLER).min(most);
                            continue;
                        }
                        Left::Ended(complaint) => {
                            if is_gap {
                                self.wanted.source.taker.gap(&complaint.reason);
                            }
                            Some(complaint)
                        }
                    }
                }
                Err(complaint) => Some(complaint),
            };
            let is_worn = complaint.as_ref().is_some_and(|complaint| complaint.lacks_channels)
                && self.transport.could_have(self.events.wanted.borrow().len());
            if is_worn || !self.transport.connection.status().connected() {
                self.lost.cancel();
                return;
            }
            if let Some(complaint) = complaint
                && said.as_ref() != Some(&complaint.reason)
            {
                self.tell(&complaint);
                said = Some(complaint.reason);
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.over.cancelled() => return,
                () = self.departs(), if purpose == Purpose::All => return,
                () = sleep(backoff.failed()) => {}
            }
            if purpose == Purpose::Rest {
                return;
            }
        }
    }

    fn names(&self) -> (&str, &str) {
        (self.events.metrics.upstream(), &self.wanted.source.address)
    }

    /// Each new reason is said once, at a level that fits who must act.
    fn tell(&self, complaint: &Complaint) {
        self.wanted.source.taker.unheard(Some(&complaint.told()));
        let Complaint { reason, said, mend, .. } = complaint;
        let (upstream, address) = self.names();
        match mend {
            Some(mend) => tracing::error!(
                upstream, address, %reason, said, mend,
                "events cannot be taken, trying again"
            ),
            None => tracing::warn!(
                upstream, address, %reason, said,
                "no events are taken now, trying again"
            ),
        }
    }

    /// Takes what the queue hands over, until it is left.
    async fn take(&self, mut open: Open, purpose: Purpose, cautious: bool) -> Left {
        let left = self.take_over(&mut open, purpose, cautious).await;
        let Open { channel, intake, .. } = open;
        self.intakes.close(channel.id(), &intake);
        self.wanted.seen().over();
        // What was not acked goes back to the queue with the channel.
        if channel.status().connected() {
            drop(timeout(CANCEL, channel.close(200, "OK".into())).await);
        }
        left
    }

    async fn take_over(
        &self,
        Open { channel, consumer, intake, queue }: &mut Open,
        purpose: Purpose,
        cautious: bool,
    ) -> Left {
        let lost = || Left::Ended(Complaint::plain(LOST));
        let taker = &self.wanted.source.taker;
        let (told, mut done) = mpsc::unbounded_channel();
        let mut out = Outstanding::default();
        // What the taker had no room for.
        let mut waiting: Option<Box<Delivery>> = None;
        let mut taken = 0;
        let mut departs = pin!(self.departs());
        let mut keep_bound = pin!(self.keep_bound(channel, queue));
        let takes_all = purpose == Purpose::All;
        let left = loop {
            let message = tokio::select! {
                biased;
                () = self.over.cancelled() => {
                    self.ack(channel, &mut out, &mut done).await;
                    return Left::Stopped;
                }
                () = self.lost.cancelled() => return lost(),
                Some((tag, fate)) = done.recv() => {
                    out.done(tag, fate);
                    self.ack(channel, &mut out, &mut done).await;
                    continue;
                }
                () = self.stop.cancelled() => break Left::Stopped,
                () = &mut departs, if takes_all => break Left::Gone,
                complaint = &mut keep_bound, if takes_all => {
                    return Left::Ended(complaint);
                }
                () = self.room(), if waiting.is_some() => {
                    waiting = waiting.and_then(|delivery| taker.take(*delivery).err());
                    continue;
                }
                message = consumer.next(), if waiting.is_none() => message,
                () = sleep(IDLE), if !takes_all && out.is_empty() && waiting.is_none() => {
                    break Left::Idle;
                }
            };
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    return Left::Ended(Complaint::new(Step::Consume, &error));
                }
                None => {
                    let reason = "rabbitmq has cancelled the consumer";
                    return Left::Ended(Complaint::plain(reason));
                }
            };
            let tag = message.delivery_tag;
            let read = self.read(message, intake, &told).await;
            if !self.wanted.keeps() {
                match read {
                    // What it has no room for it counts itself.
                    Some(delivery) => drop(taker.take(delivery)),
                    None => taker.gap("there was no room for an event (max_memory)"),
                }
                continue;
            }
            let Some(delivery) = read else { break Left::Full };
            out.took(tag);
            waiting = taker.take(delivery).err();
            taken += 1;
            if cautious && taken == CAUTIOUS {
                break Left::Roomy;
            }
        };
        drop(waiting);
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        drop(timeout(CANCEL, cancel).await);
        if let Left::Gone = left {
            // What was taken may take long.
            self.unbind().await;
        }
        self.settled(channel, &mut out, &mut done).await.err().unwrap_or(left)
    }

    /// Waits until what was taken is settled; why it is not, where it will not be.
    async fn settled(
        &self,
        channel: &Channel,
        out: &mut Outstanding,
        done: &mut mpsc::UnboundedReceiver<(u64, Fate)>,
    ) -> Result<(), Left> {
        while !out.is_empty() {
            tokio::select! {
                biased;
                () = self.over.cancelled() => {
                    self.ack(channel, out, done).await;
                    return Err(Left::Stopped);
                }
                () = self.lost.cancelled() => return Err(Left::Ended(Complaint::plain(LOST))),
                Some((tag, fate)) = done.recv() => {
                    out.done(tag, fate);
                    self.ack(channel, out, done).await;
                }
            }
        }
        Ok(())
    }

    /// Waits until the taker may have room.
    async fn room(&self) {
        drop(timeout(OFFER, self.wanted.done.notified()).await);
    }

    /// Tells the broker of all that is done with by now.
    async fn ack(
        &self,
        channel: &Channel,
        out: &mut Outstanding,
        done: &mut mpsc::UnboundedReceiver<(u64, Fate)>,
    ) {
        while let Ok((tag, fate)) = done.try_recv() {
            out.done(tag, fate);
        }
        let acks = out.acks();
        for tag in acks.tags {
            let options = BasicAckOptions { multiple: acks.multiple };
            if let Err(error) = channel.basic_ack(tag, options).await {
                tracing::debug!(%error, "events could not be acked: they come again");
                return;
            }
            self.wanted.seen().acked(tag);
        }
    }

    /// What came, as the taker is handed it; `None` where there was no room for it in the memory.
    async fn read(
        &self,
        message: Message,
        intake: &Intake,
        told: &mpsc::UnboundedSender<(u64, Fate)>,
    ) -> Option<Delivery> {
        let Message { delivery_tag: tag, routing_key, redelivered, properties, mut data, .. } =
            message;
        let settings = &self.events.settings;
        let (topic, captures) = self.wanted.place.topic(routing_key.as_str());
        let topic: Arc<str> = topic.into();
        let share = intake.claim(data.len());
        if share.is_some() {
            // lapin doubles the room that a body has, as it comes.
            data.shrink_to_fit();
        }
        let mut body: Bytes = match share {
            Some(share) => share.keep_with(data.into()),
            None => data.into(),
        };
        let left_out = wire::left_out(&properties);
        let has_body = matches!(left_out, None | Some(LeftOut::Headers(_)));
        let payload = match left_out {
            Some(LeftOut::Headers(why)) => Err(why),
            Some(LeftOut::NoRoom(size)) => match intake.refusal_of(size) {
                Some(Exceeded::Message { cap }) => Err(wire::never_fits(size, cap)),
                _ => return None,
            },
            Some(LeftOut::TooLarge(size)) => Err(format!(
                "it is {size} bytes, and {} are taken at most: raise the upstream's `max_reply`",
                format_size(settings.max_reply)
            )),
            None if is_packed(&properties) => match self.unpack(&properties, body.clone()).await {
                Ok(plain) => {
                    let mut share = self.events.account.share();
                    match share.grow(plain.len()) {
                        Ok(()) => {
                            body = share.keep_with(plain);
                            wire::payload(&body).map_err(str::to_owned)
                        }
                        Err(Exceeded::Message { cap }) => {
                            Err(wire::never_fits(plain.len() as u64, cap))
                        }
                        Err(_) => return None,
                    }
                }
                Err(reason) => Err(reason),
            },
            None => wire::payload(&body).map_err(str::to_owned),
        };
        let id: Arc<str> = match wire::id(&properties) {
            Some(id) => id.into(),
            None => {
                let content = wire::content(routing_key.as_str(), &properties, &body);
                self.wanted.seen().id(content, tag, redelivered)
            }
        };
        let event = match payload {
            Ok(data) => {
                let time = wire::time(&properties).unwrap_or_else(SystemTime::now);
                let credence =
                    Credence::of(settings.forward_authorization, settings.trust_context, false);
                let context = Arc::new(context::read(&properties, credence));
                Ok(Event { topic, id, data, time, context })
            }
            Err(reason) => {
                let body = has_body.then_some(body);
                Err(Unusable { topic, id, reason, body })
            }
        };
        let receipt = self.wanted.keeps().then(|| {
            let (told, wanted) = (told.clone(), Arc::clone(&self.wanted));
            let hold = Hold { tag, fate: Fate::Abandoned, told, wanted };
            Receipt::of(hold)
        });
        Some(Delivery { event, captures, message: 0, receipt })
    }

    /// To unpack one may take long: that is done apart, a few at a time.
    async fn unpack(&self, properties: &BasicProperties, body: Bytes) -> Result<Bytes, String> {
        let permit = Arc::clone(&self.events.unpackers).acquire_owned().await;
        let (properties, largest) = (properties.clone(), self.events.settings.max_reply);
        let unpack = move || {
            let _permit = permit;
            wire::unpack(&properties, body, largest)
        };
        let failed = || Err("it could not be unpacked".to_owned());
        tasks::apart(unpack).await.unwrap_or_else(failed)
    }
}
