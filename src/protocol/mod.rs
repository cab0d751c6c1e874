//! The list of protocols. Folders never import each other, and nothing outside a folder knows
//! its wire format. A new protocol is a folder and its lines here.

pub mod jsonrpc;
pub mod juno;
pub mod nameko;
pub mod nats;

use std::sync::Arc;

use crate::config::{ReadConnector, Readers};
use crate::ingress::IngressKind;

/// The protocols of one gateway. What the parts of a protocol share with each other for as long as
/// it runs, through every reload, is made with this and known to them alone.
pub struct Protocols {
    /// The protocols that calls can leave by, by the word in `protocol = "…"`.
    pub egresses: Vec<(&'static str, ReadConnector)>,
    /// The ways that calls come in.
    pub ingresses: Vec<IngressKind>,
}

impl Protocols {
    /// All of them.
    pub fn new() -> Self {
        let jsonrpc = jsonrpc::parts();
        let [http, registry] = jsonrpc.ingresses;
        Self {
            egresses: vec![
                ("nameko", Arc::new(nameko::read_connector)),
                ("nats", Arc::new(nats::read_connector)),
                (jsonrpc::WORD, jsonrpc.read_connector),
            ],
            ingresses: vec![http, juno::ingress_kind(), registry],
        }
    }

    /// What reads their tables in a configuration.
    pub fn readers(&self) -> Readers {
        let ingresses = self.ingresses.iter().map(|kind| (kind.name, kind.read));
        Readers { egresses: self.egresses.clone(), ingresses: ingresses.collect() }
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::new()
    }
}

/// What of them is fuzzed.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed() -> impl Iterator<Item = crate::fuzzing::Target> {
    let (jsonrpc, juno) = (jsonrpc::fuzzing::TARGETS, juno::fuzzing::TARGETS);
    let (nameko, nats) = (nameko::fuzzing::TARGETS, nats::fuzzing::TARGETS);
    jsonrpc.into_iter().chain(juno).chain(nameko).chain(nats)
}

/// What reads the protocols' tables, for whoever only reads.
pub fn readers() -> Readers {
    Protocols::new().readers()
}
