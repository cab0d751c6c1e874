//! The full mesh: every ingress times every upstream times eleven cases, through real brokers, each looked
//! at from both sides. What cannot hold says why, and is held to what happens instead.
//!
//! One gateway, one virtual host, one NATS, one hub. Real clients and services where there are any: Nameko
//! 2.14, NestJS, `@nats-io/services`, Picom's nats 1.0.0. The table that comes out is `docs/mesh.md`.

mod callers;
mod cases;
mod client;
mod expected;
mod ingress;
mod page;
mod program;
mod services;
mod upstream;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use callers::Callers;
use cases::{Case, Sight, holds};
use expected::{Outcome, is_as_expected};
use ingress::Ingress;
use services::Services;
use upstream::Upstream;

use crate::harness::rabbit::Vhost;
use crate::harness::{Gateway, Nats, RabbitMq, until};
use crate::hub::HUB;

/// One case of one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    ingress: Ingress,
    upstream: Upstream,
    case: Case,
}

impl Cell {
    fn all() -> impl Iterator<Item = Self> {
        Ingress::ALL.into_iter().flat_map(|ingress| {
            Upstream::ALL.into_iter().flat_map(move |upstream| {
                Case::ALL.into_iter().map(move |case| Self { ingress, upstream, case })
            })
        })
    }

    /// Its place among all of them, from 1.
    fn number(&self) -> u64 {
        let place = |found: Option<usize>| u64::try_from(found.expect("it is one")).expect("small");
        let ingress = place(Ingress::ALL.iter().position(|one| *one == self.ingress));
        let upstream = place(Upstream::ALL.iter().position(|one| *one == self.upstream));
        let case = place(Case::ALL.iter().position(|one| *one == self.case));
        1 + case + 11 * (upstream + 7 * ingress)
    }

    /// By what it is found again.
    fn id(&self) -> String {
        let (ingress, upstream) = (self.ingress.name(), self.upstream.name());
        format!("{ingress} > {upstream}: {}", self.case.name())
    }

    /// The service and the method as the caller knows them.
    fn called_parts(&self) -> (String, &'static str) {
        let service = self.upstream.service(self.case);
        let service = match self.ingress.exposed() {
            Some(word) => format!("{word}_{service}"),
            None => service,
        };
        (service, self.case.method())
    }

    /// The same in one.
    fn called(&self) -> String {
        let (service, method) = self.called_parts();
        format!("{service}.{method}")
    }

    /// Whether it is no call but a message that nobody answers, as far as its caller can do that.
    fn forgets(&self) -> bool {
        self.case == Case::Notification
    }

    /// Why it does not hold.
    fn objections(&self) -> Vec<&'static str> {
        let both = [self.ingress.objects(self.case), self.upstream.objects(self.case)];
        let mut both: Vec<_> = both.into_iter().flatten().collect();
        both.dedup();
        both
    }
}

/// What an operator would write for all of it.
fn config(vhost: &Vhost<'_>, nats: &Nats, services: &Services) -> String {
    let mut toml = format!("timeout = \"20s\"\n\n{HUB}\n{}\n", vhost.upstream("nameko"));
    for dialect in ["picom", "plain", "micro", "nest"] {
        writeln!(toml, "{}", nats.upstream(dialect, dialect)).expect("text");
    }
    for (name, web) in [("jsonrpc", &services.jsonrpc), ("nobody", &services.nobody)] {
        let url = &web.url;
        writeln!(toml, "[upstreams.{name}]\nprotocol = \"jsonrpc\"\nurl = \"{url}\"\n")
            .expect("text");
    }
    for upstream in Upstream::ALL {
        let word = upstream.word();
        let nobody = if upstream == Upstream::JsonRpc { "nobody" } else { word };
        for (glob, upstream, more) in [
            (format!("mesh_{word}.late"), word, "timeout = \"4s\"\n"),
            (format!("mesh_{word}.*"), word, ""),
            (format!("ghost_{word}.served"), "jsonrpc", ""),
            (format!("ghost_{word}.*"), nobody, ""),
        ] {
            let row = format!("[[routes]]\nmatch = \"{glob}\"\nupstream = \"{upstream}\"\n{more}");
            writeln!(toml, "{row}").expect("text");
        }
    }
    let exposed = Ingress::ALL.into_iter().filter_map(Ingress::exposed);
    for (on, upstream) in exposed.flat_map(|on| Upstream::ALL.map(|upstream| (on, upstream))) {
        for (service, methods) in [
            (
                upstream.service(Case::Result),
                r#""echo", "nothing", "fail", "nope", "pick", "late", "note""#,
            ),
            // Where nobody could be called at all, nobody would take its calls either.
            (upstream.service(Case::UnknownService), r#""echo", "served""#),
        ] {
            let row = format!(
                "[[expose]]\nservice = \"{service}\"\non = [\"{on}\"]\nas = \"{on}_{service}\"\n\
                 methods = [{methods}]\n"
            );
            writeln!(toml, "{row}").expect("text");
        }
    }
    toml
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ingress_reaches_every_upstream() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let services = Services::start(&vhost, &nats).await;
    let gateway = Gateway::ready(&config(&vhost, &nats, &services)).await;
    services.join(&gateway).await;
    let callers = Callers::start(&gateway, &vhost, &nats).await;
    let rows =
        2 * Upstream::ALL.len() * Ingress::ALL.into_iter().filter_map(Ingress::exposed).count();
    until("all is exposed", async || gateway.logged("exposed: its calls are taken").len() == rows)
        .await;

    let pairs = Cell::all().filter(|cell| cell.case == Case::Result).map(async |pair| {
        let mut got = Vec::new();
        for case in Case::ALL {
            let cell = Cell { case, ..pair };
            got.push((cell, callers.call(&cell).await));
        }
        got
    });
    let got: Vec<_> = join_all(pairs).await.into_iter().flatten().collect();
    let expected = Cell::all().filter(|cell| cell.upstream.sees(cell.case)).count();
    // What is no call may still be on its way.
    let all = until("the services have seen it", async || services.count() >= expected);
    // What is missing is told below, with its name.
    drop(timeout(Duration::from_secs(15), all).await);
    let mut sights: HashMap<String, Vec<Sight>> = HashMap::new();
    for (id, sight) in services.seen() {
        sights.entry(id).or_default().push(sight);
    }

    let (mut wrong, mut held) = (String::new(), HashMap::new());
    for (cell, got) in got {
        let outcome = Outcome { got, sights: sights.remove(&cell.id()).unwrap_or_default() };
        let holds = holds(&cell, &outcome.got, &outcome.sights);
        let complaint = match (is_as_expected(&cell, &outcome), cell.objections().is_empty()) {
            (Err(complaint), _) => complaint,
            (Ok(()), is_ok) if is_ok != holds => format!("it holds: {holds}"),
            (Ok(()), _) => String::new(),
        };
        if !complaint.is_empty() {
            writeln!(wrong, "{}: {complaint}: {outcome:.700?}", cell.id()).expect("text");
        }
        held.insert(cell, holds);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let counted = gateway.metric("genkan_calls_total", &[]).await;
    assert_eq!(counted, Cell::all().map(|_| 1.0).sum::<f64>(), "each call is counted once");
    let errors = gateway.log().into_iter().filter(|line| line["level"] == "ERROR");
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<serde_json::Value>::new());
    page::check(&held);
}
