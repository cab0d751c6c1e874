//! The registry: JSON-RPC services over HTTP announce themselves to it, others find them (WIRE,
//! section 4.4).
//!
//! ```text
//! ping → announcement (may he?) → book (an entry) → prober (asks the service) → those that are believed
//! locate_service, an upstream's roster, the page ←                                 ←
//! ```
//!
//! `book` is pure; `prober`, `teller` (tells other registries of services here) and `store` (what
//! is known, for the next start) do the I/O. `methods` is what callers see: the HTTP ingress asks
//! it. An announcement gives nobody a call: only a row does, that sends to an upstream whose
//! instances come from here.

mod announcement;
mod book;
mod config;
mod ingress;
mod methods;
mod page;
mod prober;
mod store;
mod teller;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::guard::Guard;
use super::upstream::place::Place;
use crate::fault::Fault;
use crate::metrics::RegistryMetrics;
use crate::route::pattern::Pattern;
use crate::token;
use book::{Book, Form, Heard, Key, Standing};
use config::RegistryConfig;

pub(super) use config::read;
pub(super) use ingress::bind;
pub(super) use methods::Method;

/// The registry's name: its table's, and its label.
pub(super) const NAME: &str = "registry";

/// A service that is believed.
#[derive(Debug)]
pub(super) struct Service {
    key: Arc<Key>,
    form: Form,
}

/// Those that are believed, by name and URL.
pub(super) type Services = Arc<[Service]>;

/// What all of JSON-RPC's parts know of services that announced themselves. One for a process,
/// through every reload.
pub(super) struct Registry {
    /// How its probes call themselves: so it knows its own.
    agent: String,
    book: Mutex<Book>,
    config: ArcSwap<RegistryConfig>,
    guard: Arc<Guard>,
    believed: watch::Sender<Services>,
    /// There is something to be done that was not when that was looked at last.
    stirred: Notify,
    metrics: RegistryMetrics,
}

/// What begins the names of all registries' probes.
const AGENT: &str = "genkan-registry/";

impl Registry {
    pub(super) fn new() -> Arc<Self> {
        let config = RegistryConfig::nobody();
        Arc::new(Self {
            agent: format!("{AGENT}{}", token::random_uuid()),
            book: Mutex::new(Book::new(config.ttl, config.max_services)),
            config: ArcSwap::from_pointee(config),
            guard: Arc::default(),
            believed: watch::channel(Services::default()).0,
            stirred: Notify::new(),
            metrics: RegistryMetrics::default(),
        })
    }

    /// What objects to addresses that strangers name.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Those that are believed now.
    pub(super) fn services(&self) -> Services {
        Arc::clone(&self.believed.borrow())
    }

    /// Whether somebody has announced himself by such a name, believed or not.
    pub(super) fn has_heard_of(&self, pattern: &Pattern) -> bool {
        self.book().entries().any(|entry| pattern.matches(&entry.key.name))
    }

    /// Tells whenever those that are believed have changed.
    pub(super) fn follow(&self) -> watch::Receiver<Services> {
        self.believed.subscribe()
    }

    /// Where the service is, guarded: its name may resolve to something else by now.
    pub(super) fn place(&self, service: &Service) -> Option<Place> {
        announcement::place(&service.key.url, &self.guard).ok()
    }

    /// Whether any name may be announced.
    pub(super) fn allows_any(&self) -> bool {
        !self.config.load().allow.is_empty()
    }

    /// A service has announced itself.
    fn hear(&self, key: Key, form: Form) -> Result<(), Fault> {
        let name = announcement::excerpt(&key.name);
        // Judged with the book in hand: what settings in force by then do not allow is in it no more.
        let mut book = self.book();
        announcement::judge(&key, &self.config.load().allow, &self.guard)?;
        let (heard, gone) = book.hear(Instant::now(), key, form);
        drop(book);
        self.metrics.gone(gone, "no_room");
        self.stirred.notify_one();
        match heard {
            Heard::Noted => Ok(()),
            Heard::Refuted(why) => Err(announcement::invalid(format!(
                "`{name}` is not believed, and is asked once more: {why}"
            ))),
        }
    }

    /// Puts settings in force. What may not be announced any more goes.
    fn set_config(&self, config: RegistryConfig) {
        let mut book = self.book();
        let no_room = book.set_limits(config.ttl, config.max_services);
        let denied =
            book.retain(|key| announcement::judge(key, &config.allow, &self.guard).is_ok());
        self.config.store(Arc::new(config));
        drop(book);
        self.metrics.gone(no_room, "no_room");
        self.metrics.gone(denied, "denied");
        self.stirred.notify_one();
    }

    /// Tells everybody who is believed, where that has changed. By name and URL, so that who takes
    /// the first few takes the same.
    fn publish(&self) {
        let book = self.book();
        let count = |standing: fn(&Standing) -> bool| {
            book.entries().filter(|entry| standing(&entry.standing)).count()
        };
        self.metrics.set_services([
            count(|standing| *standing == Standing::Believed),
            count(|standing| matches!(standing, Standing::Unproven(_))),
            count(|standing| matches!(standing, Standing::Refuted(_))),
        ]);
        let believed = book.entries().filter(|entry| entry.standing == Standing::Believed);
        let believed =
            believed.map(|entry| Service { key: Arc::clone(&entry.key), form: entry.form.clone() });
        let mut services: Vec<Service> = believed.collect();
        drop(book);
        services.sort_unstable_by(|one, other| {
            (&one.key.name, &one.key.url).cmp(&(&other.key.name, &other.key.url))
        });
        self.believed.send_replace(services.into());
    }

    /// Which edition of the book it is, and what is to be kept of it for the next start: nothing
    /// where that edition has been written there already.
    #[expect(clippy::type_complexity, reason = "a list of what the book holds")]
    fn known(&self, written: Option<&(PathBuf, u64)>) -> (u64, Option<Vec<(Arc<Key>, Form)>>) {
        let folder = self.config.load().state_dir.clone();
        let book = self.book();
        let edition = book.edition();
        if written.is_some_and(|(place, known)| Some(place) == folder.as_ref() && *known == edition)
        {
            return (edition, None);
        }
        let kept = book.entries().filter(|entry| !matches!(entry.standing, Standing::Refuted(_)));
        let kept = kept.map(|entry| (Arc::clone(&entry.key), entry.form.clone())).collect();
        (edition, Some(kept))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Its URL, as it was announced.
    pub(super) fn url(&self) -> &str {
        &self.key.url
    }

    /// Whether its name is one of those.
    pub(super) fn is(&self, pattern: &Pattern) -> bool {
        pattern.matches(&self.key.name)
    }
}
