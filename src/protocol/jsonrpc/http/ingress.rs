//! HTTP as an ingress: how it is bound, run, changed and ended.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::super::config::HttpConfig;
use super::super::discovery::Discovery;
use super::super::registry::Registry;
use super::Inside;
use super::NAME;
use super::server::Server;
use super::session::Session;
use super::tls::{Files, Reminder, Tls, Watch};
use crate::auth::Auth;
use crate::config::ingress::IngressSettings;
use crate::events::topics::Topics;
use crate::ingress::{Bound, Change, Ingress};
use crate::listener::{BoundListener, Listening, mend};
use crate::metrics::RefusedFile;
use crate::router::Router;
use crate::tasks::Tasks;

/// Binds the address and reads the certificate.
pub(in crate::protocol::jsonrpc) fn bind(
    registry: &Arc<Registry>,
    settings: &dyn IngressSettings,
    tasks: Tasks,
) -> anyhow::Result<Box<dyn Bound>> {
    let config = of(settings)?;
    let bound = BoundListener::bind(config.listen);
    let listener = bound.map_err(|error| cannot_listen(config.listen, error))?;
    let tls = read_tls(&config)?;
    let registry = Arc::clone(registry);
    Ok(Box::new(BoundHttp { registry, listener, config, tls, tasks }))
}

fn of(settings: &dyn IngressSettings) -> anyhow::Result<HttpConfig> {
    settings.of::<HttpConfig>().cloned().context("these are no settings of [http]")
}

fn cannot_listen(address: SocketAddr, error: anyhow::Error) -> anyhow::Error {
    let mend = mend(&error, ": is another program using it?");
    error.context(format!("cannot listen on {address} ([http] listen){mend}"))
}

/// What speaks TLS, and what tells that its files are others.
type Watched = Option<(Tls, Watch)>;

fn read_tls(config: &HttpConfig) -> anyhow::Result<Watched> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let files = Files::read(tls);
    Ok(Some((files.tls(tls, config.http2)?, Watch::new(files.fingerprint()))))
}

/// What the log is told as a problem of the configuration, a reminder need not say once more.
fn reminder(tls: Option<&Tls>) -> Reminder {
    let mut reminder = Reminder::default();
    if let Some((standing, _)) = tls.and_then(Tls::out_of_time) {
        reminder.is_due(standing, Instant::now());
    }
    reminder
}

/// The listener, before it takes calls.
struct BoundHttp {
    registry: Arc<Registry>,
    listener: BoundListener,
    config: HttpConfig,
    tls: Watched,
    tasks: Tasks,
}

impl Bound for BoundHttp {
    fn run(
        self: Box<Self>,
        router: &Arc<Router>,
        topics: &Arc<Topics>,
        auth: &Arc<Auth>,
    ) -> Box<dyn Ingress> {
        let Self { registry, listener, config, tls, tasks } = *self;
        let limit = config.max_connections;
        let (tls, watch) = tls.unzip();
        let (router, topics) = (Arc::clone(router), Arc::clone(topics));
        let (auth, discovery) = (Arc::clone(auth), Arc::new(Discovery::new()));
        let reminder = Mutex::new(reminder(tls.as_ref()));
        let pages = Arc::new(ArcSwap::from_pointee(config.web_policy()));
        let inside = Inside { router, registry, discovery, topics, auth, pages };
        let server = Server::new(config, tls, inside.clone(), tasks.clone());
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
        // Until all are known.
        inside.registry.guard().set_own(vec![listening.address()]);
        let certificate = Mutex::new(watch);
        let refused = Mutex::default();
        Box::new(HttpIngress { inside, in_force, listening, certificate, refused, reminder, tasks })
    }
}

/// The ingress at work.
struct HttpIngress {
    inside: Inside,
    in_force: Arc<ArcSwap<Server>>,
    listening: Listening,
    certificate: Mutex<Option<Watch>>,
    /// They cannot be used.
    refused: Mutex<Option<RefusedFile>>,
    reminder: Mutex<Reminder>,
    /// The sessions, and the notifications that outlive them.
    tasks: Tasks,
}

impl HttpIngress {
    /// Tells of a certificate that ends while it is shown.
    fn remind(&self, tls: Option<&Tls>, cert_file: &Path) {
        let Some((standing, told)) = tls.and_then(Tls::out_of_time) else { return };
        let mut reminder = self.reminder.lock().unwrap_or_else(PoisonError::into_inner);
        if reminder.is_due(standing, Instant::now()) {
            let cert_file = cert_file.display();
            warn!(%cert_file, problem = told, "HTTPS has a certificate that is out of its time, or soon is");
        }
    }

    fn refused(&self) -> MutexGuard<'_, Option<RefusedFile>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn certificate(&self) -> MutexGuard<'_, Option<Watch>> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let new = new.map_err(|error| cannot_listen(config.listen, error))?;
        let tls = read_tls(&config)?;
        Ok(Box::new(move || {
            let (listen, limit) = (config.listen, config.max_connections);
            let (tls, watch) = tls.unzip();
            *self.certificate() = watch;
            *self.refused() = None;
            *self.reminder.lock().unwrap_or_else(PoisonError::into_inner) = reminder(tls.as_ref());
            let (inside, tasks) = (self.inside.clone(), self.tasks.clone());
            self.inside.pages.store(Arc::new(config.web_policy()));
            self.in_force.store(Arc::new(Server::new(config, tls, inside, tasks)));
            // A page that may not ask any more is not to hear events either.
            self.inside.topics.look();
            self.listening.change(listen, new, limit);
        }))
    }

    fn listens_at(&self, own: &[SocketAddr]) {
        self.inside.registry.guard().set_own(own.to_vec());
    }

    /// A certificate that was replaced serves the connections to come; clients' own are looked at anew.
    fn look(&self) {
        let server = self.in_force.load_full();
        let Some(config) = &server.config().tls else { return };
        self.remind(server.tls.as_ref(), &config.cert_file);
        let files = Files::read(config);
        let mut watch = self.certificate();
        if !watch.as_mut().is_some_and(|watch| watch.is_other(files.fingerprint())) {
            return;
        }
        let cert_file = config.cert_file.display();
        let client_ca_file = config.clients.as_ref().map(|clients| clients.ca_file.display());
        match files.tls(config, server.config().http2) {
            Ok(tls) => {
                *self.refused() = None;
                let before = server.tls.as_ref();
                let has_new_chain = before.is_none_or(|before| !before.shows_the_same_as(&tls));
                let authorities = tls.authorities.clone();
                self.in_force.store(Arc::new(server.with_tls(tls)));
                match client_ca_file {
                    Some(client_ca_file) if !has_new_chain => info!(
                        %client_ca_file,
                        "the authorities of clients' certificates, or what they revoked, were replaced: those in \
                         force decide now"
                    ),
                    _ => info!(
                        %cert_file,
                        "the certificate was replaced: new connections get the new one"
                    ),
                }
                let crl_file =
                    config.clients.as_ref().and_then(|clients| clients.crl_file.as_ref());
                if let (Some(file), Some(authorities)) = (crl_file, authorities) {
                    let client_crl_file = file.display();
                    for problem in authorities.doubts() {
                        warn!(%client_crl_file, problem, "dubious lists of what was revoked");
                    }
                }
            }
            Err(error) => {
                self.refused().get_or_insert_with(|| RefusedFile::new("cert_file"));
                let problem = format!("{error:#}");
                error!(problem, "the new certificate cannot be used: the old one stays");
            }
        }
    }

    fn drain(&self, patience: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(patience))
    }

    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.tasks.end(grace))
    }
}
