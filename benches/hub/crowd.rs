//! Many modules: some that do nothing, and some that listen to a hook.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::module::Module;
use crate::support::role::{Answer, Command, Run, take_orders};

/// The role of as many idle modules as it is told to open, each with one function.
pub(crate) fn idle(address: SocketAddr) -> Result<()> {
    let mut modules = Vec::new();
    take_orders(|command| {
        match command {
            Command::Open(count) => {
                for number in modules.len()..modules.len() + count {
                    let mut module = Module::connect(address)?;
                    module.register(&format!("module-{}-{number}", std::process::id()))?;
                    module.declare("f")?;
                    modules.push(module);
                }
            }
            Command::Run(_) => bail!("idle modules do nothing"),
            Command::Close => modules.clear(),
        }
        Ok(Answer::Done)
    })
}

/// The role of `count` listeners and a module that triggers their hook as often as it is told to
/// run. What is timed is how long after the first of them the last one gets it.
pub(crate) fn listeners(address: SocketAddr, count: usize, bare: bool) -> Result<()> {
    let mut crowd = Crowd::connect(address, count, bare)?;
    take_orders(|command| match command {
        Command::Run(hooks) => {
            let start = Instant::now();
            let spreads = (0..hooks).map(|_| crowd.trigger()).collect::<Result<Vec<_>>>()?;
            Ok(Answer::Ran(Run::new(start, spreads)))
        }
        Command::Open(_) | Command::Close => Ok(Answer::Done),
    })
}

/// Listeners in the order in which they are served, and the source of their hook.
struct Crowd {
    /// When the first one got a hook: it waits in a thread of its own.
    first: Receiver<Instant>,
    middle: Vec<Module>,
    last: Module,
    source: Module,
}

impl Crowd {
    fn connect(address: SocketAddr, count: usize, bare: bool) -> Result<Self> {
        let id = format!("source-{count}");
        let mut listeners = Vec::new();
        for number in 0..count {
            let mut listener = Module::connect(address)?;
            if !bare {
                listener.register(&format!("listener-{count}-{number}"))?;
                listener.listen(&format!("{id}.tick"))?;
            }
            listeners.push(listener);
        }
        let mut source = Module::connect(address)?;
        if !bare {
            source.register(&id)?;
        }
        let last = listeners.pop().context("there is a last listener")?;
        let mut listeners = listeners.into_iter();
        let first = listeners.next().context("there is a first listener")?;
        let middle: Vec<Module> = listeners.collect();
        for listener in &middle {
            listener.stream.set_nonblocking(true)?;
        }
        Ok(Self { first: watch(first)?, middle, last, source })
    }

    fn trigger(&mut self) -> Result<Duration> {
        self.source.say(r#"{"data":{"u":1},"hook":"tick","requestId":"t-1","type":7}"#)?;
        self.last.hear(1)?;
        let last = Instant::now();
        let first = self.first.recv().context("the first listener has gone")?;
        // The last has it, so all have it: nothing is waited for.
        for (number, listener) in self.middle.iter_mut().enumerate() {
            let mut buffer = [0; 1024];
            match listener.stream.read(&mut buffer) {
                Ok(length) if buffer[..length].ends_with(b"}\n") => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!(
                        "listener {} of {} came after the last",
                        number + 2,
                        self.middle.len() + 2
                    )
                }
                other => bail!("listener {} got no line: {other:?}", number + 2),
            }
        }
        self.source.hear(1)?;
        Ok(last.saturating_duration_since(first))
    }
}

fn watch(mut first: Module) -> Result<Receiver<Instant>> {
    first.stream.set_read_timeout(None)?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        while first.hear(1).is_ok() {
            if sender.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
