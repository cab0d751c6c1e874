//! What must not be shown: the process knows its secrets, and takes them out of what peers say.
//!
//! A broker that refuses a login, or that somebody has put in its place, may repeat what it was
//! sent. So whatever the configuration holds as a secret is registered when it is read, and a
//! peer's words pass through [`scrub`] before they are shown: every field of every line of the log
//! does, whatever its level.
//!
//! A caller's own words must not pass through it on their way back to the caller: whoever sees
//! which of his guesses is starred out has found the secret. Of faults, only what a peer said is
//! scrubbed, and no result. (Where a peer repeats a caller's words in its errors, a right guess shows:
//! all of a secret has to be guessed for that.)
//!
//! Short texts are no secrets: `guest` is a word that everybody knows, and Genkan's own messages
//! have it.
//!
//! The secrets are the process's, like its log: they are known from everywhere. What was rotated
//! stays known for as long as there is room; the oldest of it makes room for what is new.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::{
    BASE64_STANDARD_NO_PAD as STANDARD, BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Shorter ones would star out what has nothing to do with them.
const SHORTEST: usize = 6;
/// Shorter ones than this are found only where they are a word of their own.
const ANYWHERE: usize = 8;
/// Longer ones, certificates say, are known by their lines alone.
pub const LONGEST: usize = 4 << 10;
/// The most bytes that are known: those in force, and of those that were rotated the latest.
const MOST: usize = 16 << 20;
const STARS: &str = "***";

static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);

#[derive(Default)]
struct Known {
    texts: Mutex<Texts>,
    /// There are texts that are not among the needles yet: they are many at a start, and are put
    /// in order once.
    stale: AtomicBool,
    needles: ArcSwap<Needles>,
}

/// The texts that are known, and which of them goes first where there are more than there is room for.
struct Texts {
    /// The most bytes of them.
    most: usize,
    ranks: HashMap<Arc<str>, Rank>,
    by_rank: BTreeMap<Rank, Arc<str>>,
    bytes: usize,
    serial: u64,
}

/// Whether it may be in force, and when that was said last: what was rotated goes before all others, and of each
/// the oldest. A reload says it of all that it keeps.
type Rank = (bool, u64);

impl Default for Texts {
    fn default() -> Self {
        let (ranks, by_rank) = Default::default();
        Self { most: MOST, ranks, by_rank, bytes: 0, serial: 0 }
    }
}

impl Texts {
    /// True if it was not known.
    fn add(&mut self, text: Arc<str>) -> bool {
        let known = self.ranks.get(&text).and_then(|rank| self.by_rank.remove(rank));
        let is_new = known.is_none();
        if is_new {
            self.bytes += text.len();
        }
        self.rank(known.unwrap_or(text), true);
        is_new
    }

    /// It is in force no more.
    fn retire(&mut self, text: &str) {
        let Some(rank) = self.ranks.get(text).filter(|(is_in_force, _)| *is_in_force) else {
            return;
        };
        if let Some(text) = self.by_rank.remove(rank) {
            self.rank(text, false);
        }
    }

    fn rank(&mut self, text: Arc<str>, is_in_force: bool) {
        self.serial += 1;
        let rank = (is_in_force, self.serial);
        self.by_rank.insert(rank, Arc::clone(&text));
        self.ranks.insert(text, rank);
    }

    fn make_room(&mut self) {
        while self.bytes > self.most
            && let Some((_, text)) = self.by_rank.pop_first()
        {
            self.ranks.remove(&text);
            self.bytes -= text.len();
        }
    }
}

impl Known {
    fn register(&self, secret: &str) {
        let forms = forms(secret);
        let mut known = self.lock();
        let mut is_new = false;
        for form in forms {
            is_new |= known.add(form.into());
        }
        if is_new {
            known.make_room();
            self.stale.store(true, Ordering::Release);
        }
    }

