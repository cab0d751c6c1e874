//! What a person, or this program starting itself, may say on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::events::subscribers::Way;
use crate::gateway::backends::NAMEKO_SERVICE;
use crate::support::http::Expect;

/// Measures the gateway's CPU and memory beside the bare parts it is made of
#[derive(Parser)]
pub(crate) struct Args {
    /// A smoke run: a tenth of the calls, one round
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often floors and gateway take turns at each point
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only the floors, without the gateway
    #[arg(long)]
    pub(crate) floors: bool,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A Juno daemon's program: its calls are measured in turn with the hub's
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) juno: Option<PathBuf>,
    /// Cargo passes this to say that it is a bench that runs, not a test
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// What a started copy of this program is to be
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

impl Args {
    /// Whether the part is to be measured.
    pub(crate) fn wants(&self, part: Part) -> bool {
        let named = |part| self.only.contains(&part);
        self.only.is_empty() || named(part) || named(part.whole())
    }

    /// Whether anything of the gateway in front of brokers is to be measured.
    pub(crate) fn wants_gateway(&self) -> bool {
        self.wants_calls() || self.wants(Part::Metrics) || self.wants(Part::Memory)
    }

    /// Whether calls over HTTP to a broker are to be measured.
    pub(crate) fn wants_calls(&self) -> bool {
        let parts = [
            Part::Nats,
            Part::Large,
            Part::Routes,
            Part::Nameko,
            Part::JsonRpc,
            Part::Exposed,
            Part::Alone,
            Part::Trust,
        ];
        parts.into_iter().any(|part| self.wants(part))
    }

    /// Whether anything of the hub is to be measured.
    pub(crate) fn wants_hub(&self) -> bool {
        let parts = [Part::HubCalls, Part::HubHttp, Part::HubHooks, Part::HubMemory];
        parts.into_iter().any(|part| self.wants(part))
    }

    /// Whether anything of events is to be measured.
    pub(crate) fn wants_events(&self) -> bool {
        let parts = [Part::EventsFan, Part::EventsMemory, Part::EventsBridge, Part::EventsLatency];
        parts.into_iter().any(|part| self.wants(part))
    }

    /// A count of calls, or a tenth of it for a smoke run.
    pub(crate) fn calls(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }

    /// How many rounds, one for a smoke run.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

/// What can be measured on its own.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The gateway in front of brokers and services: the next ten
    Gateway,
    /// HTTP and one WebSocket to NATS, a small body
    Nats,
    /// HTTP to NATS, 100 KiB of JSON each way
    Large,
    /// 10,000 routes: the last one called, the check, the start
    Routes,
    /// The size of the metrics page with many routes
    Metrics,
    /// HTTP to Nameko, and RabbitMQ's own CPU
    Nameko,
    /// HTTP to a JSON-RPC service over HTTP, beside nginx and HAProxy
    JsonRpc,
    /// Callers on RabbitMQ and NATS, to services on the other one
    Exposed,
    /// What one call at a time waits for the gateway
    Alone,
    /// HTTP to NATS with an API key, a rate and a breaker, with a token, and with new ones
    Trust,
    /// Resident memory under load
    Memory,
    /// The hub: the next four, which need no broker
    Hub,
    /// Calls from module to module
    HubCalls,
    /// HTTP to a module's function
    HubHttp,
    /// One hook to many listeners
    HubHooks,
    /// Resident memory for each idle module
    HubMemory,
    /// Events: the next four
    Events,
    /// One subject on NATS to 5,000 browsers, over WebSockets and Server-Sent Events
    EventsFan,
    /// Resident memory for each browser that only listens
    EventsMemory,
    /// Nameko's events into a JetStream stream
    EventsBridge,
    /// How soon a browser hears a Nameko event
    EventsLatency,
}

