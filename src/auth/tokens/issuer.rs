//! The keys of an issuer: fetched at the start, again before they are old, and when a token names one
//! that is not known.
//!
//! One task fetches, so that there is one fetch at a time; a token of an unknown key waits for its next
//! one, unless the last is so short ago that whoever makes up names would keep the issuer busy. While the
//! issuer is away, or tells rubbish, the keys that are known stay.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use super::fetch::fetch;
use super::key_set::KeySet;
use super::verify::Head;
use crate::auth::settings::{JwksConfig, JwtConfig, KeySource};
use crate::backoff::Backoff;
use crate::caller::Denial;
use crate::metrics::IssuerMetrics;
use crate::tasks::Tasks;

/// How long after a fetch names that are not known lead to no other one.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// The first pause after a fetch that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long a token waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(5);

/// An issuer whose keys are fetched as long as this is there.
pub(super) struct Issuer {
    state: Arc<State>,
    _ends: DropGuard,
}

struct State {
    config: Arc<JwtConfig>,
    known: Mutex<Known>,
    /// A key was asked for that is not known.
    wanted: Notify,
    /// Counts the fetches that have ended.
    fetched: watch::Sender<u64>,
    metrics: IssuerMetrics,
}

#[derive(Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When a fetch ended last, and whether it brought keys.
    last: Option<(Instant, bool)>,
    /// When keys were fetched last.
    fetched: Option<SystemTime>,
    /// Another one has taken its place: who waits for a fetch still may end it.
    is_over: bool,
}

impl Issuer {
    /// Fetches from now on. What another one knew who asks at the same place is known at once.
    pub(super) fn start(config: Arc<JwtConfig>, tasks: &Tasks, before: Option<&Self>) -> Self {
        let same = before.filter(|before| before.asks_where(&config));
        let known = Mutex::new(same.map(|same| same.state.known().anew()).unwrap_or_default());
        let (wanted, fetched) = (Notify::new(), watch::Sender::new(0));
        let metrics = IssuerMetrics::new();
        let state = Arc::new(State { config, known, wanted, fetched, metrics });
        let ended = tasks.shutdown().child_token();
        let (fetching, until, sessions) = (Arc::clone(&state), ended.clone(), tasks.clone());
        tasks.spawn("issuer's keys", async move {
            let _stopped = until.run_until_cancelled(fetching.keep_up(&sessions)).await;
        });
        Self { state, _ends: CancellationToken::drop_guard(ended) }
    }

    /// Whether those of a configuration are to be had at the same place.
    pub(super) fn asks_where(&self, config: &JwtConfig) -> bool {
        match (&self.state.config.keys, &config.keys) {
            (KeySource::Url(from), KeySource::Url(other)) => from.is_same_place(other),
            _ => false,
        }
    }

    /// Shows in the metrics what is known.
    pub(super) fn show(&self) {
        let known = self.state.known();
        let keys = known.keys.as_ref().map_or(0, |keys| keys.len());
        self.state.metrics.show(keys, known.fetched);
    }

    /// Why no token can be verified, if so: for an operator.
    pub(super) fn lacks(&self) -> Option<String> {
        let KeySource::Url(from) = &self.state.config.keys else { return None };
        let lacks = self.state.known().keys.is_none();
        lacks.then(|| format!("no keys of the issuer of tokens yet, from {}", from.shown))
    }

    /// The keys that are known.
    pub(super) fn known(&self) -> Option<Arc<KeySet>> {
        self.state.known().keys.clone()
    }

    /// The keys, among which the one is that a token names, if that is known. Waits for no fetch.
    pub(super) fn keys_now(&self, head: &Head) -> Result<Arc<KeySet>, Denial> {
        match self.state.look(head.key.as_deref()) {
            Look::There(keys) => Ok(keys),
            Look::NotNow(denial) => Err(denial),
            Look::Ask => {
                self.state.wanted.notify_one();
                Err(Denial::NoKeys)
            }
            Look::Wait => Err(Denial::NoKeys),
        }
    }

    /// The keys, among which the one is that a token names, if it can be had in that time.
    pub(super) async fn keys_for(
        &self,
        head: &Head,
        patience: Duration,
    ) -> Result<Arc<KeySet>, Denial> {
        let mut fetched = self.state.fetched.subscribe();
        let key = head.key.as_deref();
        match self.state.look(key) {
            Look::There(keys) => return Ok(keys),
            Look::NotNow(denial) => return Err(denial),
            Look::Ask => self.state.wanted.notify_one(),
            Look::Wait => {}
        }
        // It ends with the fetch, or the token does not wait for it.
        drop(timeout(patience.min(PATIENCE), fetched.changed()).await);
        match self.state.look(key) {
            Look::There(keys) => Ok(keys),
            Look::NotNow(denial) => Err(denial),
            Look::Ask | Look::Wait => Err(Denial::NoKeys),
        }
    }

