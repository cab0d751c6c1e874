//! What the gateway costs beside the parts it is made of, measured in one run: `make bench`.
//!
//! ```text
//!   load ──HTTP──> axum echo                                floor: HTTP
//!   async-nats client ──nats-server──> picom responder      floor: NATS
//!   lapin client ──RabbitMQ──> Nameko responder             floor: AMQP
//!   load ──HTTP──> genkan serve ──> the same two responders
//! ```
//!
//! Every box is a process of its own, so that its CPU can be told apart: this program starts
//! itself again with a role as its argument. Floors and gateway take turns, round by round,
//! because a machine's speed drifts. Every answer is checked: a gateway that fails fast is an
//! error here, not a record. It measures and prints; it judges only against the targets in
//! `report.rs`, and leaves no process and no file behind.

mod args;
mod backends;
mod brokers;
mod child;
mod floors;
mod gateway;
mod load;
mod measure;
mod process;
mod report;
mod role;
mod setup;

use clap::Parser;

use args::{Args, Role};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.role {
        Some(Role::AxumEcho) => floors::axum_echo(),
        Some(Role::NatsClient { server, subject, one_thread }) => {
            floors::nats_client(&server, subject, one_thread)
        }
        Some(Role::LapinClient { url, persistent }) => floors::lapin_client(&url, persistent),
        Some(Role::PicomResponder { server }) => backends::picom(&server),
        Some(Role::NamekoResponder { url }) => backends::nameko(&url),
        Some(Role::HttpLoad { address, method, expect }) => load::run(address, &method, expect),
        None if !args.bench => {
            println!("nothing measured: run `make bench`, or `cargo bench --bench gateway`");
            Ok(())
        }
        None => measure::all(&args),
    }
}
