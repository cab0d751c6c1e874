//! The list of protocols. Folders never import each other, and nothing outside a folder knows
//! its wire format. A new protocol is a folder and its line here.

pub mod jsonrpc;
pub mod juno;
pub mod nameko;
pub mod nats;

use crate::config::{ReadConnector, Readers};
use crate::ingress::IngressKind;

/// The protocols that calls can leave by, by the word in `protocol = "…"`.
pub const EGRESSES: &[(&str, ReadConnector)] =
    &[("nameko", nameko::read_connector), ("nats", nats::read_connector)];

/// The ways that calls come in.
pub const INGRESSES: &[IngressKind] = &[jsonrpc::INGRESS, juno::INGRESS];

/// What reads the protocols' tables in a configuration.
pub fn readers() -> Readers {
    let ingresses = INGRESSES.iter().map(|kind| (kind.name, kind.read));
    Readers { egresses: EGRESSES, ingresses: ingresses.collect() }
}
