//! What subjects, and streams' subjects, are as addresses of events.

use super::super::wire;
use crate::event::{glob_of, reached};
use crate::event_port::{EventAddresses, Promise};
use crate::fnv::fnv;

/// `SUBJECT`, `stream/STREAM` and `stream/STREAM/SUBJECT`; where events come from, with wildcards.
pub(in super::super) const ADDRESSES: EventAddresses =
    EventAddresses { source, target, reached, also_at };

/// What a stream is to keep is published to its subject, and whoever subscribes to that gets it.
fn also_at(address: &str) -> Option<&str> {
    match Place::read(address) {
        Place::Stream(Stream { subject, .. }) => Some(subject).filter(|it| !it.is_empty()),
        Place::Subject(_) => None,
    }
}

/// Whether a source leaves so much open that names of NATS's own come with it, which are nobody's events: answers to
/// others' calls, acks, and what the server tells of itself.
pub(super) fn is_left_out(source: &str, subject: &str, prefix: &str) -> bool {
    let is_under =
        |prefix: &str| subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    source.starts_with(['*', '>'])
        && (subject.starts_with('$') || is_under(INBOX) || is_under(prefix))
}

/// What an address of a stream begins with.
const STREAM: &str = "stream/";
/// What an inbox's name begins with where nobody says otherwise; each event is looked at again.
const INBOX: &str = "_INBOX";
/// How much of a bridge's name is in a group's.
const LONGEST_NAME: usize = 120;
/// The longest name that a stream can have.
const LONGEST_STREAM: usize = 255;

/// Where events come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Subject(&'a str),
    Stream(Stream<'a>),
}

/// A stream, and a subject in it; none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream<'a> {
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
}

impl<'a> Place<'a> {
    /// Reads an address.
    pub(super) fn read(address: &'a str) -> Self {
        match address.strip_prefix(STREAM) {
            Some(rest) => {
                let (name, subject) = rest.split_once('/').unwrap_or((rest, ""));
                Self::Stream(Stream { name, subject })
            }
            None => Self::Subject(address),
        }
    }
}

fn source(address: &str) -> Result<Promise, String> {
    let (subject, promise) = match Place::read(address) {
        Place::Subject(subject) => (subject, Promise::AtMostOnce),
        Place::Stream(Stream { name, subject }) => {
            is_stream(address, name)?;
            if subject.is_empty() && !address.ends_with('/') {
                return Ok(Promise::AtLeastOnce);
            }
            (subject, Promise::AtLeastOnce)
        }
    };
    if subject.split('.').any(|word| word.len() > 1 && word.contains(['*', '>'])) {
        return Err(format!(
            "`{address}` has a wildcard within a word: `*` and `>` stand for whole words"
        ));
    }
    let ends = subject.strip_suffix(".>").or_else(|| (subject == ">").then_some("x"));
    if ends.unwrap_or(subject).contains('>') {
        return Err(format!("`{address}` goes on behind `>`, which stands for all that is left"));
    }
    let mut filled = subject.replace(['*', '>'], "x");
    if promise == Promise::AtLeastOnce {
        // What a stream keeps under a name of NATS's own, as a bucket of keys and values does, is only read.
        filled = filled.trim_start_matches('$').to_owned();
    }
    wire::publishable(&filled, INBOX).map_err(|flaw| format!("{flaw} (in `{address}`)"))?;
    Ok(promise)
}

fn target(address: &str) -> Result<Promise, String> {
    let (subject, promise) = match Place::read(address) {
        Place::Subject(subject) => (subject, Promise::AtMostOnce),
        Place::Stream(Stream { name, subject }) => {
            is_stream(address, name)?;
            if subject.is_empty() {
                return Err(format!(
                    "`{address}` names no subject: write `{STREAM}{name}/SUBJECT`, with a subject that the \
                     stream takes"
                ));
            }
            (subject, Promise::AtLeastOnce)
        }
    };
    if address.contains(['*', '>']) {
        return Err(format!(
            "`{address}` names no one subject: write `$1` for what `from` matched"
        ));
    }
    let filled = glob_of(subject).replace('*', "x");
    wire::publishable(&filled, INBOX).map_err(|flaw| format!("{flaw} (in `{address}`)"))?;
    Ok(promise)
}

