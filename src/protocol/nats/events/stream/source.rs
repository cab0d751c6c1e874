//! Asks for a stream's events over one connection, as many as the bridge has room for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::super::super::ask::{Unanswered, ask};
use super::super::super::generation::{Generation, MORE_SUBSCRIPTIONS};
use super::super::super::wire::{
    self, Ack, ApiFailure, ConsumerInfo, NewConsumer, Start, StreamInfo,
};
use super::super::Hosted;
use super::complaint::Complaint;
use super::holes::Sight;
use super::ledger::Resumed;
use super::{Session, StreamSource};
use crate::backoff::Backoff;
use crate::event_port::REPLACED;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a session has to live for the next one to be set up at once.
const STABLE: Duration = Duration::from_secs(5);
/// How long what another bridge has of the same consumer is waited for.
const LEAVE: Duration = Duration::from_secs(10);
/// How often it is looked whether the server still speaks of its pulls.
const TICK: Duration = Duration::from_secs(1);
/// How long it may say nothing of them: it says something every five seconds.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the server is told of what is still with the bridge, which is a third of the consumer's
/// `ack_wait`.
const WORKING: Duration = Duration::from_secs(10);
/// How many pulls wait at once: while the one is being answered, the next is on its way.
const MOST_PULLS: usize = 2;
/// What one brings at most, unless a single message may be larger.
const PULL_BYTES: usize = 8 << 20;
/// From so much on that is with the bridge, no more is asked for.
const MOST_HELD: usize = 16 << 20;

/// Why something may have been missed.
const ANOTHER: &str = "its stream was deleted and made again, or has lost its messages";
const UNKNOWN: &str =
    "its consumer was deleted, and JetStream does not show the stream: nobody knows where it was";

/// Takes a stream's events over a connection until it is told to stop.
pub(in super::super) async fn run(
    hosted: &Hosted,
    generation: &Generation,
    stream: Arc<StreamSource>,
    stop: CancellationToken,
) {
    let turn = stop.run_until_cancelled(stream.state.turn.acquire()).await;
    let Some(Ok(_turn)) = turn else { return };
    if stream.is_heir.swap(false, Ordering::AcqRel)
        && stop.run_until_cancelled(timeout(LEAVE, settled(&stream))).await.is_none()
    {
        return;
    }
    let taking = Taking { hosted, generation, stream: &stream };
    let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
    let (mut said, mut warned) = (None, Vec::new());
    loop {
        let Some(found) = stop.run_until_cancelled(taking.set_up()).await else { return };
        let complaint = match found {
            Ok((here, consumer)) => {
                let (upstream, consumer_name) = (hosted.events.upstream(), &stream.consumer);
                let address = &stream.source.address;
                let losses =
                    if stream.source.shared { consumer.config.losses() } else { Vec::new() };
                if losses != warned {
                    for (reason, mend) in &losses {
                        warn!(
                            upstream,
                            address,
                            consumer = consumer_name,
                            reason,
                            mend,
                            "a stream's consumer may lose events"
                        );
                    }
                    warned = losses;
                }
                info!(upstream, address, consumer = consumer_name, "taking events");
                said = None;
                stream.source.taker.unheard(None);
                let since = Instant::now();
                let Some(reason) = taking.take(&here, &consumer, &stop).await else { return };
                backoff.lived(since.elapsed());
                Complaint::plain(reason)
            }
            Err(complaint) => complaint,
        };
        if said.as_ref() != Some(&complaint.reason) {
            taking.tell(&complaint);
            said = Some(complaint.reason);
        }
        if stop.run_until_cancelled(sleep(backoff.failed())).await.is_none() {
            return;
        }
    }
}

struct Taking<'a> {
    hosted: &'a Hosted,
    generation: &'a Generation,
    stream: &'a Arc<StreamSource>,
}

/// Why there is no new consumer.
enum Unmade {
    Unanswered(Unanswered),
    Refused(ApiFailure),
}

impl From<Unmade> for Complaint {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Unanswered(unanswered) => unanswered.into(),
            Unmade::Refused(failure) => failure.into(),
        }
    }
}

