//! The memory that replies take, from the moment at which their headers come.
//!
//! lapin gathers a message whole, and then puts it into a queue that has no bound. So a reply gets its
//! share of the memory before lapin sees it, and one for which there is no room loses its body there
//! ([`wire::frames`](super::wire::frames)). The shares wait here for the task that hands replies out.
//! Replies come over one channel: the shares are claimed in the order in which they were given.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::budget::{Account, Exceeded, Share};

/// A smaller reply is not counted: those are bounded by the calls in flight.
const SMALL: usize = 1_024;

/// What is between the broker and the task that hands replies out.
pub(super) struct Intake {
    account: Account,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    shares: VecDeque<Share>,
    /// Why there was no room, the last time.
    refusal: Option<Exceeded>,
    /// More than which there is never room for.
    largest: Option<usize>,
    closed: bool,
}

impl Intake {
    pub(super) fn new(account: Account) -> Self {
        Self { account, inner: Mutex::default() }
    }

    /// Takes the share of a reply of which the header has come. False where there is no room.
    pub(super) fn admit(&self, size: u64) -> bool {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size < SMALL {
            return true;
        }
        let mut share = self.account.share();
        let grown = share.grow(size);
        let mut inner = self.lock();
        match grown {
            Ok(()) if inner.closed => false,
            Ok(()) => {
                inner.shares.push_back(share);
                true
            }
            Err(Exceeded::Message { cap }) => {
                inner.largest = Some(cap);
                false
            }
            Err(exceeded) => {
                inner.refusal = Some(exceeded);
                false
            }
        }
    }

    /// Why a reply of that size has lost its body for want of room; `None` where none has.
    pub(super) fn refusal_of(&self, size: u64) -> Option<Exceeded> {
        let inner = self.lock();
        let never = inner.largest.filter(|cap| size > *cap as u64);
        never.map(|cap| Exceeded::Message { cap }).or(inner.refusal)
    }

    /// The share of a reply that has come whole; `None` for one that takes none.
    pub(super) fn claim(&self, size: usize) -> Option<Share> {
        if size < SMALL {
            return None;
        }
        let mut inner = self.lock();
        // What another share was taken for has not arrived, and does not any more.
        while let Some(share) = inner.shares.pop_front() {
            if share.held() == size {
                return Some(share);
            }
        }
        None
    }

    /// Gives back what nobody will claim any more, and lets nothing in.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.shares.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every use leaves it whole, so a panic elsewhere has not broken it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn a_share_is_taken_with_the_header_and_claimed_with_the_message() {
        let budget = Budget::new(40_000);
        let intake = Intake::new(budget.upstream());
        assert!(intake.admit(10_000) && intake.admit(100) && intake.admit(5_000));
        assert_eq!((budget.held(), intake.refusal_of(100)), (15_000, None));
        assert!(!intake.admit(5_001), "half of the whole is taken");
        assert_eq!(intake.refusal_of(5_001), Some(Exceeded::Connection { cap: 20_000 }));
        assert!(!intake.admit(20_001), "it never has room");
        assert_eq!(intake.refusal_of(20_001), Some(Exceeded::Message { cap: 20_000 }));
        assert_eq!(intake.refusal_of(5_001), Some(Exceeded::Connection { cap: 20_000 }));
        let first = intake.claim(10_000).expect("its share");
        assert!(intake.claim(100).is_none(), "it takes none");
        assert_eq!((first.held(), budget.held()), (10_000, 15_000));
        drop(first);
        assert!(intake.admit(5_001), "there is room again");
        drop(intake.claim(5_000));
        assert_eq!(budget.held(), 5_001);
    }

    #[test]
    fn what_never_arrives_is_given_back() {
        let budget = Budget::new(40_000);
        let intake = Intake::new(budget.upstream());
        assert!(intake.admit(2_000) && intake.admit(3_000) && intake.admit(4_000));
        assert_eq!(intake.claim(3_000).map(|share| share.held()), Some(3_000));
        assert_eq!(budget.held(), 4_000);
        intake.close();
        assert_eq!(budget.held(), 0);
        assert!(!intake.admit(2_000), "nobody would claim it");
        assert!(!intake.admit(u64::MAX));
        assert_eq!(budget.held(), 0);
    }
}