    fn replace(&self, secret: &str, next: &str) {
        let (forms, kept) = (forms(secret), forms(next));
        let mut known = self.lock();
        forms.difference(&kept).for_each(|form| known.retire(form));
    }

    fn lock(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scrub<'text>(&self, text: &'text str) -> Cow<'text, str> {
        let needles = self.needles();
        if needles.sorted.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut scrubbed = String::new();
        // Where what has been written of it, as it is or as stars, ends.
        let mut hidden = 0;
        for at in 0..text.len() {
            let Some(end) = needles.end(text, at, hidden) else { continue };
            if at >= hidden {
                scrubbed.push_str(&text[hidden..at]);
                scrubbed.push_str(STARS);
            }
            // One that overlaps another goes with it.
            hidden = hidden.max(end);
        }
        if hidden == 0 {
            return Cow::Borrowed(text);
        }
        scrubbed.push_str(&text[hidden..]);
        Cow::Owned(scrubbed)
    }

    fn needles(&self) -> Arc<Needles> {
        if self.stale.load(Ordering::Acquire) {
            let known = self.lock();
            self.needles.store(Arc::new(Needles::new(known.ranks.keys())));
            self.stale.store(false, Ordering::Release);
        }
        self.needles.load_full()
    }
}

/// Makes a secret known, in the forms in which peers repeat it: as it is, with its URL escapes and
/// without, as a string of JSON, and in base64; and where it is a URL, the password or token in it, and
/// the values of its query.
pub fn register(secret: &str) {
    KNOWN.register(secret);
}

/// Says that another one has taken a secret's place, which stays known for as long as there is room.
pub fn replace(secret: &str, next: &str) {
    KNOWN.replace(secret, next);
}

/// The text without the secrets that are known.
pub fn scrub(text: &str) -> Cow<'_, str> {
    KNOWN.scrub(text)
}

/// All forms of a secret, and of what in it is one.
fn forms(secret: &str) -> HashSet<String> {
    let mut forms = HashSet::new();
    if is_address(secret) {
        return forms;
    }
    add_forms(secret, &mut forms);
    for line in secret.lines() {
        add_forms(line, &mut forms);
    }
    if let Some(credentials) = credentials(secret) {
        add_forms(credentials, &mut forms);
        if let Some((_, password)) = credentials.split_once(':') {
            add_forms(password, &mut forms);
        }
    }
    for value in query(secret) {
        add_forms(value, &mut forms);
        // As a form in a page has a blank.
        add_forms(&value.replace('+', " "), &mut forms);
    }
    forms
}

fn add_forms(text: &str, forms: &mut HashSet<String>) {
    let text = text.trim();
    // The first and last line of PEM and the like are no secrets.
    if !(SHORTEST..=LONGEST).contains(&text.len()) || text.starts_with("---") {
        return;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok();
    for plain in decoded.as_deref().into_iter().chain([text]) {
        forms.insert(plain.to_owned());
        forms.insert(utf8_percent_encode(plain, NON_ALPHANUMERIC).to_string());
        let quoted = serde_json::Value::from(plain).to_string();
        let quoted = &quoted[1..quoted.len() - 1];
        // Python writes ASCII alone, and PHP escapes slashes.
        forms.extend([quoted.to_owned(), ascii(quoted), quoted.replace('/', "\\/")]);
        // What a login over HTTP, or SASL's text for a log, is written in.
        forms.insert(STANDARD.encode(plain));
        forms.insert(URL_SAFE_NO_PAD.encode(plain));
    }
    forms.retain(|form| form.len() >= SHORTEST);
}

/// A JSON string's inside with an escape for whatever is no ASCII.
fn ascii(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    for unit in quoted.encode_utf16() {
        match char::from_u32(unit.into()).filter(char::is_ascii) {
            Some(c) => text.push(c),
            None => text.push_str(&format!("\\u{unit:04x}")),
        }
    }
    text
}

/// `user:password` or `token` of a URL.
fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    // An `@` may stand in the password, unescaped.
    rest.rsplit_once('@').map(|(credentials, _)| credentials)
}

