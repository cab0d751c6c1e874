//! What the pages for operators show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router as Routes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::last_reload::LastReload;
use super::routes::{self, RoutesPage};
use crate::auth::Auth;
use crate::events::board::{self, Unheard};
use crate::exposer::Extent;
use crate::exposer::board::{Board, Unexposed};
use crate::ingress::Page;
use crate::metrics::Exporter;
use crate::printable::printable_line;
use crate::router::Router;
use crate::upstream::Readiness;

/// What the pages show.
pub struct Overview {
    /// The routing table tells which upstreams are needed.
    pub router: Arc<Router>,
    /// What the ingresses show.
    pub pages: Vec<Page>,
    /// Services that are not exposed.
    pub exposes: Arc<Board>,
    /// Places that no events come from.
    pub events: Arc<board::Board>,
    /// The metrics.
    pub exporter: Exporter,
    /// Who calls is known by.
    pub auth: Arc<Auth>,
    /// How the last reload ended.
    pub last_reload: Arc<LastReload>,
    /// Set when the gateway takes no new calls.
    pub draining: AtomicBool,
}

/// The pages.
pub(super) fn routes(overview: Arc<Overview>) -> Routes {
    let pages = overview.pages.clone();
    let mut routes = Routes::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/routes", get(table))
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
    missing.extend(overview.auth.lacks().map(|why| format!("auth: {why}")));
    let table = overview.router.table();
    let mut remarks: Vec<String> =
        overview.last_reload.line().map(str::to_owned).into_iter().collect();
    for target in table.targets() {
        let open = routes::open(target, &table);
        remarks.extend(open.iter().filter_map(|open| open.line(&target.name)));
        if let Readiness::NotReady(reason) = target.upstream.readiness() {
            missing.push(format!("{}: {reason}", target.name));
        }
    }
    remarks.extend(overview.exposes.shown().iter().map(unexposed));
    remarks.extend(overview.events.shown().iter().map(unheard));
    // A service that does not answer, or is not exposed, events that do not come, and a reload that was refused are no
    // reason to keep the calls of others away.
    let (status, word) = match missing.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let lines: Vec<String> = [word.to_owned()].into_iter().chain(missing).chain(remarks).collect();
    (status, format!("{}\n", lines.join("\n"))).into_response()
}

fn unexposed(Unexposed { on, name, extent, why }: &Unexposed) -> String {
    let extent = match extent {
        Extent::Nothing => "is not exposed",
        Extent::Part => "is exposed in part",
        Extent::Unlisted => "is exposed, but tools do not find it",
    };
    format!("{on}: `{}` {extent}: {}", printable_line(name), printable_line(why))
}

fn unheard(Unheard { from, why }: &Unheard) -> String {
    format!("{}: its events are not taken: {}", printable_line(from), printable_line(why))
}

async fn table(State(overview): State<Arc<Overview>>) -> Response {
    let table = overview.router.table();
    match serde_json::to_string(&RoutesPage::new(&table)) {
        Ok(page) => json(page),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
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