impl Part {
    fn whole(self) -> Part {
        match self {
            Part::Gateway
            | Part::Nats
            | Part::Large
            | Part::Routes
            | Part::Metrics
            | Part::Nameko
            | Part::JsonRpc
            | Part::Exposed
            | Part::Alone
            | Part::Trust
            | Part::Memory => Part::Gateway,
            Part::Hub | Part::HubCalls | Part::HubHttp | Part::HubHooks | Part::HubMemory => {
                Part::Hub
            }
            Part::Events
            | Part::EventsFan
            | Part::EventsMemory
            | Part::EventsBridge
            | Part::EventsLatency => Part::Events,
        }
    }
}

/// The processes that a run is made of.
#[derive(Subcommand)]
#[command(hide = true)]
pub(crate) enum Role {
    /// An HTTP server that answers with the body it got
    #[command(hide = true)]
    AxumEcho,
    /// A JSON-RPC service over HTTP that answers with its params
    #[command(hide = true)]
    AxumJsonRpc,
    /// An HTTP client that checks what it gets
    #[command(hide = true)]
    HttpLoad {
        address: SocketAddr,
        method: String,
        expect: Expect,
        /// Send 100 KiB of params
        #[arg(long)]
        large: bool,
        /// Show this with each call
        #[arg(long)]
        bearer: Option<String>,
        /// Show the lines of this file, each call another one
        #[arg(long, conflicts_with = "bearer")]
        bearers: Option<PathBuf>,
    },
    /// Verifies the ES256 tokens that are the lines of a file, by the point that is their key
    #[command(hide = true)]
    VerifyTokens { file: PathBuf, key: String },
    /// JSON-RPC calls over one WebSocket
    #[command(hide = true)]
    WebSocketLoad { address: SocketAddr, method: String },
    /// Picom requests without a gateway
    #[command(hide = true)]
    NatsClient {
        server: String,
        subject: String,
        #[arg(long)]
        one_thread: bool,
    },
    /// Nameko calls without a gateway
    #[command(hide = true)]
    LapinClient {
        url: String,
        #[arg(long)]
        persistent: bool,
        /// Which service is called
        #[arg(long, default_value = NAMEKO_SERVICE)]
        service: String,
    },
    /// A Picom service that answers with its message
    #[command(hide = true)]
    PicomResponder { server: String },
    /// A Nameko service that answers with its arguments
    #[command(hide = true)]
    NamekoResponder { url: String },
    /// Copies lines between two connections
    #[command(hide = true)]
    RelayPair,
    /// Copies the lines of its last connection to all others
    #[command(hide = true)]
    RelayFan { listeners: usize },
    /// A module that answers every call with the same result; without a name it does not register
    #[command(hide = true)]
    Callee {
        address: SocketAddr,
        answer: String,
        #[arg(long, requires = "function")]
        module: Option<String>,
        #[arg(long)]
        function: Option<String>,
    },
    /// A module that calls
    #[command(hide = true)]
    Caller {
        address: SocketAddr,
        #[arg(long)]
        module: Option<String>,
    },
    /// Browsers that listen, and who publishes what they hear
    #[command(hide = true)]
    Subscribers { address: SocketAddr, way: Way, nats: String },
    /// A loop that writes a gateway's event to all sockets
    #[command(hide = true)]
    EventFan { gateway: SocketAddr, way: Way, nats: String },
    /// Who publishes Nameko's events and waits for them in the stream
    #[command(hide = true)]
    EventSource { rabbit: String, nats: String, event: String },
    /// A bridge made of clients alone
    #[command(hide = true)]
    BareBridge { rabbit: String, nats: String, event: String },
    /// Who publishes a Nameko event and hears it
    #[command(hide = true)]
    EventLatency {
        rabbit: String,
        #[arg(long)]
        gateway: Option<SocketAddr>,
    },
    /// Modules that do nothing
    #[command(hide = true)]
    Crowd { address: SocketAddr },
    /// Modules that listen to a hook, and one that triggers it
    #[command(hide = true)]
    Listeners {
        address: SocketAddr,
        count: usize,
        /// Nobody registers
        #[arg(long)]
        bare: bool,
    },
}
