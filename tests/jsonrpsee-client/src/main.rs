//! jsonrpsee's WebSocket client, as its documentation shows it: `jsonrpsee-client ws://…/api`

use std::error::Error;
use std::sync::Arc;

use jsonrpsee_core::client::{ClientT, Error as ClientError};
use jsonrpsee_core::params::{BatchRequestBuilder, ObjectParams};
use jsonrpsee_core::rpc_params;
use jsonrpsee_ws_client::WsClientBuilder;
use serde_json::{json, Value};
use tokio::task::JoinSet;

/// What a call that was to fail came to.
fn error(result: Result<Value, ClientError>) -> Value {
    match result {
        Err(ClientError::Call(error)) => {
            let data = error.data().map(|data| data.get()).unwrap_or("null");
            let data: Value = serde_json::from_str(data).expect("JSON");
            json!({"code": error.code(), "message": error.message(), "data": data})
        }
        other => json!(format!("{other:?}")),
    }
}

async fn calls(url: &str) -> Result<Value, Box<dyn Error>> {
    let client = Arc::new(WsClientBuilder::default().build(url).await?);
    let positional: i64 = client.request("shop.subtract", rpc_params![42, 23]).await?;
    let mut named = ObjectParams::new();
    named.insert("subtrahend", 23)?;
    named.insert("minuend", 42)?;
    let named: i64 = client.request("shop.subtract", named).await?;
    let failed = error(client.request("shop.fail", rpc_params![]).await);
    let unknown = error(client.request("shop.nope", rpc_params![]).await)["code"].take();
    client.notification("shop.note", rpc_params!["jsonrpsee"]).await?;
    let mut batch = BatchRequestBuilder::new();
    batch.insert("shop.add", rpc_params![1, 2])?;
    batch.insert("shop.fail", rpc_params![])?;
    let batch = client.batch_request::<i64>(batch).await?;
    let batch: Vec<i64> = batch
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|error| error.code().into()))
        .collect();
    let mut adding = JoinSet::new();
    for n in 0..200_i64 {
        let client = Arc::clone(&client);
        adding.spawn(async move {
            let sum: Result<i64, _> = client.request("shop.add", rpc_params![n, 1]).await;
            sum.is_ok_and(|sum| sum == n + 1)
        });
    }
    let sums = adding.join_all().await.into_iter().all(|right| right);
    Ok(json!({
        "positional": positional, "named": named, "error": failed, "unknown": unknown,
        "batch": batch, "sums": sums,
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("a URL is missing")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(calls(&url))?);
    Ok(())
}
