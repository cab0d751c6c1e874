//! A task that panics does not die unseen: the gateway ends, drained, and the process fails.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::auth::Auth;
use crate::config::ingress::IngressSettings;
use crate::config::{self, Origin};
use crate::events::topics::Topics;
use crate::ingress::{Bound, Change, Ingress, IngressKind};
use crate::protocol::Protocols;
use crate::router::Router;
use crate::tasks::Tasks;

/// Long enough for anything that happens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An ingress whose acceptor panics as soon as it runs.
fn broken() -> IngressKind {
    IngressKind {
        name: "broken",
        labels: &["broken"],
        open_for: None,
        read: |_, _| Arc::new(Nothing),
        bind: Box::new(|_, tasks| Ok(Box::new(Broken(tasks)))),
    }
}

struct Nothing;

impl IngressSettings for Nothing {
    fn tcp(&self) -> Vec<std::net::SocketAddr> {
        Vec::new()
    }

    fn largest_message(&self) -> (usize, &'static str) {
        (0, "nothing")
    }
}

struct Broken(Tasks);

impl Bound for Broken {
    fn run(
        self: Box<Self>,
        _router: &Arc<Router>,
        _topics: &Arc<Topics>,
        _auth: &Arc<Auth>,
    ) -> Box<dyn Ingress> {
        self.0.spawn("acceptor", async { panic!("as the test wants it") });
        self
    }
}

impl Ingress for Broken {
    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn apply<'a>(&'a self, _next: &dyn IngressSettings) -> anyhow::Result<Change<'a>> {
        Ok(Box::new(|| ()))
    }

    fn drain(&self, _patience: Duration) -> BoxFuture<'_, bool> {
        std::future::ready(true).boxed()
    }

    fn end(&self, grace: Duration) -> BoxFuture<'_, bool> {
        self.0.end(grace).boxed()
    }
}

#[tokio::test]
async fn an_acceptor_that_panics_ends_the_process_with_an_error() {
    let protocols = Protocols { egresses: Vec::new(), ingresses: vec![broken()] };
    let text = "admin.listen = \"127.0.0.1:0\"";
    let loaded = config::parse("genkan.toml", text, config::Variables::new(), &protocols.readers());
    let Ok((config, _)) = loaded.into_valid() else { panic!("a valid configuration") };
    let ran = crate::gateway::run(config, Origin::Embedded, &protocols, &|_, _| true);
    let ended = tokio::time::timeout(PATIENCE, ran).await.expect("it does not run on");
    let error = ended.expect_err("the process fails");
    assert!(error.to_string().contains("panicked"), "{error:#}");
}
