//! What a look at a running RabbitMQ finds amiss, for `genkan check --live`. Read-only: queues and the
//! exchange are declared passively, or as they are; what is published reaches nobody.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ErrorKind, ExchangeKind};
use tokio::time::timeout;

use super::config::Settings;
use super::events;
use super::expose::{Complaint, Step, queue_name};
use super::open::{Failure, Sort, declare_as, refused_with};
use super::transport::Transport;
use crate::event_port::Way;
use crate::route::Rule;
use crate::route::expose::Expose;
use crate::token::random_uuid;
use crate::upstream::Amiss;

/// How long the broker has to answer one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether the broker has said that it is blocked.
const LOOK: Duration = Duration::from_millis(10);

/// Looks at all nodes, and at what the rows need.
pub(super) async fn look(settings: &Settings, rows: &[&Rule]) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    let mut first = None;
    for node in settings.nodes() {
        let opened = timeout(settings.connect_timeout, Transport::open(settings, &node, "check"));
        let failure = match opened.await {
            Ok(Ok(transport)) => {
                first.get_or_insert(transport);
                continue;
            }
            Ok(Err(error)) => Failure::of_connecting(&error),
            Err(_) => Failure::slow(settings.connect_timeout),
        };
        amiss.push(Amiss::of_upstream(&told(&node.address, &failure)));
    }
    let Some(transport) = first else { return amiss };
    amiss.extend(exchange(settings, &transport).await);
    amiss.extend(blocked(&transport).await);
    for (row, rule) in rows.iter().enumerate() {
        let Some(service) = rule.known_service() else { continue };
        amiss.extend(queue(&transport, service).await.map(|what| Amiss::of_row(row, &what)));
    }
    transport.close().await;
    amiss
}

/// Looks at what services need that are exposed.
pub(super) async fn look_at_exposes(settings: &Settings, exposes: &[&Expose]) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    if exposes.is_empty() {
        return amiss;
    }
    let Some(transport) = connect(settings).await else { return amiss };
    let channels = usize::from(transport.connection.configuration().channel_max());
    if exposes.len() > channels {
        amiss.push(Amiss::of_upstream(&format!(
            "rabbitmq grants a connection {channels} channels, and {} services are to be exposed, each \
             of which takes one: raise `channel_max`, in rabbitmq.conf or where the upstream's `url` has \
             it",
            exposes.len()
        )));
    }
    for (row, expose) in exposes.iter().enumerate() {
        match queue_of_exposed(&transport, &expose.name).await {
            Ok(consumers) if consumers > 0 && !expose.methods.is_empty() => {
                amiss.push(Amiss::of_row(row, &shared(&expose.name, consumers)));
            }
            Ok(_) => {}
            Err(what) => amiss.push(Amiss::error_of_row(row, &what)),
        }
    }
    transport.close().await;
    amiss
}

