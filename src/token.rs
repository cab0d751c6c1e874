//! Tokens that nobody can guess, for what is sent out and is to come back: correlation ids, reply
//! subjects.
//!
//! A token holds a key of some table (a count) and a proof of it: a keyed hash, whose random key
//! never leaves the process. Whoever has seen a thousand tokens cannot make the next one, so a
//! service cannot answer its neighbour's call. Making or checking one takes some ten nanoseconds.
//!
//! The 128 bits have the form of a random (version 4) UUID, which some peers insist on:
//!
//! ```text
//! 60 bits of proof, with the version's 4 among them | the variant's 2 | 62 bits of the key
//! ```

use std::hash::{BuildHasher, RandomState};

use crate::hex::write_hex;

const VERSION_MASK: u64 = 0xf << 12;
const VERSION: u64 = 0x4 << 12;
const VARIANT_MASK: u64 = 0x3 << 62;
const VARIANT: u64 = 0x2 << 62;

/// Makes tokens, and knows its own again. Each has a key of its own.
#[derive(Debug, Default)]
pub struct Tokens(RandomState);

/// A table's key with its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    proof: u64,
    key: u64,
}

impl Tokens {
    /// With a new random key.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token of a table's key, of which 62 bits count.
    pub fn issue(&self, key: u64) -> Token {
        let key = key & !VARIANT_MASK | VARIANT;
        Token { proof: self.proof(key), key }
    }

    /// The key in a token's text, either form: `None` for what was not issued here.
    pub fn redeem(&self, text: &str) -> Option<u64> {
        let Token { proof, key } = Token::parse(text)?;
        (proof == self.proof(key)).then_some(key & !VARIANT_MASK)
    }

    fn proof(&self, key: u64) -> u64 {
        // SipHash, made for this.
        self.0.hash_one(key) & !VERSION_MASK | VERSION
    }
}

/// The text of a UUID that nobody can guess.
pub fn random_uuid() -> String {
    let mut text = String::with_capacity(UUID);
    Tokens::new().issue(fastrand::u64(..)).push_uuid(&mut text);
    text
}

impl Token {
    /// How long [`Token::push_hex`]'s form is.
    pub const HEX: usize = 32;

    /// Writes 32 hexadecimal digits.
    pub fn push_hex(self, text: &mut String) {
        text.push_str(std::str::from_utf8(&self.digits()).unwrap_or_default());
    }

    /// Writes it as a UUID: five groups of digits with dashes between them.
    pub fn push_uuid(self, text: &mut String) {
        let digits = self.digits();
        let digits = std::str::from_utf8(&digits).unwrap_or_default();
        for (index, group) in GROUPS.windows(2).enumerate() {
            if index > 0 {
                text.push('-');
            }
            text.push_str(digits.get(group[0]..group[1]).unwrap_or_default());
        }
    }

    fn digits(self) -> [u8; Self::HEX] {
        let mut digits = [0; Self::HEX];
        write_hex(&mut digits[..16], &self.proof.to_be_bytes());
        write_hex(&mut digits[16..], &self.key.to_be_bytes());
        digits
    }

    fn parse(text: &str) -> Option<Self> {
        let mut digits = [0; Self::HEX];
        let text = text.as_bytes();
        match text.len() {
            Self::HEX => digits.copy_from_slice(text),
            UUID => {
                for (index, group) in GROUPS.windows(2).enumerate() {
                    let at = group[0] + index;
                    if index > 0 && text[at - 1] != b'-' {
                        return None;
                    }
                    let end = at + group[1] - group[0];
                    digits[group[0]..group[1]].copy_from_slice(&text[at..end]);
                }
            }
            _ => return None,
        }
        let (proof, key) = digits.split_at(16);
        Some(Self { proof: number(proof)?, key: number(key)? })
    }
}

/// Where a UUID's groups of digits begin, and the last one ends.
const GROUPS: [usize; 6] = [0, 8, 12, 16, 20, 32];
/// How long a UUID is.
const UUID: usize = 36;

fn number(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(token: Token) -> [String; 2] {
        let (mut hex, mut uuid) = (String::new(), String::new());
        token.push_hex(&mut hex);
        token.push_uuid(&mut uuid);
        [hex, uuid]
    }

    #[test]
    fn a_token_brings_its_key_back() {
        let tokens = Tokens::new();
        for key in [0, 1, 2, 0xffff, (1 << 62) - 1] {
            for text in texts(tokens.issue(key)) {
                assert_eq!(tokens.redeem(&text), Some(key), "{text}");
            }
        }
    }

    #[test]
    fn what_was_not_issued_is_nobodys() {
        let (tokens, others) = (Tokens::new(), Tokens::new());
        let [hex, uuid] = texts(tokens.issue(7));
        for text in [&hex, &uuid] {
            assert_eq!(others.redeem(text), None, "another key's");
            for at in 0..text.len() {
                let mut forged = text.clone().into_bytes();
                forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
                let forged = String::from_utf8(forged).unwrap();
                assert_eq!(tokens.redeem(&forged), None, "{text} is not {forged}");
            }
        }
        let neighbour = format!("{}{:016x}", &hex[..16], VARIANT | 8);
        for text in [neighbour.as_str(), "", "7", &uuid[1..], "é", &"é".repeat(16), &"é".repeat(18)]
        {
            assert_eq!(tokens.redeem(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_a_uuid_of_version_4() {
        for key in 0..100 {
            let [hex, uuid] = texts(Tokens::new().issue(key));
            assert_eq!((hex.len(), uuid.len()), (Token::HEX, UUID));
            assert_eq!(uuid.replace('-', ""), hex);
            let dashes: Vec<_> = uuid.match_indices('-').map(|(at, _)| at).collect();
            assert_eq!(dashes, [8, 13, 18, 23]);
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        }
    }
}
