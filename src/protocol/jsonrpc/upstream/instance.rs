//! One instance of a service: its connections, how it fares, and whether calls are sent there.
//!
//! One that cannot be reached, or that refuses calls or breaks off one after the other, is *out*: calls go
//! elsewhere while there is an elsewhere. A task of its own [knocks](super::knock) after a pause that grows,
//! without a call, and brings it back. Where it was calls that told, it is *on trial* then: it gets its share of
//! them, and is in service when one is answered, or when none has told otherwise for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version, header};
use http_body_util::Full;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::config::Settings;
use super::connect::{self, Certificates, Opened, Unreachable};
use super::exchange::{Answer, Failure, Limits, Outgoing};
use super::headers::Headers;
use super::http2::Http2;
use super::knock::{CLOSES, knock};
use super::load::{Load, Usual};
use super::place::Place;
use super::pool::Pool;
use crate::backoff::Backoff;
use crate::call;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;

/// So many calls in a row that are broken off put an instance out.
const BROKEN_OFF: u32 = 3;
/// The pause before the first attempt to bring one back.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// One that is put out again sooner waits longer; and so long is one on trial that gets no calls.
const STABLE: Duration = Duration::from_secs(10);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the same failure is logged.
const REMINDER: Duration = Duration::from_secs(60);
/// So many connections may turn out closed in a row before one call.
const MOST_STALE: usize = 3;

/// Not heard of yet; calls are sent there.
const UNKNOWN: u8 = 0;
/// In service.
const IN: u8 = 1;
/// Out of service.
const OUT: u8 = 2;
/// Calls have told otherwise than its connections do; they are sent there, to tell again.
const TRIAL: u8 = 3;

/// What all instances of an upstream have in common.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    pub(super) certificates: Certificates,
    pub(super) limits: Limits,
    pub(super) usual: Usual,
    pub(super) metrics: UpstreamMetrics,
    pub(super) tasks: Tasks,
}

/// One instance.
pub(super) struct Instance {
    place: Arc<Place>,
    shared: Arc<Shared>,
    pool: Pool,
    pub(super) load: Load,
    speaks_http2: AtomicBool,
    state: AtomicU8,
    /// Why it is out.
    why: ArcSwap<String>,
    broken_off: AtomicU32,
    /// Calls have told what no connection does.
    is_doubted: AtomicBool,
    /// How often it was put out.
    falls: AtomicUsize,
    /// How often no connection could be made for a call.
    failed: AtomicUsize,
    /// Its state may be another one.
    stirred: Notify,
}

impl Instance {
    pub(super) fn new(place: Arc<Place>, shared: Arc<Shared>) -> Self {
        let (http2, room) = (shared.settings.http2, shared.settings.max_connections);
        Self {
            place,
            shared,
            pool: Pool::new(room),
            load: Load::new(Instant::now()),
            speaks_http2: AtomicBool::new(http2),
            state: AtomicU8::new(UNKNOWN),
            why: ArcSwap::from_pointee("no connection has been tried yet".to_owned()),
            broken_off: AtomicU32::new(0),
            is_doubted: AtomicBool::new(false),
            falls: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            stirred: Notify::new(),
        }
    }

    /// How long results take, of whichever instance.
    pub(super) fn usual(&self) -> &Usual {
        &self.shared.usual
    }

    /// Whether calls are sent there first.
    pub(super) fn is_out(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OUT
    }

    /// Whether nothing is known that keeps calls from being made there.
    pub(super) fn is_in(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IN
    }

    /// Why it is not in service, and the mend.
    pub(super) fn why(&self) -> Arc<String> {
        self.why.load_full()
    }

