//! What the configuration knows of the ways in: the settings are the protocol's, read by its own
//! reader.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::audit::{Advice, Exposure};
use super::section::Section;
use crate::call::Request;
use crate::event_port::EventAddresses;
use crate::fault::Fault;
use crate::route::access::Grant;
use crate::route::pattern::Pattern;
use crate::upstream::Envelope;

/// Reads an ingress's table. Problems are reported to the section; settings come back in any
/// case. The duration is what calls get where nothing else is said.
pub type ReadIngress = fn(&mut Section<'_>, Duration) -> Arc<dyn IngressSettings>;

/// An ingress's settings, found valid.
pub trait IngressSettings: Any + Send + Sync {
    /// The TCP addresses that it listens on.
    fn tcp(&self) -> Vec<SocketAddr>;

    /// The largest message that it takes, in bytes, and the key that says so.
    fn largest_message(&self) -> (usize, &'static str);

    /// Methods without a service that are answered in the place of the routing table, but where a row
    /// names one to the letter.
    fn own_methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Those by which topics are listened to: whom the topics let.
    fn topic_methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it knows callers by what they show when they connect: a certificate.
    fn knows_callers(&self) -> bool {
        false
    }

    /// Why a word of `allow` that is about those who come in by it fits nobody, and the mend; none where it
    /// may fit somebody, or is not about those.
    fn fits_nobody(&self, _grant: &Grant) -> Option<String> {
        None
    }

    /// Where whoever reaches it may call, with nothing but an address; and the key that says so.
    fn open_to(&self) -> Option<(SocketAddr, &'static str)> {
        None
    }

    /// What an operator whom the world can reach should mend, by the keys of its table.
    fn advise(&self, _exposure: &Exposure) -> Vec<Advice> {
        Vec::new()
    }

    /// Whether credentials of those who call by it go on to services.
    fn forwards_credentials(&self) -> bool {
        false
    }

    /// Whether services may announce themselves under names of that pattern.
    fn lets_announce(&self, _names: &Pattern) -> bool {
        false
    }

    /// The upstream that it is at the same time.
    fn upstream(&self) -> Option<Resident> {
        None
    }
}

impl dyn IngressSettings {
    /// The settings as the protocol's own; `None` where they are another one's.
    pub fn of<T: IngressSettings>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// An ingress's name, and its settings.
#[derive(Clone)]
pub struct IngressConfig {
    /// The name, which is its table's too.
    pub name: &'static str,
    /// The protocol's own settings.
    pub settings: Arc<dyn IngressSettings>,
}

/// An upstream that is always there, whatever the file says: what no row takes goes to it.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// Its name as an upstream.
    pub name: &'static str,
    /// What `protocol = "…"` would say.
    pub protocol: &'static str,
    /// How many calls may wait for it at once.
    pub max_in_flight: usize,
    /// How long a call may take that no row sends there.
    pub timeout: Duration,
    /// What would be sent for a call. Sends nothing.
    pub explain: fn(&Request<'_>) -> Result<Envelope, Fault>,
    /// What its addresses of events are; `None` where it has none.
    pub events: Option<EventAddresses>,
}
