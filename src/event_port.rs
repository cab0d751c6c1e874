//! The one seam by which a connection gives events and takes them.
//!
//! Who has a connection offers a port beside its upstream. The port outlives the connections that
//! it works over: what is lost with one of them it finds out by itself, or tells as a gap.

use std::any::Any;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::event::{DedupKey, Delivery, Event, Undelivered};

/// Where events come from and go to.
pub trait EventPort: Any + Send + Sync {
    /// Takes events of these sources from now on, and of no others. Returns at once. A source that
    /// stays is not interrupted.
    fn listen(&self, sources: &[Source]);

    /// This source, which is listened to, goes for good with the next [`EventPort::listen`]: what is kept for
    /// it by its name may go too, unless somebody else reads it. Until then what waits there may still be handed to
    /// its taker.
    fn forget(&self, _source: &Source) {}

    /// Takes the place of another port, that of the same upstream with other settings: what that one keeps by the
    /// names of its sources is this one's from now on, also of sources that go, and that one takes nothing any
    /// more. [`EventPort::forget`] and [`EventPort::listen`] follow.
    fn succeed(&self, before: &dyn EventPort) {
        before.listen(&[]);
    }

    /// Whether another port is one of the same server, by whatever name the upstream goes.
    fn is_where(&self, _other: &dyn EventPort) -> bool {
        false
    }

    /// Whether there is still something to do for sources that go for good.
    fn is_leaving(&self) -> bool {
        false
    }

    /// Takes no events any more, also not those of sources that go: the process ends.
    fn close(&self) {
        self.listen(&[]);
    }

    /// Whether what its source calls so is for this place at all: of what is not, nothing is lost that cannot be used.
    fn wants(&self, _topic: &str) -> bool {
        true
    }

    /// Hands an event over to an address, in whose `$1`, `$2` stands what the source's wildcards matched. What was
    /// handed over first goes first. The future ends when the other side has vouched for it, where its protocol can;
    /// it may be dropped, and the event may be delivered all the same. A place that drops what it has already knows
    /// it by the event's id and the key together.
    fn publish(
        &self,
        address: &str,
        captures: &[String],
        event: &Event,
        key: DedupKey,
    ) -> BoxFuture<'static, Result<(), Undelivered>>;
}

/// Events that are wanted.
#[derive(Clone)]
pub struct Source {
    /// Where they come from, in the words of the protocol.
    pub address: String,
    /// Who wants them: the same name after a restart, so that what waits for it is found again.
    pub name: Arc<str>,
    /// Whether those gateways that want them by the same name share them; else each gets all.
    pub shared: bool,
    /// Whether somebody has heard them before, over a port that this one replaces, or for another row of topics:
    /// what nobody kept meanwhile is a gap.
    pub resumes: bool,
    /// Who takes them.
    pub taker: Arc<dyn Taker>,
}

/// Why there is a gap where a source resumes.
pub const REPLACED: &str = "its upstream or its row was changed, and it is taken anew";

impl Source {
    /// Whether another one asks for the same, and hands it to the same taker.
    pub fn is(&self, other: &Source) -> bool {
        self.address == other.address
            && self.name == other.name
            && self.shared == other.shared
            && Arc::ptr_eq(&self.taker, &other.taker)
    }
}

/// Takes the events of a source.
pub trait Taker: Send + Sync {
    /// Takes one more. Does not wait: what there is no room for comes back, and is a gap unless
    /// its source keeps it. A source that keeps what was not settled has at most [`Taker::room`]
    /// of them out.
    fn take(&self, delivery: Delivery) -> Result<(), Box<Delivery>>;

    /// How many may be with it at once.
    fn room(&self) -> usize;

    /// Some may have been missed, because of that.
    fn gap(&self, reason: &str);

    /// The source cannot be listened to now, because of that, with the mend where there is one; `None` where it is.
    /// For operators: no credentials.
    fn unheard(&self, why: Option<&str>);
}

/// What a protocol's addresses of events are.
#[derive(Clone, Copy, Debug)]
pub struct EventAddresses {
    /// What is wrong with an address that events are to come from, with the mend; else what the
    /// source promises.
    pub source: fn(&str) -> Result<Promise, String>,
    /// The same for one that they are to go to.
    pub target: fn(&str) -> Result<Promise, String>,
    /// What a source's wildcards match of what happens at a place; `None` where that does not come from the source.
    pub reached: fn(&str, &str) -> Option<Vec<String>>,
    /// Where what goes to an address happens as well.
    pub also_at: fn(&str) -> Option<&str>,
}

/// How often an event comes, where nothing is amiss for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It is kept until somebody vouches for it, or is vouched for.
    AtLeastOnce,
    /// What there is nobody for is gone.
    AtMostOnce,
}

/// An address that the configuration names, and which way events go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// They come from it.
    From(&'a str),
    /// They go to it. What is to be filled in (`$1`) is not known yet.
    To(&'a str),
}
