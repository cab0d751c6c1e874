//! A module introduces itself: who it is, what it needs, and whether it may come in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use semver::Version;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::version::Range;
use super::super::wire::{Frame, Key, OutgoingFrame, number, text};
use super::requests::{check_length, name};
use super::sessions::{Dependency, Module, Need, Session};
use super::{
    Hub, JUNO, MAX_DEPENDENCIES, MAX_NAME, Note, NumberedFault, OUTSIDE, Presence, SessionId,
    Settings, World, quoted,
};
use crate::auth::guesses::Refused;
use crate::caller::{Caller, Identity, Scheme};
use crate::config::secret::Secret;
use crate::fault::{Fault, FaultKind};
use crate::networks::of_one_machine;

impl<P, T> Hub<P, T> {
    pub(super) fn register<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        request_id: &str,
        world: &mut W,
    ) -> Result<(), NumberedFault> {
        let mut module = match self.introduce(from, frame, world) {
            Ok(module) => module,
            Err(refusal) => {
                let id = frame.text(Key::ModuleId).filter(|id| id.len() <= MAX_NAME);
                let id = id.unwrap_or_default();
                world.note(Note::NotLetIn { id: &id, why: &refusal.fault });
                if refusal.number == number::DUPLICATE_MODULE {
                    self.ask_after(&id, from, world);
                }
                return Err(refusal);
            }
        };
        for holder in self.unverified_holders(&module.id) {
            world.note(Note::GaveWay { id: &module.id });
            if let Some(session) = self.sessions.get(holder) {
                world.forgotten(&session.peer);
            }
            self.disconnect(holder, world);
        }
        self.count_needs(&mut module);
        let Some(session) = self.sessions.get_mut(from) else { return Ok(()) };
        let (id, version) = (Arc::clone(&module.id), module.version.clone());
        self.dependencies += module.dependencies.len();
        for dependency in &module.dependencies {
            self.dependants.entry(dependency.id.clone()).or_default().push(from);
        }
        if self.settings.tokens.contains_key(&*id) {
            // It has shown the token, or it were not here.
            session.caller = session.caller.clone().showing(Ok(Arc::new(known_as(&id))));
        }
        session.module = Some(Box::new(module));
        self.registered += 1;
        self.modules.entry(Arc::clone(&id)).or_default().push(from);
        world.send(&session.peer, &OutgoingFrame::Registered { request_id });
        self.count((&id, &version), Need::Registered, true);
        let risen = self.who_rises_with(from);
        let waits_for = self.waits_for(from).filter(|_| !risen.contains(&from));
        let version = version.to_string();
        world.note(Note::Registered { id: &id, version: &version, waits_for });
        self.raise(risen, world);
        Ok(())
    }

    /// A module that reconnects at once finds its id free: whoever holds it and has hung up
    /// leaves first. True where it may be about to: then it is to be waited for.
    pub(super) fn holder_may_leave<W: World<Peer = P, Ticket = T>>(
        &mut self,
        from: SessionId,
        frame: &Frame<'_>,
        world: &mut W,
    ) -> bool {
        let Some(id) = frame.text(Key::ModuleId) else { return false };
        let holders = self.modules.get(&*id).cloned().unwrap_or_default();
        for holder in holders.into_iter().filter(|holder| *holder != from) {
            let Some(session) = self.sessions.get(holder) else { continue };
            match world.presence(&session.peer) {
                Presence::There => {}
                Presence::Doubtful => return true,
                Presence::Gone => {
                    world.forgotten(&session.peer);
                    self.disconnect(holder, world);
                }
            }
        }
        false
    }

    /// Those of an id for which there is a token who have not shown it: they came before it. They give way
    /// to one that shows it.
    fn unverified_holders(&self, id: &str) -> Vec<SessionId> {
        if !self.settings.tokens.contains_key(id) {
            return Vec::new();
        }
        let is_verified = |holder: &SessionId| {
            let known = self.sessions.get(*holder).and_then(|session| session.caller.shown());
            known.is_some_and(|known| !known.standing.is_withdrawn())
        };
        let holders = self.modules.get(id).into_iter().flatten();
        holders.filter(|holder| !is_verified(holder)).copied().collect()
    }

    /// Other settings hold from now on. What is there stays. Gives the ids of the modules that are not known by
    /// theirs any more, and why.
    pub(in crate::protocol::juno) fn set_settings(
        &mut self,
        settings: Settings,
    ) -> Vec<(Arc<str>, Loss)> {
        let lost = self.withdraw_tokens(&settings);
        self.settings = settings;
        lost
    }

    /// Whoever is known by a token that other settings do not hold any more, is not known any more; and whoever
    /// holds an id for which they have the first token, is not the one who is meant.
    fn withdraw_tokens(&self, next: &Settings) -> Vec<(Arc<str>, Loss)> {
        let before = &self.settings.tokens;
        let gone = before.iter().filter(|(id, token)| next.tokens.get(*id) != Some(token));
        let mut lost = Vec::new();
        for (id, session) in gone.flat_map(|(id, _)| self.holders(id)) {
            let known = session.caller.shown().filter(|known| !known.standing.is_withdrawn());
            if let Some(known) = known {
                known.standing.withdraw();
                let is_other = next.tokens.contains_key(&**id);
                let loss = if is_other { Loss::Replaced } else { Loss::Removed };
                lost.push((Arc::clone(id), loss));
            }
        }
        let new = next.tokens.keys().filter(|id| !before.contains_key(*id));
        let held = new.flat_map(|id| self.holders(id));
        lost.extend(held.map(|(id, _)| (Arc::clone(id), Loss::Added)));
        lost
    }

    /// The connections of a module.
    fn holders<'a>(&'a self, id: &str) -> impl Iterator<Item = (&'a Arc<str>, &'a Session<P>)> {
        let module = self.modules.get_key_value(id).into_iter();
        let holders = module.flat_map(|(id, holders)| holders.iter().map(move |one| (id, one)));
        holders.filter_map(|(id, holder)| Some((id, self.sessions.get(*holder)?)))
    }

    /// Reads a register frame, and decides whether the module may come in.
    fn introduce<W: World<Peer = P, Ticket = T>>(
        &self,
        from: SessionId,
        frame: &Frame<'_>,
        world: &mut W,
    ) -> Result<Module, NumberedFault> {
        let duplicate = |message: String| {
            NumberedFault::new(number::DUPLICATE_MODULE, FaultKind::InvalidRequest, message)
        };
        if let Some(module) = self.sessions.module(from) {
            let message = format!("this connection has registered as `{}` already", module.id);
            return Err(duplicate(message));
        }
        let id = name(frame, Key::ModuleId, "moduleId")?;
        let version = frame.text(Key::Version).filter(|text| text.len() <= MAX_NAME);
        let version = version.and_then(|text| Version::parse(&text).ok());
        let version = version.ok_or_else(|| {
            NumberedFault::malformed("`version` must be a full SemVer version, such as \"1.0.0\"")
        })?;
        let dependencies = dependencies(frame.raw(Key::Dependencies))?;
        self.check_token((from, &id), frame.text(Key::Token).as_deref()).map_err(
            |(how, fault)| {
                world.note(Note::TokenRefused { how });
                fault
            },
        )?;
        if id == OUTSIDE {
            let message = format!(
                "`{id}` stands for callers from outside of the hub: register by another id"
            );
            return Err(duplicate(message));
        }
        if id == JUNO {
            let message = format!("`{id}` is the hub itself: register by another id");
            return Err(duplicate(message));
        }
        let stays = |holders: &Vec<SessionId>| holders.len() > self.unverified_holders(&id).len();
        let is_taken = !self.settings.share && self.modules.get(&*id).is_some_and(stays);
        if is_taken {
            let message = format!(
                "a module `{id}` is connected already; if it is gone without a word, its id is free \
                 in some seconds"
            );
            return Err(duplicate(message));
        }
        if self.draining {
            let message = "the hub is shutting down: it takes no new modules";
            return Err(Fault::not_sent(FaultKind::Unavailable, message).into());
        }
        let limit = self.settings.limits.modules;
        if self.registered >= limit {
            let message = format!("the hub holds {limit} modules, its limit ([hub] max_modules)");
            return Err(Fault::not_sent(FaultKind::Overloaded, message).into());
        }
        self.has_room_for(dependencies.len())?;
        Ok(Module {
            raw_id: quoted(&id).into(),
            id: id.as_ref().into(),
            version,
            dependencies,
            absent: 0,
            unmet: 0,
            active: false,
            functions: HashMap::new(),
            hooks: HashMap::new(),
        })
    }

    /// A module may come back from another machine before anybody knows that it is gone from the
    /// first.
    fn ask_after<W: World<Peer = P, Ticket = T>>(&self, id: &str, from: SessionId, world: &mut W) {
        let holders = self.modules.get(id).into_iter().flatten();
        for holder in holders.filter(|holder| **holder != from) {
            if let Some(session) = self.sessions.get(*holder) {
                world.ask_after(&session.peer);
            }
        }
    }

    /// Whether it shows what it needs for that id. Whoever guesses at one is held to a rate, for that id alone:
    /// neighbours that show right ones for theirs are not held up.
    fn check_token(
        &self,
        (from, id): (SessionId, &str),
        shown: Option<&str>,
    ) -> Result<(), (Refused, Fault)> {
        let Some(token) = self.settings.tokens.get(id) else { return Ok(()) };
        let refused = match shown {
            Some(shown) => {
                let caller = self.sessions.get(from).map(|session| &session.caller);
                let address = caller.and_then(Caller::address).map(of_one_machine);
                let user = caller.and_then(Caller::identity).map(|known| &known.subject);
                self.guesses.look((address, user, id), || is_token(token, shown))
            }
            None => Err(Refused::Wrong),
        };
        refused.map_err(|how| (how, not_shown(id, how)))
    }
}

