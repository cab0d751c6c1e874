//! What others take for the same: nginx and HAProxy as plain proxies, and a gateway of Fastify and amqplib
//! (`benches/node-peer`). Each may be missing, and is then said to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::support::child::{Copy, Guarded};
use crate::support::place::{await_port, folder, free_port};
use crate::support::process::children;

/// How long nginx may take to start its workers.
const WORKERS: Duration = Duration::from_secs(30);

const NGINX: &[&str] = &["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
const NODE: &[&str] = &["/usr/bin/node", "/usr/local/bin/node"];

const HAPROXY: &[&str] = &["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];

/// A running peer.
pub(crate) struct Peer {
    _process: Guarded,
    /// Where calls go.
    pub(crate) address: String,
    /// The processes whose CPU counts.
    pub(crate) pids: Vec<u32>,
}

/// Starts nginx as a proxy in front of a server, where it is installed. It keeps its connections to
/// both sides, logs no calls and has room for the largest body in memory, as the gateway does; it
/// has as many workers as the gateway has.
pub(crate) fn nginx(server: &Copy) -> Result<Option<Peer>> {
    let Some(program) = find(NGINX) else { return Ok(None) };
    let port = free_port()?;
    let folder = folder(&format!("nginx-{port}"))?;
    fs::write(folder.join("nginx.conf"), nginx_conf(&folder, port, server.port()?))?;
    let start = r#""$PROGRAM" -p "$FOLDER" -c nginx.conf -g "daemon off;" >"$FOLDER/log" 2>&1 &
        main=$!"#;
    let process =
        Guarded::start(start, "TERM", &folder, |command| command.env("PROGRAM", program))?;
    await_port(port, &process, &folder)?;
    let pids = nginx_workers(&process)?;
    Ok(Some(Peer { _process: process, address: format!("127.0.0.1:{port}"), pids }))
}

/// The processes that nginx starts, which it does after it has begun to listen.
fn nginx_workers(nginx: &Guarded) -> Result<Vec<u32>> {
    let begin = Instant::now();
    loop {
        let pids = children(nginx.pid())?;
        if !pids.is_empty() {
            return Ok(pids);
        }
        ensure!(nginx.lives() && begin.elapsed() < WORKERS, "nginx has no workers");
        sleep(Duration::from_millis(5));
    }
}

/// Starts HAProxy as a proxy in front of a server, where it is installed, with as many threads as the
/// gateway has.
pub(crate) fn haproxy(server: &Copy) -> Result<Option<Peer>> {
    let Some(program) = find(HAPROXY) else { return Ok(None) };
    let folder = folder("haproxy")?;
    let port = free_port()?;
    fs::write(folder.join("haproxy.cfg"), haproxy_conf(port, server.port()?))?;
    let start = r#""$PROGRAM" -db -f "$FOLDER/haproxy.cfg" >"$FOLDER/log" 2>&1 & main=$!"#;
    let process =
        Guarded::start(start, "TERM", &folder, |command| command.env("PROGRAM", program))?;
    await_port(port, &process, &folder)?;
    let pids = vec![process.pid()];
    Ok(Some(Peer { _process: process, address: format!("127.0.0.1:{port}"), pids }))
}

fn haproxy_conf(port: u16, backend: u16) -> String {
    format!(
        r#"
global
    nbthread {}
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
    http-reuse always
frontend callers
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server one 127.0.0.1:{backend} pool-max-conn 1024
"#,
        workers()
    )
}

/// As many as the gateway's.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

fn nginx_conf(folder: &Path, port: u16, backend: u16) -> String {
    let (workers, folder) = (workers(), folder.display());
    format!(
        r#"
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 256k;
    proxy_buffers 8 64k;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    upstream echo {{
        server 127.0.0.1:{backend};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://echo;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"#
    )
}

/// Starts the gateway of Node.js in front of RabbitMQ, where it is installed.
pub(crate) fn node(amqp_url: &str) -> Result<Option<Peer>> {
    let Some((program, modules)) = find(NODE).zip(node_modules()) else { return Ok(None) };
    let folder = folder("node-peer")?;
    let port = free_port()?;
    let server = project().join("benches/node-peer/server.js");
    let start = r#""$PROGRAM" "$SERVER" "$URL" "$PORT" >"$FOLDER/log" 2>&1 & main=$!"#;
    let process = Guarded::start(start, "TERM", &folder, |command| {
        command
            .env("PROGRAM", program)
            .env("SERVER", server)
            .env("URL", amqp_url)
            .env("PORT", port.to_string())
            .env("NODE_PATH", modules)
            .env("NODE_ENV", "production")
    })?;
    await_port(port, &process, &folder)?;
    let pids = vec![process.pid()];
    Ok(Some(Peer { _process: process, address: format!("127.0.0.1:{port}"), pids }))
}

/// What the peers are, for a report: each with its version, or that it is not there.
pub(crate) fn versions() -> String {
    let missing = |what: &str| format!("{what} is not installed (`scripts/setup bench`)");
    let nginx = find(NGINX).map_or(missing("nginx"), |program| said(&program, "-v"));
    // HAProxy version 2.6.12-1 2025/10/03 - https://haproxy.org/
    let haproxy = find(HAPROXY).map_or(missing("HAProxy"), |program| {
        let text = output(&program, "-v");
        format!("HAProxy {}", text.split_whitespace().nth(2).unwrap_or("unknown"))
    });
    let node = find(NODE).zip(node_modules()).map(|(program, modules)| {
        let of = |package: &str| format!("{package} {}", package_version(&modules, package));
        let node = said(&program, "--version");
        format!("Node.js {node} with {} and {}", of("fastify"), of("amqplib"))
    });
    format!("{nginx}; {haproxy}; {}", node.unwrap_or_else(|| missing("the Node.js peer")))
}

/// What a program says its version is, in the last word of a line like `nginx version: nginx/1.22.1`.
fn said(program: &Path, option: &str) -> String {
    output(program, option).split_whitespace().last().unwrap_or("unknown").to_owned()
}

fn output(program: &Path, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else { return String::new() };
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn package_version(modules: &Path, package: &str) -> String {
    let text = fs::read(modules.join(package).join("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    manifest["version"].as_str().unwrap_or("unknown").to_owned()
}

/// Where `scripts/setup bench` puts the peer's packages, if it did.
fn node_modules() -> Option<PathBuf> {
    let modules = project().join(".genkan/bench/node_modules");
    modules.join("fastify").is_dir().then_some(modules)
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn find(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|place| place.exists())
}
