//! What makes callers known who show something: API keys, tokens that an issuer has signed, and
//! certificates that TLS has verified.
//!
//! Asked by the ways in, with the text that a caller showed; how it is sent is theirs to know. It
//! says no more of a bad one than [`Denial`] does.

pub(crate) mod certificate;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod guesses;
pub mod keys;
pub mod settings;
pub mod tokens;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::caller::{Caller, Denial, Evidence, Identity, Judge};
use crate::fault::Fault;
use crate::route::access::Access;
use crate::tasks::Tasks;
use keys::Keys;
use settings::AuthConfig;
use tokens::Tokens;

/// The longest key or token that is looked at, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// What is known of callers.
pub struct Auth {
    in_force: ArcSwap<InForce>,
    /// Held while it changes: one reload at a time.
    change: Mutex<()>,
    tasks: Tasks,
}

#[derive(Default)]
struct InForce {
    is_on: bool,
    own_methods: Access,
    keys: Keys,
    tokens: Option<Arc<Tokens>>,
}

impl Default for Auth {
    /// Nobody is known.
    fn default() -> Self {
        Self::over(Tasks::new())
    }
}

impl Auth {
    fn over(tasks: Tasks) -> Self {
        Self { in_force: ArcSwap::default(), change: Mutex::default(), tasks }
    }

    /// With what a configuration says. What it has to fetch it does in tasks of the group.
    pub fn new(config: &AuthConfig, tasks: Tasks) -> Arc<Self> {
        let auth = Self::over(tasks);
        auth.apply(config, None);
        Arc::new(auth)
    }

    /// Fetches what another configuration needs before it is in force: the keys of another issuer. What was
    /// begun for one that never was goes on.
    pub fn prepare(&self, config: &AuthConfig, begun: Option<Arc<Tokens>>) -> Option<Arc<Tokens>> {
        let jwt = config.jwt.as_ref()?;
        let in_force = self.in_force.load();
        let running = in_force.tokens.as_deref();
        if running.is_none_or(|running| running.is_of(jwt) || running.has_keys_of(jwt)) {
            return None;
        }
        let begun = begun.filter(|begun| begun.is_of(jwt));
        begun.or_else(|| Some(Arc::new(Tokens::new(jwt, &self.tasks, None))))
    }

    /// Puts another configuration in force, with what was prepared of it. Whom that does not know any more is
    /// not known from then on, wherever it has been let in.
    pub fn apply(&self, config: &AuthConfig, prepared: Option<Arc<Tokens>>) {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.in_force.load_full();
        let keys = Keys::new(&config.keys, &before.keys);
        let tokens = config.jwt.as_ref().map(|jwt| {
            let mut ready = before.tokens.clone().into_iter().chain(prepared);
            ready.find(|tokens| tokens.is_of(jwt)).unwrap_or_else(|| {
                Arc::new(Tokens::new(jwt, &self.tasks, before.tokens.as_deref()))
            })
        });
        let stays = |old: &Arc<Tokens>| tokens.as_ref().is_some_and(|new| Arc::ptr_eq(old, new));
        let gone = before.tokens.as_ref().filter(|old| !stays(old));
        let in_force = InForce {
            is_on: config.is_on,
            own_methods: config.own_methods.clone(),
            keys: keys.clone(),
            tokens: tokens.clone(),
        };
        self.in_force.store(Arc::new(in_force));
        before.keys.give_way_to(&keys);
        if let Some(gone) = gone {
            gone.give_way_to(tokens.as_deref());
        }
    }

    /// Why tokens cannot be verified, if so: the keys of their issuer have never been had.
    pub fn lacks(&self) -> Option<String> {
        self.in_force.load().tokens.as_ref().and_then(|tokens| tokens.lack())
    }

    /// Reads again the file that keys of tokens stand in.
    pub fn look(&self) {
        if let Some(tokens) = &self.in_force.load().tokens {
            tokens.look();
        }
    }

    /// Whether there is anything that makes callers known: else what they show is not looked at.
    pub fn is_on(&self) -> bool {
        self.in_force.load().is_on
    }

    /// Whether somebody may call a method that is Genkan's own.
    pub fn lets_call_own(&self, caller: &Caller, method: &str) -> Result<(), Fault> {
        let admitted = self.in_force.load().own_methods.lets_call(caller, method);
        admitted.map_err(|refusal| refusal.fault("call", method, caller))
    }

    /// Whom a key or token makes known. Where somebody else is to be asked, it is waited for no longer than the caller
    /// waits for its answer, where it says so.
    pub async fn identify(
        &self,
        shown: &str,
        patience: Option<Duration>,
    ) -> Result<Arc<Identity>, Denial> {
        let tokens = match self.by(shown)? {
            Means::Key(identity) => return Ok(identity),
            Means::Token(tokens) => tokens,
        };
        tokens.identify(shown, patience.unwrap_or(Duration::MAX)).await
    }

    /// What lets a token be judged again, of somebody who is let in for longer than a call.
    pub fn evidence(self: &Arc<Self>, shown: &str) -> Option<Evidence> {
        let is_token = shown.len() <= LONGEST && is_token(shown);
        is_token.then(|| Evidence::new(shown, Arc::clone(self) as Arc<dyn Judge>))
    }

    /// By what something is to be judged.
    fn by(&self, shown: &str) -> Result<Means, Denial> {
        if shown.len() > LONGEST {
            return Err(Denial::TooLong);
        }
        let in_force = self.in_force.load();
        match &in_force.tokens {
            Some(tokens) if is_token(shown) => Ok(Means::Token(Arc::clone(tokens))),
            Some(_) if in_force.keys.are_none() => Err(Denial::Malformed),
            _ => in_force.keys.find(shown).map(Means::Key),
        }
    }
}

impl Judge for Auth {
    fn judge(&self, shown: &str) -> Result<Arc<Identity>, Denial> {
        match self.by(shown)? {
            Means::Key(identity) => Ok(identity),
            Means::Token(tokens) => tokens.judge(shown),
        }
    }
}

/// By what something that was shown is judged.
enum Means {
    /// It is a key, and this one's.
    Key(Arc<Identity>),
    Token(Arc<Tokens>),
}

fn is_token(shown: &str) -> bool {
    shown.bytes().filter(|byte| *byte == b'.').count() == 2
}