fn not_shown(id: &str, how: Refused) -> Fault {
    match how {
        Refused::Wrong => {
            let message = format!(
                "to register as `{id}`, send the token that [hub.tokens] holds for it: the key \
                 `token` in the register frame"
            );
            Fault::not_sent(FaultKind::AccessDenied, message)
        }
        Refused::TooMany(after) => {
            let message = format!(
                "`{id}` is not registered: too many wrong tokens for it came from there, so that none is looked at \
                 for now: try again later"
            );
            Fault::not_sent(FaultKind::Overloaded, message).with_retry_after(after)
        }
    }
}

/// Why a module that stays connected is not known by its id any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::juno) enum Loss {
    /// There is another token than the one that it has shown.
    Replaced,
    /// There is none any more.
    Removed,
    /// There was none, and is one now.
    Added,
}

impl Loss {
    /// The same for an operator.
    pub(in crate::protocol::juno) fn why(self) -> &'static str {
        match self {
            Loss::Replaced => "[hub.tokens] holds another token than it has shown",
            Loss::Removed => "[hub.tokens] holds no token for it any more",
            Loss::Added => "[hub.tokens] holds a token for it now, which it has not shown",
        }
    }
}

/// Who a module is to those that it calls.
fn known_as(id: &str) -> Identity {
    Identity { user_id: Some(format!("hub:{id}")), ..Identity::new(Scheme::Module, id) }
}

