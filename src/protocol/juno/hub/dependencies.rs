//! What modules need of each other, counted: nobody is looked through because somebody has come whose coming
//! changes nothing for him. Peers choose who needs whom, and the hub waits meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};

use semver::Version;

use super::sessions::{Module, Need};
use super::{Hub, JUNO, JUNO_VERSION, SessionId};
use crate::fault::{Fault, FaultKind};

/// The most dependencies that all modules have together: who comes last may close a circle of all of them.
const MOST: usize = 100_000;

impl<P, T> Hub<P, T> {
    /// Whether there is room for so many dependencies more.
    pub(super) fn has_room_for(&self, dependencies: usize) -> Result<(), Fault> {
        if self.dependencies + dependencies <= MOST {
            return Ok(());
        }
        let message = format!(
            "with its own, the hub's modules would have more than {MOST} dependencies together, the \
             most that it looks after: declare fewer"
        );
        Err(Fault::not_sent(FaultKind::Overloaded, message))
    }

    /// Counts who meets what a module needs that is about to register.
    pub(super) fn count_needs(&self, module: &mut Module) {
        (module.absent, module.unmet) = (0, 0);
        for dependency in &mut module.dependencies {
            if &*dependency.id == JUNO {
                let fits = Version::parse(JUNO_VERSION).is_ok_and(|it| dependency.range.fits(&it));
                (dependency.registered, dependency.active) = (fits.into(), fits.into());
            } else {
                let instances = self.modules.get(&*dependency.id).into_iter().flatten();
                let instances = instances.filter_map(|session| self.sessions.module(*session));
                for one in instances.filter(|one| dependency.range.fits(&one.version)) {
                    dependency.registered += 1;
                    dependency.active += usize::from(one.active);
                }
            }
            module.absent += usize::from(dependency.registered == 0);
            module.unmet += usize::from(dependency.active == 0);
        }
    }

    /// A module of that id and version is one more, or one less, that meets what others need.
    pub(super) fn count(&mut self, (id, version): (&str, &Version), need: Need, more: bool) {
        for dependant in self.dependants.get(id).into_iter().flatten() {
            if let Some(module) = self.sessions.module_mut(*dependant) {
                module.count((id, version), need, more);
            }
        }
    }

    /// A module that registered becomes active if it can, and with it those that wait for it:
    /// which ones these are, dependencies roughly first.
    pub(super) fn who_rises_with(&self, new: SessionId) -> Vec<SessionId> {
        let candidates = self.waiting_with(new);
        let mut able: HashSet<SessionId> = candidates.iter().copied().collect();
        // What each would have met, by its place, if all of them were active; and what it would lack.
        let mut met: HashMap<(SessionId, usize), usize> = HashMap::new();
        let mut lacks: HashMap<SessionId, usize> = HashMap::new();
        for session in &candidates {
            lacks.insert(*session, self.sessions.module(*session).map_or(0, |one| one.unmet));
        }
        for session in &candidates {
            for (dependant, place) in self.waiting_for(*session) {
                let Some(lack) = lacks.get_mut(&dependant) else { continue };
                let count = met.entry((dependant, place)).or_default();
                *lack -= usize::from(*count == 0);
                *count += 1;
            }
        }
        let mut unable: VecDeque<SessionId> = candidates.iter().copied().collect();
        unable.retain(|session| lacks.get(session).is_some_and(|lack| *lack > 0));
        while let Some(session) = unable.pop_front() {
            able.remove(&session);
            // Nobody is left whom that could concern.
            if able.is_empty() {
                return Vec::new();
            }
            for (dependant, place) in self.waiting_for(session) {
                let Some(lack) = lacks.get_mut(&dependant) else { continue };
                let Some(count) = met.get_mut(&(dependant, place)) else { continue };
                *count -= 1;
                if *count == 0 {
                    *lack += 1;
                    if *lack == 1 {
                        unable.push_back(dependant);
                    }
                }
            }
        }
        candidates.into_iter().filter(|session| able.contains(session)).collect()
    }

    /// The module and all that may rise with it, directly or not.
    fn waiting_with(&self, new: SessionId) -> Vec<SessionId> {
        let could = |session| self.sessions.module(session).is_some_and(|one| one.absent == 0);
        let mut found = Vec::from_iter(could(new).then_some(new));
        let mut seen = HashSet::from([new]);
        let mut at = 0;
        while let Some(session) = found.get(at).copied() {
            at += 1;
            for (dependant, _) in self.waiting_for(session) {
                if could(dependant) && seen.insert(dependant) {
                    found.push(dependant);
                }
            }
        }
        found
    }

    /// Those that wait, and lack among others a module such as this one; with the place of that dependency.
    fn waiting_for(&self, session: SessionId) -> impl Iterator<Item = (SessionId, usize)> {
        let module = self.sessions.module(session);
        let dependants = module.and_then(|module| self.dependants.get(&*module.id));
        dependants.into_iter().flatten().filter_map(move |dependant| {
            let other = self.sessions.module(*dependant).filter(|other| !other.active)?;
            let place = other.place_of(&module?.id)?;
            let dependency = other.dependencies.get(place)?;
            let lacks = dependency.active == 0 && dependency.range.fits(&module?.version);
            lacks.then_some((*dependant, place))
        })
    }

    /// What a module waits for, in words; `None` where it waits for nothing.
    pub(super) fn waits_for(&self, session: SessionId) -> Option<String> {
        let module = self.sessions.module(session).filter(|module| !module.active)?;
        let dependency = module.dependencies.iter().find(|dependency| dependency.active == 0)?;
        Some(format!("`{}` {}", dependency.id, dependency.text))
    }
}
