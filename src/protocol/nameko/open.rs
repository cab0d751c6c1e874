//! How a generation is opened, and why it could not be.
//!
//! The reply queue is exclusive to its connection, transient, and has a new name each time. So
//! the broker removes it with the connection, a half-open old connection locks nothing that is
//! needed, and RabbitMQ 4.3, which refuses transient queues that are not exclusive, takes it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, ErrorKind, ExchangeKind};

use super::binding::Binding;
use super::config::{Node, Settings};
use super::intake::Intake;
use super::outlet::Outlet;
use super::transport::{self, Admission, Transport};
use crate::budget::Account;
use crate::redact::scrub;
use crate::tls::trouble::Trouble;
use crate::token::random_uuid;

/// Why a generation could not be built.
pub(super) struct Failure {
    /// For whoever asks whether the upstream is ready: no address, no user.
    pub(super) reason: Cow<'static, str>,
    /// What the broker or the system said, for the log.
    pub(super) said: String,
    /// What an operator has to do; `None` where waiting may be enough.
    pub(super) mend: Option<Cow<'static, str>>,
}

/// What was tried when it failed: the broker's code means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Exchange,
    ReplyQueue,
}

/// What it means that no queue may be made any more, and what an operator has to do.
pub(super) const NO_QUEUES: &str = "rabbitmq lets no more queues be made";
pub(super) const MORE_QUEUES: &str = "raise its limit (max-queues with rabbitmqctl set_vhost_limits, or cluster_queue_limit), or delete \
     queues that nobody needs";

/// Whether the broker refuses a queue because there are too many.
pub(super) fn is_queue_limit(said: &str) -> bool {
    said.contains("queue limit in ")
}

/// Whether the broker closes a channel because it has waited too long for an ack.
pub(super) fn is_overdue(said: &str) -> bool {
    said.contains("delivery acknowledgement on channel")
}

impl Failure {
    pub(super) fn slow(limit: Duration) -> Self {
        let reason = format!("no connection within {limit:?}").into();
        Self { reason, said: String::new(), mend: None }
    }

    /// Why there is no connection.
    pub(super) fn of_connecting(error: &lapin::Error) -> Self {
        Self::new(Step::Connect, error)
    }

    /// Why, and the mend.
    pub(super) fn told(&self) -> String {
        match &self.mend {
            Some(mend) => format!("{}: {mend}", self.reason),
            None => self.reason.clone().into_owned(),
        }
    }

    /// The same for callers: nothing where it is in nobody's words but the system's.
    pub(super) fn told_to_callers(&self) -> Option<String> {
        self.mend.is_some().then(|| self.told())
    }

    /// Says what there is none of for it, at a level that fits who must act.
    pub(super) fn tell(&self, upstream: &str, what: &str) {
        let Self { reason, said, mend } = self;
        match mend.as_deref() {
            Some(mend) => {
                tracing::error!(upstream, %reason, said, mend, "{what}, trying again");
            }
            None => tracing::warn!(upstream, %reason, said, "{what}, trying again"),
        }
    }

    fn new(step: Step, error: &lapin::Error) -> Self {
        if let Some(Trouble { reason, detail, mend }) = transport::trouble(error).cloned() {
            return Self { reason, said: scrub(&detail).into_owned(), mend: Some(mend) };
        }
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            let said = scrub(&error.to_string()).into_owned();
            let reason = match error.kind() {
                ErrorKind::IOError(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    Cow::Borrowed("connection refused: nothing listens there")
                }
                _ => said.clone().into(),
            };
            return Self { reason, said, mend: None };
        };
        let said = refusal.to_string();
        let (reason, mend) = match (step, refusal.get_id()) {
            (Step::Connect, 403) => (
                "rabbitmq refuses the user name or the password",
                "check both in `url`; `guest` may only connect from the broker's own machine",
            ),
            (Step::Connect, 530) if said.contains("limit") => (
                "rabbitmq lets no more connections be made",
                "raise its limit (rabbitmqctl set_vhost_limits or set_user_limits, or \
                 connection_max): Genkan needs three, five where services are exposed, and two more \
                 where it carries events",
            ),
            (Step::Connect, 530) => (
                "rabbitmq has no such virtual host, or not for this user",
                "check the virtual host at the end of `url` (`%2f` is the default one), or create \
                 it and give the user permissions on it with rabbitmqctl",
            ),
            (Step::Exchange, 406) => (
                "the exchange exists with another type or durability",
                "Nameko's is a durable topic exchange: delete the other one, or name the right \
                 one in `exchange`",
            ),
            (Step::ReplyQueue, 406) if is_queue_limit(&said) => (NO_QUEUES, MORE_QUEUES),
            (Step::Exchange | Step::ReplyQueue, 403) => (
                "rabbitmq does not let this user declare what replies need",
                "give the user permissions to configure, write and read with rabbitmqctl \
                 set_permissions",
            ),
            (_, code) => {
                let reason = format!("rabbitmq refuses with code {code}").into();
                return Self { reason, said, mend: None };
            }
        };
        Self { reason: reason.into(), said, mend: Some(mend.into()) }
    }
}

