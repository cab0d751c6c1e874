//! The task that makes the probes, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, ErrorKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::config::{Node, Settings};
use super::super::generation::End;
use super::super::open::Failure;
use super::super::transport::Transport;
use super::services::{Finding, Service, Services};
use crate::metrics::UpstreamMetrics;

/// How many probes may find nothing in one interval before new names go unprobed: they come from
/// callers.
const MOST_MISSES: u32 = 100;
/// How many channels may be lost before the connection is replaced; RabbitMQ allows 2047.
const MOST_CHANNELS_LOST: u32 = 1_000;
/// How long after a failure the next connection is tried.
const RETRY: Duration = Duration::from_secs(1);
/// How long the broker has to answer one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The task that makes the probes.
pub(in super::super) struct Prober {
    settings: Arc<Settings>,
    node: Arc<Node>,
    services: Services,
    requests: mpsc::Receiver<Arc<Service>>,
    end: End,
    /// The connection that the generation came with.
    first: Option<Transport>,
    misses: u32,
    lost_channels: u32,
    metrics: UpstreamMetrics,
    /// It was told that there is no connection.
    complained: bool,
}

impl Prober {
    pub(in super::super) fn new(
        settings: &Arc<Settings>,
        node: &Arc<Node>,
        services: Services,
        requests: mpsc::Receiver<Arc<Service>>,
        end: End,
        (first, metrics): (Option<Transport>, UpstreamMetrics),
    ) -> Self {
        let (misses, lost_channels, complained) = (0, 0, false);
        let (settings, node) = (Arc::clone(settings), Arc::clone(node));
        Self {
            settings,
            node,
            services,
            requests,
            end,
            first,
            misses,
            lost_channels,
            metrics,
            complained,
        }
    }

    /// Probes until the generation ends, over one connection after the other.
    pub(in super::super) async fn run(mut self) {
        let end = self.end.clone();
        loop {
            let opened = match self.first.take() {
                Some(transport) => Ok(transport),
                None => tokio::select! {
                    () = end.wait() => return,
                    opened = self.open() => opened,
                },
            };
            match opened {
                Ok(transport) => {
                    self.is_there();
                    tokio::select! {
                        () = end.wait() => {}
                        () = self.probe_over(&transport) => {}
                    }
                    without_findings(&mut self.requests, transport.close()).await;
                }
                Err(failure) => self.complain(&failure),
            }
            if self.lost_channels < MOST_CHANNELS_LOST {
                tokio::select! {
                    () = end.wait() => return,
                    () = without_findings(&mut self.requests, tokio::time::sleep(RETRY)) => {}
                }
            }
            self.lost_channels = 0;
        }
    }

    /// Tells once that there is no connection.
    fn complain(&mut self, failure: &Failure) {
        let Failure { reason, said, .. } = failure;
        let upstream = self.metrics.upstream();
        if std::mem::replace(&mut self.complained, true) {
            return tracing::debug!(upstream, said, "still no connection for probes: {reason}");
        }
        tracing::warn!(
            upstream,
            said,
            mend = failure.mend.as_deref(),
            "no connection for probes, so calls wait for services that are not there: {reason}"
        );
    }

    fn is_there(&mut self) {
        if std::mem::take(&mut self.complained) {
            let upstream = self.metrics.upstream();
            tracing::info!(upstream, "the connection for probes is there");
        }
    }

    /// Opens a connection. Calls go out unchecked meanwhile.
    async fn open(&mut self) -> Result<Transport, Failure> {
        let (settings, node) = (Arc::clone(&self.settings), self.settings.renewed(&self.node));
        let open = Transport::open(&settings, &node, "probe");
        let open = tokio::time::timeout(settings.connect_timeout, open);
        match without_findings(&mut self.requests, open).await {
            Ok(opened) => opened.map_err(|error| Failure::of_connecting(&error)),
            Err(_) => Err(Failure::slow(settings.connect_timeout)),
        }
    }

    /// Probes over one connection until it fails or is used up.
    async fn probe_over(&mut self, transport: &Transport) {
        let mut ticks = tokio::time::interval(self.settings.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut channel = None;
        while self.lost_channels < MOST_CHANNELS_LOST {
            let due = tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(service) => vec![service],
                    None => return,
                },
                _ = ticks.tick() => {
                    self.misses = 0;
                    self.services.due()
                }
            };
            for service in due {
                let probe = self.probe(transport, &mut channel, &service);
                let finding = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
                let Ok(Some(finding)) = finding else {
                    service.report(Finding::Unknown);
                    return;
                };
                service.report(finding);
            }
        }
    }

    /// Looks at one queue. `None` where the connection is of no use any more.
    async fn probe(
        &mut self,
        transport: &Transport,
        open: &mut Option<Channel>,
        service: &Service,
    ) -> Option<Finding> {
        if self.misses >= MOST_MISSES && !service.is_there() {
            return Some(Finding::Unknown);
        }
        let channel = match open.take() {
            Some(channel) => channel,
            None => transport.connection.create_channel().await.ok()?,
        };
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare(service.queue.clone(), passive, FieldTable::default());
        match queue.await {
            Ok(queue) => {
                *open = Some(channel);
                Some(match queue.consumer_count() {
                    0 => {
                        Finding::Deserted { since: Instant::now(), waiting: queue.message_count() }
                    }
                    _ => Finding::Consumed,
                })
            }
            Err(error) => {
                self.misses += 1;
                self.lost_channels += 1;
                match error.kind() {
                    ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => {
                        Some(Finding::Missing)
                    }
                    // No permission, or somebody's exclusive queue: not for us to know.
                    ErrorKind::ProtocolError(refusal) if matches!(refusal.get_id(), 403 | 405) => {
                        Some(Finding::Unknown)
                    }
                    _ => None,
                }
            }
        }
    }
}

/// Does something while there is no connection: nothing is found out meanwhile, and no call waits
/// for it.
async fn without_findings<T>(
    requests: &mut mpsc::Receiver<Arc<Service>>,
    task: impl Future<Output = T>,
) -> T {
    tokio::pin!(task);
    loop {
        tokio::select! {
            done = &mut task => return done,
            Some(service) = requests.recv() => service.report(Finding::Unknown),
        }
    }
}
