//! What an operator is told of an exposed service that the server does not take all subscriptions of.

use super::super::generation::MORE_SUBSCRIPTIONS;
use super::hosted::{Held, Why};
use crate::exposer::{Extent, Trouble};

/// What is missing of one service.
pub(super) struct Shortfall {
    pub(super) name: String,
    /// One of the subjects that are missing, and how many more of its sort are.
    subject: String,
    pub(super) more: usize,
    why: Why,
    /// Whether calls come by them, and not questions about the service.
    pub(super) for_calls: bool,
    /// Whether other calls are taken.
    pub(super) takes_some: bool,
}

impl Shortfall {
    pub(super) fn of(held: &Held, why: Why) -> Self {
        Self {
            name: held.service.expose.name.clone(),
            subject: held.subscription.subject.clone(),
            more: 0,
            why,
            for_calls: held.is_for_calls(),
            takes_some: false,
        }
    }

    pub(super) fn trouble(self) -> Trouble {
        let Self { name, subject, more, why, for_calls, takes_some } = self;
        let extent = match (for_calls, takes_some) {
            (true, false) => Extent::Nothing,
            (true, true) => Extent::Part,
            (false, _) => Extent::Unlisted,
        };
        let subjects = match (for_calls, more) {
            (false, _) => "`$SRV.>`".to_owned(),
            (true, 0) => format!("`{subject}`"),
            (true, more) => format!("`{subject}` and {more} more"),
        };
        let what = match why {
            Why::Denied => format!(
                "NATS does not permit to subscribe to {subjects}: allow it for Genkan's user"
            ),
            Why::TooMany => format!(
                "NATS takes no more subscriptions, not {subjects} either: {MORE_SUBSCRIPTIONS}"
            ),
        };
        Trouble { name, extent, what }
    }
}
