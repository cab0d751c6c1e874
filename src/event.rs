//! What happened, on its way from a service that publishes it to whoever listens. Plain data.

mod passage;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::call::{Context, Payload};
pub use passage::{DedupKey, Passage};

/// One event. A delivery that is repeated has the same id.
#[derive(Clone)]
pub struct Event {
    /// What it is called where it comes from: `orders.created`.
    pub topic: Arc<str>,
    /// Which one of them it is, for whoever must tell whether it came twice.
    pub id: Arc<str>,
    /// What it says.
    pub data: Payload,
    /// When it was published, as far as its source tells; else when it came in.
    pub time: SystemTime,
    /// What travels with it.
    pub context: Arc<Context>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({} {}, {:?})", self.topic, self.id, self.data)
    }
}

/// An event as it came in, with what its source wants to hear of it.
pub struct Delivery {
    /// The event; the reason where what came is none.
    pub event: Result<Event, Unusable>,
    /// What the wildcards of the source's address matched, in their order.
    pub captures: Vec<String>,
    /// Which message of its source it is, as a number: the same whenever that one comes again. 0 where its id
    /// alone tells.
    pub message: u64,
    /// To be told when every target has it; `None` where the source keeps nothing.
    pub receipt: Option<Receipt>,
}

/// What came where an event was expected, for the dead letters.
#[derive(Debug)]
pub struct Unusable {
    /// What it is called where it comes from.
    pub topic: Arc<str>,
    /// Which one it is.
    pub id: Arc<str>,
    /// Why it cannot be one.
    pub reason: String,
    /// What it holds, as it came; `None` where that was thrown away.
    pub body: Option<Bytes>,
}

/// A source's hold on an event that it delivers again where nobody vouches for it. Dropped, nobody
/// does.
pub struct Receipt(Box<dyn Hold>);

/// What a source knows of an event that it has handed over.
pub trait Hold: Send + Sync {
    /// Every target has it.
    fn settle(self: Box<Self>);

    /// Whether its source delivers it again whatever becomes of this one: nobody waits for it any more.
    fn comes_again(&self) -> bool {
        false
    }
}

impl Receipt {
    /// A receipt for whoever holds it.
    pub fn of(hold: impl Hold + 'static) -> Self {
        Self(Box::new(hold))
    }

    /// A receipt; `settled` is called when every target has the event.
    pub fn new(settled: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self::of(Told(settled))
    }

    /// Every target has it.
    pub fn settle(self) {
        self.0.settle();
    }

    /// Whether its source delivers it again whatever becomes of this one.
    pub fn comes_again(&self) -> bool {
        self.0.comes_again()
    }
}

/// A hold of one who only wants to be told.
struct Told<F>(F);

impl<F: FnOnce() + Send + Sync> Hold for Told<F> {
    fn settle(self: Box<Self>) {
        (self.0)();
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// Why a target does not have an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Nobody was there to take it, or to say that it was taken: no connection, an outage, an alarm. That says
    /// nothing of the event, which is as good as any when there is somebody again.
    #[error("{0}")]
    Unreachable(String),
    /// The place does not take it now, and says so. It may later.
    #[error("{0}")]
    Unavailable(String),
    /// It never will: what it is makes it none there.
    #[error("{0}")]
    Refused(String),
}

/// Fills `$1`, `$2`, … of a target's address with what the wildcards of the source's matched.
pub fn fill<'a>(address: &'a str, captures: &[String]) -> Cow<'a, str> {
    if captures.is_empty() {
        return Cow::Borrowed(address);
    }
    let mut filled = String::with_capacity(address.len());
    let mut rest = address;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: Option<usize> = behind[..digits].parse().ok();
        let capture = number.and_then(|number| captures.get(number.checked_sub(1)?));
        match capture {
            Some(capture) => filled.push_str(capture),
            None => filled.push_str(&rest[at..=at + digits]),
        }
        rest = &behind[digits..];
    }
    filled.push_str(rest);
    Cow::Owned(filled)
}

/// The highest `$` that an address has.
pub fn highest_capture(address: &str) -> usize {
    let numbers = address.split('$').skip(1).filter_map(|behind| {
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        behind[..digits].parse().ok()
    });
    numbers.max().unwrap_or(0)
}

/// What a target's address stands for, as a glob: `*` in the place of what is to be filled in.
pub fn glob_of(address: &str) -> String {
    let mut glob = String::with_capacity(address.len());
    let mut rest = address.chars().peekable();
    while let Some(character) = rest.next() {
        let is_capture = character == '$' && rest.peek().is_some_and(char::is_ascii_digit);
        if is_capture {
            while rest.next_if(char::is_ascii_digit).is_some() {}
        }
        glob.push(if is_capture { '*' } else { character });
    }
    glob
}

/// What the wildcards of a pattern of words between dots match of a name: `*` is one word, and
/// `>` or `#` at the end all that are left. `None` where the pattern does not match.
pub fn captures(pattern: &str, name: &str) -> Option<Vec<String>> {
    let mut captures = Vec::new();
    let mut words = name.split('.');
    let mut patterns = pattern.split('.').peekable();
    while let Some(expected) = patterns.next() {
        if matches!(expected, ">" | "#") && patterns.peek().is_none() {
            let rest: Vec<&str> = words.collect();
            let least = usize::from(expected == ">");
            captures.push(rest.join("."));
            return (rest.len() >= least).then_some(captures);
        }
        let word = words.next()?;
        match expected {
            "*" => captures.push(word.to_owned()),
            _ if expected == word => {}
            _ => return None,
        }
    }
    words.next().is_none().then_some(captures)
}

