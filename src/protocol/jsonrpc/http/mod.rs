//! The HTTP ingress: which request goes to which handler.

mod bare;
mod body;
mod client_stream;
mod door;
mod exchange_body;
mod headers;
mod ingress;
mod progress;
mod rpc;
mod server;
mod tls;

use std::sync::Arc;

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::Router as Routes;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, post};
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::config::{CorsConfig, HttpConfig};
use crate::budget::Account;
use crate::router::Router;
use crate::router::ledger::IngressLabel;
use crate::tasks::Tasks;

pub(super) use ingress::bind;

/// The ingress's name.
pub(super) const NAME: &str = "http";

/// What every handler needs.
pub(super) struct Http {
    router: Arc<Router>,
    ingress: IngressLabel,
    config: HttpConfig,
    /// Notifications run on after they were answered.
    notifications: Tasks,
}

impl Http {
    /// What a request's connection holds; the server put it there.
    fn account<B>(&self, request: &::http::Request<B>) -> Account {
        let account = request.extensions().get::<Account>();
        account.cloned().unwrap_or_else(|| self.router.budget().connection())
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
        AllowOrigin::list(origins)
    };
    let allowed = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::ACCEPT_LANGUAGE,
        headers::TRACEPARENT,
        headers::TRACESTATE,
        headers::REQUEST_ID,
        headers::REQUEST_TIMEOUT,
    ];
    let exposed: [HeaderName; 4] =
        [headers::SERVER_TIMING, headers::REQUEST_ID, headers::TRACEPARENT, header::RETRY_AFTER];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        .allow_headers(allowed)
        .expose_headers(exposed)
        .allow_credentials(config.credentials)
        .max_age(config.max_age)
}

/// An answer with a JSON body.
fn json(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

type HttpState = State<Arc<Http>>;
type HttpRequest = Request;