    /// Sends a call, and waits for its answer. Whoever drops the future closes its connection, or
    /// resets its stream.
    pub(super) async fn exchange(
        &self,
        request: &call::Request<'_>,
        headers: &Headers,
        (body, mark): (&Bytes, Option<&str>),
    ) -> Result<Answer, Failure> {
        let mut stale = 0;
        loop {
            let held = request.departure.hold();
            let http1 = !self.speaks_http2();
            let mut room = if http1 { Some(self.pool.room(request).await?) } else { None };
            let result = match self.connection(stale < MOST_STALE).await? {
                Opened::Http2(connection) => {
                    drop(room);
                    match connection.stream(request).await {
                        Err(failure) => Err(failure),
                        Ok(_stream) => {
                            let headers = headers.of(request, mark);
                            let outgoing = self.outgoing(headers, body, Version::HTTP_2);
                            held.release();
                            connection.exchange(outgoing, &self.shared.limits).await
                        }
                    }
                }
                Opened::Http1(connection) => {
                    // It may have been one of HTTP/2 until now.
                    if room.is_none() {
                        room = Some(self.pool.room(request).await?);
                    }
                    let outgoing = self.outgoing(headers.of(request, mark), body, Version::HTTP_11);
                    held.release();
                    let limit = self.shared.settings.keep_alive;
                    let (result, kept) =
                        connection.exchange(outgoing, &self.shared.limits, limit).await;
                    if let Some(connection) = kept {
                        self.pool.keep(connection);
                    }
                    drop(room);
                    result
                }
            };
            match result {
                Ok(answer) => {
                    self.answers();
                    return Ok(answer);
                }
                Err(Failure::Stale) if stale <= MOST_STALE => stale += 1,
                Err(Failure::Stale) => {
                    return Err(self.broke(Failure::Unsent(CLOSES.into())));
                }
                Err(Failure::Refused(why)) => {
                    self.is_doubted.store(true, Ordering::Relaxed);
                    self.fall(&why);
                    return Err(Failure::Unsent(why.told().into()));
                }
                Err(failure @ (Failure::Lost | Failure::NoHttp | Failure::Unsent(_))) => {
                    return Err(self.broke(failure));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn speaks_http2(&self) -> bool {
        self.speaks_http2.load(Ordering::Relaxed)
    }

    /// An idle connection, where one may be taken, or a new one.
    async fn connection(&self, idle: bool) -> Result<Opened, Failure> {
        if self.speaks_http2() {
            if let Some(connection) = self.pool.shared() {
                return Ok(Opened::Http2(connection));
            }
            let failed = self.failed.load(Ordering::Relaxed);
            let _turn = self.pool.turn().await;
            if let Some(connection) = self.pool.shared() {
                return Ok(Opened::Http2(connection));
            }
            // What the one before has found holds for all who waited for it, or each would wait as long as they all.
            if self.failed.load(Ordering::Relaxed) != failed {
                return Err(Failure::Unsent(String::clone(&self.why()).into()));
            }
            return self.opened().await;
        }
        if let Some(connection) = self.pool.take().filter(|_| idle) {
            return Ok(Opened::Http1(connection));
        }
        self.opened().await
    }

    async fn opened(&self) -> Result<Opened, Failure> {
        self.open().await.map_err(|unreachable| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.fall(&unreachable);
            Failure::Unsent(unreachable.told().into())
        })
    }

    /// Opens a connection; one that can be shared is.
    async fn open(&self) -> Result<Opened, Unreachable> {
        let Shared { settings, certificates, tasks, .. } = &*self.shared;
        let opened = connect::open(&self.place, settings, certificates, tasks).await?;
        let shared: Option<&Http2> = match &opened {
            Opened::Http1(_) => None,
            Opened::Http2(connection) => Some(connection),
        };
        self.speaks_http2.store(shared.is_some(), Ordering::Relaxed);
        if let Some(connection) = shared {
            self.pool.share(connection.clone());
        }
        Ok(opened)
    }

    fn outgoing(&self, mut headers: HeaderMap, body: &Bytes, version: Version) -> Outgoing {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.version_mut() = version;
        let is_http2 = version == Version::HTTP_2;
        *request.uri_mut() = self.place.uris[usize::from(is_http2)].clone();
        if !is_http2 {
            headers.entry(header::HOST).or_insert_with(|| self.place.host.clone());
        }
        if let Some((name, value)) = &self.place.login {
            headers.insert(name.clone(), value.clone());
        }
        *request.headers_mut() = headers;
        request
    }

    /// A call was broken off. One by one they say little; in a row they put the instance out.
    fn broke(&self, failure: Failure) -> Failure {
        if self.broken_off.fetch_add(1, Ordering::Relaxed) + 1 >= BROKEN_OFF {
            let detail = format!("{BROKEN_OFF} in a row: {failure:?}");
            self.is_doubted.store(true, Ordering::Relaxed);
            self.fall(&Unreachable::passing("it breaks off calls", detail));
        }
        failure
    }

    /// Puts it out of service.
    fn fall(&self, why: &Unreachable) {
        self.why.store(Arc::new(why.told()));
        let before = self.state.swap(OUT, Ordering::Relaxed);
        if before != OUT {
            // Who was on trial is out for those who are told.
            if before != TRIAL {
                self.report(why);
            }
            self.falls.fetch_add(1, Ordering::Relaxed);
            self.stirred.notify_one();
        }
    }

    /// Goes from one state to another, unless a call has told something meanwhile.
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A call was answered, whatever with: it is there.
    fn answers(&self) {
        self.broken_off.store(0, Ordering::Relaxed);
        if !self.is_in() {
            self.is_doubted.store(false, Ordering::Relaxed);
            self.state.store(IN, Ordering::Relaxed);
            self.stirred.notify_one();
        }
    }

    fn report(&self, why: &Unreachable) {
        let (upstream, instance) = (self.shared.metrics.upstream(), &*self.place);
        let (reason, detail) = (&why.reason, why.detail.as_str());
        match why.mend.as_deref() {
            Some(mend) => error!(upstream, %instance, detail, mend, "an instance is out: {reason}"),
            None => {
                warn!(upstream, %instance, detail, "an instance is out: {reason}; trying again")
            }
        }
    }

    /// Knocks. A connection that can be shared is.
    async fn knock(&self) -> Result<(), Unreachable> {
        let Shared { settings, certificates, tasks, .. } = &*self.shared;
        let shared = knock(&self.place, settings, certificates, tasks).await?;
        self.speaks_http2.store(shared.is_some(), Ordering::Relaxed);
        if let Some(connection) = shared {
            self.pool.share(connection);
        }
        Ok(())
    }

    /// Waits until its state is such a one.
    async fn until(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            self.stirred.notified().await;
        }
    }

    /// Finds out whether calls can be made: by a knock, and by calls meanwhile. Why not, where a knock has told.
    async fn find_out(&self) -> Result<(), Option<Unreachable>> {
        let is_in = || self.is_in();
        let knocked = tokio::select! {
            biased;
            () = self.until(is_in) => return Ok(()),
            knocked = self.knock() => knocked,
        };
        if let Err(why) = knocked {
            return if self.is_in() { Ok(()) } else { Err(Some(why)) };
        }
        let before = self.state.load(Ordering::Relaxed);
        if !self.is_doubted.load(Ordering::Relaxed) {
            // Not where a call has told something meanwhile.
            self.turn(before, IN);
        } else if before == OUT {
            // The first that is broken off says enough.
            self.broken_off.store(BROKEN_OFF - 1, Ordering::Relaxed);
            self.turn(OUT, TRIAL);
            let is_over = || self.is_in() || self.is_out();
            if timeout(STABLE, self.until(is_over)).await.is_err() {
                self.is_doubted.store(false, Ordering::Relaxed);
                self.turn(TRIAL, IN);
            }
        }
        if self.is_in() { Ok(()) } else { Err(None) }
    }

    /// Looks after it for as long as it is configured. `changed` is called whenever it comes or goes.
    pub(super) async fn supervise(&self, changed: impl Fn()) {
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let (mut reported, mut was_in) = (Instant::now(), false);
        loop {
            if let Err(why) = self.find_out().await {
                let is_due = reported.elapsed() >= REMINDER;
                match &why {
                    Some(why) => {
                        self.fall(why);
                        if is_due {
                            self.report(why);
                        }
                    }
                    None if is_due => {
                        let (upstream, instance) = (self.shared.metrics.upstream(), &*self.place);
                        warn!(upstream, %instance, "an instance is out still: {}", self.why());
                    }
                    None => {}
                }
                if is_due {
                    reported = Instant::now();
                }
                changed();
                let is_in = || self.is_in();
                // An answered call ends the pause.
                drop(timeout(backoff.failed(), self.until(is_in)).await);
                continue;
            }
            let falls = self.falls.load(Ordering::Relaxed);
            if std::mem::replace(&mut was_in, true) {
                self.shared.metrics.reconnected();
            }
            changed();
            let (upstream, instance) = (self.shared.metrics.upstream(), &*self.place);
            info!(upstream, %instance, "an instance is in service");
            let born = Instant::now();
            // One that was answered at the same moment may be back already.
            let has_fallen = || !self.is_in() || self.falls.load(Ordering::Relaxed) != falls;
            while !has_fallen() {
                drop(timeout(SWEEP, self.until(has_fallen)).await);
                self.pool.sweep();
            }
            changed();
            reported = Instant::now();
            backoff.lived(born.elapsed());
            let is_in = || self.is_in();
            drop(timeout(backoff.failed(), self.until(is_in)).await);
        }
    }

    /// Closes its idle connections, at the end.
    pub(super) fn end(&self) {
        self.pool.clear();
    }
}