/// What the wildcards of a source's address match of a place's. An address may be a folder: `stream/ORDERS` is all
/// that is in it, and in `stream/ORDERS/orders.*` the wildcards are those of the last part. `None` where what
/// happens at the place does not come from the source.
pub fn reached(source: &str, place: &str) -> Option<Vec<String>> {
    if place.strip_prefix(source).is_some_and(|rest| rest.starts_with('/')) {
        return Some(Vec::new());
    }
    match (source.rsplit_once('/'), place.rsplit_once('/')) {
        (Some((folder, pattern)), Some((same, name))) if folder == same => captures(pattern, name),
        _ => captures(source, place),
    }
}

/// What comes from two sources alike, as an address: of a wildcard that both leave open, there are so many stars as
/// make it another word than those before it. `None` where nothing does.
pub fn meeting(one: &str, other: &str) -> Option<String> {
    let holds = |folder: &str, place: &str| {
        place.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    let (folder, (one, other)) = match (one.rsplit_once('/'), other.rsplit_once('/')) {
        _ if holds(one, other) => ("", (other, other)),
        _ if holds(other, one) => ("", (one, one)),
        (Some((folder, one)), Some((same, other))) if folder == same => (folder, (one, other)),
        (None, None) => ("", (one, other)),
        _ => return None,
    };
    let (ones, others): (Vec<_>, Vec<_>) = (one.split('.').collect(), other.split('.').collect());
    let mut words = Vec::new();
    if !meet(&ones, &others, &mut words) {
        return None;
    }
    let mut open = 0;
    let words = words.into_iter().map(|word| match word {
        "*" | ">" | "#" => {
            open += 1;
            "*".repeat(open)
        }
        word => word.to_owned(),
    });
    let words = words.collect::<Vec<_>>().join(".");
    Some(if folder.is_empty() { words } else { format!("{folder}/{words}") })
}

/// The words that two patterns have in common.
fn meet<'a>(one: &[&'a str], other: &[&'a str], words: &mut Vec<&'a str>) -> bool {
    match (one, other) {
        ([], []) => true,
        ([">"], rest @ [_, ..]) | (rest @ [_, ..], [">"]) | (["#"], rest) | (rest, ["#"]) => {
            words.extend(rest);
            true
        }
        ([a, one @ ..], [b, other @ ..]) if a == b || *a == "*" || *b == "*" => {
            words.push(if *a == "*" { b } else { a });
            meet(one, other, words)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_capture_words() {
        let of = |pattern, name| captures(pattern, name);
        let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(of("a.b", "a.b"), owned(&[]));
        assert_eq!(of("a.*.c", "a.b.c"), owned(&["b"]));
        assert_eq!(of("*.>", "a.b.c"), owned(&["a", "b.c"]));
        assert_eq!(of("a.>", "a"), None);
        assert_eq!(of("a.#", "a"), owned(&[""]));
        assert_eq!(of("a.*", "a.b.c"), None);
        assert_eq!(of("a.b", "a"), None);
    }

    #[test]
    fn addresses_may_be_folders() {
        let none = Some(Vec::new());
        assert_eq!(reached("stream/A", "stream/A/x.y"), none);
        assert_eq!(reached("stream/A", "stream/A"), none);
        assert_eq!(reached("stream/A/>", "stream/A/x.y"), Some(vec!["x.y".to_owned()]));
        assert_eq!(reached("stream/A/x.*", "stream/A/x.y"), Some(vec!["y".to_owned()]));
        assert_eq!(reached("stream/A/x.*", "stream/B/x.y"), None);
        assert_eq!(reached("stream/A", "stream/AB"), None);
        assert_eq!(reached("a.*", "a.b"), Some(vec!["b".to_owned()]));
    }

    #[test]
    fn sources_that_bring_the_same() {
        for (one, other, both) in [
            ("a.b", "a.b", "a.b"),
            ("a.*", "a.b", "a.b"),
            ("a.*", "*.b", "a.b"),
            ("*.*", "*.*", "*.**"),
            ("a.>", "a.*.c", "a.*.c"),
            ("a.>", "a.b.>", "a.b.*"),
            ("stream/A", "stream/A", "stream/A"),
            ("stream/A", "stream/A/x.*", "stream/A/x.*"),
            ("stream/A/>", "stream/A/x.*", "stream/A/x.*"),
        ] {
            assert_eq!(meeting(one, other).as_deref(), Some(both), "{one} {other}");
            assert_eq!(meeting(other, one).as_deref(), Some(both), "{other} {one}");
        }
        for (one, other) in [
            ("a.*", "b.*"),
            ("a.*", "a"),
            ("a.>", "a"),
            ("a.*", "a.b.c"),
            ("stream/A/x", "stream/B/x"),
            ("stream/A", "stream/AB"),
            ("a.*", "stream/A/a.*"),
        ] {
            assert_eq!(meeting(one, other), None, "{one} {other}");
            assert_eq!(meeting(other, one), None, "{other} {one}");
        }
    }

    #[test]
    fn addresses_are_filled() {
        let captures = ["x".to_owned(), "y.z".to_owned()];
        assert_eq!(fill("a.$1.$2", &captures), "a.x.y.z");
        assert_eq!(fill("$2$1", &captures), "y.zx");
        assert_eq!(fill("a.$3.$.$0", &captures), "a.$3.$.$0");
        assert_eq!(fill("plain", &captures), "plain");
        assert_eq!((glob_of("a.$1.$12x"), glob_of("$")), ("a.*.*x".to_owned(), "$".to_owned()));
        assert_eq!((highest_capture("a.$1.$12"), highest_capture("a.$")), (12, 0));
    }
}
