//! The part of JetStream's API that a bridge needs: its consumer of a stream, which is asked for, made and
//! deleted by requests with JSON on subjects of the server's (ADR-1; ADR-37 for their names), and which
//! hands messages over when it is asked to pull some (ADR-13, ADR-37).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Message, is_no_responders};
use crate::units::format_duration;

/// Nobody else's is long.
const LONGEST_WORDS: usize = 300;
/// The server's numbers for what is wrong (its `errors.json`).
const NO_STREAM: u32 = 10059;
const NO_CONSUMER: u32 = 10014;
const NO_JETSTREAM: [u32; 2] = [10039, 10076];
const TOO_MANY_CONSUMERS: [u32; 2] = [10002, 10026];
const WORK_QUEUE: [u32; 3] = [10099, 10100, 10101];

/// How long a consumer of nobody's lives on, in nanoseconds.
const EPHEMERAL_LIFE: u64 = 60_000_000_000;
/// How long an event may be with a bridge before it has to say that it still is, in nanoseconds.
const ACK_WAIT: u64 = 30_000_000_000;
/// How long a pull waits for messages, and how often the server says meanwhile that it does.
const PULL_LIFE: u64 = 30_000_000_000;
const HEARTBEAT: u64 = 5_000_000_000;

/// A consumer of a stream.
#[derive(Clone, Debug)]
pub(in crate::protocol::nats) struct ConsumerName<'a> {
    pub(in crate::protocol::nats) stream: &'a str,
    pub(in crate::protocol::nats) name: &'a str,
}

/// What is to be made.
pub(in crate::protocol::nats) struct NewConsumer<'a> {
    pub(in crate::protocol::nats) of: ConsumerName<'a>,
    /// The subjects that it is about; empty for all.
    pub(in crate::protocol::nats) filter: &'a str,
    /// Whose it is, for an operator.
    pub(in crate::protocol::nats) description: &'a str,
    /// Whether it stays where nobody reads.
    pub(in crate::protocol::nats) is_durable: bool,
    pub(in crate::protocol::nats) start: Start,
}

/// What the first message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Start {
    /// The first one that there is.
    All,
    /// The next one that comes.
    New,
    /// The one with that number.
    At(u64),
}

/// What the server says of a stream.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct StreamInfo {
    /// When it was made: another one of that name was made at another time.
    #[serde(default)]
    pub(in crate::protocol::nats) created: String,
    #[serde(default)]
    pub(in crate::protocol::nats) state: StreamState,
    #[serde(default)]
    pub(in crate::protocol::nats) config: StreamConfig,
}

/// By what a stream lets go of what it has.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct StreamConfig {
    #[serde(default)]
    pub(in crate::protocol::nats) retention: String,
    /// Below 1 for as many as there are.
    #[serde(default)]
    pub(in crate::protocol::nats) max_msgs_per_subject: i64,
    /// It has the numbers of another stream, with what that one leaves out.
    pub(in crate::protocol::nats) mirror: Option<Mirror>,
}

/// The stream that another one mirrors.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Mirror {}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct StreamState {
    /// The first one that there is, or will be.
    #[serde(default)]
    pub(in crate::protocol::nats) first_seq: u64,
    #[serde(default)]
    pub(in crate::protocol::nats) last_seq: u64,
}

/// What it says of a consumer.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct ConsumerInfo {
    #[serde(default)]
    pub(in crate::protocol::nats) config: ConsumerConfig,
    #[serde(default)]
    pub(in crate::protocol::nats) delivered: Position,
    #[serde(default)]
    pub(in crate::protocol::nats) ack_floor: Position,
    /// How many were delivered and are not acked.
    #[serde(default)]
    pub(in crate::protocol::nats) num_ack_pending: u64,
    /// How many are still to be delivered.
    #[serde(default)]
    pub(in crate::protocol::nats) num_pending: u64,
    /// How many pulls wait.
    #[serde(default)]
    pub(in crate::protocol::nats) num_waiting: u64,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct ConsumerConfig {
    /// It pushes there.
    #[serde(default)]
    pub(in crate::protocol::nats) deliver_subject: String,
    #[serde(default)]
    pub(in crate::protocol::nats) ack_policy: String,
    #[serde(default)]
    pub(in crate::protocol::nats) deliver_policy: String,
    #[serde(default)]
    pub(in crate::protocol::nats) filter_subject: String,
    #[serde(default)]
    pub(in crate::protocol::nats) filter_subjects: Vec<String>,
    /// How often a message is handed out at the most; no limit where it is below one.
    #[serde(default)]
    pub(in crate::protocol::nats) max_deliver: i64,
    /// For how long nobody may ask it before it goes, in nanoseconds; none where it is 0.
    #[serde(default)]
    pub(in crate::protocol::nats) inactive_threshold: u64,
}

