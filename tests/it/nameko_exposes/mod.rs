//! Services of other worlds that live on RabbitMQ as if they were Nameko's: real Nameko clients and
//! services call them.

mod bindings;
pub mod caller;
mod calls;
mod context;
mod faults;
mod lifecycle;
mod limits;
mod long_calls;
mod loops;
mod odd;
mod permissions;
mod replies;

use serde_json::Value;

use crate::harness::rabbit::Vhost;
use crate::harness::{Gateway, Nats, RabbitMq, eventually};

/// A RabbitMQ on which services are exposed, the NATS that they live on, and the gateway between them.
pub struct World {
    pub vhost: Vhost<'static>,
    pub nats: Nats,
    pub gateway: Gateway,
}

impl World {
    /// One that exposes the services of NATS that are named here.
    pub async fn exposing(dialect: &str, services: &[&str]) -> Self {
        let rows: String = services.iter().map(|service| row(service, "")).collect();
        Self::with(dialect, services, &rows).await
    }

    /// The same, with rows and whatever else of the test's own; it waits for the services.
    pub async fn with(dialect: &str, services: &[&str], more: &str) -> Self {
        let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
        let gateway = Gateway::ready(&config(&vhost, &nats, dialect, more)).await;
        let world = Self { vhost, nats, gateway };
        for service in services {
            world.wait_for(service).await;
        }
        world
    }

    /// Waits until a service is exposed.
    pub async fn wait_for(&self, service: &str) {
        exposed(&self.gateway, service, 1).await;
    }
}

/// Waits until a service has been exposed so many times.
pub async fn exposed(gateway: &Gateway, service: &str, times: usize) {
    eventually(&format!("{service} is exposed ({times})"), async || {
        let lines = gateway.logged("exposed: its calls are taken");
        let lines = lines.iter().filter(|line| line["service"] == service).count();
        (lines >= times).then_some(())
    })
    .await;
}

/// Both brokers; everything goes to NATS.
pub fn config(vhost: &Vhost<'_>, nats: &Nats, dialect: &str, more: &str) -> String {
    let (rabbit, bus) = (vhost.upstream("rabbit"), nats.upstream("bus", dialect));
    format!("{rabbit}\n{bus}\n{more}\n[[routes]]\nmatch = \"*\"\nupstream = \"bus\"\n")
}

/// A row that exposes a service, with more keys.
pub fn row(service: &str, keys: &str) -> String {
    format!("[[expose]]\nservice = \"{service}\"\non = [\"rabbit\"]\n{keys}\n")
}

/// The results of calls that have one.
#[track_caller]
pub fn results(outcomes: &[Value]) -> Vec<Value> {
    let result = |outcome: &Value| {
        outcome.get("result").unwrap_or_else(|| panic!("no result: {outcome}")).clone()
    };
    outcomes.iter().map(result).collect()
}

/// What was raised for a call.
#[track_caller]
pub fn raised(outcome: &Value) -> &Value {
    outcome.get("error").unwrap_or_else(|| panic!("nothing was raised: {outcome}"))
}