    /// Gives way to other keys, for other rules.
    pub(super) fn give_way_to(&self, others: Option<&KeySet>) {
        let mut known = self.state.known();
        known.is_over = true;
        if let Some(keys) = &known.keys {
            keys.give_way_to(others);
        }
    }
}

impl Known {
    /// The same, for other rules.
    fn anew(&self) -> Self {
        let keys = self.keys.as_ref().map(|keys| Arc::new(keys.anew()));
        // Where a fetch failed it is not known when the next one is due: at once.
        let last = self.last.filter(|(_, brought)| *brought || keys.is_some());
        Self { keys, last, fetched: self.fetched, is_over: false }
    }

    /// How long what is known is as good as new.
    fn lasts(&self, refresh: Duration) -> Option<Duration> {
        let (last, _) = self.last.filter(|(_, brought)| *brought)?;
        Some(refresh.saturating_sub(last.elapsed()))
    }
}

/// What a token that names a key finds.
enum Look {
    There(Arc<KeySet>),
    /// It is to be fetched.
    Ask,
    /// The first fetch is under way.
    Wait,
    NotNow(Denial),
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, key: Option<&str>) -> Look {
        let known = self.known();
        let Some((last, brought)) = known.last else { return Look::Wait };
        match &known.keys {
            Some(keys) if keys.has(key) => Look::There(Arc::clone(keys)),
            _ if last.elapsed() >= COOL_DOWN => Look::Ask,
            // The issuer does not know it either; where that is away, nobody can tell.
            Some(_) if brought => Look::NotNow(Denial::BadSignature),
            _ => Look::NotNow(Denial::NoKeys),
        }
    }

    async fn keep_up(&self, tasks: &Tasks) {
        let KeySource::Url(from) = &self.config.keys else { return };
        let mut backoff = Backoff::new(FIRST_PAUSE, Duration::ZERO);
        let mut known = self.known().lasts(from.refresh);
        loop {
            let pause = if let Some(lasts) = known.take() {
                lasts
            } else if self.renew(from, tasks).await {
                backoff.lived(Duration::ZERO);
                from.refresh
            } else {
                backoff.failed()
            };
            let mut due = pin!(sleep(pause));
            loop {
                tokio::select! {
                    () = due.as_mut() => break,
                    // Whoever asked during the last fetch has been answered by it.
                    () = self.wanted.notified() => if self.is_cool() { break },
                }
            }
        }
    }

    /// Whether the last fetch is so long ago that a name may lead to another one.
    fn is_cool(&self) -> bool {
        self.known().last.is_none_or(|(last, _)| last.elapsed() >= COOL_DOWN)
    }

    /// Fetches once; true where that brought keys.
    async fn renew(&self, from: &JwksConfig, tasks: &Tasks) -> bool {
        let document = fetch(from, tasks).await;
        let read = document.and_then(|document| KeySet::of_document(&document));
        let brought = read.is_ok();
        {
            let mut known = self.known();
            self.tell(from, &known, &read);
            known.last = Some((Instant::now(), brought));
            self.metrics.fetched(brought);
            if let Ok(mut keys) = read {
                if let Some(before) = &known.keys {
                    keys.succeed(before);
                }
                if known.is_over {
                    keys.give_way_to(Some(&keys));
                }
                known.keys = Some(Arc::new(keys));
                known.fetched = Some(SystemTime::now());
            }
        }
        self.fetched.send_modify(|count| *count += 1);
        brought
    }

    /// Says what is new.
    fn tell(&self, from: &JwksConfig, known: &Known, read: &Result<KeySet, String>) {
        let url = &from.shown;
        let was_well = known.last.is_none_or(|(_, brought)| brought);
        match read {
            Ok(keys) => {
                let (count, skipped) = (keys.len(), keys.skipped);
                let same = known.keys.as_ref().is_some_and(|it| it.len() == count && was_well);
                if !same {
                    info!(url, keys = count, skipped, "the keys of the issuer of tokens are here");
                    if let Some(excess) = keys.excess() {
                        warn!(url, excess, "not all keys of the issuer of tokens are tried");
                    }
                }
            }
            Err(problem) if !was_well => {
                tracing::debug!(url, problem, "the keys of the issuer of tokens cannot be had");
            }
            Err(problem) if known.keys.is_some() => {
                warn!(
                    url,
                    problem, "the keys of the issuer of tokens cannot be had: the old ones stay"
                );
            }
            Err(problem) => {
                error!(
                    url,
                    problem, "the keys of the issuer of tokens cannot be had: no token is taken"
                );
            }
        }
    }
}
