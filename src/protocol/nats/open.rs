//! How a generation is made, and why it could not be.
//!
//! One address, one attempt: TCP, the server's `INFO`, TLS where one of both wants it, then
//! `CONNECT`, the inbox's `SUB` and a `PING` in one go. Its `PONG` proves that the server knows us,
//! and that replies arrive. The files that the settings name are read for every attempt.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::config::{Auth, Server, Settings};
use super::events::{self, Events};
use super::expose::{Exposes, Hosted};
use super::generation::{Generation, Io};
use super::inboxes::OWN;
use super::login::{self, Proof};
use super::mailbox::Mailbox;
use super::transport::{self, Unreachable};
use super::wire::{self, Connect, Incoming, Info, Intake, Parser, Violation};
use crate::budget::Account;
use crate::metrics::UpstreamMetrics;
use crate::tls::trouble::{Tried, Trouble, tls_error};

/// Why there is no connection.
pub(super) struct Failure {
    /// For everybody: no address, no credentials.
    pub(super) reason: Cow<'static, str>,
    /// For the log.
    pub(super) detail: String,
    /// What the operator has to do, where it does not pass by itself. For everybody, too.
    pub(super) mend: Option<Cow<'static, str>>,
}

impl Failure {
    fn passing(reason: &'static str, detail: impl ToString) -> Self {
        Self { reason: reason.into(), detail: detail.to_string(), mend: None }
    }

    pub(super) fn lasting(reason: &'static str, detail: impl ToString, mend: &'static str) -> Self {
        Self { mend: Some(mend.into()), ..Self::passing(reason, detail) }
    }

    /// Why, and the mend.
    pub(super) fn told(&self) -> Cow<'static, str> {
        match &self.mend {
            Some(mend) => format!("{}: {mend}", self.reason).into(),
            None => self.reason.clone(),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(Trouble { reason, detail, mend }: Trouble) -> Self {
        Self { reason, detail, mend: Some(mend) }
    }
}

/// What messages hold of the memory: neither sort keeps the other out.
#[derive(Clone)]
pub(super) struct Accounts {
    pub(super) replies: Account,
    pub(super) requests: Account,
    pub(super) events: Account,
}

/// Connects once, and proves that replies can be received.
pub(super) async fn open(
    settings: &Settings,
    server: &Server,
    accounts: &Accounts,
    (exposes, events): (&Arc<Exposes>, &Arc<Events>),
    metrics: &UpstreamMetrics,
) -> Result<(Arc<Generation>, Io), Failure> {
    let attempt = attempt(settings, server, accounts, (exposes, events), metrics);
    tokio::time::timeout(settings.connect_timeout, attempt).await.unwrap_or_else(|_| {
        Err(Failure::passing("the server does not answer", "`connect_timeout` has passed"))
    })
}

async fn attempt(
    settings: &Settings,
    server: &Server,
    accounts: &Accounts,
    (exposes, events): (&Arc<Exposes>, &Arc<Events>),
    metrics: &UpstreamMetrics,
) -> Result<(Arc<Generation>, Io), Failure> {
    let tried = settings.certificates.tried(SCHEMES);
    let broken = |error: &io::Error| broken(error, &tried);
    let connected = transport::connect(server, settings.connect_timeout).await;
    let mut stream = connected.map_err(|error| unreachable(&error))?;
    let Accounts { replies, requests, events: of_events } = accounts.clone();
    let replies = Intake { largest: settings.max_reply, account: replies };
    let requests = Intake { largest: settings.max_request, account: requests };
    let of_events = Intake { largest: settings.max_request, account: of_events };
    let (mut parser, mut buffer) = (Parser::new(replies, requests, of_events), BytesMut::new());
    let first = next(&mut stream, &mut parser, &mut buffer).await;
    let info = match first.map_err(|error| broken(&error))? {
        Incoming::Info(info) => *info,
        _ => return Err(Failure::passing(NO_NATS, "its first words are no INFO")),
    };
    let tls = settings.tls || server.tls || info.tls_required;
    // Whoever stands between can write it, and it would be taken for the server's own behind the handshake.
    if tls && !buffer.is_empty() {
        let why = "it speaks in the clear where TLS was to begin, or somebody between does";
        return Err(Failure::passing(why, "more than its INFO has come before the handshake"));
    }
    let (mut reader, mut writer) = if tls {
        let config = settings.certificates.config().map_err(|error| {
            let mend = "check `ca_file`, `cert_file` and `key_file`";
            Failure::lasting("the certificates cannot be used", error, mend)
        })?;
        let secured = transport::secure(server, stream, config).await;
        secured.map_err(|error| match Trouble::of(&error, &tried) {
            Some(trouble) => trouble.into(),
            None => broken(&error),
        })?
    } else {
        transport::plain(stream)
    };

    let proof = login::proof(settings.auth(server), &info.nonce)?;
    // Another one each time: what was meant for an older generation reaches nobody else.
    let prefix = format!("{}.{:032x}.", settings.inbox_prefix, fastrand::u128(..));
    let inbox = Mailbox::new(prefix);
    let hello = hello(&proof, tls, &inbox)
        .map_err(|error| Failure::passing("the login cannot be written", error))?;
    writer.write_all(&hello).await.map_err(|error| broken(&error))?;
    writer.flush().await.map_err(|error| broken(&error))?;
    let welcomed =
        welcome(&mut reader, &mut parser, &mut buffer, info, settings.auth(server)).await;
    let info = welcomed.map_err(|unwelcome| match unwelcome {
        Unwelcome::Broken(error) => broken(&error),
        Unwelcome::Refused(failure) => failure,
    })?;
    let (generation, io) = Generation::new(
        inbox,
        (Hosted::new(exposes), events::Hosted::new(events)),
        (info, settings.ping_interval),
        (reader, writer),
        (parser, buffer),
        metrics.clone(),
    );
    Ok((Arc::new(generation), io))
}

fn hello(proof: &Proof, tls: bool, inbox: &Mailbox) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    Connect::new(tls, proof.login()).write(&mut out)?;
    wire::subscribe(&mut out, &inbox.subscription(), None, OWN);
    out.extend_from_slice(wire::PING);
    Ok(out)
}

