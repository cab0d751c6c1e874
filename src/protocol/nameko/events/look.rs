//! What of a running RabbitMQ keeps events from getting through, for `genkan check --live`. Must not: make
//! anything.

use std::collections::HashMap;

use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::time::timeout;

use super::super::look::{Found, PATIENCE, channel, find};
use super::super::open::refused_with;
use super::super::transport::Transport;
use super::address::{Kind, Source, Target};
use super::complaint::{Complaint, Step};
use crate::event::highest_capture;
use crate::event_port::Way;
use crate::upstream::Amiss;

/// Looks at what the addresses need. What an address leaves open is not known; what is not there, Genkan makes.
pub(in super::super) async fn look(transport: &Transport, ways: &[Way<'_>]) -> Vec<Amiss> {
    let mut amiss = Vec::new();
    let mut known = HashMap::new();
    for (row, way) in ways.iter().enumerate() {
        // Others were refused when the configuration was read.
        let (kind, exchange) = match way {
            Way::From(address) => match Source::parse(address) {
                Ok(source) => source.exchange(),
                Err(_) => continue,
            },
            Way::To(address) => match Target::parse(address) {
                Ok(Target::Exchange { kind, exchange, .. }) => (kind, exchange),
                Ok(Target::Queue(name)) => {
                    let what = queue(transport, &name).await;
                    amiss.extend(what.map(|what| Amiss::error_of_row(row, &what)));
                    continue;
                }
                Err(_) => continue,
            },
        };
        if highest_capture(&exchange) > 0 {
            continue;
        }
        let found = match known.get(&exchange) {
            Some(found) => *found,
            None => find(transport, &exchange, kind.declared(transport.auto_delete_events)).await,
        };
        match found {
            Some(Found::Another) => amiss.push(Amiss::error_of_row(row, &another(kind, &exchange))),
            // Gemstone's come to be when somebody listens, Nameko's when a service starts.
            Some(Found::Nothing) if matches!((way, kind), (Way::From(_), Kind::Nameko)) => {
                let what = format!(
                    "there is no exchange `{exchange}` yet, so no service has sent such events: start it, or \
                     correct the address"
                );
                amiss.push(Amiss::of_row(row, &what));
            }
            Some(Found::Nothing | Found::It) | None => {}
        }
        known.insert(exchange, found);
    }
    amiss
}

fn another(kind: Kind, exchange: &str) -> String {
    let (whose, which) = match kind {
        Kind::Nameko => ("Nameko's", "a durable topic exchange"),
        Kind::Gemstone => ("Gemstone's", "a fanout exchange that is not durable"),
    };
    format!(
        "its exchange `{exchange}` is of another type or durability than {whose}, {which}: delete it, or \
         correct the address"
    )
}

/// What is wrong with a queue that events go to. One that is there is taken as it is.
async fn queue(transport: &Transport, name: &str) -> Option<String> {
    if highest_capture(name) > 0 {
        return None;
    }
    let channel = channel(transport).await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declared = channel.queue_declare(ShortString::from(name), passive, FieldTable::default());
    let error = timeout(PATIENCE, declared).await.ok()?.err()?;
    refused_with(&error, 405).then(|| Complaint::new(Step::Queue, &error).told())
}
