//! What a generation hosts for events: a connection to listen on while there are sources, with a task
//! for each; and one to publish on. They are set up again by themselves as long as the generation lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::config::Node;
use super::super::generation::End;
use super::super::open::Failure;
use super::super::outlet::Outlet;
use super::super::transport::Transport;
use super::emitter::{Emitter, Outgoing};
use super::intakes::Intakes;
use super::source::Listening;
use super::{Events, Wanted, lost};
use crate::backoff::Backoff;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection has to live for the next one to be opened at once.
const STABLE: Duration = Duration::from_secs(1);
/// How long a source that goes may wait for its events where another one wants its queue.
const LEAVE: Duration = Duration::from_secs(5);
/// How long sources have to ack what is settled when the generation ends.
const LAST_ACKS: Duration = Duration::from_secs(1);

/// Carries events until the generation ends.
pub(in super::super) async fn run(events: Arc<Events>, node: Arc<Node>, end: End) {
    let (outbox, queue) = mpsc::unbounded_channel();
    // A generation that has ended has closed its own: whoever still holds that is told.
    events.outbox.store(Some(Arc::new(outbox)));
    tokio::join!(listen(&events, &node, &end), emit(&events, &node, queue, &end));
}

async fn listen(events: &Arc<Events>, node: &Arc<Node>, end: &End) {
    let mut wanted = events.wanted.subscribe();
    let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
    let mut said = None;
    loop {
        let some = async { wanted.wait_for(|wanted| !wanted.is_empty()).await.is_ok() };
        tokio::select! {
            () = end.wait() => return,
            some = some => if !some {
                return;
            }
        }
        let intakes = Intakes::new(events.account.clone());
        let open = open(events, node, &intakes);
        let opened = tokio::select! {
            () = end.wait() => return,
            opened = open => opened,
        };
        let since = Instant::now();
        match opened {
            Ok(transport) => {
                said = None;
                host(events, (transport, intakes), end).await;
                backoff.lived(since.elapsed());
            }
            Err(failure) => {
                unheard(events, &failure);
                if said.as_ref() != Some(&failure.reason) {
                    failure.tell(events.metrics.upstream(), "no connection for events");
                    said = Some(failure.reason);
                }
            }
        }
        if since.elapsed() < STABLE {
            tokio::select! {
                () = end.wait() => return,
                () = sleep(backoff.failed()) => {}
            }
        }
    }
}

/// No source is heard: each says so until it is.
fn unheard(events: &Events, Failure { reason, mend, .. }: &Failure) {
    let why = match mend {
        Some(mend) => format!("{reason}: {mend}"),
        None => reason.to_string(),
    };
    for wanted in &*events.wanted.borrow() {
        wanted.source.taker.unheard(Some(&why));
    }
}

async fn open(
    events: &Events,
    node: &Arc<Node>,
    intakes: &Arc<Intakes>,
) -> Result<Transport, Failure> {
    let settings = &events.settings;
    let node = settings.renewed(node);
    let largest = settings.max_reply;
    let open = Transport::open_for(settings, &node, "events", largest, Some(intakes.admission()));
    within(settings.connect_timeout, open).await
}

