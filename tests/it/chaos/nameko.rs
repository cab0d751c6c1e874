//! A Nameko service: stopped, killed with calls in its queue, started anew.

use std::collections::HashSet;
use std::time::Instant;

use futures_util::FutureExt;

use super::books::Struck;
use super::load::Load;
use super::world::{Scenario, World};
use crate::harness::process::{Folder, PATIENCE, Process, touch};
use crate::harness::rabbit::Vhost;
use crate::harness::services::wait_for_consumers;
use crate::harness::{Gateway, NamekoVersion, RabbitMq};

/// `tests/services/nameko_chaos.py`, in a virtual host of its own on the shared node.
pub struct Nameko {
    gateway: Gateway,
    service: Service,
    vhost: Vhost<'static>,
    /// Of those that are gone.
    ran: HashSet<String>,
    /// Each start is of the other generation.
    version: NamekoVersion,
}

/// One that runs.
struct Service {
    process: Process,
    _folder: Folder,
}

impl World for Nameko {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("a Nameko service stopped (SIGSTOP)", |world, load| {
            world.stopped(load).boxed_local()
        }),
        Scenario::of("a Nameko service killed with calls queued", |world, load| {
            world.killed(load).boxed_local()
        }),
        Scenario::of("a Nameko service restarted", |world, load| {
            world.restarted(load).boxed_local()
        }),
    ];

    async fn start() -> Self {
        let vhost = RabbitMq::shared().vhost();
        let version = NamekoVersion::Two;
        let service = Service::start(version, &vhost);
        let gateway = Gateway::ready(&vhost.config()).await;
        Self { gateway, service, vhost, ran: HashSet::new(), version }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.iter().cloned().chain(self.service.ran()).collect()
    }
}

impl Nameko {
    async fn stopped(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        self.service.process.signal("STOP");
        load.is_hurt_since(since, 6).await;
        self.service.process.signal("CONT");
        Struck::and_mended()
    }

    async fn killed(&mut self, load: &Load) -> Struck {
        let since = Instant::now();
        // Calls gather in its queue, and each waits there for as long as its caller does.
        self.service.process.signal("STOP");
        load.is_hurt_since(since, 2).await;
        let since = Instant::now();
        self.service.process.signal("KILL");
        self.service.process.wait(PATIENCE);
        load.is_hurt_since(since, 6).await;
        self.start_again()
    }

    async fn restarted(&mut self, load: &Load) -> Struck {
        self.service.process.signal("TERM");
        self.service.process.wait(PATIENCE);
        load.is_hurt_since(Instant::now(), 6).await;
        self.start_again()
    }

    fn start_again(&mut self) -> Struck {
        self.ran.extend(self.service.ran());
        self.version = match self.version {
            NamekoVersion::Two => NamekoVersion::Three,
            NamekoVersion::Three => NamekoVersion::Two,
        };
        self.service = Service::start(self.version, &self.vhost);
        Struck::and_mended()
    }
}

impl Service {
    fn start(version: NamekoVersion, vhost: &Vhost<'_>) -> Self {
        let folder = Folder::new();
        let log = folder.path().join("chaos.log");
        touch(&log);
        let command = version.run("nameko_chaos", &vhost.url());
        let process = Process::start(&command, Some(&log));
        wait_for_consumers(&process, &vhost.url(), &["rpc-chaos".to_owned()]);
        Self { process, _folder: folder }
    }

    fn ran(&self) -> Vec<String> {
        let log = self.process.log();
        // The last line may still be on its way.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let tokens = whole.lines().filter_map(|line| line.strip_prefix("ran "));
        tokens.map(str::to_owned).collect()
    }
}
