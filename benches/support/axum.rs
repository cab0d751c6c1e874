//! The floor of everything that comes over HTTP: an axum server that does nothing, with the same
//! runtime as a program makes that sets nothing. And the smallest service that speaks JSON-RPC.

use anyhow::Result;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::role::serve;

/// The role of an HTTP server that reads a body and returns it.
pub(crate) fn echo() -> Result<()> {
    run(Router::new().route("/api", post(async |body: Bytes| body)))
}

/// The role of a JSON-RPC service whose results are the params.
pub(crate) fn json_rpc() -> Result<()> {
    run(Router::new().route("/api", post(async |body: Bytes| answer(&body))))
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    params: &'a RawValue,
    #[serde(borrow)]
    id: &'a RawValue,
}

fn answer(body: &[u8]) -> Result<String, StatusCode> {
    let call: Call<'_> = serde_json::from_slice(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(format!(r#"{{"jsonrpc":"2.0","result":{},"id":{}}}"#, call.params, call.id))
}

fn run(app: Router) -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                eprintln!("axum echo: {error}");
            }
        });
        tasks.spawn(async move { axum::serve(listener, app).await });
        Ok(Some(port))
    })
}
