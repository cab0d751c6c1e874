//! A JSON-RPC service over HTTP: killed, and one that answers halves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use futures_util::FutureExt;

use super::books::{Ended, Struck};
use super::load::Load;
use super::services::{Ran, on_http};
use super::world::{Scenario, World};
use crate::harness::process::free_port;
use crate::harness::{Gateway, Web};

/// A service at a port of its own.
pub struct JsonRpc {
    gateway: Gateway,
    service: Option<Web>,
    address: String,
    /// How many halves it has begun to answer; 0 while it is well.
    halves: Arc<AtomicU32>,
    ran: Ran,
}

impl World for JsonRpc {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("a JSON-RPC service killed", |world, load| world.killed(load).boxed_local()),
        Scenario::of("a JSON-RPC service half-answering", |world, load| {
            world.halves(load).boxed_local()
        }),
        Scenario::of("Genkan ended by SIGTERM in front of it", |world, load| {
            world.gateway_ended(load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let (address, ran) = (format!("127.0.0.1:{}", free_port()), Ran::default());
        let halves = Arc::default();
        let service = Some(serve(&address, &halves, &ran).await);
        let gateway = Gateway::ready(&toml(&address)).await;
        Self { gateway, service, address, halves, ran }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.all()
    }
}

fn toml(address: &str) -> String {
    format!(
        "drain_timeout = \"4s\"\n\
         [upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"http://{address}/api\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n"
    )
}

async fn serve(address: &str, halves: &Arc<AtomicU32>, ran: &Ran) -> Web {
    let (halves, ran) = (Arc::clone(halves), ran.clone());
    let answer = move |asked: &crate::harness::Asked| {
        let whole = on_http(asked, &ran);
        let number = halves.load(Ordering::SeqCst);
        if number == 0 {
            return whole;
        }
        halves.fetch_add(1, Ordering::SeqCst);
        if number % 2 == 0 { whole.half().and_wait() } else { whole.half().and_close() }
    };
    Web::at(address, answer).await
}

impl JsonRpc {
    async fn killed(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.service.take().expect("it runs").end().await;
        load.is_hurt_since(since, 10).await;
        self.service = Some(serve(&self.address, &self.halves, &self.ran).await);
        Struck::and_mended()
    }

    async fn halves(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.halves.store(1, Ordering::SeqCst);
        load.is_hurt_since(since, 10).await;
        self.halves.store(0, Ordering::SeqCst);
        Struck::and_mended()
    }

    /// It takes calls on for half of its time, for they might be of such a service.
    async fn gateway_ended(&mut self, load: &Load) -> Struck {
        let at = Instant::now();
        self.gateway.terminate();
        assert_eq!(self.gateway.exit_status().await, 0);
        self.gateway = Gateway::ready(&toml(&self.address)).await;
        load.aim(&self.gateway);
        Struck { gateway: Ended::Cleanly(at), ..Struck::and_mended() }
    }
}