/// Why a server has not let us in.
enum Unwelcome {
    /// The connection ended.
    Broken(io::Error),
    /// It says why.
    Refused(Failure),
}

/// Waits for the `PONG`; gives what the server has said of itself by then.
async fn welcome(
    reader: &mut transport::Reader,
    parser: &mut Parser,
    buffer: &mut BytesMut,
    mut info: Info,
    auth: &Auth,
) -> Result<Info, Unwelcome> {
    let refused = |failure| Err(Unwelcome::Refused(failure));
    loop {
        let operation = next(reader, parser, buffer).await;
        match operation.map_err(Unwelcome::Broken)? {
            Incoming::Pong if info.headers => return Ok(info),
            Incoming::Pong => return refused(headers_wanted("the server's INFO says so")),
            Incoming::Info(later) => info = *later,
            Incoming::Error(text) => return refused(refusal(&text, auth)),
            // It takes its time to ask for life; whoever answers here is asked again.
            Incoming::Ping | Incoming::Ok | Incoming::Message(_) | Incoming::Unkept { .. } => {}
        }
    }
}

async fn next(
    reader: &mut (impl AsyncRead + Unpin),
    parser: &mut Parser,
    buffer: &mut BytesMut,
) -> io::Result<Incoming> {
    loop {
        if let Some(operation) = parser.next(buffer).map_err(io::Error::other)? {
            return Ok(operation);
        }
        buffer.reserve(4096);
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

const NO_NATS: &str = "what listens there is no NATS server";

/// What URLs begin with where TLS is spoken, and where it is not.
const SCHEMES: (&str, &str) = ("tls://", "nats://");

fn headers_wanted(detail: &str) -> Failure {
    Failure::lasting(
        "the NATS server is set up without headers, which Genkan needs",
        detail,
        "take `no_header_support` out of the server's configuration",
    )
}

/// What a server's error means before it has let us in.
fn refusal(text: &str, auth: &Auth) -> Failure {
    if let Some(Violation::Subscription(_)) = wire::violation(text) {
        return Failure::lasting(
            "NATS does not permit to subscribe to the replies' inbox",
            text,
            "allow Genkan's user to subscribe to the inbox, or set `inbox_prefix` to what is \
             allowed",
        );
    }
    let said = text.to_ascii_lowercase();
    if said.contains("requires headers support") {
        return headers_wanted(text);
    }
    if !said.contains("auth") {
        return Failure::passing("the server refuses the connection", text);
    }
    match auth {
        Auth::None => Failure::lasting(
            "NATS asks for credentials",
            text,
            "set `user` and `password`, `token`, `nkey` or `credentials_file` in the upstream's \
             table",
        ),
        _ => Failure::lasting(
            "NATS refuses the credentials",
            text,
            "check the upstream's credentials against the server's users",
        ),
    }
}

fn unreachable(unreachable: &Unreachable) -> Failure {
    match unreachable {
        Unreachable::Name(error) => Failure::passing("the server's name cannot be resolved", error),
        Unreachable::Address(error) if error.kind() == io::ErrorKind::TimedOut => {
            Failure::passing("the server does not answer", error)
        }
        Unreachable::Address(error) => Failure::passing("the server cannot be reached", error),
    }
}

/// The connection ended while it was being made.
fn broken(error: &io::Error, tried: &Tried) -> Failure {
    if let Some(error) = tls_error(error) {
        return Trouble::of_tls(error, tried).into();
    }
    if error.get_ref().is_some_and(|error| error.is::<wire::Malformed>()) {
        return Failure::passing(NO_NATS, error);
    }
    Failure::passing("the connection broke while it was being made", error)
}
