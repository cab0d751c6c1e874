//! Why a stream's events cannot be taken: what the server says, and the mend.

use std::borrow::Cow;

use super::super::super::ask::Unanswered;
use super::super::super::wire::ApiFailure;

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) reason: Cow<'static, str>,
    /// What an operator has to do; `None` where waiting may be enough.
    pub(super) mend: Option<&'static str>,
}

impl Complaint {
    /// One that waiting may mend.
    pub(super) fn plain(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), mend: None }
    }

    /// One that somebody has to mend.
    pub(super) fn lasting(reason: impl Into<Cow<'static, str>>, mend: &'static str) -> Self {
        Self { reason: reason.into(), mend: Some(mend) }
    }
}

impl From<Unanswered> for Complaint {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Denied => Self::lasting(
                "NATS does not let this user ask for the stream's events",
                "allow Genkan's user to publish to `$JS.API.>` and `$JS.ACK.>`",
            ),
            Unanswered::Silent => Self::plain("JetStream does not answer"),
        }
    }
}

impl From<ApiFailure> for Complaint {
    fn from(failure: ApiFailure) -> Self {
        match failure {
            ApiFailure::NoJetStream => Self::lasting(
                "this NATS has no JetStream, or not for this account",
                "start nats-server with JetStream (-js), or give the account some",
            ),
            ApiFailure::NoStream => Self::lasting(
                "there is no such stream",
                "make it with `nats stream add`, or correct its name in `from`",
            ),
            ApiFailure::NoConsumer => Self::plain("its consumer was deleted"),
            ApiFailure::TooManyConsumers => Self::lasting(
                "the stream, or the account, has as many consumers as it may",
                "raise the stream's `max_consumers`, or delete some with `nats consumer rm`",
            ),
            ApiFailure::WorkQueue(said) => Self::lasting(
                format!("the stream is a work queue: {said}"),
                "in a work queue each message has one consumer, and browsers cannot be it: let a bridge carry \
                 it into another stream, which they listen to; or name other subjects with \
                 `stream/STREAM/SUBJECT`, delete the other consumer, or change the stream's retention",
            ),
            ApiFailure::Other(said) => Self::plain(format!("JetStream refuses: {said}")),
        }
    }
}
