//! One HTTP exchange: POST a request, wait for the whole answer, at most so long.
//!
//! Fails only where no answer came ([`CommandError::NoConnection`]); what an answer says is for
//! others to read.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::address::Address;
use super::envelope;
use super::failure::{Failure, Lost};
use super::http2::{self, Versions};
use super::tls;
use super::verbose::{show_answer, show_request};
use super::{ClientArgs, token_in};
use crate::cli::CommandError;
use crate::cli::output::Output;
use crate::tasks::Tasks;
use crate::units::format_duration;

/// How long to wait for an answer where `--timeout` does not say: longer than any route should
/// take, and not for ever.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long to wait for a connection at most.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// What is added to `--timeout`, so that the gateway's own fault, which says more, comes first.
const GRACE: Duration = Duration::from_millis(250);
/// The largest answer that is read.
const LARGEST_ANSWER: usize = 256 << 20;

/// The header that tells a gateway how long its caller waits (CONTRACT, section 4).
const TIMEOUT_HEADER: &str = "x-request-timeout";

/// An answer that came in whole.
#[derive(Debug)]
pub struct Exchange {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The time from the first look at the name to the last byte of the body.
    pub took: Duration,
}

/// Makes exchanges, one connection each.
pub struct Client {
    headers: HeaderMap,
    /// Whose token is among them.
    token_file: Option<PathBuf>,
    files: tls::Files,
    versions: Versions,
    verbose: Option<Output>,
    tasks: Tasks,
}

/// Lets hyper's connections run in a group of ours.
#[derive(Clone)]
struct Executor(Tasks);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, connection: F) {
        self.0.spawn_session(connection);
    }
}

impl Client {
    /// A client with the headers and certificates that the options name.
    pub fn new(args: &ClientArgs, output: Output, tasks: Tasks) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let user_agent = concat!("genkan/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        let mut given = HeaderMap::new();
        for (name, value) in &args.headers {
            given.append(name.clone(), value.clone());
        }
        // Takes the place of the ones above, and keeps those that were given twice.
        headers.extend(given);
        if let Some(token) = args.token()? {
            headers.insert(AUTHORIZATION, token);
        }
        let verbose = args.verbose.then_some(output);
        let identity = args.cert.clone().zip(args.key.clone());
        let files = tls::Files { ca: args.ca.clone(), identity };
        let (token_file, versions) = (args.token_file.clone(), args.versions);
        Ok(Self { headers, token_file, files, versions, verbose, tasks })
    }

    /// Sends `body` and waits for the whole answer: for `timeout`, which the other side is told,
    /// or as long as seems sensible. `mend` is what helps when nobody answers.
    pub async fn post(
        &self,
        to: &Address,
        body: Bytes,
        timeout: Option<Duration>,
        mend: &str,
    ) -> anyhow::Result<Exchange> {
        let request = self.request(to, body, timeout)?;
        self.send(to, request, timeout, mend).await
    }

    /// Fetches a page, and waits for the whole answer.
    pub async fn get(
        &self,
        to: &Address,
        timeout: Option<Duration>,
        mend: &str,
    ) -> anyhow::Result<Exchange> {
        let mut request = self.request(to, Bytes::new(), None)?;
        *request.method_mut() = http::Method::GET;
        self.send(to, request, timeout, mend).await
    }

    /// Begins to read a stream of events behind the one with the id `last`: its head comes within
    /// `patience`, and what follows has no end. The token is what its file holds by now.
    pub async fn stream(
        &self,
        to: &Address,
        last: Option<&str>,
        patience: Duration,
        mend: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = self.request(to, Bytes::new(), None)?;
        *request.method_mut() = http::Method::GET;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        // One that cannot be read is being replaced: the one before may be good yet.
        if let Some(Ok(token)) = self.token_file.as_deref().map(token_in) {
            headers.insert(AUTHORIZATION, token);
        }
        if let Some(last) = last {
            headers.insert("last-event-id", HeaderValue::from_str(last)?);
        }
        match tokio::time::timeout(patience, self.begin(to, request, patience)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(failure.explain(to, mend)),
            Err(_) => {
                let waited = format_duration(patience);
                let message = format!("no answer from {} within {waited}\n  {mend}", to.shown());
                Err(CommandError::NoConnection(message).into())
            }
        }
    }

    /// The same, where a connection has to be there within `connect`: what came in its place is not told yet.
    pub async fn try_post(
        &self,
        to: &Address,
        body: Bytes,
        timeout: Option<Duration>,
        connect: Duration,
    ) -> Result<Exchange, Failure> {
        let request = self.request(to, body, timeout).map_err(Failure::Setup)?;
        self.try_send(to, request, timeout, connect).await
    }