/// What a generation lives on.
pub(super) struct Opened {
    /// Where it is connected to.
    pub(super) node: Arc<Node>,
    pub(super) outlet: Outlet,
    pub(super) receiving: Transport,
    /// The memory of what comes over it.
    pub(super) intake: Arc<Intake>,
    /// A channel of it.
    pub(super) channel: Channel,
    /// Of the reply queue.
    pub(super) consumer: Consumer,
    /// Its binding, by the key on which replies come back.
    pub(super) binding: Binding,
    /// For the probes; `None` where it could not be had in time, which keeps nobody from calling.
    pub(super) probing: Option<Transport>,
}

/// How long a generation waits for the connection of its probes. Without one, its first calls
/// would go out unchecked, and wait in the queues of services that are not there.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// The one code path by which generations come into being.
pub(super) async fn open(
    settings: &Settings,
    node: &Arc<Node>,
    account: &Account,
) -> Result<Opened, Failure> {
    let at = |step: Step| move |error: lapin::Error| Failure::new(step, &error);
    let intake = Arc::new(Intake::new(account.clone()));
    let (largest, room) = (settings.max_reply, Arc::clone(&intake));
    let replies: Admission = Arc::new(move |_, size| room.admit(size));
    let opened = tokio::try_join!(
        Outlet::open(settings, node),
        Transport::open_for(settings, node, "receive", largest, Some(replies))
    );
    let (outlet, receiving) = opened.map_err(at(Step::Connect))?;
    let key = random_uuid();
    let binding = Binding {
        queue: format!("rpc.reply-genkan-{key}").into(),
        exchange: settings.exchange.as_str().into(),
        key: key.into(),
    };
    let declare = async {
        let connection = &receiving.connection;
        declare_exchange(connection, &binding.exchange).await.map_err(at(Step::Exchange))?;
        consume_replies(connection, &binding).await.map_err(at(Step::ReplyQueue))
    };
    let probing = tokio::time::timeout(PROBE_LIMIT, Transport::open(settings, node, "probe"));
    let (declared, probing) = tokio::join!(declare, probing);
    let (channel, consumer) = declared?;
    let (node, probing) = (Arc::clone(node), probing.ok().and_then(Result::ok));
    Ok(Opened { node, outlet, receiving, intake, channel, consumer, binding, probing })
}

/// What kind of exchange is declared.
#[derive(Clone, Debug)]
pub(super) struct Sort {
    pub(super) kind: ExchangeKind,
    pub(super) durable: bool,
    /// Whether it goes with its last queue, where it is not there yet: one that is stays as it is.
    pub(super) auto_delete: bool,
}

impl Sort {
    /// That of Nameko's calls.
    pub(super) fn of_calls() -> Self {
        Self { kind: ExchangeKind::Topic, durable: true, auto_delete: false }
    }
}

/// Declares Nameko's exchange as Nameko does. Where the user may not, it has to be there. Gives the
/// channel that it was done over: there may be few.
pub(super) async fn declare_exchange(
    connection: &Connection,
    exchange: &ShortString,
) -> lapin::Result<Channel> {
    declare_as(connection, exchange, Sort::of_calls()).await
}

/// The same for an exchange of any kind.
pub(super) async fn declare_as(
    connection: &Connection,
    exchange: &ShortString,
    sort: Sort,
) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    declare_over(connection, channel, exchange, sort).await
}

/// The same over a channel that there is. Gives one that is whole: a refusal closes it.
pub(super) async fn declare_over(
    connection: &Connection,
    channel: Channel,
    exchange: &ShortString,
    sort: Sort,
) -> lapin::Result<Channel> {
    let Sort { kind, durable, auto_delete: first } = sort;
    let declare = async |channel: Channel, passive, auto_delete| {
        let options =
            ExchangeDeclareOptions { durable, passive, auto_delete, ..Default::default() };
        let arguments = FieldTable::default();
        channel.exchange_declare(exchange.clone(), kind.clone(), options, arguments).await?;
        Ok(channel)
    };
    match declare(channel, false, first).await {
        Err(error) if refused_with(&error, 403) => {
            declare(connection.create_channel().await?, true, false).await
        }
        // Nameko up to 2.12 declares those of events so, and later ones where AUTO_DELETE_EVENT_EXCHANGES
        // says so (WIRE, section 1.1).
        Err(error) if refused_with(&error, 406) && !is_of_another_kind(&error) => {
            let again = async { declare(connection.create_channel().await?, false, !first).await };
            again.await.map_err(|_| error)
        }
        declared => declared,
    }
}

/// Whether an exchange is there that no other `auto_delete` makes equal. If it were declared with the other one, and
/// had been deleted meanwhile, it would come into being as nobody else declares it.
fn is_of_another_kind(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return false };
    let said = refusal.to_string();
    ["'type'", "'durable'"].iter().any(|argument| said.contains(&format!("arg {argument}")))
}

pub(super) fn refused_with(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == code)
}

async fn consume_replies(
    connection: &Connection,
    binding: &Binding,
) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    let queue = binding.queue.clone();
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), exclusive, FieldTable::default()).await?;
    binding.bind(&channel).await?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..Default::default() };
    let consume =
        channel.basic_consume(queue, ShortString::default(), options, FieldTable::default());
    let consumer = consume.await?;
    Ok((channel, consumer))
}