/// Looks at what events come through and go to.
pub(super) async fn look_at_events(settings: &Settings, ways: &[Way<'_>]) -> Vec<Amiss> {
    if ways.is_empty() {
        return Vec::new();
    }
    let Some(transport) = connect(settings).await else { return Vec::new() };
    let amiss = events::look(&transport, ways).await;
    transport.close().await;
    amiss
}

/// The first node that there is; why there is none, [`look`] tells.
async fn connect(settings: &Settings) -> Option<Transport> {
    for node in settings.nodes() {
        let opened = timeout(settings.connect_timeout, Transport::open(settings, &node, "check"));
        if let Ok(Ok(transport)) = opened.await {
            return Some(transport);
        }
    }
    None
}

/// RabbitMQ hands calls out in turn, and not by their methods.
fn shared(name: &str, consumers: u32) -> String {
    let queue = queue_name(name);
    format!(
        "`{queue}` is consumed already ({consumers}), and this row has `methods`: calls of others that come \
         here, and of these that go there, are `MethodNotFound`, unless all who serve it have the same: leave \
         `methods` out, or give it another name with `as`"
    )
}

/// How many consume the queue of a service that is exposed, or what is wrong with it. One that is there is
/// declared again as it will be, which changes nothing; one that is not is left so.
async fn queue_of_exposed(transport: &Transport, name: &str) -> Result<u32, String> {
    let queue = ShortString::from(queue_name(name));
    let declare = async |passive| {
        let channel = channel(transport).await?;
        let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
        let declared = channel.queue_declare(queue.clone(), options, FieldTable::default());
        timeout(PATIENCE, declared).await.ok()
    };
    let mut consumers = 0;
    let error = match declare(true).await {
        Some(Ok(found)) => {
            consumers = found.consumer_count();
            declare(false).await.and_then(Result::err)
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    match error {
        // No permission to configure it is none of its properties: then it is used as it is.
        Some(error) if refused_with(&error, 406) || refused_with(&error, 405) => {
            let Complaint { reason, mend, .. } = Complaint::new(Step::Declare, &error);
            let mend = mend.map(|mend| format!(": {mend}")).unwrap_or_default();
            Err(format!("`{queue}` cannot be consumed: {reason}{mend}"))
        }
        _ => Ok(consumers),
    }
}

/// Why a node cannot be used, and the mend.
fn told(address: &str, failure: &Failure) -> String {
    let (told, said) = (failure.told(), &failure.said);
    match failure.mend {
        Some(_) if said.is_empty() => format!("{address}: {told}"),
        Some(_) => format!("{address}: {told} ({said})"),
        None => format!("{address}: {told}: start it, or name the right place in `url`"),
    }
}

/// A channel, which a refusal closes: each question has its own.
pub(super) async fn channel(transport: &Transport) -> Option<Channel> {
    timeout(PATIENCE, transport.connection.create_channel()).await.ok()?.ok()
}

/// What there is by an exchange's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// The exchange that is meant.
    It,
    /// One of another type or durability.
    Another,
}

/// Looks for an exchange, as far as the user may. One that is there is declared again as it should be,
/// which changes nothing; one that is not is left so.
pub(super) async fn find(transport: &Transport, name: &str, sort: Sort) -> Option<Found> {
    let name = ShortString::from(name);
    let passive = async {
        let channel = channel(transport).await?;
        let Sort { kind, durable, .. } = sort.clone();
        let options = ExchangeDeclareOptions { durable, passive: true, ..Default::default() };
        let arguments = FieldTable::default();
        let declared = channel.exchange_declare(name.clone(), kind, options, arguments);
        timeout(PATIENCE, declared).await.ok()
    };
    match passive.await? {
        Ok(()) => {}
        Err(error) if refused_with(&error, 404) => return Some(Found::Nothing),
        Err(_) => return None,
    }
    let declared = declare_as(&transport.connection, &name, sort);
    match timeout(PATIENCE, declared).await.ok()? {
        Ok(_) => Some(Found::It),
        Err(error) => refused_with(&error, 406).then_some(Found::Another),
    }
}

/// Whether there is no exchange of Nameko's for calls, or another one by its name.
async fn exchange(settings: &Settings, transport: &Transport) -> Option<Amiss> {
    let name = &settings.exchange;
    match find(transport, name, Sort::of_calls()).await? {
        Found::It => None,
        Found::Nothing => Some(Amiss::doubt_of_upstream(&format!(
            "there is no exchange `{name}` yet: start a Nameko service, or name the right one in \
             `exchange`"
        ))),
        Found::Another => Some(Amiss::of_upstream(&format!(
            "the exchange `{name}` is of another type or durability than Nameko's, a durable topic \
             exchange: delete it, or name the right one in `exchange`"
        ))),
    }
}

/// Whether an alarm holds messages back. The broker says so to who publishes: a message that nobody
/// is bound for goes out, which it drops.
async fn blocked(transport: &Transport) -> Option<Amiss> {
    let channel = channel(transport).await?;
    let (exchange, key) = (ShortString::default(), ShortString::from(random_uuid()));
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published = channel.basic_publish(exchange, key, options, b"", properties);
    timeout(PATIENCE, published).await.ok()?.ok()?;
    let status = transport.connection.status();
    let told = async {
        while !status.blocked() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // A broker that is blocked reads no further, and answers nothing.
    let answers = async {
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let (kind, arguments) = (ExchangeKind::Topic, FieldTable::default());
        let asked = channel.exchange_declare("amq.topic".into(), kind, passive, arguments);
        drop(asked.await);
    };
    let is_blocked = tokio::select! {
        biased;
        () = told => true,
        () = answers => status.blocked(),
        () = tokio::time::sleep(PATIENCE) => return None,
    };
    is_blocked.then(|| {
        Amiss::of_upstream(
            "rabbitmq takes no messages: an alarm is set (memory or disk): `rabbitmq-diagnostics \
             alarms` tells which; free some, or raise the limit",
        )
    })
}

/// What is wrong with a service's queue (WIRE, section 1.1).
async fn queue(transport: &Transport, service: &str) -> Option<String> {
    let channel = channel(transport).await?;
    let name = format!("rpc-{service}");
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(name.as_str().into(), passive, FieldTable::default());
    match timeout(PATIENCE, declared).await.ok()? {
        Ok(queue) if queue.consumer_count() == 0 => Some(format!(
            "nobody answers: the queue `{name}` has no consumer, and {} messages wait in it: start \
             the service `{service}`",
            queue.message_count()
        )),
        Ok(_) => None,
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404 => Some(format!(
                "nobody answers: there is no queue `{name}`: start the service `{service}`, or name \
                 the right one with `service` in the row"
            )),
            // No permission, or somebody's exclusive queue: not for us to know.
            _ => None,
        },
    }
}
