//! A module with the real client library, for the tests: serves, calls, listens or triggers.
//!
//!     juno-module ADDRESS ID serve
//!     juno-module ADDRESS ID call FUNCTION ARGUMENTS [DEPENDENCY RANGE]
//!     juno-module ADDRESS ID listen HOOK FILE
//!     juno-module ADDRESS ID trigger HOOK DATA

use std::collections::HashMap;

use juno::models::{Number, Value};
use juno::JunoModule;

fn number(arguments: &HashMap<String, Value>, key: &str) -> u64 {
    match arguments.get(key) {
        Some(Value::Number(Number::PosInt(number))) => *number,
        // The library reads every number that fits an i64 as one.
        Some(Value::Number(Number::NegInt(number))) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

fn add(arguments: HashMap<String, Value>) -> Value {
    Value::Number(Number::PosInt(number(&arguments, "a") + number(&arguments, "b")))
}

fn echo(arguments: HashMap<String, Value>) -> Value {
    Value::Object(arguments)
}

fn sleep(_: HashMap<String, Value>) -> Value {
    std::thread::sleep(std::time::Duration::from_secs(60));
    Value::Null
}

fn heard(data: Value) {
    let file = std::env::args().nth(5).expect("FILE");
    std::fs::write(file, json(&data)).expect("the file can be written");
}

fn json(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(Number::PosInt(number)) => number.to_string(),
        Value::Number(Number::NegInt(number)) => number.to_string(),
        Value::Number(Number::Float(number)) => format!("{number:?}"),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key:?}:{}", json(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

/// The arguments are flat objects of whole numbers: `{"a":2,"b":5}`.
fn arguments(text: &str) -> HashMap<String, Value> {
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    let members = inner.split(',').filter_map(|member| member.split_once(':'));
    let members = members.map(|(key, number)| {
        let number = Number::PosInt(number.trim().parse().expect("a whole number"));
        (key.trim().trim_matches('"').to_owned(), Value::Number(number))
    });
    members.collect()
}

/// Asks until there is an answer. The library forgets a request that is made in the very moment in which
/// `juno.activated` arrives: it looks whether it is active, and then puts the request into a buffer that
/// has just been sent. After one answer it does not any more.
async fn until_heard(module: &mut JunoModule) {
    const AGAIN: std::time::Duration = std::time::Duration::from_millis(200);
    while async_std::future::timeout(AGAIN, module.trigger_hook("heard", Value::Null)).await.is_err() {}
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    async_std::task::block_on(async {
        let (address, id, rest) = (given[0], given[1], &given[2..]);
        let mut module = JunoModule::default(address);
        let mut dependencies = HashMap::new();
        if let ["call", _, _, dependency, range] = rest {
            dependencies.insert((*dependency).to_owned(), (*range).to_owned());
        }
        module.initialize(id, "1.0.0", dependencies).await.expect("registered");
        until_heard(&mut module).await;
        match rest {
            ["serve"] => {
                module.declare_function("add", add).await.expect("declared");
                module.declare_function("echo", echo).await.expect("declared");
                module.declare_function("sleep", sleep).await.expect("declared");
                std::future::pending::<()>().await;
            }
            ["call", function, text, ..] => {
                let result = module.call_function(function, arguments(text)).await;
                println!("{}", json(&result.expect("a result")));
            }
            ["listen", hook, _file] => {
                module.register_hook(hook, heard).await.expect("registered");
                std::future::pending::<()>().await;
            }
            ["trigger", hook, text] => {
                module.trigger_hook(hook, Value::Object(arguments(text))).await.expect("triggered");
                println!("\"triggered\"");
            }
            _ => panic!("serve, call, listen or trigger"),
        }
    });
    // The library leaves threads that never end.
    std::process::exit(0);
}
