//! The connections, and what a module has said of itself on one.

use std::collections::HashMap;
use std::sync::Arc;

use semver::Version;

use super::super::version::Range;
use super::calls::{Owners, SessionCalls};
use crate::caller::Caller;

/// A connection. An id is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::protocol::juno) struct SessionId {
    index: u32,
    generation: u32,
}

/// A module's dependency.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The module that it needs.
    pub(super) id: Box<str>,
    /// The versions that will do.
    pub(super) range: Range,
    /// The same as it was written.
    pub(super) text: Box<str>,
    /// How many modules that have registered will do, and how many of those are active.
    pub(super) registered: usize,
    pub(super) active: usize,
}

/// In what way a module meets a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It is there.
    Registered,
    /// It is active.
    Active,
}

/// What a module has said of itself.
pub(super) struct Module {
    /// Its id.
    pub(super) id: Arc<str>,
    /// The same as a raw JSON string.
    pub(super) raw_id: Box<str>,
    /// Its version.
    pub(super) version: Version,
    /// What it needs, by id.
    pub(super) dependencies: Vec<Dependency>,
    /// How many dependencies no module meets that has registered.
    pub(super) absent: usize,
    /// How many no active module meets.
    pub(super) unmet: usize,
    /// Whether what it needs is there.
    pub(super) active: bool,
    /// Its functions, each with the number of those declared before.
    pub(super) functions: HashMap<Box<str>, usize>,
    /// The hooks that it listens to, likewise.
    pub(super) hooks: HashMap<Box<str>, usize>,
}

impl Module {
    /// Which of its dependencies is the one on that id.
    pub(super) fn place_of(&self, id: &str) -> Option<usize> {
        self.dependencies.binary_search_by(|dependency| (*dependency.id).cmp(id)).ok()
    }

    /// A module of that id and version is one more, or one less, that will do.
    pub(super) fn count(&mut self, (id, version): (&str, &Version), need: Need, more: bool) {
        let place = self.place_of(id);
        let dependency = place.and_then(|place| self.dependencies.get_mut(place));
        let Some(dependency) = dependency.filter(|it| it.range.fits(version)) else { return };
        let (count, lacking) = match need {
            Need::Registered => (&mut dependency.registered, &mut self.absent),
            Need::Active => (&mut dependency.active, &mut self.unmet),
        };
        if more {
            *lacking -= usize::from(*count == 0);
            *count += 1;
        } else {
            *count -= 1;
            *lacking += usize::from(*count == 0);
        }
    }
}

/// A connection and what came over it.
pub(super) struct Session<P> {
    /// The way to it.
    pub(super) peer: P,
    /// Counts the connections, from 1: Juno's `connectionId`.
    pub(super) number: u64,
    /// Who is at the other end, as far as that was verified.
    pub(super) caller: Caller,
    /// The module, once it has registered.
    pub(super) module: Option<Box<Module>>,
    /// Its calls.
    pub(super) calls: SessionCalls,
}

impl<P> Session<P> {
    /// Whether a module has registered and its dependencies are met.
    pub(super) fn is_active(&self) -> bool {
        self.module.as_ref().is_some_and(|module| module.active)
    }
}

struct Place<P> {
    generation: u32,
    session: Option<Session<P>>,
}

/// All connections.
pub(super) struct Sessions<P> {
    places: Vec<Place<P>>,
    free: Vec<u32>,
    count: u64,
}

impl<P> Sessions<P> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn add(&mut self, peer: P, caller: Caller) -> SessionId {
        self.count += 1;
        let (number, calls) = (self.count, SessionCalls::default());
        let session = Session { peer, number, caller, module: None, calls };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, session: None });
            // Connections are file descriptors: there are fewer than that.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.places[index as usize];
        place.session = Some(session);
        SessionId { index, generation: place.generation }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session<P>> {
        let place = self.places.get(id.index as usize)?;
        place.session.as_ref().filter(|_| place.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<P>> {
        let place = self.places.get_mut(id.index as usize)?;
        place.session.as_mut().filter(|_| place.generation == id.generation)
    }

    /// The module that has registered on a connection.
    pub(super) fn module(&self, id: SessionId) -> Option<&Module> {
        self.get(id)?.module.as_deref()
    }

    pub(super) fn module_mut(&mut self, id: SessionId) -> Option<&mut Module> {
        self.get_mut(id)?.module.as_deref_mut()
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session<P>> {
        self.get(id)?;
        let place = self.places.get_mut(id.index as usize)?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        place.session.take()
    }

    /// The connections in the order in which they were made.
    pub(super) fn in_order(&self) -> Vec<(SessionId, &Session<P>)> {
        let mut all: Vec<_> = self
            .places
            .iter()
            .zip(0_u32..)
            .filter_map(|(place, index)| {
                let id = SessionId { index, generation: place.generation };
                place.session.as_ref().map(|session| (id, session))
            })
            .collect();
        all.sort_by_key(|(_, session)| session.number);
        all
    }
}

impl<P> Owners for Sessions<P> {
    fn calls_of(&mut self, session: SessionId) -> Option<&mut SessionCalls> {
        self.get_mut(session).map(|session| &mut session.calls)
    }
}
