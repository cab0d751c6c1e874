//! A message as it comes from a server.

use bytes::Bytes;

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Message {
    /// Where it was sent to.
    pub(in crate::protocol::nats) subject: Bytes,
    /// The subscription that it came for.
    pub(in crate::protocol::nats) sid: u64,
    /// Where a reply to it is waited for; empty where none is.
    pub(in crate::protocol::nats) reply: Bytes,
    /// The block of headers as its sender wrote it; empty where there is none.
    pub(in crate::protocol::nats) headers: Bytes,
    /// The body.
    pub(in crate::protocol::nats) payload: Bytes,
}

/// Up to this size a message that is kept is copied out of what else was read with it.
const SMALL: usize = 4 * 1024;

impl Message {
    /// How many bytes it has.
    pub(in crate::protocol::nats) fn size(&self) -> usize {
        let Self { subject, sid: _, reply, headers, payload } = self;
        [subject, reply, headers, payload].iter().map(|part| part.len()).sum()
    }

    /// The same, for a while: a small one holds no others in memory.
    pub(in crate::protocol::nats) fn kept(self) -> Self {
        if self.size() > SMALL {
            return self;
        }
        let Self { subject, sid, reply, headers, payload } = self;
        let mut rest = Bytes::from([&subject[..], &reply, &headers, &payload].concat());
        let mut take = |part: Bytes| rest.split_to(part.len());
        Self {
            subject: take(subject),
            sid,
            reply: take(reply),
            headers: take(headers),
            payload: take(payload),
        }
    }
}
