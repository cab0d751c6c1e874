//! What a generation does for events: it subscribes to what is wanted for as long as it is the latest one,
//! and leaves when the next one has subscribed. Streams it leaves at once: they keep what nobody asks for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::again::Again;
use super::super::generation::Generation;
use super::stream::{self, StreamSource};
use super::{Hosted, Wanted};

/// How long two connections take events that are shared before the older one leaves: servers of a cluster
/// tell each other in their own time who subscribes, and one of both alone gets each event.
const OVERLAP: Duration = Duration::from_millis(500);

/// How far a generation has given way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It takes all that is wanted.
    Latest,
    /// The next one has subscribed too: what each connection gets would come twice.
    Followed,
    /// It takes nothing any more.
    Left,
}

/// Takes the events that are wanted until the connection ends.
pub(in super::super) async fn run(
    hosted: &Hosted,
    generation: &Generation,
    retired: &CancellationToken,
) -> Infallible {
    let events = &hosted.events;
    let mut wanted = events.wanted.subscribe();
    let mut stage = Stage::Latest;
    let mut again = Again::new();
    let mut streams =
        Streams { hosted, generation, running: Vec::new(), work: FuturesUnordered::new() };
    let mut followed = std::pin::pin!(async {
        retired.cancelled().await;
        let mut settled = events.settled.subscribe();
        // The sender is in what `hosted` holds.
        let _is_followed = settled.wait_for(|host| *host > hosted.host).await.is_ok();
    });
    loop {
        let mut sources = wanted.borrow_and_update().clone();
        // What a stream has for one that leaves waits for the next one.
        streams.change(if retired.is_cancelled() { &[] } else { &sources });
        sources.retain(|wanted| wanted.stream.is_none() && stays(wanted, stage));
        let change = hosted.change(&sources);
        drop(sources);
        if !change.lines.is_empty() {
            let subscribed = generation.subscribe(change.lines, change.subscriptions).await;
            let Some(too_many) = subscribed else { return std::future::pending().await };
            generation.say(hosted.crowded_out(too_many));
            hosted.settle(&change.left);
        }
        if !retired.is_cancelled() {
            events.settled.send_replace(hosted.host);
        }
        tokio::select! {
            () = &mut followed, if stage == Stage::Latest => stage = Stage::Followed,
            () = sleep(OVERLAP), if stage == Stage::Followed => stage = Stage::Left,
            // The sender is in what `hosted` holds.
            _changed = wanted.changed() => {}
            () = again.is_due(|| hosted.has_refused(), &hosted.refusal) => {}
            () = streams.until_retired(retired) => {}
        }
    }
}

/// The streams that a connection is handed events of.
struct Streams<'a> {
    hosted: &'a Hosted,
    generation: &'a Generation,
    running: Vec<(Arc<StreamSource>, CancellationToken)>,
    work: FuturesUnordered<BoxFuture<'a, ()>>,
}

impl Streams<'_> {
    /// Begins with what is wanted and ends with what is not; deletes the consumers of what is gone.
    fn change(&mut self, wanted: &[Arc<Wanted>]) {
        let wanted: Vec<_> = wanted.iter().filter_map(|wanted| wanted.stream.as_ref()).collect();
        self.running.retain(|(running, stop)| {
            let stays = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, running));
            if !stays {
                stop.cancel();
            }
            stays
        });
        for wanted in wanted {
            if self.running.iter().any(|(running, _)| Arc::ptr_eq(wanted, running)) {
                continue;
            }
            let stop = CancellationToken::new();
            self.running.push((Arc::clone(wanted), stop.clone()));
            let run = stream::run(self.hosted, self.generation, Arc::clone(wanted), stop);
            self.work.push(run.boxed());
        }
        for gone in self.hosted.events.to_remove(self.hosted.host) {
            self.work.push(stream::remove(&self.hosted.events, self.generation, gone).boxed());
        }
    }

    /// Lets them work until another generation has taken over and they have ended.
    async fn until_retired(&mut self, retired: &CancellationToken) {
        let mut ends = !retired.is_cancelled();
        loop {
            tokio::select! {
                () = retired.cancelled(), if ends => {
                    ends = false;
                    self.change(&[]);
                }
                Some(()) = self.work.next(), if !self.work.is_empty() => {}
                else => std::future::pending().await,
            }
        }
    }
}

fn stays(wanted: &Arc<Wanted>, stage: Stage) -> bool {
    match stage {
        Stage::Latest => true,
        Stage::Followed => wanted.group.is_some(),
        Stage::Left => false,
    }
}
