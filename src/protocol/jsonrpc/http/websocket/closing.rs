//! Why a connection ends, as the close frame says it (RFC 6455, section 7.4).

use std::borrow::Cow;

/// The most that a control frame holds.
pub(super) const LONGEST_CONTROL: usize = 125;
/// The bytes of the code.
const CODE: usize = 2;

/// A close code and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    code: u16,
    reason: Cow<'static, str>,
}

impl Closing {
    fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// All is done that was to be done: what a peer's own close is answered with.
    pub(super) fn normal() -> Self {
        Self::new(1000, "")
    }

    /// The gateway ends, or this way in does.
    pub(super) fn going_away() -> Self {
        Self::new(1001, "the gateway takes no more calls here: connect again")
    }

    /// Nobody has used the connection.
    pub(super) fn idle() -> Self {
        Self::new(1001, "idle for too long")
    }

    /// The peer speaks no WebSocket.
    pub(super) fn protocol(what: &'static str) -> Self {
        Self::new(1002, what)
    }

    pub(super) fn binary() -> Self {
        Self::new(1003, "JSON-RPC is text: send text frames, not binary ones")
    }

    pub(super) fn not_utf8() -> Self {
        Self::new(1007, "the message is not UTF-8")
    }

    /// What is against the rules of this gateway.
    pub(super) fn policy(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1008, what)
    }

    pub(super) fn too_big(what: String) -> Self {
        Self::new(1009, what)
    }

    /// There is no place for what the peer sends.
    pub(super) fn overloaded(what: String) -> Self {
        Self::new(1013, what)
    }

    /// The code.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// What it says.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// The payload of the close frame: the reason is cut where it would be too long.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = self.code.to_be_bytes().to_vec();
        let mut end = self.reason.len().min(LONGEST_CONTROL - CODE);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&self.reason.as_bytes()[..end]);
        payload
    }

    /// What a peer's close frame is answered with: its own code, where it is one that a peer may
    /// send.
    pub(super) fn answer_to(payload: &[u8]) -> Self {
        let Some((code, reason)) = payload.split_first_chunk::<CODE>() else {
            return if payload.is_empty() {
                Self::normal()
            } else {
                Self::protocol("half a close code")
            };
        };
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Self::protocol("this close code is not for peers to send");
        }
        if std::str::from_utf8(reason).is_err() {
            return Self::not_utf8();
        }
        Self::new(code, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_letters() {
        let payload = Closing::policy("é".repeat(100)).payload();
        assert_eq!(payload.len(), 2 + 122);
        assert!(std::str::from_utf8(&payload[2..]).is_ok());
        assert_eq!(Closing::normal().payload(), [0x03, 0xe8]);
    }

    #[test]
    fn a_close_is_answered_with_its_code() {
        let answer = |payload: &[u8]| Closing::answer_to(payload).code();
        assert_eq!(answer(b""), 1000);
        assert_eq!(answer(&[0x03]), 1002);
        for (code, expected) in [
            (999_u16, 1002),
            (1000, 1000),
            (1001, 1001),
            (1004, 1002),
            (1005, 1002),
            (1006, 1002),
            (1015, 1002),
            (2999, 1002),
            (3000, 3000),
            (4999, 4999),
            (5000, 1002),
        ] {
            let payload = [&code.to_be_bytes()[..], b"bye"].concat();
            assert_eq!(answer(&payload), expected, "{code}");
        }
        assert_eq!(answer(&[0x03, 0xe8, 0xff]), 1007);
    }
}
