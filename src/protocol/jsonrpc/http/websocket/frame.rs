//! WebSocket's frames (RFC 6455, section 5.2): the head of one that came, and of one that goes.
//! No I/O.
//!
//! ```text
//! FIN RSV RSV RSV OPCODE(4) | MASKED LENGTH(7) | length of 0, 2 or 8 bytes | mask of 4 bytes
//! ```

use super::closing::{Closing, LONGEST_CONTROL};

/// The longest head that a client sends.
pub(super) const LONGEST_HEAD: usize = 14;
/// The longest head that is sent here: without a mask.
const LONGEST_OWN_HEAD: usize = 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether such frames may come in the middle of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    /// Whether the message ends with it.
    pub(super) is_final: bool,
    /// How many bytes follow.
    pub(super) length: u64,
    pub(super) mask: [u8; 4],
}

/// Reads a head, and tells how long it is; `None` where not all of it has come.
pub(super) fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Closing> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Closing::protocol("reserved bits are set: no extension was agreed on"));
    }
    let Some(opcode) = Opcode::of(first) else {
        return Err(Closing::protocol("the frame has no known opcode"));
    };
    if second & 0x80 == 0 {
        return Err(Closing::protocol("the frame is not masked"));
    }
    let is_final = first & 0x80 != 0;
    let short = second & 0x7f;
    if opcode.is_control() && (!is_final || usize::from(short) > LONGEST_CONTROL) {
        return Err(Closing::protocol("a control frame is whole, and holds 125 bytes at most"));
    }
    let (length, rest) = match short {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let head = Head { opcode, is_final, length, mask: *mask };
    Ok(Some((head, bytes.len() - rest.len())))
}

/// Takes the mask off, or puts it on, of what stands `at` bytes after the beginning of its frame.
pub(super) fn unmask(bytes: &mut [u8], mut mask: [u8; 4], at: usize) {
    mask.rotate_left(at % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(word) = <&mut [u8; 8]>::try_from(word) {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// The head of a frame that is sent: a whole message, or a control frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnHead {
    bytes: [u8; LONGEST_OWN_HEAD],
    length: u8,
}

impl OwnHead {
    /// The head before a payload of `size` bytes.
    pub(super) fn new(opcode: Opcode, size: usize) -> Self {
        let mut bytes = [0; LONGEST_OWN_HEAD];
        bytes[0] = 0x80 | opcode as u8;
        let length = match (u8::try_from(size), u16::try_from(size)) {
            (Ok(size), _) if size < 126 => {
                bytes[1] = size;
                2
            }
            (_, Ok(size)) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&size.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(size as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, length }
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heads_of_the_specification() {
        // RFC 6455, section 5.7: a masked text message "Hello".
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (head, length) = read_head(&hello).expect("a head").expect("whole");
        assert_eq!((head.opcode, head.is_final, head.length), (Opcode::Text, true, 5));
        let mut text = hello[length..].to_vec();
        unmask(&mut text, head.mask, 0);
        assert_eq!(text, b"Hello");
        assert_eq!(OwnHead::new(Opcode::Text, 5).as_bytes(), [0x81, 0x05]);
        assert_eq!(OwnHead::new(Opcode::Binary, 256).as_bytes(), [0x82, 0x7e, 0x01, 0x00]);
        let long = [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(OwnHead::new(Opcode::Binary, 65_536).as_bytes(), long);
    }

    #[test]
    fn heads_that_no_client_may_send() {
        for (bytes, why) in [
            ([0xc1, 0x80], "reserved"),
            ([0x83, 0x80], "opcode"),
            ([0x8b, 0x80], "opcode"),
            ([0x81, 0x05], "masked"),
            ([0x89, 0xfe], "control"),
            ([0x89, 0xff], "control"),
            ([0x09, 0x80], "control"),
        ] {
            let closing = read_head(&bytes).expect_err(why);
            assert_eq!(closing.code(), 1002);
            assert!(closing.reason().contains(why), "{bytes:x?}: {closing:?}");
        }
    }

    proptest! {
        #[test]
        fn a_head_is_read_when_all_of_it_has_come(
            length in prop_oneof![0..126_u64, 126..65_536_u64, 65_536..u64::MAX],
            mask in any::<[u8; 4]>(),
        ) {
            let mut bytes = vec![0x01];
            match length {
                0..126 => bytes.push(0x80 | length as u8),
                126..65_536 => {
                    bytes.push(0xfe);
                    bytes.extend((length as u16).to_be_bytes());
                }
                _ => {
                    bytes.push(0xff);
                    bytes.extend(length.to_be_bytes());
                }
            }
            bytes.extend(mask);
            for short in 0..bytes.len() {
                prop_assert_eq!(read_head(&bytes[..short]), Ok(None));
            }
            let head = Head { opcode: Opcode::Text, is_final: false, length, mask };
            let size = bytes.len();
            bytes.push(7);
            prop_assert_eq!(read_head(&bytes), Ok(Some((head, size))));
        }

        #[test]
        fn a_mask_goes_on_wherever_it_is_broken_off(
            bytes in proptest::collection::vec(any::<u8>(), 0..70), mask in any::<[u8; 4]>(), cut in 0..70_usize,
        ) {
            let masked: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let cut = cut.min(bytes.len());
            let mut plain = masked;
            let (first, second) = plain.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut);
            prop_assert_eq!(plain, bytes);
        }
    }
}
