//! Why events cannot be taken, or an event's way cannot be made: what the broker says, and the mend.

use std::borrow::Cow;

use lapin::ErrorKind;

use super::super::open::{MORE_QUEUES, NO_QUEUES, is_overdue, is_queue_limit};
use crate::redact::scrub;

/// What was tried when it failed: the broker's code means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Exchange,
    Queue,
    Bind,
    Consume,
}

const NO_CHANNELS: &str = "rabbitmq grants the connection too few channels";
const MORE_CHANNELS: &str = "raise `channel_max`, in rabbitmq.conf or where the upstream's `url` has it: \
                             each source of events takes one";

/// What a broker says that goes, or that misses a part of itself. A queue that is declared is not found only where
/// the node is down on which it is.
const OUTAGES: [u16; 2] = [320, 541];

/// What a broker says of a name that it keeps for itself.
const RESERVED: &str = "reserved prefix";

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) reason: Cow<'static, str>,
    /// What the broker or the system said.
    pub(super) said: String,
    /// What an operator has to do; `None` where waiting may be enough.
    pub(super) mend: Option<&'static str>,
    /// Whether it is for want of a channel.
    pub(super) lacks_channels: bool,
    /// Whether the broker was not there, or not whole: what was asked is not what is wrong.
    pub(super) is_outage: bool,
}

impl Complaint {
    pub(super) fn new(step: Step, error: &lapin::Error) -> Self {
        let said = scrub(&error.to_string()).into_owned();
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => Self::of(step, refusal.get_id(), said),
            ErrorKind::ChannelsLimitReached => {
                let mend = Some(MORE_CHANNELS);
                Self { said, mend, lacks_channels: true, ..Self::plain(NO_CHANNELS) }
            }
            _ => Self::plain(said),
        }
    }

    /// One that waiting may mend.
    pub(super) fn plain(reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self { reason, said: String::new(), mend: None, lacks_channels: false, is_outage: true }
    }

    fn of(step: Step, code: u16, said: String) -> Self {
        let (reason, mend) = match (step, code) {
            (Step::Exchange, 406) => (
                "its exchange exists with another type or durability",
                "Nameko's is a durable topic exchange, Gemstone's a fanout one that is not durable: \
                 delete the other one, or correct the address",
            ),
            (_, 405) => (
                "another connection has its queue for itself alone",
                "find who consumes the queue with rabbitmqctl list_queues name exclusive pid",
            ),
            (Step::Exchange, 403) => (
                "rabbitmq does not let this user make its exchange, and there is none",
                "give the user permission to configure it with rabbitmqctl set_permissions, or start \
                 the service that publishes once",
            ),
            (Step::Queue, 406) if is_queue_limit(&said) => (NO_QUEUES, MORE_QUEUES),
            (Step::Queue, 403) if said.contains(RESERVED) => (
                "rabbitmq keeps queues whose names begin with `amq.` for itself",
                "name another queue",
            ),
            (Step::Consume, 406) if is_overdue(&said) => (
                "events were with the bridge for longer than rabbitmq waits for acks (consumer_timeout)",
                "see why its targets do not take them, or raise `consumer_timeout` in rabbitmq.conf",
            ),
            (Step::Queue | Step::Bind, 403) => (
                "rabbitmq does not let this user make its queue",
                "give the user permissions to configure, write and read `genkan.…` and to read the \
                 exchange with rabbitmqctl set_permissions",
            ),
            (Step::Open | Step::Consume, 403) => (
                "rabbitmq does not let this user read its queue, or somebody reads it alone",
                "give the user permission to read `genkan.…` with rabbitmqctl set_permissions, and end \
                 an exclusive consumer",
            ),
            (_, code) => {
                let reason = format!("rabbitmq refuses with code {code}");
                let is_outage = OUTAGES.contains(&code) || (step, code) == (Step::Queue, 404);
                return Self { said, is_outage, ..Self::plain(reason) };
            }
        };
        let (reason, mend) = (reason.into(), Some(mend));
        Self { reason, said, mend, lacks_channels: false, is_outage: false }
    }

    /// In one sentence, for whoever sends an event.
    pub(super) fn told(&self) -> String {
        match self.mend {
            Some(mend) => format!("{}: {mend}", self.reason),
            None => self.reason.clone().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_act_is_told_what_to_do() {
        for (step, code, words, mend) in [
            (Step::Exchange, 406, "another type", true),
            (Step::Exchange, 403, "its exchange", true),
            (Step::Queue, 403, "make its queue", true),
            (Step::Bind, 403, "make its queue", true),
            (Step::Queue, 405, "for itself alone", true),
            (Step::Consume, 403, "read its queue", true),
            (Step::Consume, 404, "code 404", false),
        ] {
            let complaint = Complaint::of(step, code, String::new());
            assert!(complaint.told().contains(words), "{step:?} {code}: {complaint:?}");
            assert_eq!(complaint.mend.is_some(), mend, "{step:?} {code}");
            assert!(!complaint.is_outage, "{step:?} {code}");
        }
        for (step, code, said, words) in [
            (
                Step::Queue,
                403,
                "queue name 'amq.x' contains reserved prefix 'amq.*'",
                "another queue",
            ),
            (
                Step::Consume,
                406,
                "PRECONDITION_FAILED - delivery acknowledgement on channel 3 timed out. Timeout value used",
                "consumer_timeout",
            ),
        ] {
            let complaint = Complaint::of(step, code, said.to_owned());
            assert!(complaint.told().contains(words), "{complaint:?}");
            assert_eq!((complaint.said.as_str(), complaint.is_outage), (said, false));
        }
        for (step, code) in [(Step::Exchange, 320), (Step::Queue, 541), (Step::Queue, 404)] {
            assert!(Complaint::of(step, code, String::new()).is_outage, "{step:?} {code}");
        }
        assert!(Complaint::plain("rabbitmq does not answer").is_outage);
    }
}
