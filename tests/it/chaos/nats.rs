//! NATS: killed, leaving with a word, and alive without one.

use std::collections::HashSet;
use std::time::Instant;

use futures_util::FutureExt;

use super::books::Struck;
use super::load::Load;
use super::services::{Ran, on_nats};
use super::world::{Scenario, World};
use crate::harness::{Gateway, Nats, NatsResponder, until};

/// A server of its own, with a service that connects again by itself.
pub struct NatsAlone {
    gateway: Gateway,
    _service: NatsResponder,
    nats: Nats,
    ran: Ran,
}

impl World for NatsAlone {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("NATS killed and restarted", |world, load| world.killed(load).boxed_local()),
        Scenario::of("NATS in lame-duck mode", |world, load| {
            world.says_goodbye(load).boxed_local()
        }),
        Scenario::of("NATS silent", |world, load| world.silent(load).boxed_local()),
    ];

    async fn start() -> Self {
        let conf = "lame_duck_grace_period: \"1s\"\nlame_duck_duration: \"30s\"";
        let (nats, ran) = (Nats::configured(conf), Ran::default());
        let service = on_nats(&nats.url(), "chaos", &ran).await;
        let gateway = Gateway::ready(&nats.config("plain")).await;
        Self { gateway, _service: service, nats, ran }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.all()
    }
}

impl NatsAlone {
    async fn killed(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.nats.kill();
        load.is_hurt_since(since, 10).await;
        self.nats.restart();
        Struck::and_mended()
    }

    async fn says_goodbye(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.nats.say_goodbye();
        until("it is gone", async || !self.nats.runs()).await;
        load.is_hurt_since(since, 10).await;
        self.nats.restart();
        Struck::and_mended()
    }

    async fn silent(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.nats.freeze(true);
        self.gateway.wait_until_not_ready().await;
        load.is_hurt_since(since, 10).await;
        self.nats.freeze(false);
        Struck::and_mended()
    }
}
