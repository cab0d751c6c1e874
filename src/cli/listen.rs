//! `genkan listen`: prints events as they come, over a running gateway's `/events`.
//!
//! A stream that breaks is opened again, with the id of the last event that came: what was missed comes then,
//! or a gap says that it is gone. Once there was one, a proxy's 502 while the gateway is started anew, or a limit's 429,
//! is waited past like a connection that was lost; only what stays refused ends it.

mod sse;

use std::time::Duration;

use anyhow::Context as _;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use super::client::{self, ClientArgs, GATEWAY_MEND, address::Address, http::Client};
use super::output::{Form, Output, Role};
use super::{CommandError, Status, help, json};
use crate::backoff::Backoff;
use crate::printable::printable_line;
use sse::{Parser, Told};

/// The pause before the stream is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// How long a stream has to live for the next one to be opened at once.
const STABLE: Duration = Duration::from_secs(10);
/// The longest pause that a refusal can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a gateway may say nothing: it says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);
const TIMEOUT_HELP: &str =
    "How long to wait for the stream to begin, such as 800ms, 5s or 2m [default: 10s]";
const PATIENCE: Duration = Duration::from_secs(10);

/// The arguments of `genkan listen`.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("timeout", |timeout| timeout.help(TIMEOUT_HELP)),
    about = "Print events as they come.\n\n\
        One a line, as JSON when piped. Goes on after a lost connection with what was missed, and says \
        where something is gone.",
    after_help = help::examples(&[
        ("genkan listen 'orders.*'", "the events of the gateway on this machine"),
        ("genkan listen orders.created --count 1 | jq .data", "the next one, and no more"),
        ("genkan listen orders.created --after 97521846124545", "what came behind an event, and what comes"),
    ])
)]
pub struct Args {
    /// What to listen to: the name of a topic, or a glob; the gateway's topics rows say what there is
    #[arg(value_name = "TOPIC", required = true)]
    pub topics: Vec<String>,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub count: Option<u64>,
    /// Begin behind the event with this id, as far as the gateway still has what came then. For
    /// several topics, or a glob, with the event's own topic: TOPIC:ID
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// The gateway's URL [default: $GENKAN_GATEWAY, http://127.0.0.1:8080]
    #[arg(short, long, visible_alias = "url", value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection")]
    pub gateway: Option<String>,
    /// What all clients have.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Listens, and prints.
pub fn run(mut args: Args, output: &Output) -> anyhow::Result<Status> {
    let encode = |topic: &String| format!("topic={}", utf8_percent_encode(topic, NON_ALPHANUMERIC));
    let after = |after: &String| format!("after={}", utf8_percent_encode(after, NON_ALPHANUMERIC));
    let after = args.after.as_ref().map(after);
    let query = args.topics.iter().map(encode).chain(after).collect::<Vec<_>>().join("&");
    args.client.show_token()?;
    let page = client::gateway(args.gateway.as_deref(), |url| Address::events(url, &query))?;
    let mut listening = Listening {
        page,
        last: None,
        left: args.count,
        output,
        patience: args.client.timeout.unwrap_or(PATIENCE),
    };
    client::with_client(&args.client, output, async |client| listening.run(client).await)
}

struct Listening<'a> {
    page: Address,
    /// Where the stream was when the last event came.
    last: Option<String>,
    /// How many are still to come.
    left: Option<u64>,
    output: &'a Output,
    patience: Duration,
}

