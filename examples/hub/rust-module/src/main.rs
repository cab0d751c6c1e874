//! A module for Genkan's hub, with the client library `juno`.
//!
//!     cargo run -- [127.0.0.1:2203 | /run/genkan/hub.sock]
//!
//! Registers as `rust`, declares `greet`, and answers whoever calls `rust.greet`:
//!
//!     genkan call rust greet name=you
//!
//! The library does not decode error frames, so a call that fails would wait for ever. Start
//! Genkan with `[hub] errors = "data"` if your module calls others: a failed call then returns
//! `{"error": {…}}`.

use std::collections::HashMap;

use juno::models::Value;
use juno::JunoModule;

fn greet(arguments: HashMap<String, Value>) -> Value {
    let name = match arguments.get("name") {
        Some(Value::String(name)) => name.as_str(),
        _ => "you",
    };
    Value::String(format!("Hello, {name}, from rust"))
}

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2203".to_owned());
    async_std::task::block_on(async {
        let mut module = JunoModule::default(&address);
        module.initialize("rust", "1.0.0", HashMap::new()).await.expect("the hub takes it");
        // The library forgets a request that is made in the very moment in which the hub says
        // that the module is active, which is right after it has registered.
        async_std::task::sleep(std::time::Duration::from_millis(200)).await;
        module.declare_function("greet", greet).await.expect("declared");
        std::future::pending::<()>().await;
    });
}