    async fn send(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        timeout: Option<Duration>,
        mend: &str,
    ) -> anyhow::Result<Exchange> {
        let sent = self.try_send(to, request, timeout, CONNECT_PATIENCE).await;
        sent.map_err(|failure| failure.explain(to, mend))
    }

    async fn try_send(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        timeout: Option<Duration>,
        connect: Duration,
    ) -> Result<Exchange, Failure> {
        let limit = timeout.map_or(PATIENCE, |timeout| timeout + GRACE);
        match tokio::time::timeout(limit, self.exchange(to, request, limit.min(connect))).await {
            Ok(Err(Failure::Lost(lost))) => Err(self.looked_into(lost, to).await.into()),
            Ok(exchange) => exchange,
            Err(_) => Err(Failure::Late(timeout.unwrap_or(limit))),
        }
    }

    /// Why no answer came, where it is for the HTTP that was spoken.
    async fn looked_into(&self, lost: Lost, to: &Address) -> Lost {
        let is_plain = to.uri().scheme() != Some(&Scheme::HTTPS);
        match (lost, self.versions) {
            (lost @ (Lost::NotHttp | Lost::Broken(_)), Versions::Two) if is_plain => {
                if http2::is_spoken(to).await {
                    lost
                } else {
                    Lost::NoHttp2
                }
            }
            (Lost::NotHttp, Versions::Either) if is_plain && http2::is_spoken(to).await => {
                Lost::OnlyHttp2
            }
            (Lost::Broken(why), Versions::Either) if is_plain && http2::is_spoken(to).await => {
                Lost::Broken(format!(
                    "{why}; it speaks HTTP/2, and may speak nothing else: --http2 does"
                ))
            }
            (lost, _) => lost,
        }
    }

    fn request(
        &self,
        to: &Address,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(to.uri().clone())
            .body(Full::new(body.clone()))
            .context("cannot make the request")?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if let Some(timeout) = timeout {
            headers.insert(TIMEOUT_HEADER, HeaderValue::try_from(format_duration(timeout))?);
        }
        if let Some(authorization) = to.authorization()
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(output) = &self.verbose {
            show_request(&request, &body, output);
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Exchange, Failure> {
        let started = Instant::now();
        let (head, body) = self.begin(to, request, limit).await?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(Lost::from_body)?;
        let took = started.elapsed();
        let body = envelope::mended(body.to_bytes());
        Ok(Exchange { status: head.status, headers: head.headers, body, took })
    }

    /// Sends a request, and waits for the head of the answer.
    async fn begin(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = match to.socket() {
            Some(path) => self.ask_at(path, request).await?,
            None => self.ask_over_tcp(to, request, limit).await?,
        };
        if let Some(output) = &self.verbose {
            show_answer(&answer, output);
        }
        Ok(answer)
    }

    async fn ask_over_tcp(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut connector = http_connector(limit);
        let answer = match self.tls(to.uri())? {
            None => self.ask(connector, request).await?,
            Some(tls) => {
                connector.enforce_http(false);
                let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
                let secured: HttpsConnector<_> = match self.versions {
                    Versions::One => builder.enable_http1().wrap_connector(connector),
                    Versions::Either => builder.enable_all_versions().wrap_connector(connector),
                    Versions::Two => builder.enable_http2().wrap_connector(connector),
                };
                self.ask(secured, request).await?
            }
        };
        Ok(answer)
    }

    /// Asks at a Unix socket.
    async fn ask_at(
        &self,
        path: &Path,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Lost> {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|error| Lost::NotConnected(Box::new(error)))?;
        if self.versions == Versions::Two {
            let executor = Executor(self.tasks.clone());
            let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.map_err(|error| Lost::of(&error))?;
            self.tasks.spawn_session(async move { drop(connection.await) });
            return sender.send_request(request).await.map_err(|error| Lost::of(&error));
        }
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| Lost::of(&error))?;
        self.tasks.spawn_session(async move { drop(connection.await) });
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        sender.send_request(request).await.map_err(|error| Lost::of(&error))
    }

    async fn ask<C>(
        &self,
        connector: C,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Lost>
    where
        C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
    {
        let mut builder = Pool::builder(Executor(self.tasks.clone()));
        let pool = builder
            .retry_canceled_requests(false)
            .http1_title_case_headers(false)
            .http2_only(self.versions == Versions::Two);
        pool.build(connector).request(request).await.map_err(Lost::from_client)
    }

    /// The certificates to trust, for https alone: reading the system's takes a while.
    fn tls(&self, uri: &Uri) -> Result<Option<rustls::ClientConfig>, Failure> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(None);
        }
        self.files.config().map(Some).map_err(Failure::Setup)
    }
}

fn http_connector(limit: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_PATIENCE.min(limit)));
    connector
}
