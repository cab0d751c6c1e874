//! What serves requests, of whatever connection: all that one configuration asks for.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router as Routes;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{Either, Full};
use tower::Service;

use super::super::config::HttpConfig;
use super::exchange_body::RequestBody;
use super::handover::Handover;
use super::progress::Limits;
use super::tls::Tls;
use super::websocket;
use super::{Connected, Http, Inside, NAME, WEBSOCKET, door, forwarded, routes, rpc};
use crate::tasks::Tasks;
use crate::web::WebPolicy;

/// An answer, of which most are at hand.
type Answer = hyper::Response<Either<Full<Bytes>, Body>>;

/// What serves requests: all that one configuration asks for.
pub(super) struct Server {
    http: Arc<Http>,
    routes: Routes,
    /// Whether requests pass layers on their way to the routes.
    layered: bool,
    config: HttpConfig,
    policy: WebPolicy,
    pub(super) tls: Option<Tls>,
    tasks: Tasks,
}

impl Server {
    /// A server that owns its sessions, and the notifications that outlive them, by `tasks`.
    pub(super) fn new(config: HttpConfig, tls: Option<Tls>, inside: Inside, tasks: Tasks) -> Self {
        let Inside { router, registry, discovery, topics, auth, pages } = inside;
        let (ingress, websocket) = (router.ingress(NAME), router.ingress(WEBSOCKET));
        let (calls, notifications) = (config.clone(), tasks.clone());
        let http = Arc::new(Http {
            router,
            registry,
            discovery,
            topics,
            auth,
            pages,
            ingress,
            websocket,
            config: calls,
            notifications,
        });
        let policy = config.web_policy();
        let layered = config.compression || config.cors.is_some();
        Self { routes: routes(Arc::clone(&http)), http, layered, config, policy, tls, tasks }
    }

    /// The same with other certificates.
    pub(super) fn with_tls(&self, tls: Tls) -> Self {
        Self {
            http: Arc::clone(&self.http),
            routes: self.routes.clone(),
            layered: self.layered,
            config: self.config.clone(),
            policy: self.policy.clone(),
            tls: Some(tls),
            tasks: self.tasks.clone(),
        }
    }

    /// What its requests are served with.
    pub(super) fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// Which pages may ask.
    pub(super) fn policy(&self) -> &WebPolicy {
        &self.policy
    }

    /// What it was made of.
    pub(super) fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Whether it is the one request that nearly all are, and no layer has a say in it: then
    /// looking the route up and boxing the body would be a tenth of the gateway's work.
    fn is_plain_call<B>(&self, request: &hyper::Request<B>) -> bool {
        !self.layered && request.method() == http::Method::POST && request.uri().path() == "/api"
    }

    /// What a request has in common with others of its connection, and from where it comes.
    pub(super) fn connected(&self, connected: &Connected, headers: &HeaderMap) -> Connected {
        self.look(connected);
        let mut connected = connected.clone();
        let (trusted, peer) = (&self.config.trusted_proxies, connected.caller.address());
        if let Some(client) = peer.and_then(|peer| forwarded::client(trusted, peer, headers)) {
            connected.caller = connected.caller.calling_from(client);
        }
        connected
    }

    /// Looks whether the certificate of a connection, where it has one, still makes it known.
    pub(super) fn look(&self, connected: &Connected) {
        if let Some(certificate) = &connected.certificate {
            certificate.look(self.tls.as_ref().and_then(|tls| tls.authorities.as_deref()));
        }
    }

    /// Answers a request. One after which the connection may go on as something else comes with where that is left.
    pub(super) async fn answer(
        &self,
        connected: Connected,
        handover: Option<Handover>,
        is_late: bool,
        mut request: hyper::Request<RequestBody>,
    ) -> Result<Answer, Infallible> {
        // All but the plain call in boxes, so that it does not carry their room.
        if let Err(turned_away) = door::check(&self.policy, &request) {
            let refused = turned_away.answer(&self.http, &connected.caller, request);
            Ok(Box::pin(refused).await.map(Either::Right))
        } else if let Some(handover) = &handover
            && websocket::is_asked(&request)
        {
            let identified = self.http.identify_socket(&connected.caller, request.headers());
            let caller = Box::pin(identified).await;
            let opened = websocket::open(&self.http, handover, caller, request, is_late);
            Ok(opened.map(Either::Left))
        } else if self.is_plain_call(&request) {
            Ok(rpc::serve(&self.http, &connected, None, request).await.map(Either::Left))
        } else {
            let progress = Arc::clone(request.body().progress());
            request.extensions_mut().insert(connected);
            request.extensions_mut().insert(progress);
            if let Some(handover) = handover {
                request.extensions_mut().insert(handover);
            }
            let answer = Box::pin(self.routes.clone().call(request)).await;
            answer.map(|answer| answer.map(Either::Right))
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            read: self.config.read_timeout,
            write: self.config.write_timeout,
            idle: self.config.idle_timeout,
        }
    }

    /// What owns the streams of connections over HTTP/2.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
