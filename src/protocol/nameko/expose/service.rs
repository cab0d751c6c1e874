//! One exposed service: its queue, as a real one declares it, and the calls that were taken from it.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::binding::{Binding, CALLS};
use super::super::config::Node;
use super::super::open::{declare_exchange, refused_with};
use super::super::transport::Transport;
use super::answering::Desk;
use super::complaint::{Complaint, Step};
use super::queue_name;
use crate::backoff::Backoff;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a consumer has to live for the next one to be set up at once.
const STABLE: Duration = Duration::from_secs(5);
/// How long the broker has to agree that a queue is left.
pub(super) const CANCEL: Duration = Duration::from_secs(5);

pub(super) struct Service {
    pub(super) desk: Arc<Desk>,
    pub(super) node: Arc<Node>,
    pub(super) consuming: Arc<Transport>,
    /// Told when the service is not to be exposed any more.
    pub(super) stop: CancellationToken,
}

/// Calls that were taken and not answered yet: as many as are prefetched.
type Taken = FuturesUnordered<BoxFuture<'static, ()>>;

/// Why a queue is consumed no more.
enum Left {
    /// Nobody wants it to be; what it had handed over was taken.
    Stopped,
    /// The broker has ended it.
    Ended(Complaint),
}

/// A queue that is consumed.
struct Consumed {
    channel: Channel,
    consumer: Consumer,
    /// `None` where the user may not bind it: whoever may has to.
    binding: Option<Binding>,
}

