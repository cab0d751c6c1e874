//! Genkan itself, in front of both brokers and a module: ended, killed, and its file changed again and again.

use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::time::Instant;

use futures_util::FutureExt;

use super::books::{Ended, Struck};
use super::load::Load;
use super::module::Module;
use super::services::{Ran, on_nats, on_rabbit};
use super::world::{Scenario, World};
use crate::harness::rabbit::Vhost;
use crate::harness::{Gateway, NamekoResponder, Nats, NatsResponder, RabbitMq};
use crate::hub::HUB;

/// A gateway between everything that a broker, or the hub, carries.
pub struct Genkan {
    gateway: Gateway,
    module: Module,
    vhost: Vhost<'static>,
    nats: Nats,
    _on_rabbit: NamekoResponder,
    _on_nats: NatsResponder,
    ran: Ran,
}

impl World for Genkan {
    const SCENARIOS: &'static [Scenario<Self>] = &[
        Scenario::of("Genkan ended by SIGTERM", |world, load| world.ended(load).boxed_local()),
        Scenario::of("Genkan ended by SIGKILL", |world, load| world.killed(load).boxed_local()),
        Scenario::harmless("Genkan reloaded, with good and bad files", |world, load| {
            world.reloaded(load).boxed_local()
        }),
        Scenario::harmless("Genkan's file swapped by a link (Kubernetes)", |world, load| {
            world.swapped(load).boxed_local()
        }),
    ];
    const METHODS: &'static [&'static str] =
        &["rabbit.echo", "rabbit.later", "nats.echo", "nats.later", "module.echo", "module.later"];

    async fn start() -> Self {
        let (vhost, nats, ran) = (RabbitMq::shared().vhost(), Nats::start(), Ran::default());
        let on_rabbit = on_rabbit(&vhost.url(), "rabbit", &ran).await;
        let on_nats = on_nats(&nats.url(), "nats", &ran).await;
        let gateway = Gateway::ready(&toml(&vhost, &nats, "")).await;
        let module = Module::start(&gateway, "module", &ran).await;
        Self { gateway, module, vhost, nats, _on_rabbit: on_rabbit, _on_nats: on_nats, ran }
    }

    fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn ran(&self) -> HashSet<String> {
        self.ran.all()
    }
}

/// All of the file, with a key for the upstream on NATS.
fn toml(vhost: &Vhost<'_>, nats: &Nats, key: &str) -> String {
    let (rabbit, nats) = (vhost.upstream("rabbit"), nats.upstream("nats", "plain"));
    let mut toml = format!("{HUB}\n{rabbit}\n{nats}{key}\n");
    for (name, upstream) in [("rabbit", "rabbit"), ("nats", "nats"), ("module", "hub")] {
        toml += &format!("[[routes]]\nmatch = \"{name}.*\"\nupstream = \"{upstream}\"\n");
    }
    toml
}

impl Genkan {
    /// The file with another setting of the upstream on NATS.
    fn changed(&self, number: u32) -> String {
        let key = format!("ping_interval = \"{}s\"", 1 + number % 7);
        toml(&self.vhost, &self.nats, &key)
    }

    async fn ended(&mut self, load: &Load) -> Struck {
        let at = Instant::now();
        self.gateway.terminate();
        assert_eq!(self.gateway.exit_status().await, 0);
        self.start_again(load, Ended::Cleanly(at)).await
    }

    async fn killed(&mut self, load: &Load) -> Struck {
        self.gateway.kill();
        assert_eq!(self.gateway.exit_status().await, 128 + 9);
        self.start_again(load, Ended::Killed).await
    }

    async fn start_again(&mut self, load: &Load, gateway: Ended) -> Struck {
        self.gateway = Gateway::ready(&toml(&self.vhost, &self.nats, "")).await;
        self.module = Module::start(&self.gateway, "module", &self.ran).await;
        load.aim(&self.gateway);
        Struck { gateway, ..Struck::and_mended() }
    }

    /// With an upstream that changes and one that stays, and every second time with a mistake.
    async fn reloaded(&mut self, load: &Load) -> Struck {
        for number in 0..if load.form().long { 200 } else { 12 } {
            let good = self.changed(number);
            let (text, said) = match number % 4 {
                1 => (good.replace("upstream = \"nats\"", "upstream = \"gone\""), "reload refused"),
                3 => (good.replace("[[routes]]", "[[routes]"), "reload refused"),
                _ => (good, "reloaded"),
            };
            let seen = self.gateway.lines_logged();
            self.gateway.write_config(&text);
            self.gateway.hang_up();
            self.gateway.wait_for_log(seen, said).await;
        }
        self.back_to_the_first().await;
        Struck::and_mended()
    }

    /// `genkan.toml` leads to `..data/genkan.toml`, and `..data` to a folder, of which there is a new
    /// one each time. Nobody sends a signal.
    async fn swapped(&mut self, load: &Load) -> Struck {
        let file = self.gateway.config();
        let folder = file.parent().expect("a folder");
        let (data, next) = (folder.join("..data"), folder.join("..data_tmp"));
        let mut old = None;
        for number in 0..if load.form().long { 5 } else { 2 } {
            let version = folder.join(format!("..{}", fastrand::u64(..)));
            std::fs::create_dir(&version).expect("a folder");
            let text = self.gateway.with_its_ports(&self.changed(number));
            std::fs::write(version.join("genkan.toml"), text).expect("a file");
            symlink(&version, &next).expect("a link");
            let seen = self.gateway.lines_logged();
            std::fs::rename(&next, &data).expect("swapped");
            match old.replace(version) {
                Some(old) => std::fs::remove_dir_all(old).expect("the old one goes"),
                None => {
                    symlink("..data/genkan.toml", &next).expect("a link");
                    std::fs::rename(&next, &file).expect("it leads there from now on");
                }
            }
            self.gateway.wait_for_log(seen, "reloaded").await;
        }
        // It is a file again for what comes after.
        std::fs::remove_file(&file).expect("a link");
        self.back_to_the_first().await;
        Struck::and_mended()
    }

    async fn back_to_the_first(&self) {
        let seen = self.gateway.lines_logged();
        self.gateway.write_config(&toml(&self.vhost, &self.nats, ""));
        self.gateway.hang_up();
        self.gateway.wait_for_log(seen, "reloaded").await;
    }
}
