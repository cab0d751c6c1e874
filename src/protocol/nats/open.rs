//! How a generation is made, and why it could not be.
//!
//! async-nats would reconnect by itself, and then send what was asked for while it was away,
//! long after those callers were told `unavailable` (WIRE, section 7.2). So a generation's client
//! is made unable to reconnect: once it is connected, the only server it may turn to is one that
//! refuses at once. It ends, its inbox ends with it, and what it had not written is gone.

use std::error::Error;
use std::sync::Arc;

use async_nats::{ConnectErrorKind, ConnectOptions};

use super::config::{Auth, Server, Settings};
use super::generation::{Generation, Gone, Incoming, Shared};
use super::pending::CAPACITY;
use crate::metrics::UpstreamMetrics;

/// Nothing can listen on port 0, so connecting to it is refused at once.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// Why there is no connection.
pub(super) struct Failure {
    /// For everybody: no address, no credentials.
    pub(super) reason: &'static str,
    /// For the log.
    pub(super) detail: String,
    /// What the operator has to do, where it does not pass by itself.
    pub(super) mend: Option<&'static str>,
}

impl Failure {
    fn passing(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason, detail: detail.to_string(), mend: None }
    }
}

/// Connects once, and proves that replies can be received.
pub(super) async fn open(
    settings: &Settings,
    server: &Server,
    metrics: &UpstreamMetrics,
) -> Result<(Arc<Generation>, Incoming), Failure> {
    let attempt = async {
        let shared = Shared::new(metrics.clone());
        let options = options(settings, server, &shared).await?;
        let connected = options.connect(&server.address).await;
        let client = connected.map_err(|error| connect_failure(server, &error))?;
        client.set_server_pool(NOWHERE).await.map_err(|error| lost(&error))?;
        let inbox = format!("{}.", client.new_inbox());
        let subscribed = client.subscribe(format!("{inbox}*")).await;
        let subscriber = subscribed.map_err(|error| lost(&error))?;
        let (generation, mut incoming) = Generation::new(client, shared, inbox, subscriber);
        prove(&generation, &mut incoming).await?;
        Ok((Arc::new(generation), incoming))
    };
    tokio::time::timeout(settings.connect_timeout, attempt).await.unwrap_or_else(|_| {
        Err(Failure::passing("the server does not answer", "`connect_timeout` has passed"))
    })
}

fn lost(error: &dyn Error) -> Failure {
    Failure::passing("the connection broke while it was being made", error)
}

/// Waits for an echo: then the server has taken the subscription, and replies arrive.
async fn prove(generation: &Generation, incoming: &mut Incoming) -> Result<(), Failure> {
    tokio::select! {
        confirmed = generation.confirm() => confirmed.map_err(|_| lost(&Gone)),
        () = generation.run(incoming) => {
            if generation.is_inbox_refused() {
                return Err(Failure {
                    reason: "NATS does not permit to subscribe to the replies' inbox",
                    detail: "permissions violation".to_owned(),
                    mend: Some("allow Genkan's user to subscribe to the inbox, or set \
                        `inbox_prefix` to what is allowed"),
                });
            }
            Err(lost(&Gone))
        }
    }
}

async fn options(
    settings: &Settings,
    server: &Server,
    shared: &Arc<Shared>,
) -> Result<ConnectOptions, Failure> {
    let options = ConnectOptions::new();
    let options = match &server.auth {
        Auth::None => options,
        Auth::User(user, password) => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        Auth::Token(token) => options.token(token.expose().to_owned()),
        Auth::Nkey(seed) => options.nkey(seed.expose().to_owned()),
        Auth::Credentials(file) => {
            options.credentials_file(file).await.map_err(|error| Failure {
                reason: "the credentials file cannot be used",
                detail: error.to_string(),
                mend: Some("make `credentials_file` readable, with a user's JWT and seed in it"),
            })?
        }
    };
    let shared = Arc::clone(shared);
    let mut options = options
        .name("genkan")
        .connection_timeout(settings.connect_timeout)
        .ping_interval(settings.ping_interval)
        .subscription_capacity(CAPACITY)
        .custom_inbox_prefix(&settings.inbox_prefix)
        // Subjects are checked where they are made.
        .skip_subject_validation(true)
        .ignore_discovered_servers()
        // One attempt, at a server that is nowhere; see the top of this file.
        .max_reconnects(1)
        .require_tls(settings.tls)
        .event_callback(move |event| {
            shared.on_event(&event);
            std::future::ready(())
        });
    if let Some(file) = &settings.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((cert, key)) = &settings.identity {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn connect_failure(server: &Server, error: &async_nats::ConnectError) -> Failure {
    let (reason, mend) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            match server.auth {
                Auth::None => (
                    "NATS asks for credentials",
                    Some(
                        "set `user` and `password`, `token`, `nkey` or `credentials_file` in the \
                         upstream's table",
                    ),
                ),
                _ => (
                    "NATS refuses the credentials",
                    Some("check the upstream's credentials against the server's users"),
                ),
            }
        }
        _ if is_tls(error) => (
            "TLS with NATS failed",
            Some(
                "check `ca_file`, `cert_file` and `key_file`, and that the server's certificate \
                 is for the name in `servers`",
            ),
        ),
        // The server's own words: `no responders requires headers support`.
        _ if error.to_string().contains("requires headers support") => (
            "the NATS server is set up without headers, which Genkan needs",
            Some("take `no_header_support` out of the server's configuration"),
        ),
        ConnectErrorKind::Dns => ("the server's name cannot be resolved", None),
        ConnectErrorKind::TimedOut => ("the server does not answer", None),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ("the server cannot be reached", None),
    };
    Failure { reason, detail: error.to_string(), mend }
}

fn is_tls(error: &async_nats::ConnectError) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        source = error.source();
    }
    false
}
