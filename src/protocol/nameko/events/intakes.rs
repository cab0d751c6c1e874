//! The memory that events take, from the moment at which their headers come: an
//! [`Intake`](super::super::intake) for each channel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::intake::Intake;
use super::super::transport::Admission;
use crate::budget::Account;

/// Those of one connection's channels.
pub(super) struct Intakes {
    account: Account,
    channels: Mutex<HashMap<u16, Arc<Intake>>>,
}

impl Intakes {
    pub(super) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self { account, channels: Mutex::default() })
    }

    /// What a connection asks.
    pub(super) fn admission(self: &Arc<Self>) -> Admission {
        let intakes = Arc::clone(self);
        Arc::new(move |channel, size| {
            let intake = intakes.lock().get(&channel).cloned();
            intake.is_none_or(|intake| intake.admit(size))
        })
    }

    /// One for a channel over which nothing has come yet.
    pub(super) fn open(&self, channel: u16) -> Arc<Intake> {
        let intake = Arc::new(Intake::new(self.account.clone()));
        self.lock().insert(channel, Arc::clone(&intake));
        intake
    }

    /// Gives back what nobody will claim. The channel's number may be another's by now.
    pub(super) fn close(&self, channel: u16, intake: &Arc<Intake>) {
        intake.close();
        let mut channels = self.lock();
        if channels.get(&channel).is_some_and(|other| Arc::ptr_eq(other, intake)) {
            channels.remove(&channel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Arc<Intake>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