/// The values of a URL's query. Those of a broker's are settings, and no secrets.
fn query(url: &str) -> impl Iterator<Item = &str> {
    let parts = url.split_once(':').filter(|(scheme, rest)| {
        !scheme.starts_with("amqp") && (rest.starts_with("//") || *scheme == "unix")
    });
    let query = parts.and_then(|(_, rest)| rest.split('#').next()?.split_once('?'));
    let pairs = query.map_or("", |(_, query)| query).split(['&', ';']);
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value))
}

/// Whether it is a URL that holds nothing secret, neither credentials nor a query: what is shown of
/// a peer is where it is.
fn is_address(text: &str) -> bool {
    let is_url = text.contains("://") && !text.trim().contains(char::is_whitespace);
    is_url && !text.contains(['@', '?', '#'])
}

/// The secrets in order, so that looking for them costs hardly more where they are many.
#[derive(Default)]
struct Needles {
    sorted: Vec<Arc<str>>,
    /// For each, the longest other one that it begins with.
    inner: Vec<Option<usize>>,
    /// A bit for each two bytes that one begins with: few places of a text need another look.
    beginnings: Vec<u64>,
}

impl Needles {
    fn new<'a>(texts: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let mut sorted: Vec<_> = texts.cloned().collect();
        sorted.sort_unstable();
        let mut inner = Vec::with_capacity(sorted.len());
        let mut beginnings = vec![0; (1 << 16) / 64];
        // Those that the last one begins with, and itself.
        let mut around: Vec<usize> = Vec::new();
        for (number, text) in sorted.iter().enumerate() {
            while around.pop_if(|other| !text.starts_with(&*sorted[*other])).is_some() {}
            inner.push(around.last().copied());
            around.push(number);
            if let Some((word, bit)) = beginning(text.as_bytes()) {
                beginnings[word] |= bit;
            }
        }
        Self { sorted, inner, beginnings }
    }

    /// Where the longest secret that begins at `at` ends. What stands before `hidden` is not seen.
    fn end(&self, text: &str, at: usize, hidden: usize) -> Option<usize> {
        self.longest(text, at, |end| {
            let ends = || is_end(text, end) || self.longest(text, end, |_| false).is_some();
            (at == hidden || is_beginning(text, at)) && ends()
        })
    }

    /// The end of the longest secret there that is long, or short and a word of its own.
    fn longest(&self, text: &str, at: usize, is_word: impl Fn(usize) -> bool) -> Option<usize> {
        let rest = &text.as_bytes()[at..];
        let (word, bit) = beginning(rest)?;
        if self.beginnings.get(word)? & bit == 0 {
            return None;
        }
        // Those that the text goes on with are this one, or what this one begins with.
        let after = self.sorted.partition_point(|needle| needle.as_bytes() <= rest);
        let mut candidate = after.checked_sub(1);
        while let Some(number) = candidate {
            let needle = self.sorted[number].as_bytes();
            let end = at + needle.len();
            if rest.starts_with(needle) && (needle.len() >= ANYWHERE || is_word(end)) {
                return Some(end);
            }
            candidate = self.inner[number];
        }
        None
    }
}

/// The place of a text's first two bytes in a set of bits.
fn beginning(text: &[u8]) -> Option<(usize, u64)> {
    let &[first, second, ..] = text else { return None };
    let pair = usize::from(u16::from_be_bytes([first, second]));
    Some((pair / 64, 1 << (pair % 64)))
}

/// Whether what begins there is not a part of a longer word.
fn is_beginning(text: &str, at: usize) -> bool {
    !text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
}

/// Whether what ends there is not a part of a longer word.
fn is_end(text: &str, at: usize) -> bool {
    !text[at..].chars().next().is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests;
