//! Whether a silent broker is still there.
//!
//! A connection that is cut without a word is noticed by heartbeats alone after some 28 seconds.
//! So whoever waits for the broker while it says nothing asks it something cheap that it has to
//! answer at once: one that does not is gone.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicQosOptions;
use tokio::time::{Instant, MissedTickBehavior};

use super::generation::End;
use super::pending::Pending;
use super::stream::Heard;

/// After so long a silence the broker is asked.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// How long it has to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How often somebody looks.
const LOOK: Duration = Duration::from_millis(250);

impl Heard {
    /// Whether nothing has come for so long that the broker is to be asked.
    pub(super) fn is_quiet(&self) -> bool {
        Instant::now().duration_since(self.last()) >= QUIET
    }
}

/// Asks the broker. False where it does not answer; a connection that fails says so itself.
pub(super) async fn answers(channel: Channel) -> bool {
    let ask = channel.basic_qos(0, BasicQosOptions::default());
    tokio::time::timeout(ANSWER, ask).await.is_ok()
}

/// Watches what replies come over, for as long as the generation lives.
pub(super) async fn watch(channel: Channel, heard: Arc<Heard>, pending: Arc<Pending>, end: End) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.wait() => return,
            _ = look.tick() => {}
        }
        if !heard.is_quiet() || !pending.someone_waits() {
            continue;
        }
        tokio::select! {
            () = end.wait() => return,
            answers = answers(channel.clone()) => if !answers {
                end.because("rabbitmq has said nothing for two seconds, and does not answer");
            }
        }
    }
}