/// Whether a stream can have that name.
fn is_stream(address: &str, name: &str) -> Result<(), String> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "*>.$\\".contains(c);
    if name.is_empty() || name.len() > LONGEST_STREAM || name.contains(is_odd) {
        return Err(format!(
            "`{address}` names no stream: write `{STREAM}STREAM`, where the name has no dot, blank or wildcard"
        ));
    }
    Ok(())
}

/// The queue group of those who share a source: a server's word for it has no blanks or wildcards, and the
/// same name gives the same group.
pub(super) fn group(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let plain = name.chars().take(LONGEST_NAME).map(|c| if is_plain(c) { c } else { '_' });
    let plain: String = plain.collect();
    format!("genkan_{plain}_{:016x}", fnv(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_with_wildcards_and_without() {
        for good in ["orders", "orders.created", "orders.*", "*.created", "orders.>", ">", "*"] {
            assert_eq!(source(good), Ok(Promise::AtMostOnce), "{good}");
        }
        for good in [
            "stream/ORDERS",
            "stream/ORDERS/orders.*",
            "stream/O-1_x/>",
            "stream/KV_conf/$KV.conf.>",
        ] {
            assert_eq!(source(good), Ok(Promise::AtLeastOnce), "{good}");
        }
        for (bad, words) in [
            ("", "nothing between two dots"),
            ("orders..x", "nothing between two dots"),
            ("or ders", "blank"),
            ("$JS.API", "belongs to NATS"),
            ("_INBOX.x", "belongs to NATS"),
            ("orders.cre*", "whole words"),
            ("orders.>.x", "all that is left"),
            ("stream/", "names no stream"),
            ("stream/a.b", "names no stream"),
            ("stream/ORDERS/", "nothing between two dots"),
            ("stream/ORDERS/a.>.b", "all that is left"),
        ] {
            let said = source(bad).expect_err(bad);
            assert!(said.contains(words), "{bad}: {said}");
        }
    }

    #[test]
    fn subjects_that_are_published_to() {
        for good in ["orders", "$1", "$1.created", "orders.$2.x"] {
            assert_eq!(target(good), Ok(Promise::AtMostOnce), "{good}");
        }
        for good in ["stream/ORDERS/a", "stream/ORDERS/copies.$1"] {
            assert_eq!(target(good), Ok(Promise::AtLeastOnce), "{good}");
        }
        for (bad, words) in [
            ("orders.*", "write `$1`"),
            (">", "write `$1`"),
            ("$JS.API", "belongs to NATS"),
            ("a..$1", "nothing between two dots"),
            ("stream/ORDERS", "names no subject"),
            ("stream//a", "names no stream"),
            ("stream/KV_conf/$KV.conf.a", "belongs to NATS"),
            ("stream/ORDERS/a.*", "write `$1`"),
        ] {
            let said = target(bad).expect_err(bad);
            assert!(said.contains(words), "{bad}: {said}");
        }
    }

    #[test]
    fn a_wildcard_in_front_leaves_out_what_is_natss_own() {
        for (source, subject, is_out) in [
            (">", "_INBOX.a.b", true),
            ("*.*.*", "_INBOX.a.b", true),
            (">", "own.a", true),
            ("*.>", "$JS.ACK.x", true),
            (">", "_INBOXES.a", false),
            (">", "orders", false),
            ("orders.>", "orders.$x", false),
        ] {
            assert_eq!(is_left_out(source, subject, "own"), is_out, "{source} {subject}");
        }
        assert_eq!(also_at("stream/EV/ev.cb"), Some("ev.cb"));
        assert_eq!((also_at("ev.cb"), also_at("stream/EV")), (None, None));
    }

    #[test]
    fn a_group_is_one_word_and_stays_the_same() {
        let name = group("nats:orders.*->hub:shop.$1,web:x");
        assert_eq!(name, group("nats:orders.*->hub:shop.$1,web:x"));
        assert_ne!(name, group("nats:orders.>->hub:shop.$1,web:x"));
        assert!(name.starts_with("genkan_nats_orders__-_hub_shop__1_web_x_"), "{name}");
    }
}
