//! The floor of everything that comes over HTTP: an axum server that does nothing, with the same
//! runtime as a program makes that sets nothing.

use anyhow::Result;
use axum::Router;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::role::serve;

/// The role of an HTTP server that reads a body and returns it.
pub(crate) fn echo() -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                eprintln!("axum echo: {error}");
            }
        });
        let app = Router::new().route("/api", post(async |body: Bytes| body));
        tasks.spawn(async move { axum::serve(listener, app).await });
        Ok(Some(port))
    })
}
