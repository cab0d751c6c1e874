//! HTTP as an ingress: how it is bound, run, changed and ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio_rustls::TlsAcceptor;

use super::super::config::HttpConfig;
use super::server::{Server, Session};
use super::{NAME, tls};
use crate::config::ingress::IngressSettings;
use crate::ingress::{Bound, Change, Ingress};
use crate::listener::{BoundListener, Listening};
use crate::router::Router;
use crate::tasks::Tasks;

/// Binds the address and reads the certificate.
pub(crate) fn bind(settings: &dyn IngressSettings, tasks: Tasks) -> anyhow::Result<Box<dyn Bound>> {
    let config = of(settings)?;
    let bound = BoundListener::bind(config.listen);
    let listener = bound.with_context(|| cannot_listen(config.listen))?;
    let tls = acceptor(&config)?;
    Ok(Box::new(BoundHttp { listener, config, tls, tasks }))
}

fn of(settings: &dyn IngressSettings) -> anyhow::Result<HttpConfig> {
    settings.of::<HttpConfig>().cloned().context("these are no settings of [http]")
}

fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address} ([http] listen): is another program using it?")
}

fn acceptor(config: &HttpConfig) -> anyhow::Result<Option<TlsAcceptor>> {
    config.tls.as_ref().map(|tls| tls::acceptor(tls, config.http2)).transpose()
}

/// The listener, before it takes calls.
struct BoundHttp {
    listener: BoundListener,
    config: HttpConfig,
    tls: Option<TlsAcceptor>,
    tasks: Tasks,
}

impl Bound for BoundHttp {
    fn run(self: Box<Self>, router: &Arc<Router>) -> Box<dyn Ingress> {
        let Self { listener, config, tls, tasks } = *self;
        let limit = config.max_connections;
        let server = Server::new(config, tls, Arc::clone(router), tasks.clone());
        let in_force = Arc::new(ArcSwap::from_pointee(server));
        let (sessions, serving) = (tasks.clone(), Arc::clone(&in_force));
        let listening =
            Listening::start(listener, (NAME, limit), &tasks, move |stream, place, closed| {
                let session = Session { in_force: Arc::clone(&serving), closed };
                sessions.spawn_session(async move {
                    session.run(stream).await;
                    drop(place);
                });
            });
        Box::new(HttpIngress { router: Arc::clone(router), in_force, listening, tasks })
    }
}

/// The ingress at work.
struct HttpIngress {
    router: Arc<Router>,
    in_force: Arc<ArcSwap<Server>>,
    listening: Listening,
    /// The sessions, and the notifications that outlive them.
    tasks: Tasks,
}

impl Ingress for HttpIngress {
    fn addresses(&self) -> Vec<String> {
        vec![self.listening.address().to_string()]
    }

    /// The connections that are there are served by the new settings too, HTTP/2 and TLS excepted.
    /// Where the address is another one, they end when nothing is under way on them.
    fn apply<'a>(&'a self, next: &dyn IngressSettings) -> anyhow::Result<Change<'a>> {
        let config = of(next)?;
        let new = self.listening.bind_new(config.listen);
        let new = new.with_context(|| cannot_listen(config.listen))?;
        let tls = acceptor(&config)?;
        Ok(Box::new(move || {
            let (listen, limit) = (config.listen, config.max_connections);
            let (router, tasks) = (Arc::clone(&self.router), self.tasks.clone());
            self.in_force.store(Arc::new(Server::new(config, tls, router, tasks)));
            self.listening.change(listen, new, limit);
        }))
    }

    fn drain(&self, patience: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(patience))
    }

    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(grace))
    }
}