impl Service {
    /// Takes calls until it is told to stop or the connection is gone, and answers what was taken.
    pub(super) async fn run(self) {
        let mut taken = Taken::new();
        let lost = self.desk.lost.clone();
        let shutdown = self.desk.exposes.tasks.shutdown().clone();
        // What takes calls goes with the connection: nothing can be acked over it any more.
        let desk = Arc::clone(&self.desk);
        let service = tokio::select! {
            () = shutdown.cancelled() => return,
            () = lost.cancelled() => None,
            service = self.take_calls(&mut taken) => service,
        };
        let Desk { exposes, expose, .. } = &*desk;
        exposes.troubles().remove(&expose.name);
        let leave = async {
            while taken.next().await.is_some() {}
            // Where it stays for others, or only until it is exposed again, the queue does too.
            if !exposes.gone().remove(&expose.name) {
                return;
            }
            match service {
                Some(service) => service.leave_queue().await,
                None => exposes.tell_left(expose, "the connection to rabbitmq was lost"),
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = leave => {}
        }
    }

    /// Gives itself back where it was told to stop; `None` where the connection is gone.
    async fn take_calls(self, taken: &mut Taken) -> Option<Self> {
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let mut said: Option<Cow<'static, str>> = None;
        loop {
            let opened = tokio::select! {
                () = self.stop.cancelled() => return Some(self),
                opened = meanwhile(taken, self.consume()) => opened,
            };
            let complaint = match opened {
                Ok(mut consumed) => {
                    self.tell_of_success(&consumed.channel);
                    said = None;
                    let since = Instant::now();
                    let left = self.serve(&mut consumed, taken).await;
                    backoff.lived(since.elapsed());
                    match left {
                        Left::Stopped => {
                            // They are acked over its channel.
                            while taken.next().await.is_some() {}
                            return Some(self);
                        }
                        Left::Ended(complaint) => complaint,
                    }
                }
                Err(complaint) => complaint,
            };
            let is_worn = complaint.lacks_channels() && self.consuming.could_have(self.wanted());
            if !self.consuming.connection.status().connected() || is_worn {
                self.desk.lost.cancel();
                return None;
            }
            if said.as_ref() != Some(&complaint.reason) {
                self.tell_of(&complaint);
                said = Some(complaint.reason);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Some(self),
                () = meanwhile(taken, sleep(backoff.failed())) => {}
            }
        }
    }

    pub(super) fn queue(&self) -> String {
        queue_name(&self.desk.expose.name)
    }

    /// How many services are to be exposed.
    fn wanted(&self) -> usize {
        self.desk.exposes.wanted.borrow().services.len()
    }

    fn prefetch(&self) -> u16 {
        self.desk.expose.prefetch.unwrap_or(self.desk.exposes.settings.prefetch)
    }

    fn tell_of_success(&self, channel: &Channel) {
        self.desk.exposes.troubles().remove(&self.desk.expose.name);
        let (upstream, service) = (self.desk.exposes.metrics.upstream(), &self.desk.expose.service);
        let (queue, channel) = (self.queue(), channel.id());
        tracing::info!(upstream, service, queue, channel, "exposed: its calls are taken");
    }

    /// Each new reason is said once, at a level that fits who must act.
    fn tell_of(&self, complaint: &Complaint) {
        let (upstream, service) = (self.desk.exposes.metrics.upstream(), &self.desk.expose.service);
        let queue = self.queue();
        let Complaint { reason, said, mend } = complaint;
        let what = mend.map_or_else(|| reason.to_string(), |mend| format!("{reason}: {mend}"));
        self.desk.exposes.troubles().insert(self.desk.expose.name.clone(), what);
        match mend {
            Some(mend) => tracing::error!(
                upstream, service, queue, %reason, said, mend,
                "a service cannot be exposed, trying again"
            ),
            None => tracing::warn!(
                upstream, service, queue, %reason, said,
                "a service is not exposed now, trying again"
            ),
        }
    }

    /// Takes what the queue hands over, until it is left.
    async fn serve(&self, consumed: &mut Consumed, taken: &mut Taken) -> Left {
        let Consumed { channel, consumer, binding } = consumed;
        let channel = &*channel;
        let _owed = self.desk.exposes.debts.consumer();
        let mut stopping = false;
        let mut ended = None;
        let mut keep_bound = pin!(async {
            match binding {
                Some(binding) => binding.keep(channel, || CALLS).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                biased;
                Some(()) = taken.next(), if !taken.is_empty() => {}
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                    let cancelled = meanwhile(taken, timeout(CANCEL, cancel)).await;
                    if !matches!(cancelled, Ok(Ok(()))) {
                        self.desk.lost.cancel();
                    }
                }
                error = &mut keep_bound, if !stopping && ended.is_none() => {
                    ended = Some(Complaint::unbound(&error));
                    // The broker has closed the channel; whatever else it was, the consumer ends.
                    if channel.status().connected() {
                        let close = channel.close(200, "OK".into());
                        drop(meanwhile(taken, timeout(CANCEL, close)).await);
                    }
                }
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        let debt = self.desk.exposes.debts.call();
                        taken.push(Box::pin(Arc::clone(&self.desk).serve(delivery, debt)));
                    }
                    Some(Err(error)) => {
                        ended.get_or_insert_with(|| Complaint::new(Step::Consume, &error));
                    }
                    // Behind all that it has handed over.
                    None if stopping => return Left::Stopped,
                    None => return Left::Ended(ended.unwrap_or_else(Complaint::cancelled)),
                }
            }
        }
    }

    /// Sets the queue up as a real service does, and consumes it. Where the user may not declare or bind
    /// it, it has to be there.
    async fn consume(&self) -> Result<Consumed, Complaint> {
        match self.consume_as(false).await {
            Err((step @ (Step::Declare | Step::Bind), error)) if refused_with(&error, 403) => {
                let as_it_is = self.consume_as(true).await;
                as_it_is.map_err(|_| Complaint::new(step, &error))
            }
            consumed => consumed.map_err(|(step, error)| Complaint::new(step, &error)),
        }
    }

    async fn consume_as(&self, passive: bool) -> Result<Consumed, (Step, lapin::Error)> {
        let at = |step: Step| move |error: lapin::Error| (step, error);
        let none = FieldTable::default;
        let (connection, exchange) = (&self.consuming.connection, &self.desk.exposes.exchange);
        let queue = ShortString::from(self.queue());
        let declared = declare_exchange(connection, exchange).await;
        let channel = declared.map_err(at(Step::Exchange))?;
        let durable = QueueDeclareOptions { durable: true, passive, ..Default::default() };
        let declared = channel.queue_declare(queue.clone(), durable, none()).await;
        declared.map_err(at(Step::Declare))?;
        let binding = (!passive).then(|| Binding {
            queue: queue.clone(),
            exchange: exchange.clone(),
            key: format!("{}.*", self.desk.expose.name).into(),
        });
        if let Some(binding) = &binding {
            binding.bind(&channel).await.map_err(at(Step::Bind))?;
        }
        let limited = channel.basic_qos(self.prefetch(), BasicQosOptions::default()).await;
        limited.map_err(at(Step::Consume))?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, ShortString::default(), options, none()).await;
        let consumer = consumer.map_err(at(Step::Consume))?;
        Ok(Consumed { channel, consumer, binding })
    }
}

/// Waits, and answers what has been taken meanwhile.
async fn meanwhile<T>(taken: &mut Taken, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    loop {
        tokio::select! {
            biased;
            done = &mut wait => return done,
            Some(()) = taken.next(), if !taken.is_empty() => {}
        }
    }
}
