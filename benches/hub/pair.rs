//! Two modules: one calls, the other answers. Threads that block, which leave most of the machine
//! to what is measured.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

use super::module::{Lines, Module};
use crate::support::role::{Answer, Command, Run, take_orders};

/// What the caller calls.
pub(super) const CALLED: (&str, &str) = ("rmath", "add");
/// What it gets for it.
pub(super) const SUM: &str = "7.0";

/// How a module is known to the hub; a relay is told nothing.
pub(crate) struct Known {
    /// The module's id.
    pub(crate) id: String,
    /// Its function, if it has one.
    pub(crate) function: Option<String>,
}

fn enter(address: SocketAddr, known: Option<Known>) -> Result<Module> {
    let mut module = Module::connect(address)?;
    if let Some(Known { id, function }) = known {
        module.register(&id)?;
        function.iter().try_for_each(|function| module.declare(function))?;
    }
    Ok(module)
}

/// The role of a module that answers every call with the same result.
pub(crate) fn callee(address: SocketAddr, answer: String, known: Option<Known>) -> Result<()> {
    let module = enter(address, known)?;
    thread::spawn(move || {
        if let Err(error) = serve(module, &answer) {
            eprintln!("the callee cannot answer: {error:#}");
        }
    });
    take_orders(|_| Ok(Answer::Done))
}

fn serve(mut module: Module, answer: &str) -> Result<()> {
    // Between two rounds nobody calls, for as long as others take their turns.
    module.stream.set_read_timeout(None)?;
    let mut lines = module.lines()?;
    let mut frame = Vec::new();
    loop {
        let id = request_id(lines.next()?)?;
        frame.clear();
        frame.extend_from_slice(b"{\"data\":");
        frame.extend_from_slice(answer.as_bytes());
        frame.extend_from_slice(b",\"requestId\":\"");
        frame.extend_from_slice(id);
        frame.extend_from_slice(b"\",\"type\":4}\n");
        module.stream.write_all(&frame)?;
    }
}

fn request_id(line: &[u8]) -> Result<&[u8]> {
    let key = b"\"requestId\":\"";
    let start = memmem::find(line, key).context("a call has a requestId")? + key.len();
    let rest = line.get(start..).unwrap_or_default();
    let end = memchr::memchr(b'"', rest).context("a requestId ends")?;
    Ok(&rest[..end])
}

/// The role of a module that keeps so many calls in flight as it is told to open.
pub(crate) fn caller(address: SocketAddr, known: Option<Known>) -> Result<()> {
    let module = enter(address, known)?;
    let mut caller = Caller { lines: module.lines()?, module, in_flight: 1, number: 0 };
    take_orders(|command| match command {
        Command::Open(in_flight) => {
            caller.in_flight = in_flight;
            Ok(Answer::Done)
        }
        Command::Run(calls) => caller.run(calls).map(Answer::Ran),
        Command::Close => Ok(Answer::Done),
    })
}

struct Caller {
    module: Module,
    lines: Lines,
    in_flight: usize,
    /// Counts the calls: the module behind one connection answers them in their order.
    number: u64,
}

impl Caller {
    fn run(&mut self, calls: u64) -> Result<Run> {
        let (start, first) = (Instant::now(), self.number);
        let (mut open, mut latencies) = (VecDeque::new(), Vec::new());
        loop {
            while open.len() < self.in_flight && self.number < first + calls {
                open.push_back((self.number, Instant::now()));
                self.call()?;
            }
            let Some((number, begin)) = open.pop_front() else { break };
            self.check(number)?;
            latencies.push(begin.elapsed());
        }
        Ok(Run::new(start, latencies))
    }

    fn call(&mut self) -> Result<()> {
        let ((service, method), number) = (CALLED, self.number);
        self.number += 1;
        self.module.say(&format!(
            r#"{{"arguments":{{"a":2,"b":5}},"function":"{service}.{method}","requestId":"rcaller-{number:019}","type":3}}"#
        ))
    }

    fn check(&mut self, number: u64) -> Result<()> {
        let line = self.lines.next()?;
        let id = request_id(line)?.strip_prefix(b"rcaller-".as_slice());
        let right = memmem::find(line, format!("\"data\":{SUM}").as_bytes()).is_some();
        ensure!(
            right && id == Some(format!("{number:019}").as_bytes()),
            "call {number} got a wrong answer: {}",
            String::from_utf8_lossy(line)
        );
        if line.last() != Some(&b'\n') {
            bail!("call {number} got half an answer");
        }
        Ok(())
    }
}
