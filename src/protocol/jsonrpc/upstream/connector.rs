//! An upstream's settings, found valid: what can be said of them without a connection, and the start of its
//! roster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderName;

use super::super::name::called_at;
use super::super::registry::Registry;
use super::config::Settings;
use super::connect::Certificates;
use super::egress::Egress;
use super::exchange::Limits;
use super::headers::Headers;
use super::instance::Shared;
use super::load::Usual;
use super::look;
use super::roster::Roster;
use super::url_file::UrlFile;
use super::wire;
use crate::budget::Budget;
use crate::call::Request;
use crate::config::audit::Advice;
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::route::Rule;
use crate::route::pattern::Pattern;
use crate::tasks::{self, Tasks};
use crate::upstream::{Amiss, Connected, Connector, Envelope, Sent};

/// How often the files are looked at that hold headers and the URL.
const LOOK: Duration = Duration::from_secs(2);

/// The settings of a JSON-RPC upstream, ready to connect.
pub(super) struct JsonRpcConnector {
    settings: Arc<Settings>,
    registry: Arc<Registry>,
}

impl JsonRpcConnector {
    /// Takes settings that were found valid.
    pub(super) fn new(settings: Settings, registry: Arc<Registry>) -> Self {
        Self { settings: Arc::new(settings), registry }
    }
}

impl Connector for JsonRpcConnector {
    fn protocol(&self) -> &'static str {
        "jsonrpc"
    }

    fn announced(&self) -> Option<&Pattern> {
        self.settings.registry.as_ref()
    }

    fn wanted_headers(&self) -> &[Arc<str>] {
        &self.settings.forwarded
    }

    fn address(&self) -> String {
        if let Some(pattern) = &self.settings.registry {
            return format!("what announces itself as {pattern}");
        }
        let places: Vec<_> = self.settings.places.iter().map(ToString::to_string).collect();
        let places = places.join(", ");
        match self.settings.url_file() {
            Some(file) => format!("{places} (from {file})"),
            None => places,
        }
    }

    fn sites(&self) -> Vec<String> {
        self.settings.places.iter().filter_map(|place| place.site()).collect()
    }

    fn largest_reply(&self) -> Option<(usize, &'static str)> {
        Some((self.settings.max_reply, "max_reply"))
    }

    fn comes_in_as(&self, sent: &Sent<'_>) -> Vec<String> {
        let method = match self.settings.qualified {
            true => format!("{}.{}", sent.service, sent.method),
            false => sent.method.to_owned(),
        };
        let places = self.settings.places.iter();
        places.filter_map(|place| called_at(place.path(), &method)).collect()
    }

    fn explain(&self, request: &Request<'_>) -> Result<Envelope, Fault> {
        let settings = &self.settings;
        let body = wire::message(request, settings.qualified, Some(1))?;
        let place = settings.places.first();
        let path = place.map_or("the announced URL's path", |place| place.path());
        let mut address = vec![("request", format!("POST {path}"))];
        let announced = settings.registry.iter();
        address.extend(announced.map(|it| ("instances", format!("what announces itself as {it}"))));
        address.extend(settings.places.iter().map(|place| ("instance", place.to_string())));
        address.extend(settings.url_file().map(|file| ("url_file", file)));
        let mut headers = Headers::new(settings).of(request, Some("TOKEN"));
        if let Some(place) = place {
            headers.entry(http::header::HOST).or_insert(place.host.clone());
            headers.extend(place.login.clone());
        }
        let hidden = |name: &HeaderName| {
            let secrets = [http::header::AUTHORIZATION, http::header::COOKIE];
            let added = settings.headers.iter().any(|(added, _)| added == name);
            added || secrets.contains(name)
        };
        let rows = headers.iter().map(|(name, value)| {
            let value = if hidden(name) { "***" } else { value.to_str().unwrap_or("***") };
            (name.to_string(), value.to_owned())
        });
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Envelope { address, headers: rows.collect(), body })
    }

    fn advise(&self) -> Vec<Advice> {
        self.settings.advise()
    }

    fn read_on_the_way(&self) -> Option<String> {
        self.settings.read_on_the_way().map(ToString::to_string)
    }

    fn look<'a>(&'a self, rows: &'a [&'a Rule], tasks: &'a Tasks) -> BoxFuture<'a, Vec<Amiss>> {
        Box::pin(look::look(&self.settings, rows, tasks))
    }

    fn connect(&self, metrics: UpstreamMetrics, budget: &Budget, tasks: &Tasks) -> Connected {
        let settings = Arc::clone(&self.settings);
        let headers = Arc::new(Headers::new(&settings));
        let shared = Arc::new(Shared {
            settings: Arc::clone(&settings),
            certificates: Certificates::default(),
            limits: Limits { largest: settings.max_reply, account: budget.upstream() },
            usual: Usual::default(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
        });
        let roster = match &settings.registry {
            Some(pattern) => Roster::follow(shared, &self.registry, pattern.clone()),
            None => Roster::start(shared, &settings.places),
        };
        let url = settings.url.as_ref().and_then(UrlFile::of);
        if url.is_some() || Headers::have_files(&settings.headers) {
            look_after(Arc::clone(&headers), url, Arc::clone(&roster), tasks);
        }
        let upstream = Egress::new(settings, headers, roster, metrics);
        Connected { upstream: Arc::new(upstream), exposer: None, events: None }
    }
}

/// Sees when a header's value, or the URL, was replaced in its file.
fn look_after(headers: Arc<Headers>, mut url: Option<UrlFile>, roster: Arc<Roster>, tasks: &Tasks) {
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("jsonrpc files", async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let (looking, mut looked_at) = (Arc::clone(&headers), url.take());
            let looked = tasks::apart(move || {
                looking.look_again();
                let place = looked_at.as_mut().and_then(UrlFile::look_again);
                (looked_at, place)
            });
            let Some((looked_at, place)) = looked.await else { return };
            url = looked_at;
            if let Some(place) = place {
                roster.move_to(place);
            }
        }
    });
}