impl Taking<'_> {
    /// Finds the stream, and the consumer, which is made where there is none.
    async fn set_up(&self) -> Result<(StreamInfo, ConsumerInfo), Complaint> {
        let (stream, name) = (self.stream, self.stream.name());
        let here = ask(self.generation, &wire::stream_info(name.stream), Bytes::new()).await;
        let here = match here {
            // Who may not ask may still have a consumer.
            Err(Unanswered::Denied) => StreamInfo {
                created: String::new(),
                state: Default::default(),
                config: Default::default(),
            },
            answer => wire::api_answer(&answer?)?,
        };
        let found = ask(self.generation, &wire::consumer_info(&name), Bytes::new()).await?;
        let consumer = match wire::api_answer(&found) {
            Err(ApiFailure::NoConsumer) => {
                let resumed = stream.ledger().resume(&here);
                let is_durable = stream.source.shared;
                let (start, gap) = match resumed {
                    Resumed::At(number) => (Start::At(number), None),
                    Resumed::Another => (Start::All, Some(ANOTHER)),
                    Resumed::Unknown if is_durable => (Start::All, Some(UNKNOWN)),
                    Resumed::Unknown => (Start::New, Some(UNKNOWN)),
                    Resumed::Begins if is_durable => (Start::All, None),
                    Resumed::Begins => (Start::New, stream.source.resumes.then_some(REPLACED)),
                };
                let made = match self.make(start).await {
                    // What the consumer before it had is no more in a work queue, which begins at its
                    // beginning for whoever comes.
                    Err(Unmade::Refused(ApiFailure::WorkQueue(_)))
                        if is_durable && start != Start::All =>
                    {
                        self.make(Start::All).await
                    }
                    made => made,
                }?;
                stream.ledger().begin(&here, resumed);
                if let Some(reason) = gap {
                    stream.source.taker.gap(reason);
                }
                made
            }
            // One that an operator has made, to begin elsewhere for one, is as good.
            found => found?,
        };
        let ConsumerInfo { config, .. } = &consumer;
        if !config.deliver_subject.is_empty() || config.ack_policy != "explicit" {
            return Err(Complaint::lasting(
                format!(
                    "its consumer `{}` is no pull consumer with explicit acks",
                    stream.consumer
                ),
                "delete it with `nats consumer rm`: Genkan makes its own",
            ));
        }
        Ok((here, consumer))
    }

    async fn make(&self, start: Start) -> Result<ConsumerInfo, Unmade> {
        let stream = self.stream;
        let (subject, body) = wire::create_consumer(&NewConsumer {
            of: stream.name(),
            filter: &stream.filter,
            description: &description(&stream.source.name),
            is_durable: stream.source.shared,
            start,
        });
        let answer = ask(self.generation, &subject, body).await.map_err(Unmade::Unanswered)?;
        wire::api_answer(&answer).map_err(Unmade::Refused)
    }

    /// Takes events: why no more, or `None` when told to stop.
    async fn take(
        &self,
        here: &StreamInfo,
        consumer: &ConsumerInfo,
        stop: &CancellationToken,
    ) -> Option<String> {
        let prefix = &self.hosted.events.settings.inbox_prefix;
        let inbox = format!("{prefix}.{:032x}.", fastrand::u128(..));
        let session = Session::new(self.stream, inbox);
        let sid = self.hosted.enter(&session);
        let mut lines = Vec::new();
        wire::subscribe(&mut lines, &session.subscription(), None, sid);
        if self.generation.subscribe(lines, 1).await == Some(1) {
            self.hosted.leave(sid);
            return Some(format!("NATS takes no more subscriptions: {MORE_SUBSCRIPTIONS}"));
        }
        let ended = stop.run_until_cancelled(async {
            self.sweep(here, consumer).await;
            self.attend(&session).await
        });
        let ended = ended.await;
        let mut lines = Vec::new();
        wire::unsubscribe(&mut lines, sid);
        self.generation.say(lines);
        // What the server had sent by then is taken, or not, before somebody else asks for it.
        let _is_read = self.generation.flush().await;
        self.hosted.leave(sid);
        ended
    }

    /// Tells the consumer of what an earlier connection was handed, before anything new is asked for.
    async fn sweep(&self, here: &StreamInfo, consumer: &ConsumerInfo) {
        let name = self.stream.name();
        let told = {
            let mut ledger = self.stream.ledger();
            let sight = Sight::of(name.stream, here, &consumer.config);
            ledger.holes.set_up(sight, &here.state, consumer.delivered, consumer.num_pending);
            ledger.sweep(here, consumer)
        };
        let count = consumer.delivered.consumer_seq;
        let subject = |number| wire::ack_subject(name.stream, name.name, number, count);
        let Some(((last, word), first)) = told.split_last().map(|(last, first)| (*last, first))
        else {
            return;
        };
        let mut lines = Vec::new();
        for (number, word) in first {
            wire::push_ack(&mut lines, subject(*number).as_bytes(), *word);
        }
        self.generation.say(lines);
        let _is_read = self.generation.flush().await;
        // It says when it has come to the last one.
        if ask(self.generation, &subject(last), word.word()).await.is_err() {
            let (upstream, consumer) = (self.hosted.events.upstream(), name.name);
            warn!(upstream, consumer, "a stream's events may come out of their order");
        }
    }

    /// Asks for more whenever there is room, until the session is over: why.
    async fn attend(&self, session: &Session) -> String {
        let mut worked = Instant::now();
        loop {
            if let Some(reason) = session.over() {
                return reason;
            }
            self.ask_for_more(session);
            self.look_for_gaps().await;
            tokio::select! {
                () = self.stream.state.changed.notified() => {}
                () = sleep(TICK) => {
                    if session.silent_since().is_some_and(|since| since.elapsed() > SILENCE) {
                        session.end("JetStream has fallen silent");
                    }
                }
            }
            if worked.elapsed() >= WORKING {
                worked = Instant::now();
                self.say_working();
            }
        }
    }

    fn ask_for_more(&self, session: &Session) {
        let room = self.stream.source.taker.room();
        let (held, bytes) = {
            let ledger = self.stream.ledger();
            (ledger.held(), ledger.held_bytes())
        };
        let (pulls, coming) = session.open();
        let free = room.saturating_sub(held + coming);
        // Not one by one: an answer has a price too.
        let is_enough = free >= (room / 4).max(1) || (coming == 0 && free > 0);
        if pulls >= MOST_PULLS || !is_enough || bytes >= MOST_HELD {
            if pulls == 0 {
                self.stream.ledger().holes.falls_behind();
            }
            return;
        }
        let largest = self.generation.max_payload() + (64 << 10);
        let reply = session.pull(free);
        let (subject, body) = wire::pull(&self.stream.name(), free, largest.max(PULL_BYTES));
        let mut lines = Vec::new();
        wire::push_pull(&mut lines, &subject, &reply, &body);
        self.generation.say(lines);
    }

    /// Tells of what the stream has discarded before it was taken, and asks where it begins where that matters.
    async fn look_for_gaps(&self) {
        let question = self.stream.ledger().holes.question();
        if let Some(number) = question {
            let subject = wire::stream_info(self.stream.name().stream);
            // Who gets no answer now will soon know why.
            if let Ok(answer) = ask(self.generation, &subject, Bytes::new()).await
                && let Ok(StreamInfo { state, .. }) = wire::api_answer(&answer)
            {
                self.stream.ledger().holes.answer(number, state.first_seq);
            }
        }
        let gap = self.stream.ledger().holes.due();
        if let Some(gap) = gap {
            self.stream.tell_gap(gap);
        }
    }

    /// What is still with the bridge is not to come again meanwhile.
    fn say_working(&self) {
        let mut lines = Vec::new();
        for reply in self.stream.ledger().held_replies() {
            wire::push_ack(&mut lines, reply, Ack::Working);
        }
        self.generation.say(lines);
    }

    /// Each new reason is said once, at a level that fits who must act.
    fn tell(&self, Complaint { reason, mend }: &Complaint) {
        let why = mend.map_or_else(|| reason.to_string(), |mend| format!("{reason}: {mend}"));
        self.stream.source.taker.unheard(Some(&why));
        let (upstream, address) = (self.hosted.events.upstream(), &self.stream.source.address);
        match mend {
            Some(mend) => {
                error!(upstream, address, %reason, mend, "events cannot be taken, trying again")
            }
            None => warn!(upstream, address, %reason, "no events are taken now, trying again"),
        }
    }
}

/// Waits until no bridge has anything of a consumer.
async fn settled(stream: &StreamSource) {
    while stream.ledger().held() > 0 {
        // Another one may be told of the change.
        drop(timeout(TICK, stream.state.changed.notified()).await);
    }
}

/// Whose a consumer is.
fn description(name: &str) -> String {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    format!("Genkan's, for {shown}")
}
