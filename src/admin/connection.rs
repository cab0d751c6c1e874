//! A connection to the pages: one request, with a limit on each of its parts. Who may not ask is
//! told so before anything is looked up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router as Routes;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use crate::web::{Unwelcome, WebPolicy};

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// How long all of it may take, the answer's way to its reader too.
const WHOLE: Duration = Duration::from_secs(60);

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    routes: Routes,
    policy: Arc<WebPolicy>,
    closed: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let welcome = policy.check(&request);
        let mut routes = routes.clone();
        async move {
            match welcome {
                Ok(()) => routes.call(request).await,
                Err(unwelcome) => Ok(refuse(&unwelcome)),
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut whole = pin!(sleep(WHOLE));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "a connection to the pages ended");
                }
                return;
            }
            () = closed.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = whole.as_mut() => return,
        }
    }
}

fn refuse(unwelcome: &Unwelcome) -> Response {
    let text = match unwelcome {
        Unwelcome::Malformed(how) => (*how).to_owned(),
        Unwelcome::Host(_) => format!("{unwelcome} in [admin]"),
        Unwelcome::Origin(_) | Unwelcome::Site => "pages of other sites may not ask".to_owned(),
    };
    (unwelcome.status(), format!("{text}\n")).into_response()
}
