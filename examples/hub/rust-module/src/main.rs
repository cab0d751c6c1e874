//! A module for Genkan's hub, with the standard library and serde_json alone.
//!
//!     cargo run -- [127.0.0.1:2203 | /run/genkan/hub.sock]
//!
//! Registers as `rust`, declares two functions, and answers whoever calls them:
//!
//!     genkan call rust greet name=you
//!     genkan call rust order id:=1 size=M
//!
//! `order` is itself a caller: of `orders.create`, which may be another module's function or, where
//! a route says so, a Nameko service behind RabbitMQ. To this module it is all the same. Whom it has
//! greeted it tells by the hook `rust.greeted`, to whoever listens.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::{json, Value};

struct Module {
    hub: Box<dyn Write>,
    serial: u64,
    /// Calls under way: the id of ours, and the one of the call that waits for it.
    waiting: HashMap<String, Value>,
}

impl Module {
    /// Every frame is one line, sent with one write.
    fn send(&mut self, frame: Value) -> io::Result<()> {
        self.hub.write_all(format!("{frame}\n").as_bytes())
    }

    /// Sends a request under an id of its own, which is returned.
    fn request(&mut self, mut frame: Value) -> io::Result<String> {
        self.serial += 1;
        let id = format!("rust-{}", self.serial);
        frame["requestId"] = json!(id);
        self.send(frame)?;
        Ok(id)
    }

    fn answer(&mut self, id: &Value, data: Value) -> io::Result<()> {
        self.send(json!({"type": 4, "requestId": id, "data": data}))
    }

    fn fail(&mut self, id: &Value, mut error: Value) -> io::Result<()> {
        (error["type"], error["requestId"]) = (json!(0), id.clone());
        self.send(error)
    }

    fn called(&mut self, frame: &Value) -> io::Result<()> {
        let (id, arguments) = (&frame["requestId"], &frame["arguments"]);
        match frame["function"].as_str() {
            Some("greet") => {
                let name = arguments["name"].as_str().unwrap_or("you");
                self.answer(id, json!(format!("Hello, {name}, from rust")))?;
                self.request(json!({"type": 7, "hook": "greeted", "data": {"name": name}}))?;
                Ok(())
            }
            Some("order") => {
                let call = json!({"type": 3, "function": "orders.create", "arguments": arguments});
                let ours = self.request(call)?;
                self.waiting.insert(ours, id.clone());
                Ok(())
            }
            _ => self.fail(id, json!({"error": 5})),
        }
    }

    fn received(&mut self, frame: Value) -> io::Result<()> {
        let caller = frame["requestId"].as_str().and_then(|id| self.waiting.remove(id));
        match (frame["type"].as_u64(), caller) {
            (Some(8), _) if frame["hook"] == "juno.activated" => {
                for function in ["greet", "order"] {
                    self.request(json!({"type": 9, "function": function}))?;
                }
                Ok(())
            }
            (Some(3), _) => self.called(&frame),
            (Some(4), Some(caller)) => {
                let (order, price) = (&frame["data"], &frame["data"]["price"]);
                let text = format!("That is {price}, says rust");
                self.answer(&caller, json!({"text": text, "order": order}))
            }
            // What went wrong over there is our caller's to know, in the same words.
            (Some(0), Some(caller)) => self.fail(&caller, frame),
            (Some(0), None) => {
                eprintln!("the hub: {frame}");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn connect(address: &str) -> io::Result<(Box<dyn Read>, Box<dyn Write>)> {
    if address.contains('/') {
        let stream = UnixStream::connect(address)?;
        return Ok((Box::new(stream.try_clone()?), Box::new(stream)));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok((Box::new(stream.try_clone()?), Box::new(stream)))
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2203".to_owned());
    let (from_hub, hub) = connect(&address)?;
    let mut module = Module { hub, serial: 0, waiting: HashMap::new() };
    module
        .request(json!({"type": 1, "moduleId": "rust", "version": "1.0.0", "dependencies": {}}))?;
    for line in BufReader::new(from_hub).lines() {
        module.received(serde_json::from_str(&line?)?)?;
    }
    Ok(())
}
