//! The pages for operators: `/healthz`, `/readyz`, `/metrics`, and what the ingresses show. On an
//! address of their own, so that they can be kept from the callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use axum::Router as Routes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::warn;

use crate::ingress::Page;
use crate::listener;
use crate::metrics::Exporter;
use crate::router::Router;
use crate::tasks::Tasks;
use crate::upstream::Readiness;

/// The admin listener, bound to its address.
pub struct Admin {
    listener: TcpListener,
}

/// What the pages show.
pub struct Overview {
    /// The routing table tells which upstreams are needed.
    pub router: Arc<Router>,
    /// What the ingresses show.
    pub pages: Vec<Page>,
    /// The metrics.
    pub exporter: Exporter,
    /// Set when the gateway takes no new calls.
    pub draining: AtomicBool,
}

impl Admin {
    /// Binds the address.
    pub fn bind(listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = listener::bind(listen).with_context(|| {
            format!("cannot listen on {listen} ([admin] listen): is another program using it?")
        })?;
        Ok(Self { listener })
    }

    /// The address it is bound to.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the tasks are told to end.
    pub async fn run(self, overview: Arc<Overview>, tasks: Tasks) {
        let shutdown = tasks.shutdown().clone();
        let serve = axum::serve(self.listener, routes(overview))
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = serve.await {
            warn!(%error, "the admin listener ended");
        }
    }
}

fn routes(overview: Arc<Overview>) -> Routes {
    let pages = overview.pages.clone();
    let mut routes = Routes::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(overview);
    for Page { path, render } in pages {
        routes = routes.route(path, get(async move || json(render())));
    }
    routes
}

async fn readyz(State(overview): State<Arc<Overview>>) -> Response {
    let mut missing = Vec::new();
    if overview.draining.load(Ordering::Relaxed) {
        missing.push("gateway: draining, no new calls".to_owned());
    }
    let table = overview.router.table();
    let mut seen = Vec::new();
    for target in table.rows().iter().filter_map(|row| row.target.as_ref()) {
        if seen.contains(&target.name.as_str()) {
            continue;
        }
        seen.push(target.name.as_str());
        if let Readiness::NotReady(reason) = target.upstream.readiness() {
            missing.push(format!("{}: {reason}", target.name));
        }
    }
    if missing.is_empty() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        let text = format!("not ready\n{}\n", missing.join("\n"));
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn metrics(State(overview): State<Arc<Overview>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, overview.exporter.render()).into_response()
}

fn json(page: String) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, page).into_response()
}
