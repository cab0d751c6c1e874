//! What calls use of a generation: its tasks, started, and the way of a message through them.
//!
//! Everything a call awaits can be dropped at any point: its seat takes it out of the table,
//! and a message that has not been published yet is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lapin::types::ShortString;
use lapin::{BasicProperties, Consumer};
use tokio::sync::{Notify, mpsc};

use super::generation::{End, Host};
use super::intake::Intake;
use super::outlet::Outlet;
use super::pending::{Answer, Pending};
use super::probe::{Finding, Look, Prober, Service, Services};
use super::publisher::{self, Message, Publisher};
use super::quarantine;
use super::replies;
use super::transport::Transport;
use super::unconfirmed::OnAck;
use super::wire::request as wire;
use crate::call::Request;

/// How often a message goes out that the broker drops because of others.
const MOST_TRIES: u32 = 4;

/// What a message is sent for.
pub(super) enum Wants {
    /// The service's reply.
    Reply,
    /// The same, of a service whose queue may be missing.
    ReplyOfMissing(Arc<Service>),
    /// The broker's confirm.
    Confirm,
}

/// What calls use of a generation.
pub(super) struct Calls {
    upstream: String,
    pub(super) pending: Arc<Pending>,
    /// The routing key on which replies come back.
    pub(super) reply_key: String,
    /// The largest frame that the broker and we have agreed upon.
    pub(super) frame_max: usize,
    publish: mpsc::Sender<Message>,
    services: Services,
    end: End,
    blocked: Arc<AtomicBool>,
}

impl Calls {
    /// Starts their tasks.
    pub(super) fn start(
        host: &Host<'_>,
        outlet: Outlet,
        (consumer, intake): (Consumer, Arc<Intake>),
        reply_key: String,
        probing: Option<Transport>,
    ) -> Self {
        let Host { settings, node, metrics, end, .. } = *host;
        let (publish, queue) = mpsc::channel(publisher::QUEUE);
        let (services, requests) = Services::new(settings.probe_interval);
        let (pending, blocked) = (Pending::new(), Arc::<AtomicBool>::default());
        let frame_max = outlet.frame_max();
        let (quarantine, examiner) = quarantine::new(host, &pending);
        let publisher = Publisher::new(
            host,
            outlet,
            queue,
            Arc::clone(&pending),
            Arc::clone(&blocked),
            quarantine,
        );
        let replies =
            replies::run(consumer, Arc::clone(&pending), intake, metrics.clone(), end.clone());
        let prober = Prober::new(
            settings,
            node,
            services.clone(),
            requests,
            end.clone(),
            (probing, metrics.clone()),
        );
        host.spawn("nameko publisher", publisher.run());
        host.spawn("nameko quarantine", examiner.run());
        host.spawn("nameko replies", replies);
        host.spawn("nameko prober", prober.run());
        let upstream = metrics.upstream().to_owned();
        Self {
            upstream,
            pending,
            reply_key,
            frame_max,
            publish,
            services,
            end: end.clone(),
            blocked,
        }
    }

    /// Whether the broker takes no messages, for want of memory or disk.
    pub(super) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Refuses a call that nobody would take now. A service that was missing when it was last
    /// looked for comes back: the call tells whether it is there by now. So does one of which nothing
    /// could be found out, where the broker does not return what nobody takes.
    pub(super) async fn someone_serves(
        &self,
        service: &str,
    ) -> Result<Option<Arc<Service>>, Answer> {
        let (finding, service) = match self.services.look(service) {
            Look::Known(finding) => (finding, None),
            Look::Missing(service) => return Ok(Some(service)),
            Look::Asked(service, asking) => tokio::select! {
                finding = asking.finding() => (finding, Some(service)),
                () = self.end.wait() => return Err(Answer::Lost { sent: false }),
            },
        };
        match finding {
            Finding::Deserted { since, waiting } => Err(Answer::Deserted { since, waiting }),
            Finding::Missing if self.services.diverts() => Err(Answer::Unroutable),
            Finding::Missing => Ok(service),
            // Nothing would tell of a message that nobody takes, but another look.
            Finding::Unknown if self.services.diverts() => Ok(service),
            _ => Ok(None),
        }
    }

    /// Sends a message and waits for what becomes of it. What the broker dropped because it had
    /// refused somebody else's message is as good as never sent, and goes out again.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        mut routing_key: ShortString,
        wants: Wants,
        properties: impl Fn(&str) -> BasicProperties,
    ) -> Answer {
        let mut tries = 0;
        loop {
            let answer = self.send_once(request, routing_key, &wants, &properties).await;
            tries += 1;
            if tries == MOST_TRIES || !matches!(answer, Answer::Dropped) {
                return answer;
            }
            match wire::routing_key(request.service, request.method) {
                Ok(again) => routing_key = again,
                Err(_) => return answer,
            }
        }
    }

    /// Hands a message to the publisher and waits for what becomes of it.
    async fn send_once(
        &self,
        request: &Request<'_>,
        routing_key: ShortString,
        wants: &Wants,
        properties: &impl Fn(&str) -> BasicProperties,
    ) -> Answer {
        let Some((mut seat, answer)) = self.pending.enter() else {
            return Answer::Lost { sent: false };
        };
        seat.hold(request.departure.hold());
        let (on_ack, doubt) = match wants {
            Wants::Reply => (OnAck::Wait, None),
            Wants::ReplyOfMissing(service) => {
                let taken = Arc::<Notify>::default();
                (OnAck::Tell(Arc::clone(&taken)), Some((service, taken)))
            }
            Wants::Confirm => (OnAck::Confirmed, None),
        };
        let (body, properties) = (wire::body(request.params), properties(&seat.correlation_id()));
        let message = Message { id: seat.id(), routing_key, properties, body, on_ack };
        if self.publish.send(message).await.is_err() {
            return Answer::Lost { sent: false };
        }
        let answer = async { answer.await.unwrap_or(Answer::Lost { sent: true }) };
        match doubt {
            None => answer.await,
            Some((service, taken)) => self.or_diverted(answer, service, &taken).await,
        }
    }

    /// Waits for the answer of a service whose queue may be missing, or until it is known that the
    /// message has not reached one: the broker has `taken` it, and the queue is still missing.
    async fn or_diverted(
        &self,
        answer: impl Future<Output = Answer>,
        service: &Arc<Service>,
        taken: &Notify,
    ) -> Answer {
        tokio::pin!(answer);
        let is_diverted = async {
            taken.notified().await;
            self.services.is_diverted(service).await
        };
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            is_diverted = is_diverted => if !is_diverted {
                service.found();
                return answer.await;
            }
        }
        if self.services.note_diversion() {
            tracing::warn!(
                upstream = self.upstream,
                mend = "take the RPC exchange out of the policy that sets `alternate-exchange`, or \
                        leave it: Genkan looks for a service's queue before it sends a call now",
                "an alternate exchange takes calls to services that do not exist: rabbitmq does not \
                 return them"
            );
        }
        Answer::Diverted
    }
}
