//! Why a service is not exposed, and what to do.

use std::borrow::Cow;

use lapin::ErrorKind;

use super::super::open::{MORE_QUEUES, NO_QUEUES, is_overdue, is_queue_limit, refused_with};
use crate::redact::scrub;

/// What was tried when it failed: the broker's code means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    Exchange,
    Declare,
    Bind,
    Consume,
}

/// Why a service is not exposed.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Complaint {
    pub(in super::super) reason: Cow<'static, str>,
    /// What the broker or the system said.
    pub(in super::super) said: String,
    /// What an operator has to do; `None` where waiting may be enough.
    pub(in super::super) mend: Option<&'static str>,
}

const NO_CHANNELS: &str = "rabbitmq grants the connection too few channels";
const MORE_CHANNELS: &str = "raise `channel_max`, in rabbitmq.conf or where the upstream's `url` has it: \
                             each exposed service takes one";

impl Complaint {
    /// One that waiting mends: the queue is set up again.
    fn plain(reason: &'static str) -> Self {
        Self { reason: reason.into(), said: String::new(), mend: None }
    }

    /// The broker has ended the consumer.
    pub(super) fn cancelled() -> Self {
        Self::plain("rabbitmq has cancelled the consumer of its queue")
    }

    /// Why a queue that was bound cannot be bound again.
    pub(super) fn unbound(error: &lapin::Error) -> Self {
        match refused_with(error, 404) {
            true => Self::plain("the exchange was deleted"),
            false => Self::new(Step::Bind, error),
        }
    }

    pub(in super::super) fn new(step: Step, error: &lapin::Error) -> Self {
        let said = scrub(&error.to_string()).into_owned();
        let code = match error.kind() {
            ErrorKind::ProtocolError(refusal) => refusal.get_id(),
            ErrorKind::ChannelsLimitReached => {
                return Self { reason: NO_CHANNELS.into(), said, mend: Some(MORE_CHANNELS) };
            }
            _ => return Self { reason: said.clone().into(), said, mend: None },
        };
        Self::of(step, code, said)
    }

    fn of(step: Step, code: u16, said: String) -> Self {
        let (reason, mend) = match (step, code) {
            (Step::Declare, 406) if is_queue_limit(&said) => (NO_QUEUES, MORE_QUEUES),
            (Step::Declare, 406) => (
                "a queue of its name exists with other properties",
                "Nameko's is durable and has no arguments: delete the other one, or expose the \
                 service under another name with `as`",
            ),
            (Step::Exchange, 406) => (
                "the exchange exists with another type or durability",
                "Nameko's is a durable topic exchange: delete the other one, or name the right one \
                 in `exchange`",
            ),
            (Step::Consume, 406) if is_overdue(&said) => (
                "a call ran longer than rabbitmq waits for its ack (consumer_timeout)",
                "raise `consumer_timeout` in rabbitmq.conf above the `timeout` of the rows that its calls \
                 go by, or shorten that",
            ),
            (_, 405) => (
                "another connection has its queue for itself alone",
                "find who consumes the queue with rabbitmqctl list_queues name exclusive pid",
            ),
            (Step::Exchange | Step::Declare | Step::Bind, 403) => (
                "rabbitmq does not let this user make its queue, and there is none",
                "give the user permissions to configure and write `rpc-…` and to read the exchange \
                 with rabbitmqctl set_permissions, or start a real instance of the service once",
            ),
            (Step::Consume, 403) => (
                "rabbitmq does not let this user consume its queue, or somebody consumes it alone",
                "give the user permission to read `rpc-…` with rabbitmqctl set_permissions, and end \
                 an exclusive consumer",
            ),
            (_, code) => {
                let reason = format!("rabbitmq refuses with code {code}").into();
                return Self { reason, said, mend: None };
            }
        };
        Self { reason: reason.into(), said, mend: Some(mend) }
    }

    /// Whether it is for want of a channel.
    pub(super) fn lacks_channels(&self) -> bool {
        self.reason == NO_CHANNELS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_act_is_told_what_to_do() {
        let cases = [
            (Step::Declare, 406, "other properties", true),
            (Step::Exchange, 406, "another type", true),
            (Step::Declare, 403, "make its queue", true),
            (Step::Bind, 403, "make its queue", true),
            (Step::Consume, 403, "consume its queue", true),
            (Step::Declare, 405, "for itself alone", true),
            (Step::Consume, 404, "code 404", false),
            (Step::Consume, 406, "code 406", false),
        ];
        for (step, code, words, mend) in cases {
            let complaint = Complaint::of(step, code, String::new());
            assert!(complaint.reason.contains(words), "{step:?} {code}: {complaint:?}");
            assert_eq!(complaint.mend.is_some(), mend, "{step:?} {code}");
            assert!(!complaint.lacks_channels());
        }
        let said = "PRECONDITION_FAILED - cannot declare queue 'rpc-x': queue limit in vhost '/' (5) is reached";
        let complaint = Complaint::of(Step::Declare, 406, said.to_owned());
        assert_eq!((&*complaint.reason, complaint.mend), (NO_QUEUES, Some(MORE_QUEUES)));
        let said = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.";
        let complaint = Complaint::of(Step::Consume, 406, said.to_owned());
        assert!(complaint.reason.contains("consumer_timeout") && complaint.mend.is_some());
        let complaint = Complaint::new(Step::Exchange, &ErrorKind::ChannelsLimitReached.into());
        assert!(complaint.lacks_channels() && complaint.mend.is_some());
    }
}
