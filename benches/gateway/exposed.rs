//! Callers that know RabbitMQ alone, or NATS alone, to services on the other one. The floor of a call is a
//! service on the one broker and a client on the other, each alone.

use anyhow::Result;

use super::backends::{NAMEKO_SERVICE, PICOM_SERVICE};
use super::brokers::Broker;
use super::measure::{AMQP_CALLS, CONNECTIONS, Stage, What, World, points};
use super::scale;
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::subject::Subject;

/// The Picom service's name on RabbitMQ.
const ON_RABBIT: &str = "echo_there";
/// The Nameko service's name on NATS.
const ON_NATS: &str = "echo_service_there";

/// Sets up what takes turns.
pub(super) fn set(stage: &mut Stage, args: &Args, world: &World, rabbit: &Broker) -> Result<()> {
    let (at, calls) = (points(args, &[Part::Exposed]), args.calls(AMQP_CALLS));
    if at.is_empty() {
        return Ok(());
    }
    let (nats, service) = (&world.nats.url, format!("{PICOM_SERVICE}.echo"));
    if let Some(nameko) = world.nameko.as_ref().filter(|_| args.wants(Part::Exposed)) {
        let client = Copy::start(&["lapin-client", &rabbit.url])?;
        let subject = Subject::new(client, Some(nameko.pid()));
        stage.add(What::LapinService, &CONNECTIONS, subject, calls);
        let client = Copy::start(&["nats-client", nats, &service, "--one-thread"])?;
        let subject = Subject::new(client, Some(world.picom.pid()));
        stage.add(What::NatsService, &CONNECTIONS, subject, calls);
    }
    if args.floors {
        return Ok(());
    }
    let gateway = Gateway::start("exposed", &configuration(nats, &rabbit.url))?;
    let client = Copy::start(&["lapin-client", &rabbit.url, "--service", ON_RABBIT])?;
    let subject = Subject::new(client, Some(gateway.pid()));
    stage.add(What::GatewayFromNameko, at, subject, calls);
    let client = Copy::start(&["nats-client", nats, &format!("{ON_NATS}.echo"), "--one-thread"])?;
    let subject = Subject::new(client, Some(gateway.pid()));
    stage.add(What::GatewayFromPicom, at, subject, calls);
    stage.more.push(gateway);
    Ok(())
}

fn configuration(nats: &str, rabbit: &str) -> String {
    let first = scale::configuration(1, nats);
    format!(
        r#"{first}
[upstreams.rabbit]
protocol = "nameko"
url = "{rabbit}"

[[routes]]
match = "{NAMEKO_SERVICE}.*"
upstream = "rabbit"

[[expose]]
service = "{PICOM_SERVICE}"
on = ["rabbit"]
as = "{ON_RABBIT}"

[[expose]]
service = "{NAMEKO_SERVICE}"
on = ["nats"]
as = "{ON_NATS}"
"#
    )
}
