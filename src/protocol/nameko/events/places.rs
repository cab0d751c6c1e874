//! The places that events go to: made where they are missing, and left alone for a while where nothing
//! can be sent to.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::time::{Instant, timeout};

use super::super::open::{declare_as, refused_with};
use super::super::transport::Transport;
use super::address::Target;
use super::complaint::{Complaint, Step};
use super::lost;
use crate::event::Undelivered;

/// How many places are remembered to be there.
const MOST_MADE: usize = 1_024;
/// How many places are remembered where nothing can be sent to.
const MOST_SHUT: usize = 256;
/// For how long nothing is sent to a place that could not be made.
const UNMADE_FOR: Duration = Duration::from_secs(1);

const NOT_FOUND: u16 = 404;

/// What is known of them.
#[derive(Default)]
pub(super) struct Places {
    /// What is known to be there: exchanges, and queues.
    made: HashSet<(bool, String)>,
    /// What is known to take nothing now.
    shut: HashMap<Target, (Instant, Undelivered)>,
}

impl Places {
    /// Sees to it that the place is there, which takes at most `limit`; else why nothing can be sent to it.
    pub(super) async fn prepare(
        &mut self,
        transport: &Transport,
        target: &Target,
        limit: Duration,
    ) -> Result<(), Undelivered> {
        if let Some((until, undelivered)) = self.shut.get(target) {
            if Instant::now() < *until {
                return Err(undelivered.clone());
            }
            self.shut.remove(target);
        }
        let place = place(target);
        if self.made.contains(&place) {
            return Ok(());
        }
        let complaint = match timeout(limit, make(transport, target)).await {
            Ok(Ok(())) => {
                if self.made.len() >= MOST_MADE {
                    self.made.clear();
                }
                self.made.insert(place);
                return Ok(());
            }
            Ok(Err(complaint)) => complaint,
            Err(_) => Complaint::plain("rabbitmq does not answer"),
        };
        let undelivered = match complaint.is_outage {
            true => lost(&complaint.told()),
            false => Undelivered::Unavailable(complaint.told()),
        };
        self.shut(target.clone(), UNMADE_FOR, undelivered.clone());
        Err(undelivered)
    }

    /// Sends nothing there for so long.
    pub(super) fn shut(&mut self, target: Target, limit: Duration, undelivered: Undelivered) {
        if self.shut.len() >= MOST_SHUT {
            self.shut.clear();
        }
        self.shut.insert(target, (Instant::now() + limit, undelivered));
    }

    /// The place has gone.
    pub(super) fn forget(&mut self, target: &Target) {
        self.made.remove(&place(target));
    }

    /// Nothing is known to be there any more.
    pub(super) fn forget_all(&mut self) {
        self.made.clear();
    }
}

/// What is said of a place that this user may not publish to.
pub(super) fn denial(target: &Target) -> String {
    let (exchange, key) = target.way();
    let what = if exchange.is_empty() { format!("queue `{key}`") } else { format!("`{exchange}`") };
    format!(
        "rabbitmq does not let this user publish to {what}: give it permission to write with \
         rabbitmqctl set_permissions"
    )
}

fn place(target: &Target) -> (bool, String) {
    match target {
        Target::Exchange { exchange, .. } => (false, exchange.clone()),
        Target::Queue(name) => (true, name.clone()),
    }
}

/// Makes the place that an event goes to, as those make it that it belongs to. A queue that is there is
/// taken as it is.
async fn make(transport: &Transport, target: &Target) -> Result<(), Complaint> {
    let at = |step: Step| move |error: lapin::Error| Complaint::new(step, &error);
    match target {
        Target::Exchange { kind, exchange, .. } => {
            let exchange = ShortString::from(exchange.as_str());
            let sort = kind.declared(transport.auto_delete_events);
            let declared = declare_as(&transport.connection, &exchange, sort).await;
            declared.map(drop).map_err(at(Step::Exchange))
        }
        Target::Queue(name) => {
            let declare = async |options: QueueDeclareOptions| {
                let channel = transport.connection.create_channel().await?;
                let name = ShortString::from(name.as_str());
                channel.queue_declare(name, options, FieldTable::default()).await
            };
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            match declare(passive).await {
                Err(error) if refused_with(&error, NOT_FOUND) => {
                    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
                    declare(durable).await.map(drop).map_err(at(Step::Queue))
                }
                declared => declared.map(drop).map_err(at(Step::Queue)),
            }
        }
    }
}