impl Listening<'_> {
    async fn run(&mut self, client: &Client) -> anyhow::Result<Status> {
        let mut backoff = Backoff::new(FIRST_PAUSE, STABLE);
        let mut was_there = false;
        while self.left != Some(0) {
            let opened =
                client.stream(&self.page, self.last.as_deref(), self.patience, GATEWAY_MEND).await;
            let stream = match opened {
                Ok(stream) => stream,
                Err(error) if !was_there => return Err(error),
                Err(_) => {
                    sleep(backoff.failed()).await;
                    continue;
                }
            };
            if was_there && may_pass(stream.status()) {
                let shown = self.page.shown();
                let status = stream.status().as_u16();
                self.output
                    .warning(format_args!("{shown} answers with status {status}; trying again"));
                let asked = retry_after(stream.headers()).unwrap_or_default();
                sleep(backoff.failed().max(asked)).await;
                continue;
            }
            if !stream.status().is_success() {
                return self.refused(stream).await;
            }
            if was_there {
                self.output.note("connected again");
            }
            was_there = true;
            let since = Instant::now();
            let why = self.read(stream.into_body()).await?;
            if self.left == Some(0) {
                break;
            }
            self.output.warning(format_args!("{}: {why}; trying again", self.page.shown()));
            backoff.lived(since.elapsed());
            sleep(backoff.failed()).await;
        }
        Ok(Status::Done)
    }

    /// Prints what comes until the stream ends: why, or until enough has come.
    async fn read(&mut self, mut body: Incoming) -> anyhow::Result<&'static str> {
        let mut parser = Parser::default();
        loop {
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => return Ok("it has fallen silent"),
                Ok(None) => return Ok("the gateway ended the stream"),
                Ok(Some(Err(_))) => return Ok("the connection was lost"),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            for told in parser.read(&bytes).context("the stream of events cannot be read")? {
                self.print(&told)?;
                if let Told { kind: None, .. } = told {
                    self.left = self.left.map(|left| left.saturating_sub(1));
                    if self.left == Some(0) {
                        return Ok("enough has come");
                    }
                }
            }
        }
    }

    fn print(&mut self, told: &Told) -> anyhow::Result<()> {
        if let Some(id) = &told.id {
            self.last = Some(id.clone());
        }
        let data = told.data.as_str();
        // What is no JSON is no gateway's.
        let raw: &RawValue = serde_json::from_str(data).context("an event is no JSON")?;
        match (&told.kind, self.output.form()) {
            (None, Form::Json) => self.output.print_json(raw.get())?,
            (Some(kind), Form::Json) => {
                let name = serde_json::to_string(kind)?;
                self.output.print_json(&format!("{{{name}:{}}}", raw.get()))?;
            }
            (None, Form::Human) => self.output.print(&event(raw.get(), self.output)?)?,
            (Some(kind), Form::Human) if kind == "ended" => {
                self.output.print(&ended(raw.get(), self.output)?)?
            }
            (Some(kind), Form::Human) => {
                self.output.print(&missed(kind, raw.get(), self.output)?)?
            }
        }
        Ok(())
    }

    async fn refused(&self, answer: http::Response<Incoming>) -> anyhow::Result<Status> {
        let status = answer.status();
        let body = timeout(self.patience, answer.into_body().collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let detail = serde_json::from_slice(&body).ok().and_then(|problem: Problem| problem.detail);
        let detail = detail.unwrap_or_else(|| "is it a gateway?".to_owned());
        let shown = self.page.shown();
        if status.is_server_error() {
            let message = format!("{shown} answered with status {}: {detail}", status.as_u16());
            return Err(CommandError::NoConnection(printable_line(&message)).into());
        }
        anyhow::bail!(
            "{shown} refuses with status {}: {}",
            status.as_u16(),
            printable_line(&detail)
        )
    }
}

/// Whether a refusal is of this moment: whoever stands before the gateway says that it does not answer, or
/// there were too many requests.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// How long whoever refuses wants to be left alone.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// RFC 9457.
#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    topic: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    time: String,
}

/// An event as a person reads it: when, what, and what it says.
fn event(raw: &str, output: &Output) -> serde_json::Result<String> {
    let Event { topic, data, time } = serde_json::from_str(raw)?;
    let paint = output.out();
    // The date is the same for most of them.
    let time = time.split_once('T').map_or(&*time, |(_, time)| time);
    let (time, topic) = (printable_line(time), printable_line(&topic));
    let data = json::one_line(data.map_or("null", RawValue::get), paint);
    Ok(format!("{} {} {data}", paint.paint(Role::Faint, time), paint.paint(Role::Strong, topic)))
}

#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    topics: Vec<String>,
}

/// What is not heard any more.
fn ended(raw: &str, output: &Output) -> serde_json::Result<String> {
    let Ended { reason, topics } = serde_json::from_str(raw)?;
    let word = output.out().paint(Role::Warning, "ended:");
    let of = if topics.is_empty() { String::new() } else { format!(": {}", topics.join(", ")) };
    Ok(format!("{word} {}", printable_line(&format!("{reason}{of}"))))
}

#[derive(Deserialize)]
struct Missed {
    #[serde(default)]
    topic: String,
    missed: Option<u64>,
}

/// What did not come.
fn missed(kind: &str, raw: &str, output: &Output) -> serde_json::Result<String> {
    let Missed { topic, missed } = serde_json::from_str(raw)?;
    let (kind, topic) = (printable_line(kind), printable_line(&topic));
    let word = output.out().paint(Role::Warning, format!("{kind}:"));
    let many = match missed {
        Some(1) => "1 event".to_owned(),
        Some(many) => format!("{many} events"),
        None => "events, nobody knows how many,".to_owned(),
    };
    Ok(format!("{word} {many} of {topic} did not come"))
}
