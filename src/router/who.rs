//! Who calls, as a number that nobody can choose: who it is known as, else the machine whose address it calls
//! from, else one with all that have none.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::caller::{Caller, Identity};
use crate::networks::of_one_machine;

/// The number of all who are not known and have no address.
const NOBODY: u64 = 1;

/// Numbers of callers, other ones for each of these.
#[derive(Default)]
pub(super) struct Numbers(RandomState);

impl Numbers {
    /// The number of a caller as it is known now.
    pub(super) fn of(&self, caller: &Caller) -> u64 {
        match (caller.in_force(), caller.address()) {
            (Some(identity), _) => self.of_known(identity),
            (None, Some(address)) => self.0.hash_one(of_one_machine(address)),
            (None, None) => NOBODY,
        }
    }

    fn of_known(&self, identity: &Identity) -> u64 {
        self.0.hash_one((identity.scheme.word(), &identity.subject, &identity.issuer))
    }
}
