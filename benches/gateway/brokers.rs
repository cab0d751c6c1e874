//! A private RabbitMQ and nats-server on free loopback ports, in folders of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::support::child::Guarded;
use crate::support::place::{await_port, folder, free_port};

/// Where Debian keeps RabbitMQ's own start script: the one in `sbin` insists on its own user.
const RABBITMQ: &[&str] = &["/usr/lib/rabbitmq/bin/rabbitmq-server"];
const NATS: &[&str] =
    &["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];

/// A running broker.
pub(crate) struct Broker {
    process: Guarded,
    /// How clients reach it.
    pub(crate) url: String,
    /// What it says it is.
    pub(crate) version: String,
}

impl Broker {
    /// The broker's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Starts nats-server, with JetStream.
pub(crate) fn nats() -> Result<Broker> {
    let program = find("nats-server", NATS)?;
    let folder = folder("nats")?;
    let port = free_port()?;
    let start = r#"
        "$PROGRAM" -a 127.0.0.1 -p "$PORT" -js -sd "$FOLDER" >"$FOLDER/log" 2>&1 & main=$!"#;
    let process = Guarded::start(start, "KILL", &folder, |command| {
        command.env("PROGRAM", program).env("PORT", port.to_string())
    })?;
    await_port(port, &process, &folder)?;
    let mut greeting = String::new();
    BufReader::new(TcpStream::connect(("127.0.0.1", port))?).read_line(&mut greeting)?;
    let version = between(&greeting, "\"version\":\"", "\"").to_owned();
    Ok(Broker { process, url: format!("nats://127.0.0.1:{port}"), version })
}

/// Starts RabbitMQ, with a port mapper of its own that goes with it.
pub(crate) fn rabbitmq() -> Result<Broker> {
    let program = find("rabbitmq-server", RABBITMQ)?;
    let folder = folder("rabbitmq")?;
    let (port, dist, mapper) = (free_port()?, free_port()?, free_port()?);
    fs::write(folder.join("rabbitmq.conf"), format!("listeners.tcp.1 = 127.0.0.1:{port}\n"))?;
    fs::write(folder.join("plugins"), "[].\n")?;
    // "Under systemd" makes the script become the broker instead of staying its parent.
    let start = r#"
        epmd >"$FOLDER/epmd.log" 2>&1 & more=$!
        RUNNING_UNDER_SYSTEMD=true "$PROGRAM" >"$FOLDER/log" 2>&1 & main=$!"#;
    let process = Guarded::start(start, "KILL", &folder, |command| {
        command
            .env("PROGRAM", program)
            .env("HOME", &folder)
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("genkan-bench-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
    })?;
    await_port(port, &process, &folder)?;
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let version = between(&log, "RabbitMQ ", " ").trim().to_owned();
    Ok(Broker { process, url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"), version })
}

fn find(name: &str, places: &[&str]) -> Result<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|place| place.exists());
    found.with_context(|| format!("no {name} in {}: `make setup` installs it", places.join(", ")))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).map_or("unknown", |(_, rest)| rest);
    rest.split_once(after).map_or(rest, |(found, _)| found)
}