fn dependencies(raw: Option<&str>) -> Result<Vec<Dependency>, NumberedFault> {
    let Some(raw) = raw.filter(|raw| !says_nothing(raw)) else { return Ok(Vec::new()) };
    let map: BTreeMap<String, &RawValue> = serde_json::from_str(raw).map_err(|_| {
        NumberedFault::malformed(
            "`dependencies` must be an object, {\"module\": \"^1.0.0\"}, or be left out",
        )
    })?;
    if map.len() > MAX_DEPENDENCIES {
        let message = format!("a module has at most {MAX_DEPENDENCIES} dependencies");
        return Err(Fault::not_sent(FaultKind::TooLarge, message).into());
    }
    map.into_iter()
        .map(|(id, raw)| {
            check_length(&id, "dependencies", MAX_NAME)?;
            check_length(raw.get(), "dependencies", MAX_NAME)?;
            let range = text(raw.get()).and_then(|text| Some((Range::parse(&text)?, text)));
            let (range, text) = range.ok_or_else(|| {
                NumberedFault::malformed(format!(
                    "the dependency `{id}` must be a SemVer range, such as \"^1.0.0\""
                ))
            })?;
            Ok(Dependency {
                id: id.into(),
                range,
                text: text.as_ref().into(),
                registered: 0,
                active: 0,
            })
        })
        .collect()
}

/// The daemon takes whatever is no object for none (WIRE 3.3), and some modules send what is empty otherwise.
/// One that says that it needs something is not to run without it.
fn says_nothing(raw: &str) -> bool {
    let is_empty_list = || serde_json::from_str::<[IgnoredAny; 0]>(raw).is_ok();
    matches!(raw, "null" | "false" | "\"\"") || (raw.starts_with('[') && is_empty_list())
}

/// Compares without telling by its time how much of a guess was right.
fn is_token(token: &Secret, shown: &str) -> bool {
    let (token, shown) = (token.expose().as_bytes(), shown.as_bytes());
    let differences = token.iter().zip(shown).fold(0, |all, (a, b)| all | (a ^ b));
    token.len() == shown.len() && differences == 0
}