impl ConsumerConfig {
    /// What of it loses events that a bridge has promised to carry, each with the mend.
    pub(in crate::protocol::nats) fn losses(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        if self.max_deliver > 0 {
            let what = format!(
                "it hands an event out {} times at the most (`max_deliver`): one that its target has not taken by \
                 then is lost",
                self.max_deliver
            );
            found.push((what, "set `max_deliver` to -1 with `nats consumer edit`"));
        }
        if self.inactive_threshold > 0 {
            let long = format_duration(Duration::from_nanos(self.inactive_threshold));
            let what = format!(
                "the server takes it away when nobody has asked it for {long} (`inactive_threshold`): what comes \
                 meanwhile is lost, or all of the stream comes again"
            );
            let mend = "take `inactive_threshold` out of it, or of the stream's `consumer_limits`, or make it longer than \
                        any outage";
            found.push((what, mend));
        }
        found
    }
}

/// How far a consumer is, by its own count and by the stream's.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Position {
    #[serde(default)]
    pub(in crate::protocol::nats) consumer_seq: u64,
    #[serde(default)]
    pub(in crate::protocol::nats) stream_seq: u64,
}

/// Why the API does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum ApiFailure {
    /// There is no JetStream, or not for this account.
    NoJetStream,
    NoStream,
    NoConsumer,
    TooManyConsumers,
    /// The stream is a work queue, in which each message is one consumer's alone.
    WorkQueue(String),
    /// What it says.
    Other(String),
}

#[derive(Deserialize)]
struct Failed {
    error: ApiError,
}

#[derive(Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl ApiError {
    /// What it says, cut short.
    pub(super) fn words(self) -> String {
        self.description.chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect()
    }
}

/// Asks about a stream; without a body.
pub(in crate::protocol::nats) fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

/// Asks about a consumer; without a body.
pub(in crate::protocol::nats) fn consumer_info(
    ConsumerName { stream, name }: &ConsumerName<'_>,
) -> String {
    format!("$JS.API.CONSUMER.INFO.{stream}.{name}")
}

/// Deletes a consumer; without a body.
pub(in crate::protocol::nats) fn delete_consumer(
    ConsumerName { stream, name }: &ConsumerName<'_>,
) -> String {
    format!("$JS.API.CONSUMER.DELETE.{stream}.{name}")
}

/// Makes a consumer: the subject and the body.
pub(in crate::protocol::nats) fn create_consumer(new: &NewConsumer<'_>) -> (String, String) {
    let ConsumerName { stream, name } = new.of;
    let mut config = json!({
        "name": name,
        "description": new.description,
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT,
        "replay_policy": "instant",
        "deliver_policy": "all",
    });
    let mut set = |key: &str, value: Value| {
        config[key] = value;
    };
    match new.start {
        Start::All => {}
        Start::New => set("deliver_policy", "new".into()),
        Start::At(number) => {
            set("deliver_policy", "by_start_sequence".into());
            set("opt_start_seq", number.into());
        }
    }
    if new.is_durable {
        set("durable_name", name.into());
    } else {
        set("inactive_threshold", EPHEMERAL_LIFE.into());
    }
    let mut subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}");
    if !new.filter.is_empty() {
        set("filter_subject", new.filter.into());
        // The server compares the two.
        subject.push('.');
        subject.push_str(new.filter);
    }
    (subject, json!({"stream_name": stream, "config": config}).to_string())
}

/// Asks a consumer for messages: the subject and the body.
pub(in crate::protocol::nats) fn pull(
    ConsumerName { stream, name }: &ConsumerName<'_>,
    messages: usize,
    bytes: usize,
) -> (String, String) {
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
    let body = json!({
        "batch": messages, "max_bytes": bytes, "expires": PULL_LIFE, "idle_heartbeat": HEARTBEAT
    });
    (subject, body.to_string())
}

