//! The bytes of payloads that the process holds at once: `max_memory`.
//!
//! Every limit on one message is a limit on one message: a thousand half-sent bodies, lines and
//! replies are none of them too large. So whoever gathers bytes that a peer sends counts them
//! here, as they come and not as they are announced.
//!
//! There is one [`Budget`], made by the composition root and handed to the ingresses
//! (`Router::budget`) and to the upstreams (`Connector::connect`). A connection opens an
//! [`Account`], which caps what it can hold; each message that it gathers is a [`Share`] of that:
//!
//! ```
//! # use genkan::{budget::Budget, fault::{Fault, Outcome}};
//! # fn read(budget: &Budget) -> Result<(), Fault> {
//! let account = budget.connection(); // once a connection
//! let mut share = account.share(); // once a message
//! # let chunks: [bytes::Bytes; 1] = [bytes::Bytes::from_static(b"{}")];
//! # let mut body = bytes::BytesMut::new();
//! for chunk in chunks {
//!     share.grow(chunk.len()).map_err(|exceeded| exceeded.fault(Outcome::NotSent))?;
//!     body.extend_from_slice(&chunk);
//! }
//! let body = share.keep_with(body.freeze()); // or keep the share beside it; dropped, all is given back
//! # Ok(())
//! # }
//! ```
//!
//! No lock and no wait: growing costs two atomic operations, and giving back two. It does not
//! count what is not a payload: tables, tasks, buffers of a fixed size.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::fault::{Fault, FaultKind, Outcome};
use crate::metrics::MemoryMetrics;
use crate::units::format_size;

/// What `max_memory` is where nobody says: a container of 256 MiB holds it, the copies that are made
/// of some of it on the way, and the process itself.
pub const DEFAULT: usize = 128 << 20;
/// One of so many parts of the whole is the most that one connection of a caller can hold.
pub const CONNECTION_PART: usize = 4;
/// Likewise for an upstream, which carries the replies of all callers.
pub const UPSTREAM_PART: usize = 2;
/// How soon to try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bytes that all may hold together. Clones are handles to the same one.
#[derive(Clone)]
pub struct Budget(Arc<Pool>);

struct Pool {
    limit: AtomicUsize,
    held: AtomicUsize,
    metrics: MemoryMetrics,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        let (limit, held) = (AtomicUsize::new(limit), AtomicUsize::new(0));
        Self(Arc::new(Pool { limit, held, metrics: MemoryMetrics::new() }))
    }

    /// Changes the limit. What is held already stays; nobody gets more until it fits.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// The bytes held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// An account for the connection of a caller or a module: a quarter of the whole at most.
    pub fn connection(&self) -> Account {
        self.account(CONNECTION_PART)
    }

    /// An account for an upstream's replies: half of the whole at most.
    pub fn upstream(&self) -> Account {
        self.account(UPSTREAM_PART)
    }

    fn account(&self, part: usize) -> Account {
        let held = AtomicUsize::new(0);
        Account(Arc::new(Owner { pool: Arc::clone(&self.0), part, held }))
    }

    /// Shows what is held in the metrics. To be called every second or so.
    pub fn upkeep(&self) {
        self.0.metrics.set_held(self.held());
    }
}

/// What one connection holds. Clones are handles to the same one.
#[derive(Clone)]
pub struct Account(Arc<Owner>);

struct Owner {
    pool: Arc<Pool>,
    part: usize,
    held: AtomicUsize,
}

impl Account {
    /// A share for one message, with nothing in it.
    pub fn share(&self) -> Share {
        Share { owner: Arc::clone(&self.0), held: 0, is_queue: false }
    }

    /// A share for what waits, which may be any number of messages.
    pub fn queue(&self) -> Share {
        Share { owner: Arc::clone(&self.0), held: 0, is_queue: true }
    }

