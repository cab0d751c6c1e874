//! HTTP as an ingress: how it is bound, run and ended.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::config::HttpConfig;
use super::server::Server;
use super::tls;
use crate::config::ingress::IngressSettings;
use crate::ingress::{Bound, Ingress};
use crate::listener;
use crate::router::Router;
use crate::tasks::Tasks;

/// Binds the address and reads the certificate.
pub(crate) fn bind(settings: &dyn IngressSettings, tasks: Tasks) -> anyhow::Result<Box<dyn Bound>> {
    let config = settings.of::<HttpConfig>().context("these are no settings of [http]")?.clone();
    let listener = listener::bind(config.listen).with_context(|| {
        format!("cannot listen on {} ([http] listen): is another program using it?", config.listen)
    })?;
    let tls = config.tls.as_ref().map(|tls| tls::acceptor(tls, config.http2)).transpose()?;
    Ok(Box::new(BoundHttp { listener, config, tls, tasks }))
}

/// The listener, before it takes calls.
struct BoundHttp {
    listener: TcpListener,
    config: HttpConfig,
    tls: Option<TlsAcceptor>,
    tasks: Tasks,
}

impl Bound for BoundHttp {
    fn run(self: Box<Self>, router: &Arc<Router>) -> anyhow::Result<Box<dyn Ingress>> {
        let Self { listener, config, tls, tasks } = *self;
        let address =
            listener.local_addr().context("cannot tell where [http] listens")?.to_string();
        let settings = config.clone();
        let server = Server::new(config, tls, Arc::clone(router), tasks.clone());
        tasks.spawn("http", Arc::new(server).accept(listener));
        Ok(Box::new(HttpIngress { address, settings, tasks }))
    }
}

/// The ingress at work.
struct HttpIngress {
    address: String,
    settings: HttpConfig,
    /// The sessions, and the notifications that outlive them.
    tasks: Tasks,
}

impl Ingress for HttpIngress {
    fn addresses(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    fn apply(&self, next: &dyn IngressSettings) -> bool {
        next.of() == Some(&self.settings)
    }

    fn drain(&self, patience: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(patience))
    }

    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(grace))
    }
}
