//! A module of the hub: killed, silent, slow.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::books::Struck;
use super::load::{DEADLINE, Load};
use super::services::{LATER, Ran};
use super::world::{Scenario, World};
use crate::harness::Gateway;
use crate::hub::{HUB, Peer};

/// How a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// It neither reads nor answers.
    Silent,
    /// It answers when the callers have gone.
    Slow,
}

/// A module that runs.
pub struct Module {
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

impl Module {
    /// Connects, and serves `echo` and `later` under that id.
    pub async fn start(gateway: &Gateway, id: &str, ran: &Ran) -> Self {
        let mut peer = Peer::module(gateway, id, &[]).await;
        // From the first on it may be called before the answer comes.
        for function in ["echo", "later"] {
            peer.request(json!({"type": 9, "function": function})).await;
        }
        let (mood, is) = watch::channel(Mood::Well);
        Self { mood, task: tokio::spawn(serve(peer, ran.clone(), is)) }
    }

    /// Ends it without a word, as the system does with a process that is killed.
    async fn kill(mut self) {
        self.task.abort();
        drop((&mut self.task).await);
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut peer: Peer, ran: Ran, mut mood: watch::Receiver<Mood>) {
    // Answers in the order in which they are due, nearly: one that takes longer holds nobody up.
    let (mut at_once, mut owed) = (VecDeque::new(), VecDeque::new());
    loop {
        let is = *mood.wait_for(|mood| *mood != Mood::Silent).await.expect("the module lives");
        let due = |answers: &VecDeque<(Instant, Value)>| answers.front().map(|(due, _)| *due);
        let next = due(&at_once).into_iter().chain(due(&owed)).min();
        tokio::select! {
            frame = peer.next() => {
                let Some(frame) = frame else { return };
                if frame["type"] != 3 {
                    continue;
                }
                let token = ran.add(&frame["arguments"].to_string());
                let id = frame["requestId"].clone();
                let answer = json!({"type": 4, "requestId": id, "data": {"token": token}});
                let takes = if frame["function"] == "later" { LATER } else { Duration::ZERO };
                let more = if is == Mood::Slow { DEADLINE + LATER } else { Duration::ZERO };
                let queue = if takes + more > Duration::ZERO { &mut owed } else { &mut at_once };
                queue.push_back((Instant::now() + takes + more, answer));
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let queue = if due(&at_once) == next { &mut at_once } else { &mut owed };
                let (_, answer) = queue.pop_front().expect("one is due");
                peer.send(&answer).await;
            }
            _ = mood.changed() => {}
        }
    }
}

/// A gateway with a module.
pub struct Hub {
    gateway: Gateway,
    module: Option<Module>,
    ran: Ran,
}

impl World for Hub {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("a hub module killed", |world, load| world.killed(load).boxed_local()),
        Scenario::of("a hub module silent", |world, load| {
            world.is_in_a_mood(Mood::Silent, load).boxed_local()
        }),
        Scenario::of("a hub module slow", |world, load| {
            world.is_in_a_mood(Mood::Slow, load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let ran = Ran::default();
        let row = "[[routes]]\nmatch = \"*\"\nupstream = \"hub\"\n";
        let gateway = Gateway::ready(&format!("{HUB}{row}")).await;
        let module = Some(Module::start(&gateway, "chaos", &ran).await);
        Self { gateway, module, ran }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.all()
    }
}

impl Hub {
    async fn killed(&mut self, load: &Load) -> Struck {
        let since = std::time::Instant::now();
        self.module.take().expect("it runs").kill().await;
        load.is_hurt_since(since, 10).await;
        self.module = Some(Module::start(&self.gateway, "chaos", &self.ran).await);
        Struck::and_mended()
    }

    async fn is_in_a_mood(&mut self, mood: Mood, load: &Load) -> Struck {
        let module = self.module.as_ref().expect("it runs");
        let since = std::time::Instant::now();
        module.mood.send_replace(mood);
        load.is_hurt_since(since, 10).await;
        module.mood.send_replace(Mood::Well);
        Struck::and_mended()
    }
}
