//! RabbitMQ: killed, closed, in an alarm, and what Genkan has there deleted.

use std::collections::HashSet;
use std::time::Instant;

use futures_util::FutureExt;

use super::books::Struck;
use super::load::Load;
use super::services::{Ran, on_rabbit};
use super::world::{Scenario, World};
use crate::harness::{Gateway, NamekoResponder, RabbitMq};

const VHOST: &str = "chaos";

/// A node of its own, with a service that connects when it is told to.
pub struct Rabbit {
    // In the order in which they go.
    gateway: Gateway,
    service: NamekoResponder,
    node: RabbitMq,
    ran: Ran,
}

impl World for Rabbit {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("RabbitMQ killed and restarted", |world, load| {
            world.killed(load).boxed_local()
        }),
        Scenario::of("its connections closed by `rabbitmqctl`", |world, _| {
            world.closed().boxed_local()
        }),
        Scenario::of("its memory alarm raised and cleared", |world, load| {
            world.alarmed(load).boxed_local()
        }),
        Scenario::of("the reply queue deleted", |world, _| {
            world.without_reply_queue().boxed_local()
        }),
        Scenario::of("the exchange deleted", |world, load| {
            world.without_exchange(load).boxed_local()
        }),
        Scenario::of("the virtual host deleted", |world, load| {
            world.without_vhost(load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let (node, ran) = (RabbitMq::private(), Ran::default());
        node.make_vhost(VHOST);
        let service = on_rabbit(&node.url_of(VHOST), "chaos", &ran).await;
        let toml = format!(
            "[upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"{}\"\n\
             [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n",
            node.url_of(VHOST)
        );
        let gateway = Gateway::ready(&toml).await;
        Self { gateway, service, node, ran }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.all()
    }
}

impl Rabbit {
    async fn killed(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.node.kill();
        load.is_hurt_since(since, 10).await;
        self.node.start();
        self.serve_again().await
    }

    async fn closed(&mut self) -> Struck {
        let before = self.reconnects().await;
        self.node.control(&["close_all_connections", "--vhost", VHOST, "chaos"]);
        self.wait_for_reconnects(before + 1.0).await;
        self.serve_again().await
    }

    async fn alarmed(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.node.control(&["set_vm_memory_high_watermark", "0"]);
        load.is_hurt_since(since, 10).await;
        self.node.control(&["set_vm_memory_high_watermark", "0.4"]);
        Struck::and_mended()
    }

    /// Genkan makes another one by itself.
    async fn without_reply_queue(&mut self) -> Struck {
        let before = self.reconnects().await;
        let queues = self.node.get(&format!("queues/{VHOST}"));
        let names = queues.as_array().expect("a list").iter().filter_map(|it| it["name"].as_str());
        let of_replies = names.filter(|name| name.starts_with("rpc.reply-genkan"));
        // The list may still have those of earlier connections.
        let there = |name: &&str| !self.node.get(&format!("queues/{VHOST}/{name}")).is_null();
        for name in of_replies.filter(there) {
            // It is exclusive: nobody but a node's operator can.
            self.node.control(&["delete_queue", "--vhost", VHOST, name]);
        }
        let struck = Struck::and_mended();
        self.wait_for_reconnects(before + 1.0).await;
        struck
    }

    /// With it go all bindings.
    async fn without_exchange(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.node.delete(&format!("exchanges/{VHOST}/nameko-rpc"));
        load.is_hurt_since(since, 10).await;
        self.serve_again().await
    }

    async fn without_vhost(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.node.delete(&format!("vhosts/{VHOST}"));
        load.is_hurt_since(since, 10).await;
        self.node.make_vhost(VHOST);
        self.serve_again().await
    }

    async fn serve_again(&mut self) -> Struck {
        self.service = on_rabbit(&self.node.url_of(VHOST), "chaos", &self.ran).await;
        Struck::and_mended()
    }

    async fn reconnects(&self) -> f64 {
        self.gateway.metric("genkan_upstream_reconnects_total", &[]).await
    }

    async fn wait_for_reconnects(&self, count: f64) {
        self.gateway.wait_for_metric("genkan_upstream_reconnects_total", &[], count).await;
    }
}
