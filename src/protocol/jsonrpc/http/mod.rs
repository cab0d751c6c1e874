//! The HTTP ingress: which request goes to which handler.

#[cfg(test)]
mod any_bytes;
mod bare;
mod bell;
mod body;
mod builtin;
mod client_certs;
mod client_stream;
mod connection;
mod credentials;
mod door;
mod ears;
mod events;
mod exchange_body;
mod forwarded;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod handover;
mod headers;
mod ingress;
mod linger;
mod progress;
mod requester;
mod rpc;
mod server;
mod session;
mod tls;
mod websocket;

use std::sync::Arc;

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use arc_swap::ArcSwap;
use axum::Router as Routes;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::config::{CorsConfig, HttpConfig};
use super::discovery::Discovery;
use super::registry::Registry;
use crate::auth::Auth;
use crate::budget::Account;
use crate::caller::Caller;
use crate::events::topics::Topics;
use crate::router::Router;
use crate::router::ledger::IngressLabel;
use crate::tasks::Tasks;
use crate::web::WebPolicy;

pub(super) use ingress::bind;
pub(super) use websocket::LABEL as WEBSOCKET;

/// The methods by which topics are listened to.
pub(super) const TOPIC_METHODS: [&str; 3] = ears::Method::NAMES;

/// The ingress's name.
pub(super) const NAME: &str = "http";

/// What it is the way into.
#[derive(Clone)]
struct Inside {
    router: Arc<Router>,
    registry: Arc<Registry>,
    discovery: Arc<Discovery>,
    topics: Arc<Topics>,
    auth: Arc<Auth>,
    /// Which pages may ask by the settings that are in force.
    pages: Arc<ArcSwap<WebPolicy>>,
}

/// What the requests of one connection have in common.
#[derive(Clone)]
pub(super) struct Connected {
    /// What they hold of the memory.
    account: Account,
    /// Whose connection it is.
    caller: Caller,
    /// The certificate that the client has shown.
    certificate: Option<Arc<client_certs::Shown>>,
}

/// Marks an answer whose call was refused for who its caller is, where no header says so.
#[derive(Clone, Copy)]
struct Denied;

impl Connected {
    fn new(account: Account, caller: Caller) -> Self {
        Self { account, caller, certificate: None }
    }
}

/// What every handler needs.
pub(super) struct Http {
    router: Arc<Router>,
    registry: Arc<Registry>,
    discovery: Arc<Discovery>,
    topics: Arc<Topics>,
    auth: Arc<Auth>,
    pages: Arc<ArcSwap<WebPolicy>>,
    ingress: IngressLabel,
    /// Of calls that come over WebSocket.
    websocket: IngressLabel,
    config: HttpConfig,
    /// Notifications run on after they were answered.
    notifications: Tasks,
}

impl Http {
    /// What a request's connection holds, and whose it is; the server put it there.
    fn connected<B>(&self, request: &::http::Request<B>) -> Connected {
        let connected = request.extensions().get::<Connected>();
        let unknown = || Connected::new(self.router.budget().connection(), Caller::NOBODY);
        connected.cloned().unwrap_or_else(unknown)
    }

    /// Fires when no new calls are taken.
    fn draining(&self) -> &CancellationToken {
        self.notifications.shutdown()
    }
}

/// The routes, with the layers that the configuration asks for.
fn routes(http: Arc<Http>) -> Routes {
    let mut routes = Routes::new()
        .route("/api", post(rpc::api).fallback(rpc::not_post))
        .route("/api/", post(rpc::api).fallback(rpc::not_post))
        .route("/api/{service}", post(rpc::service_api).fallback(rpc::not_post))
        .route("/api/{service}/", post(rpc::service_api).fallback(rpc::not_post))
        .route("/call/{service}/{method}", post(bare::call).fallback(bare::not_post))
        .route("/call/{service}/{method}/", post(bare::call).fallback(bare::not_post))
        .route("/events", get(events::stream).fallback(events::not_get))
        .route("/events/", get(events::stream).fallback(events::not_get))
        .fallback(any(bare::not_found))
        .with_state(Arc::clone(&http));
    if http.config.compression {
        routes = routes.layer(CompressionLayer::new());
    }
    if let Some(cors) = &http.config.cors {
        routes = routes.layer(cors_layer(cors));
    }
    routes
}

fn cors_layer(config: &CorsConfig) -> CorsLayer {
    let origins = if config.origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        // What is no header value was reported when the configuration was read.
        let origins = config.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let mut origins: Vec<_> = origins.collect();
        origins.sort_unstable();
        AllowOrigin::predicate(move |origin, _| origins.binary_search(origin).is_ok())
    };
    // Those that are read, and those that browsers' programs send everywhere: a page whose library does
    // (`EventSource`s over fetch, tracing) could not call at all.
    let allowed = [
        header::ACCEPT,
        header::CACHE_CONTROL,
        header::PRAGMA,
        headers::BAGGAGE,
        headers::LAST_EVENT_ID,
        headers::REQUESTED_WITH,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        credentials::API_KEY,
        header::ACCEPT_LANGUAGE,
        headers::TRACEPARENT,
        headers::TRACESTATE,
        headers::REQUEST_ID,
        headers::REQUEST_TIMEOUT,
        headers::IDEMPOTENCY_KEY,
    ];
    let exposed: [HeaderName; 8] = [
        headers::SERVER_TIMING,
        headers::REQUEST_ID,
        headers::TRACEPARENT,
        header::RETRY_AFTER,
        headers::RATE_LIMIT,
        headers::RATE_LIMIT_POLICY,
        header::WWW_AUTHENTICATE,
        headers::IDEMPOTENCY_REPLAYED,
    ];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(
            allowed.into_iter().chain(config.headers.iter().cloned()).collect::<Vec<_>>(),
        )
        .expose_headers(exposed)
        .allow_credentials(config.credentials)
        .max_age(config.max_age)
}

/// An answer with a JSON body.
fn json(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<axum::body::Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

type HttpState = State<Arc<Http>>;
type HttpRequest = Request;
