//! The keys of a frame, and its members as slices of the line's text.

use crate::json::members::unescaped;
use crate::json::outline::Member;

/// The keys that the protocol names (WIRE 3.1), and `message` and `token`, which are Genkan's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Type,
    RequestId,
    Function,
    Arguments,
    Data,
    Hook,
    Caller,
    Error,
    ModuleId,
    Version,
    Dependencies,
    Message,
    Token,
}

impl Key {
    /// How many there are.
    pub(crate) const COUNT: usize = 13;

    /// All of them, in the order of the enum.
    pub(crate) const ALL: [(Key, &'static str); Key::COUNT] = [
        (Key::Type, "type"),
        (Key::RequestId, "requestId"),
        (Key::Function, "function"),
        (Key::Arguments, "arguments"),
        (Key::Data, "data"),
        (Key::Hook, "hook"),
        (Key::Caller, "caller"),
        (Key::Error, "error"),
        (Key::ModuleId, "moduleId"),
        (Key::Version, "version"),
        (Key::Dependencies, "dependencies"),
        (Key::Message, "message"),
        (Key::Token, "token"),
    ];

    fn of(name: &[u8]) -> Option<Key> {
        Some(match name {
            b"type" => Key::Type,
            b"requestId" => Key::RequestId,
            b"function" => Key::Function,
            b"arguments" => Key::Arguments,
            b"data" => Key::Data,
            b"hook" => Key::Hook,
            b"caller" => Key::Caller,
            b"error" => Key::Error,
            b"moduleId" => Key::ModuleId,
            b"version" => Key::Version,
            b"dependencies" => Key::Dependencies,
            b"message" => Key::Message,
            b"token" => Key::Token,
            _ => return None,
        })
    }
}

/// The members of an object that is valid JSON, as slices of its text.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    values: [Option<&'a str>; Key::COUNT],
    /// The members with other keys, each as `"key":value`.
    others: Vec<&'a str>,
}

impl<'a> Members<'a> {
    pub(super) fn add(&mut self, Member { key, value, whole }: Member<'a>) {
        match named(key) {
            Some(key) => self.values[key as usize] = Some(value),
            None => self.others.push(whole),
        }
    }

    /// The raw value of a key; of a key that is there twice, the last.
    pub(crate) fn get(&self, key: Key) -> Option<&'a str> {
        self.values[key as usize]
    }

    /// The members with keys that the protocol does not name.
    pub(crate) fn others(&self) -> &[&'a str] {
        &self.others
    }
}

/// The key that a raw name stands for. A module may write it with escapes: `"\\u0064ata"`.
fn named(raw: &str) -> Option<Key> {
    Key::of(&unescaped(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_the_enum() {
        for (index, (key, name)) in Key::ALL.iter().enumerate() {
            assert_eq!(*key as usize, index);
            assert_eq!(Key::of(name.as_bytes()), Some(*key));
        }
    }
}
