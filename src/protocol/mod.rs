//! The list of protocols. Folders never import each other, and nothing outside a folder knows
//! its wire format. A new protocol is a folder and its line here.

pub mod jsonrpc;
pub mod juno;
pub mod nameko;
pub mod nats;

use crate::config::section::Section;
use crate::upstream::Connector;

/// Reads an `[upstreams.NAME]` table. Problems are reported to the section; a connector comes
/// back in any case, so that every table is read to its end.
pub type ReadConnector = fn(&mut Section<'_>) -> Box<dyn Connector>;

/// The protocols that calls can leave by, by the word in `protocol = "…"`.
pub const EGRESSES: &[(&str, ReadConnector)] =
    &[("nameko", nameko::read_connector), ("nats", nats::read_connector)];

/// The ways that calls come in, as the label `ingress` says them.
pub const INGRESSES: &[&str] = &[jsonrpc::INGRESS, juno::INGRESS];
