//! One question to a place that is no upstream's, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use http_body_util::Full;
use tokio::time::timeout;

use super::config::Settings;
use super::connect::{self, Certificates, Opened};
use super::exchange::{Answer, Failure, Limits};
use super::place::Place;
use crate::budget::Account;
use crate::tasks::Tasks;
use crate::tls::ClientFiles;
use crate::units::format_duration;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a question has no answer.
pub(in crate::protocol::jsonrpc) struct Unanswered {
    /// For everybody: no address.
    pub(in crate::protocol::jsonrpc) why: String,
    /// Whether it is only that the time has passed: somebody may be there, and busy.
    pub(in crate::protocol::jsonrpc) is_late: bool,
}

/// Asks places.
pub(in crate::protocol::jsonrpc) struct Asker {
    settings: Settings,
    certificates: Certificates,
    limits: Limits,
    agent: HeaderValue,
    tasks: Tasks,
}

impl Asker {
    /// One that calls itself `agent`, and takes answers up to so many bytes, which are counted in
    /// `account`.
    pub(in crate::protocol::jsonrpc) fn new(
        agent: HeaderValue,
        certificates: Arc<ClientFiles>,
        (largest, account): (usize, Account),
        tasks: Tasks,
    ) -> Self {
        Self {
            settings: Settings::of_one(certificates, largest),
            certificates: Certificates::default(),
            limits: Limits { largest, account },
            agent,
            tasks,
        }
    }

    /// Sends a body, and waits for the answer, both at most `patience`; or says why there is none,
    /// without addresses.
    pub(in crate::protocol::jsonrpc) async fn ask(
        &self,
        place: &Place,
        body: Bytes,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        timeout(patience, self.exchange(place, body)).await.unwrap_or_else(|_| {
            let why = format!("it has not answered within {}", format_duration(patience));
            Err(Unanswered { why, is_late: true })
        })
    }

    async fn exchange(
        &self,
        place: &Place,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Unanswered> {
        let Self { settings, certificates, tasks, .. } = self;
        let opened = connect::open(place, settings, certificates, tasks).await;
        let opened = opened.map_err(|why| Unanswered { why: why.told(), is_late: why.is_late })?;
        let answered = match opened {
            Opened::Http1(connection) => {
                let outgoing = self.outgoing(place, body, Version::HTTP_11);
                connection.exchange(outgoing, &self.limits, Duration::ZERO).await.0
            }
            Opened::Http2(connection) => {
                let outgoing = self.outgoing(place, body, Version::HTTP_2);
                connection.exchange(outgoing, &self.limits).await
            }
        };
        let Answer { status, body, .. } = answered.map_err(|failure| {
            let why = match failure {
                Failure::NoHttp => "what answers there speaks no HTTP".into(),
                Failure::HeadTooLarge => {
                    "its answer has more headers, or longer ones, than are read".into()
                }
                Failure::TooLarge(_) => "its answer is larger than any that is expected".into(),
                Failure::NoRoom(_) => "there was no room for its answer".into(),
                Failure::Unsent(why) => why,
                Failure::Refused(why) => why.told().into(),
                Failure::Stale | Failure::Lost | Failure::TooLate(_) => {
                    "it breaks off calls".into()
                }
            };
            Unanswered { why: why.into_owned(), is_late: false }
        })?;
        Ok((status, body))
    }

    fn outgoing(&self, place: &Place, body: Bytes, version: Version) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT, JSON);
        headers.insert(header::USER_AGENT, self.agent.clone());
        headers.extend(place.login.clone());
        let is_http2 = version == Version::HTTP_2;
        if !is_http2 {
            headers.insert(header::HOST, place.host.clone());
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.version_mut() = version;
        *request.uri_mut() = place.uris[usize::from(is_http2)].clone();
        *request.headers_mut() = headers;
        request
    }
}
