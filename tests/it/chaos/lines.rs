//! The ways to the brokers: slow, cut, and silent in one direction or both, while sockets stay open.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::books::Struck;
use super::load::Load;
use super::services::{Ran, on_nats, on_rabbit};
use super::world::{Scenario, World};
use crate::harness::proxy::{Way, Weather};
use crate::harness::{Gateway, NamekoResponder, Nats, NatsResponder, Proxy, RabbitMq};

/// How much later everything comes, each way. With what a call goes to and fro, it is still in time.
const DELAY: Duration = Duration::from_millis(250);

/// A gateway, and the proxy by which it reaches its broker.
struct Line {
    gateway: Gateway,
    proxy: Proxy,
    ran: Ran,
}

impl Line {
    async fn start(toml: &str, broker: String, ran: Ran) -> Self {
        let proxy = Proxy::to(broker.clone()).await;
        let gateway = Gateway::ready(&toml.replace(&broker, proxy.address())).await;
        Self { gateway, proxy, ran }
    }

    /// For a while everything comes later; what happens is up to the deadlines.
    async fn slow(&mut self, load: &Load) -> Struck {
        let slow = Way::Slow(DELAY);
        self.proxy.set(Weather { out: slow, back: slow, refuses: false });
        load.has_called_since(Instant::now(), 20).await;
        self.proxy.set(Weather::default());
        Struck::and_mended()
    }

    async fn cut(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.proxy.set(Weather { refuses: true, ..Weather::default() });
        self.proxy.hang_up();
        load.is_hurt_since(since, 10).await;
        self.proxy.set(Weather::default());
        Struck::and_mended()
    }

    async fn silent(&mut self, out: Way, back: Way, load: &Load) -> Struck {
        let since = Instant::now();
        self.proxy.set(Weather { out, back, refuses: false });
        // Until Genkan has found out.
        self.gateway.wait_until_not_ready().await;
        load.is_hurt_since(since, 10).await;
        self.proxy.set(Weather::default());
        Struck::and_mended()
    }
}

/// Through a proxy to RabbitMQ.
pub struct ToRabbit {
    line: Line,
    _service: NamekoResponder,
}

impl World for ToRabbit {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("the line to RabbitMQ slow", |world, load| {
            world.line.slow(load).boxed_local()
        }),
        Scenario::of("the line to RabbitMQ cut", |world, load| world.line.cut(load).boxed_local()),
        Scenario::of("the line to RabbitMQ silent", |world, load| {
            world.line.silent(Way::Silent, Way::Silent, load).boxed_local()
        }),
        Scenario::of("the line to RabbitMQ silent one way, there", |world, load| {
            world.line.silent(Way::Silent, Way::Clear, load).boxed_local()
        }),
        Scenario::of("the line to RabbitMQ silent one way, back", |world, load| {
            world.line.silent(Way::Clear, Way::Silent, load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let (vhost, ran) = (RabbitMq::shared().vhost(), Ran::default());
        let service = on_rabbit(&vhost.url(), "chaos", &ran).await;
        let broker = format!("127.0.0.1:{}", vhost.port());
        Self { line: Line::start(&vhost.config(), broker, ran).await, _service: service }
    }

    fn gateway(&self) -> &Gateway {
        &self.line.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.line.ran.all()
    }
}

/// Through a proxy to NATS.
pub struct ToNats {
    line: Line,
    _service: NatsResponder,
    _nats: Nats,
}

impl World for ToNats {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("the line to NATS slow", |world, load| world.line.slow(load).boxed_local()),
        Scenario::of("the line to NATS cut", |world, load| world.line.cut(load).boxed_local()),
        Scenario::of("the line to NATS silent", |world, load| {
            world.line.silent(Way::Silent, Way::Silent, load).boxed_local()
        }),
        Scenario::of("the line to NATS silent one way, there", |world, load| {
            world.line.silent(Way::Silent, Way::Clear, load).boxed_local()
        }),
        Scenario::of("the line to NATS silent one way, back", |world, load| {
            world.line.silent(Way::Clear, Way::Silent, load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let (nats, ran) = (Nats::start(), Ran::default());
        let service = on_nats(&nats.url(), "chaos", &ran).await;
        let line = Line::start(&nats.config("plain"), nats.address(), ran).await;
        Self { line, _service: service, _nats: nats }
    }

    fn gateway(&self) -> &Gateway {
        &self.line.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.line.ran.all()
    }
}
