//! The pages for operators: `/healthz`, `/readyz`, `/metrics`, `/routes`, and what the ingresses show. On an
//! address of their own, so that they can be kept from the callers.
//!
//! - `pages`: what they show; `routes`: the routing table at work.
//! - `connection`: how a connection to them is served.

mod connection;
mod pages;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;

use crate::config::AdminConfig;
use crate::ingress::Change;
use crate::listener::{BoundListener, Listening};
use crate::tasks::Tasks;
use crate::web::WebPolicy;

pub use pages::Overview;

/// Its name in the log.
const NAME: &str = "admin";
/// The most connections at once. Each carries one request.
const CONNECTIONS: usize = 256;

/// The admin listener, bound to its address.
pub struct BoundAdmin {
    config: AdminConfig,
    listener: BoundListener,
}

impl BoundAdmin {
    /// Binds the address.
    pub fn bind(config: AdminConfig) -> anyhow::Result<Self> {
        let bound = BoundListener::bind(config.listen);
        let listener = bound.with_context(|| cannot_listen(config.listen))?;
        Ok(Self { config, listener })
    }

    /// Serves the pages from now on.
    pub fn run(self, overview: Arc<Overview>, tasks: Tasks) -> Admin {
        let Self { config, listener } = self;
        let routes = pages::routes(overview);
        let policy = Arc::new(ArcSwap::from_pointee(policy(&config)));
        let (sessions, serving) = (tasks.clone(), Arc::clone(&policy));
        let listening = Listening::start(
            listener,
            (NAME, CONNECTIONS),
            &tasks,
            move |stream, place, closed| {
                let connection =
                    connection::serve(stream, routes.clone(), serving.load_full(), closed);
                sessions.spawn_session(async move {
                    connection.await;
                    drop(place);
                });
            },
        );
        Admin { listening, policy, tasks }
    }
}

fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address} ([admin] listen): is another program using it?")
}

fn policy(config: &AdminConfig) -> WebPolicy {
    WebPolicy::new(config.listen, false, &config.hosts, &[])
}

/// The pages at work.
pub struct Admin {
    listening: Listening,
    policy: Arc<ArcSwap<WebPolicy>>,
    tasks: Tasks,
}

impl Admin {
    /// The listener's name in the log, and where it listens.
    pub fn address(&self) -> (&'static str, SocketAddr) {
        (NAME, self.listening.address())
    }

    /// Makes ready what new settings ask for, as [`Ingress::apply`](crate::ingress::Ingress::apply).
    pub fn apply(&self, config: &AdminConfig) -> anyhow::Result<Change<'_>> {
        let new = self.listening.bind_new(config.listen);
        let new = new.with_context(|| cannot_listen(config.listen))?;
        let (listen, policy) = (config.listen, policy(config));
        Ok(Box::new(move || {
            self.policy.store(Arc::new(policy));
            self.listening.change(listen, new, CONNECTIONS);
        }))
    }

    /// Ends the connections. True if all of them ended within `grace`.
    pub async fn end(&self, grace: Duration) -> bool {
        self.tasks.end(grace).await
    }
}
