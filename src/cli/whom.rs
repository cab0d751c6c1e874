//! `--as WHOM`: a caller as an operator imagines it, in the words of `allow`.

use std::sync::Arc;

use super::CommandError;
use crate::auth::keys;
use crate::caller::{Caller, Identity, Scheme};
use crate::config::Config;

/// The caller that the words describe.
pub(super) fn read(words: &[String], config: &Config) -> Result<Caller, CommandError> {
    let usage = |message: String| Err(CommandError::Usage(message));
    let mut token: Option<Identity> = None;
    let mut others = Vec::new();
    let mut caller = Caller::NOBODY;
    for word in words.iter().filter(|word| *word != "nobody") {
        let Some((kind, what)) = word.split_once(':') else {
            return usage(format!(
                "`--as {word}`: write \"nobody\", \"key:NAME\", \"sub:SUBJECT\", \"cert:SUBJECT\", \
                 \"scope:SCOPE\", \"claim:NAME=VALUE\", \"hub:MODULE\", \"unix:USER\" or \"UPSTREAM:\""
            ));
        };
        let bearer = || Identity::new(Scheme::Token, "");
        match kind {
            "sub" => token.get_or_insert_with(bearer).subject = what.to_owned(),
            "scope" => token.get_or_insert_with(bearer).scopes.push(what.to_owned()),
            "claim" => {
                let (name, value) = what.split_once('=').unwrap_or((what, ""));
                let claim = (name.to_owned(), value.to_owned());
                token.get_or_insert_with(bearer).claims.push(claim);
            }
            "key" => match config.auth.keys.iter().find(|key| key.name == what) {
                Some(key) => others.push(keys::identity(key)),
                None => return usage(format!("`--as {word}`: no [[auth.keys]] is called so")),
            },
            "hub" => others.push(Identity::new(Scheme::Module, what)),
            "cert" => {
                let shown = Identity::new(Scheme::Certificate, what);
                caller = caller.connected_as(Arc::new(shown));
            }
            "unix" => {
                let user = Identity::new(Scheme::SystemUser, what);
                caller = caller.connected_as(Arc::new(user));
            }
            upstream if config.upstreams.iter().any(|known| known.name == upstream) => {
                let user = Identity::new(Scheme::Upstream(upstream.into()), what);
                caller = caller.connected_as(Arc::new(user));
            }
            _ => return usage(format!("`--as {word}`: there is no upstream `{kind}`")),
        }
    }
    others.extend(token);
    match (others.pop(), others.pop()) {
        (Some(shown), None) => Ok(caller.showing(Ok(Arc::new(shown)))),
        (None, _) => Ok(caller),
        (Some(_), Some(_)) => usage("`--as`: a caller shows one key or one token".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::access::{Access, Grant};

    #[test]
    fn a_caller_is_described_in_the_words_of_allow() {
        let hash = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "[[auth.keys]]\nname = \"web\"\nhash = \"{hash}\"\n[upstreams.bus]\nprotocol = \
             \"nats\"\nservers = \"nats://h\"\n"
        );
        let readers = crate::protocol::readers();
        let config = crate::config::parse("g", &text, Default::default(), &readers).config;
        let caller = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            read(&words, &config)
        };
        for (words, grant, expected) in [
            (vec!["nobody"], "key:*", false),
            (vec!["key:web"], "key:web", true),
            (vec!["sub:a", "scope:x", "claim:tenant=t"], "sub:a", true),
            (vec!["sub:a", "scope:x", "claim:tenant=t"], "scope:x", true),
            (vec!["scope:x", "claim:tenant=t"], "claim:tenant=t", true),
            (vec!["cert:edge.example"], "cert:edge.*", true),
            (vec!["cert:edge.example", "sub:a"], "cert:edge.*", true),
            (vec!["cert:edge.example", "key:web"], "key:web", true),
            (vec!["sub:edge.example"], "cert:edge.*", false),
            (vec!["hub:billing"], "hub:billing", true),
            (vec!["unix:root", "hub:x"], "unix:root", true),
            (vec!["bus:"], "bus:", true),
            (vec!["bus:alice"], "sub:alice", true),
        ] {
            let row = Access::Only(vec![Grant::parse(grant).expect("a word")]);
            let caller = caller(&words).expect("a caller");
            assert_eq!(row.lets_call(&caller, "a.b").is_ok(), expected, "{words:?} {grant}");
        }
        for words in [&["key:other"][..], &["rabbit:"], &["who"], &["key:web", "sub:a"]] {
            assert!(matches!(caller(words), Err(CommandError::Usage(_))), "{words:?}");
        }
    }
}
