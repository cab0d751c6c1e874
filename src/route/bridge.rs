//! A line that carries events, as a `[[bridges]]` row means it. Plain data.

use std::fmt;

use super::access::Access;
use super::pattern::Pattern;

/// The place by which topics that browsers hear are named: `web:orders.created`.
pub const WEB: &str = "web";

/// What all topics together keep, in bytes.
pub const MOST_KEPT_BYTES: usize = 64 << 20;

/// Where events come from or go to: `UPSTREAM:ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// An upstream, the hub, or [`WEB`].
    pub upstream: String,
    /// Where there, in the words of its protocol.
    pub address: String,
}

impl Place {
    /// Reads `UPSTREAM:ADDRESS`; `None` where one of the two is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (upstream, address) = text.split_once(':')?;
        let whole = !upstream.is_empty() && !address.is_empty();
        whole.then(|| Self { upstream: upstream.to_owned(), address: address.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.upstream, self.address)
    }
}

/// Events from one place to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Where they come from.
    pub from: Place,
    /// Where they go to. `$1` in an address is what the first wildcard of `from` matched.
    pub to: Vec<Place>,
    /// Where those go to that a target does not take.
    pub dead_letter: Option<Place>,
    /// How often a target is tried again before that.
    pub retries: u32,
}

/// Topics that browsers may listen to: a `[[topics]]` row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Their names.
    pub pattern: Pattern,
    /// Where their events come from, under the names that they have there; `None` where bridges
    /// alone bring some.
    pub from: Option<Place>,
    /// How many events each keeps.
    pub keep: usize,
    /// How many bytes of them.
    pub keep_bytes: usize,
    /// Who may listen.
    pub access: Access,
    /// Whether a listener that is too slow is disconnected, and not only told.
    pub disconnects_slow: bool,
}