/// Reads what the API answers.
pub(in crate::protocol::nats) fn api_answer<T: for<'a> Deserialize<'a>>(
    message: &Message,
) -> Result<T, ApiFailure> {
    if is_no_responders(message) {
        return Err(ApiFailure::NoJetStream);
    }
    if let Ok(Failed { error }) = serde_json::from_slice(&message.payload) {
        let code = error.err_code;
        let words = error.words();
        return Err(match code {
            NO_STREAM => ApiFailure::NoStream,
            NO_CONSUMER => ApiFailure::NoConsumer,
            code if NO_JETSTREAM.contains(&code) => ApiFailure::NoJetStream,
            code if TOO_MANY_CONSUMERS.contains(&code) => ApiFailure::TooManyConsumers,
            code if WORK_QUEUE.contains(&code) => ApiFailure::WorkQueue(words),
            _ => ApiFailure::Other(words),
        });
    }
    let other = |_| ApiFailure::Other("its answer cannot be read".to_owned());
    serde_json::from_slice(&message.payload).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Message {
        Message { payload: body.into(), ..Message::default() }
    }

    #[test]
    fn requests() {
        let of = ConsumerName { stream: "ORDERS", name: "genkan_x" };
        assert_eq!(consumer_info(&of), "$JS.API.CONSUMER.INFO.ORDERS.genkan_x");
        assert_eq!(delete_consumer(&of), "$JS.API.CONSUMER.DELETE.ORDERS.genkan_x");
        let mut new = NewConsumer {
            of: of.clone(),
            filter: "orders.*",
            description: "whose",
            is_durable: true,
            start: Start::At(7),
        };
        let (subject, body) = create_consumer(&new);
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.ORDERS.genkan_x.orders.*");
        let body: Value = serde_json::from_str(&body).unwrap();
        let config = &body["config"];
        assert_eq!(body["stream_name"], "ORDERS");
        assert_eq!(
            (&config["durable_name"], &config["filter_subject"]),
            (&json!("genkan_x"), &json!("orders.*"))
        );
        assert_eq!(
            (&config["deliver_policy"], &config["opt_start_seq"]),
            (&json!("by_start_sequence"), &json!(7))
        );
        (new.filter, new.is_durable, new.start) = ("", false, Start::New);
        let (subject, body) = create_consumer(&new);
        assert_eq!(subject, "$JS.API.CONSUMER.CREATE.ORDERS.genkan_x");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["config"].get("durable_name"), None);
        assert_eq!(body["config"]["deliver_policy"], "new");
        assert!(body["config"]["inactive_threshold"].is_u64());
        let (subject, body) = pull(&of, 5, 1_000);
        assert_eq!(subject, "$JS.API.CONSUMER.MSG.NEXT.ORDERS.genkan_x");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["batch"], &body["max_bytes"]), (&json!(5), &json!(1_000)));
    }

    #[test]
    fn answers() {
        let info = answer(
            r#"{"type":"t","stream_name":"S","name":"c","created":"then","config":{"ack_policy":"explicit"},
            "delivered":{"consumer_seq":9,"stream_seq":12},"ack_floor":{"consumer_seq":4,"stream_seq":5},
            "num_ack_pending":5,"num_waiting":1}"#,
        );
        let info: ConsumerInfo = api_answer(&info).expect("a consumer");
        assert_eq!((info.delivered.stream_seq, info.ack_floor.stream_seq), (12, 5));
        assert_eq!((info.num_ack_pending, info.config.ack_policy.as_str()), (5, "explicit"));
        for (body, expected) in [
            (r#"{"error":{"code":404,"err_code":10059,"description":"x"}}"#, ApiFailure::NoStream),
            (
                r#"{"error":{"code":404,"err_code":10014,"description":"x"}}"#,
                ApiFailure::NoConsumer,
            ),
            (r#"{"error":{"code":503,"err_code":10076}}"#, ApiFailure::NoJetStream),
            (r#"{"error":{"code":400,"err_code":10026}}"#, ApiFailure::TooManyConsumers),
            (
                r#"{"error":{"code":400,"err_code":10099,"description":"a\nb"}}"#,
                ApiFailure::WorkQueue("ab".to_owned()),
            ),
            (r#"{"error":{"code":400,"description":"odd"}}"#, ApiFailure::Other("odd".to_owned())),
            ("no JSON", ApiFailure::Other("its answer cannot be read".to_owned())),
        ] {
            assert_eq!(api_answer::<StreamInfo>(&answer(body)), Err(expected), "{body}");
        }
        let nobody = Message { headers: "NATS/1.0 503\r\n\r\n".into(), ..Message::default() };
        assert_eq!(api_answer::<StreamInfo>(&nobody), Err(ApiFailure::NoJetStream));
    }
}
