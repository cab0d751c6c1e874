//! `--as WHOM`: a caller as an operator imagines it, in the words of `allow`.

use std::sync::Arc;

use super::CommandError;
use crate::auth::keys;
use crate::caller::{Caller, Identity, Scheme};
use crate::config::Config;
use crate::route::access::Access;

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
            "sub" => {
                let token = token.get_or_insert_with(bearer);
                token.subject = what.to_owned();
                // Where another claim is the user id, nobody has said what is in it.
                let jwt = config.auth.jwt.as_ref();
                let is_user = jwt.is_none_or(|jwt| jwt.user_id == jwt.subject);
                token.user_id = is_user.then(|| what.to_owned());
            }
            "scope" => token.get_or_insert_with(bearer).scopes.push(what.to_owned()),
            "claim" => {
                let (name, value) = what.split_once('=').unwrap_or((what, ""));
                let claim = (name.to_owned(), value.to_owned());
                let token = token.get_or_insert_with(bearer);
                // Others are not looked at in a token either.
                if is_named(name, config) {
                    token.claims.push(claim);
                }
            }
            "key" => match config.auth.keys.iter().find(|key| key.name == what) {
                Some(key) => others.push(keys::identity(key)),
                None => return usage(format!("`--as {word}`: no [[auth.keys]] is called so")),
            },
            "hub" => others.push(known(Scheme::Module, what)),
            "cert" => {
                let shown = known(Scheme::Certificate, what);
                caller = caller.connected_as(Arc::new(shown));
            }
            "unix" => {
                let user = known(Scheme::SystemUser, what);
                caller = caller.connected_as(Arc::new(user));
            }
            upstream if has_upstream(upstream, config) => {
                let way = Caller::by_way_of(upstream);
                // What nobody vouches for, nobody looks at in a call either.
                let is_nobody = what.is_empty() || !is_believed(upstream, config);
                caller = if is_nobody { way } else { way.vouched_for(what) };
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

/// Somebody whose user id says by what it is known.
fn known(scheme: Scheme, subject: &str) -> Identity {
    let user_id = Some(format!("{}:{subject}", scheme.word()));
    Identity { user_id, ..Identity::new(scheme, subject) }
}

fn has_upstream(name: &str, config: &Config) -> bool {
    config.upstreams.iter().any(|known| known.name == name)
}

/// Whether what callers by way of an upstream say of themselves is believed.
fn is_believed(name: &str, config: &Config) -> bool {
    let mut upstreams = config.upstreams.iter().filter(|known| known.name == name);
    upstreams.any(|known| known.connector.vouches_for_callers())
}

/// The upstream whose caller the words name, where nobody believes its name.
fn unbelieved<'a>(words: &'a [String], config: &Config) -> Option<&'a str> {
    let names = words.iter().filter_map(|word| word.split_once(':'));
    let mut names = names.filter(|(_, what)| !what.is_empty()).map(|(upstream, _)| upstream);
    names.find(|name| has_upstream(name, config) && !is_believed(name, config))
}

/// Whether the configuration names a claim, so that it counts.
fn is_named(claim: &str, config: &Config) -> bool {
    config.auth.jwt.as_ref().is_some_and(|jwt| jwt.claims.iter().any(|known| known == claim))
}

/// Why somebody who is known may not make a call, for an operator; callers are not told. `row` says which
/// row it is that does not let it.
pub(super) fn why_not(
    words: &[String],
    (access, row): (&Access, &str),
    (caller, name): (&Caller, &str),
    config: &Config,
) -> String {
    let claims = words.iter().filter_map(|word| word.strip_prefix("claim:")?.split('=').next());
    let mut unnamed = claims.filter(|claim| !is_named(claim, config));
    let is_for = |known: &Identity| {
        known.calls.as_ref().is_none_or(|it| it.iter().any(|it| it.matches(name)))
    };
    match (access, caller.identity().map(|known| &**known).filter(|known| !is_for(known))) {
        (Access::Closed, _) => format!("{row} has no `allow`"),
        (_, Some(Identity { subject, calls, .. })) => {
            let calls = calls.iter().flatten().map(|call| format!("`{call}`"));
            let calls = calls.collect::<Vec<_>>().join(", ");
            let calls = if calls.is_empty() { "nothing" } else { &calls };
            format!("`routes` of [[auth.keys]] `{subject}` let it call {calls}, and nothing else")
        }
        _ => match (unnamed.next(), unbelieved(words, config)) {
            (Some(claim), _) => format!(
                "`claims` in [auth.jwt] does not name `{claim}`, so that nobody looks at it in a token"
            ),
            (None, Some(upstream)) => format!(
                "[upstreams.{upstream}] has no `trust_context = true`, so that nobody believes what its \
                 callers say of themselves"
            ),
            (None, None) => format!("no word of `allow` of {row} fits it"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::access::Grant;

    #[test]
    fn a_caller_is_described_in_the_words_of_allow() {
        let hash = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "[auth.jwt]\nsecret = \"{hash}\"\nclaims = \"tenant\"\n[[auth.keys]]\nname = \"web\"\nhash = \
             \"{hash}\"\n[upstreams.bus]\nprotocol = \
             \"nats\"\nservers = \"nats://h\"\ntrust_context = true\n[upstreams.open]\nprotocol = \
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
            (vec!["claim:other=t"], "claim:other=t", false),
            (vec!["cert:edge.example"], "cert:edge.*", true),
            (vec!["cert:edge.example", "sub:a"], "cert:edge.*", true),
            (vec!["cert:edge.example", "key:web"], "key:web", true),
            (vec!["sub:edge.example"], "cert:edge.*", false),
            (vec!["hub:billing"], "hub:billing", true),
            (vec!["unix:root", "hub:x"], "unix:root", true),
            (vec!["bus:"], "bus:", true),
            (vec!["bus:alice"], "sub:alice", true),
            (vec!["open:alice"], "open:alice", false),
            (vec!["open:alice"], "open:", true),
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
