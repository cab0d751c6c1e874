//! What must not be shown: the process knows its secrets, and takes them out of what peers say.
//!
//! A broker that refuses a login, or that somebody has put in its place, may repeat what it was
//! sent. So whatever the configuration holds as a secret is registered when it is read, and a
//! peer's words pass through [`scrub`] before they are shown: every field of every line of the log
//! does, whatever its level.
//!
//! A caller's own words must not pass through it on their way back to the caller: whoever sees
//! which of his guesses is starred out has found the secret. Of faults, only what a peer said is
//! scrubbed.
//!
//! The secrets are the process's, like its log: they are known from everywhere. What was rotated
//! stays known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use memchr::memmem::Finder;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Shorter ones would star out what has nothing to do with them.
const SHORTEST: usize = 3;
/// Shorter ones than this are found only where they are a word of their own.
const ANYWHERE: usize = 8;
/// Longer ones, certificates say, are known by their lines alone.
pub const LONGEST: usize = 4 << 10;
/// The most that are known. Configurations have few; those that were rotated add to them.
const MOST: usize = 4_096;
const STARS: &str = "***";

static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);

#[derive(Default)]
struct Known {
    texts: Mutex<HashSet<String>>,
    finders: ArcSwap<Vec<Finder<'static>>>,
}

/// Makes a secret known, in the forms in which peers repeat it: as it is, with its URL escapes and
/// without, and as a string of JSON; and where it is a URL, the password or token in it.
pub fn register(secret: &str) {
    let mut forms = HashSet::new();
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
    let mut texts = KNOWN.texts.lock().unwrap_or_else(PoisonError::into_inner);
    let before = texts.len();
    for form in forms {
        if texts.len() < MOST {
            texts.insert(form);
        }
    }
    if texts.len() == before {
        return;
    }
    let mut sorted: Vec<&String> = texts.iter().collect();
    // A secret that holds another one goes as a whole.
    sorted.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let finders = sorted.into_iter().map(|text| Finder::new(text.as_bytes()).into_owned());
    KNOWN.finders.store(std::sync::Arc::new(finders.collect()));
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
        forms.insert(quoted[1..quoted.len() - 1].to_owned());
    }
    forms.retain(|form| form.len() >= SHORTEST);
}

/// `user:password` or `token` of a URL.
fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    // An `@` may stand in the password, unescaped.
    rest.rsplit_once('@').map(|(credentials, _)| credentials)
}

/// The text without the secrets that are known.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let finders = KNOWN.finders.load();
    let mut scrubbed = Cow::Borrowed(text);
    for finder in finders.iter() {
        let mut from = 0;
        while let Some(at) = finder.find(&scrubbed.as_bytes()[from..]).map(|at| from + at) {
            let end = at + finder.needle().len();
            if finder.needle().len() < ANYWHERE && !is_word(&scrubbed, at, end) {
                // It begins with a character: the next one begins no earlier than a byte later.
                from = at + 1;
                continue;
            }
            scrubbed.to_mut().replace_range(at..end, STARS);
            from = at + STARS.len();
        }
    }
    scrubbed
}

/// Whether what stands there is not a part of a longer word.
fn is_word(text: &str, start: usize, end: usize) -> bool {
    let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !inner(text[..start].chars().next_back()) && !inner(text[end..].chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The registry is the process's: each test has secrets of its own.

    #[test]
    fn a_secret_is_found_in_every_form() {
        register("amqp://genkan:r3d%2Fact@h:1/v");
        for said in [
            "refused: amqp://genkan:r3d%2Fact@h:1/v",
            "PLAIN login of genkan with r3d/act refused",
            "r3d%2Fact",
            "genkan:r3d%2Fact",
        ] {
            let shown = scrub(said);
            assert!(!shown.contains("r3d") && shown.contains(STARS), "{said}: {shown}");
        }
        register("it \"is\" one");
        assert_eq!(scrub(r#"{"pass":"it \"is\" one"}"#), r#"{"pass":"***"}"#);
        register("nats://t0k3n-of-ours@h");
        assert_eq!(scrub("t0k3n-of-ours, and xt0k3n-of-oursx"), "***, and x***x");
    }

    #[test]
    fn each_line_of_a_long_one_is_a_secret() {
        register("-----BEGIN SEED-----\nSUAREDACTED1\nSUAREDACTED2\n------END SEED------\n");
        assert_eq!(scrub("got SUAREDACTED2"), "got ***");
        assert_eq!(scrub("-----BEGIN SEED-----"), "-----BEGIN SEED-----");
    }

    #[test]
    fn short_ones_are_words_or_nothing() {
        register("qzx");
        register("q");
        assert_eq!(scrub("qzx, qzxa aqzx (qzx) é qzxé"), "***, qzxa aqzx (***) é qzxé");
        assert_eq!(scrub("q a q"), "q a q");
        register("éqé");
        assert_eq!(scrub("ééqé éqé"), "ééqé ***");
    }

    #[test]
    fn what_holds_none_is_not_copied() {
        register("some-secret-of-ours");
        assert!(matches!(scrub("nothing of that kind"), Cow::Borrowed(_)));
    }
}