async fn within<T>(
    limit: Duration,
    open: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Failure> {
    match timeout(limit, open).await {
        Ok(opened) => opened.map_err(|error| Failure::of_connecting(&error)),
        Err(_) => Err(Failure::slow(limit)),
    }
}

/// A source that is listened to, or that goes.
struct Running {
    wanted: Arc<Wanted>,
    stop: CancellationToken,
    /// Not to wait any more for what it has taken.
    abandon: CancellationToken,
    gone: CancellationToken,
    leaves: Option<Instant>,
}

/// Listens to what is wanted, until nothing is and all that was taken is settled, or the connection is
/// lost.
async fn host(events: &Arc<Events>, (transport, intakes): (Transport, Arc<Intakes>), end: &End) {
    let transport = Arc::new(transport);
    let mut wanted = events.wanted.subscribe();
    let (over, lost) = (CancellationToken::new(), CancellationToken::new());
    // Whatever ends this, sources have to know.
    let _over = over.clone().drop_guard();
    let mut running: Vec<Running> = Vec::new();
    loop {
        let next = wanted.borrow_and_update().clone();
        running.retain_mut(|running| {
            let stays = next.iter().any(|next| Arc::ptr_eq(next, &running.wanted));
            if !stays && running.leaves.is_none() {
                running.stop.cancel();
                running.leaves = Some(Instant::now() + LEAVE);
            }
            !running.gone.is_cancelled()
        });
        let mut look = None;
        for wanted in &next {
            let same_queue = |it: &&Running| it.wanted.source.name == wanted.source.name;
            if running.iter().any(|running| Arc::ptr_eq(&running.wanted, wanted)) {
                continue;
            }
            // What it has taken goes first, if it does soon.
            if let Some(leaving) = running.iter().find(same_queue) {
                if leaving.leaves.is_some_and(|at| at <= Instant::now()) {
                    leaving.abandon.cancel();
                }
                look = Some(Duration::from_millis(20));
                continue;
            }
            running.push(start(events, wanted, (&transport, &intakes), (&over, &lost)));
        }
        if next.is_empty() && running.is_empty() {
            break;
        }
        if events.is_succeeded.load(Ordering::Acquire) {
            // What is not settled soon comes again, over the connection of whoever has it now.
            let is_late = |it: &&Running| it.leaves.is_some_and(|at| at <= Instant::now());
            running.iter().filter(is_late).for_each(|late| late.abandon.cancel());
        }
        if !next.iter().all(|next| running.iter().any(|it| Arc::ptr_eq(&it.wanted, next)))
            || next.is_empty()
        {
            look = Some(Duration::from_millis(20));
        }
        tokio::select! {
            () = end.wait() => break,
            () = lost.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() {
                break;
            },
            () = async { sleep(look.unwrap_or_default()).await }, if look.is_some() => {}
        }
    }
    over.cancel();
    let all_gone = async {
        for running in &running {
            running.gone.cancelled().await;
        }
    };
    drop(timeout(LAST_ACKS, all_gone).await);
    if let Some(transport) = Arc::into_inner(transport) {
        transport.close().await;
    }
}

fn start(
    events: &Arc<Events>,
    wanted: &Arc<Wanted>,
    (transport, intakes): (&Arc<Transport>, &Arc<Intakes>),
    (over, lost): (&CancellationToken, &CancellationToken),
) -> Running {
    let (stop, abandon) = (CancellationToken::new(), over.child_token());
    let gone = CancellationToken::new();
    let listening = Listening {
        events: Arc::clone(events),
        wanted: Arc::clone(wanted),
        transport: Arc::clone(transport),
        intakes: Arc::clone(intakes),
        stop: stop.clone(),
        over: abandon.clone(),
        lost: lost.clone(),
    };
    let guard = gone.clone().drop_guard();
    events.tasks.spawn("nameko event source", async move {
        listening.run().await;
        drop(guard);
    });
    Running { wanted: Arc::clone(wanted), stop, abandon, gone, leaves: None }
}

/// Publishes what comes into the outbox. The connection is opened by the first event.
async fn emit(
    events: &Arc<Events>,
    node: &Arc<Node>,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    end: &End,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
    let mut down: Option<(Instant, String)> = None;
    loop {
        let first = tokio::select! {
            () = end.wait() => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        if let Some((until, reason)) = &down
            && Instant::now() < *until
        {
            first.end(Err(lost(reason)));
            continue;
        }
        let settings = &events.settings;
        let node = settings.renewed(node);
        let open =
            within(settings.connect_timeout, Outlet::open_for(settings, &node, "events out"));
        let opened = tokio::select! {
            () = end.wait() => return,
            opened = open => opened,
        };
        let since = Instant::now();
        let reason = match opened {
            Ok(outlet) => {
                let reason =
                    Emitter::new(settings, &node, outlet).run(first, &mut queue, end).await;
                backoff.lived(since.elapsed());
                reason
            }
            Err(Failure { reason, .. }) => {
                first.end(Err(lost(&reason)));
                reason.into_owned()
            }
        };
        // What came behind one that is lost must not go before it.
        while let Ok(outgoing) = queue.try_recv() {
            outgoing.end(Err(lost(&reason)));
        }
        down = (since.elapsed() < STABLE).then(|| (Instant::now() + backoff.failed(), reason));
    }
}