    /// The bytes that it holds now, in all of its shares.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

impl Owner {
    fn take(&self, bytes: usize) -> Result<(), Exceeded> {
        let limit = self.pool.limit.load(Ordering::Relaxed);
        let cap = limit / self.part;
        if !add(&self.held, bytes, cap) {
            self.pool.metrics.refused_connection.increment(1);
            return Err(Exceeded::Connection { cap });
        }
        if !add(&self.pool.held, bytes, limit) {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.pool.metrics.refused_process.increment(1);
            return Err(Exceeded::Process { limit });
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Not an addition that is taken back where it went too far: until then it would refuse others.
fn add(held: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// The bytes of one message, given back when dropped.
pub struct Share {
    owner: Arc<Owner>,
    held: usize,
    is_queue: bool,
}

impl Share {
    /// Counts bytes that have come, before they are kept. Refused, they must not be kept; what
    /// was counted before stays counted.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let size = self.held.saturating_add(bytes);
        self.owner.take(bytes).map_err(|exceeded| match exceeded {
            Exceeded::Connection { cap } if size > cap && !self.is_queue => {
                Exceeded::Message { cap }
            }
            exceeded => exceeded,
        })?;
        self.held = size;
        Ok(())
    }

    /// Gives back bytes that are not kept any more; all of them where it holds fewer.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.owner.give_back(bytes);
    }

    /// The bytes that it holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Ties the share to the bytes that it counts: it is given back with the last slice of them.
    pub fn keep_with(self, bytes: Bytes) -> Bytes {
        if self.held == 0 { bytes } else { Bytes::from_owner(Kept { bytes, _share: self }) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.held);
    }
}

struct Kept {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a share could not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The message alone is more than the connection may hold: there is never room for it.
    Message {
        /// That part, in bytes.
        cap: usize,
    },
    /// The connection holds its part already.
    Connection {
        /// That part, in bytes.
        cap: usize,
    },
    /// All together hold what they may.
    Process {
        /// That limit, in bytes.
        limit: usize,
    },
}

impl Exceeded {
    /// As the caller is told. `outcome` is what its call had come to: one that may have run is not to be
    /// called again.
    pub fn fault(self, outcome: Outcome) -> Fault {
        let fault = |message| Fault::new(self.kind(), outcome, message);
        if outcome.may_have_run() {
            return match self {
                Exceeded::Message { .. } => fault(format!(
                    "what the call has come to has no room: {self}: answer less, or raise `max_memory`"
                )),
                _ => fault(format!("{self}: there is no room for what the call has come to")),
            };
        }
        let mend = match self {
            Exceeded::Message { .. } => {
                return fault(format!("{self}: send less, or raise `max_memory`"));
            }
            Exceeded::Connection { .. } => "wait for answers before sending more",
            Exceeded::Process { .. } => "try again in a moment",
        };
        fault(format!("{self}: {mend}")).with_retry_after(RETRY_AFTER)
    }

    fn kind(self) -> FaultKind {
        match self {
            Exceeded::Message { .. } => FaultKind::TooLarge,
            Exceeded::Connection { .. } | Exceeded::Process { .. } => FaultKind::Overloaded,
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::Message { cap } => write!(
                f,
                "it is larger than {}, which is all that one connection may hold (max_memory)",
                format_size(*cap)
            ),
            Exceeded::Connection { cap } => write!(
                f,
                "this connection holds {} of payloads already, its part of max_memory",
                format_size(*cap)
            ),
            Exceeded::Process { limit } => write!(
                f,
                "the gateway holds {} of payloads already, its limit (max_memory)",
                format_size(*limit)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_its_part_and_no_more() {
        let budget = Budget::new(1_000);
        let (one, other) = (budget.connection(), budget.connection());
        let (mut first, mut second) = (one.share(), one.share());
        assert_eq!(first.grow(200), Ok(()));
        assert_eq!(second.grow(50), Ok(()));
        assert_eq!(second.grow(1), Err(Exceeded::Connection { cap: 250 }));
        assert_eq!(other.share().grow(250), Ok(()), "another connection has its own part");
        drop(first);
        assert_eq!(second.grow(200), Ok(()));
        assert_eq!((one.held(), other.held(), budget.held()), (250, 0, 250));
    }

    #[test]
    fn what_never_has_room_is_too_large_and_not_to_be_sent_again() {
        let account = Budget::new(1_000).connection();
        let mut share = account.share();
        assert_eq!(share.grow(200), Ok(()));
        let exceeded = share.grow(51).expect_err("more than a part");
        assert_eq!(exceeded, Exceeded::Message { cap: 250 });
        for (outcome, words) in [
            (Outcome::NotSent, "it is larger than 250B, which is all that one connection may hold"),
            (Outcome::Executed, "what the call has come to has no room: it is larger than 250B"),
        ] {
            let fault = exceeded.fault(outcome);
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::TooLarge, outcome));
            assert!(fault.message().starts_with(words), "{}", fault.message());
            assert!(!fault.retryable() && fault.retry_after().is_none());
        }
        drop(share);
        let mut waiting = account.queue();
        assert_eq!(waiting.grow(200), Ok(()));
        assert_eq!(waiting.grow(51), Err(Exceeded::Connection { cap: 250 }), "of several");
    }

    #[test]
    fn all_together_hold_the_limit_and_no_more() {
        let budget = Budget::new(1_000);
        let mut shares: Vec<Share> = (0..5).map(|_| budget.connection().share()).collect();
        for share in &mut shares[..4] {
            assert_eq!(share.grow(250), Ok(()));
        }
        assert_eq!(shares[4].grow(1), Err(Exceeded::Process { limit: 1_000 }));
        assert_eq!(shares[4].grow(250), Err(Exceeded::Process { limit: 1_000 }));
        shares[0].shrink(100);
        assert_eq!(shares[4].grow(100), Ok(()), "nothing of what was refused is counted");
        shares.clear();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_new_limit_holds_for_those_that_are_there() {
        let budget = Budget::new(1_000);
        let mut share = budget.upstream().share();
        assert_eq!(share.grow(500), Ok(()));
        budget.set_limit(600);
        assert_eq!(share.grow(1), Err(Exceeded::Message { cap: 300 }));
        share.shrink(300);
        assert_eq!(share.grow(100), Ok(()));
        share.shrink(usize::MAX);
        assert_eq!((share.held(), budget.held()), (0, 0));
    }

    #[test]
    fn a_share_goes_with_the_last_slice_of_its_bytes() {
        let budget = Budget::new(1_000);
        let mut share = budget.connection().share();
        assert_eq!(share.grow(4), Ok(()));
        let bytes = share.keep_with(Bytes::from_static(b"1234"));
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&slice[..], budget.held()), (&b"2"[..], 4));
        drop(slice);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let budget = Budget::new(4_000);
        let grown: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let account = budget.connection();
                    scope.spawn(move || {
                        let mut grown = 0;
                        for _ in 0..1_000 {
                            let mut shares: Vec<_> = (0..10).map(|_| account.share()).collect();
                            for share in &mut shares {
                                grown += usize::from(share.grow(90).is_ok());
                            }
                            assert!(account.held() <= 1_000);
                        }
                        grown
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
        });
        assert!(grown > 0);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn callers_are_told_when_to_try_again() {
        let fault = Exceeded::Process { limit: 1 << 20 }.fault(Outcome::NotSent);
        assert_eq!(fault.kind(), FaultKind::Overloaded);
        assert_eq!(fault.retry_after(), Some(RETRY_AFTER));
        assert!(fault.message().contains("1MiB of payloads already"), "{}", fault.message());
        let ran = Exceeded::Process { limit: 1 << 20 }.fault(Outcome::Executed);
        assert_eq!(ran.retry_after(), None);
        assert!(!ran.message().contains("again"), "{}", ran.message());
    }
}
