//! Why a call has no result, as its caller is told.
//!
//! One closed set of kinds (CONTRACT, section 5). Each protocol's `wire.rs` translates it both
//! ways with a total table. A fault is data for the caller: it holds no address, no credential
//! and no Rust error's text.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::call::Payload;
use crate::redact::scrub;

/// The closed set of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// What came in is not the protocol's text at all.
    ParseError,
    /// It can be read, but it is no valid request.
    InvalidRequest,
    /// The service is known and has no such method.
    UnknownMethod,
    /// Nobody serves that name.
    UnknownService,
    /// The params do not fit the method.
    InvalidParams,
    /// Genkan or the service broke a rule.
    Internal,
    /// The service ran and reported an error of its own.
    Application,
    /// The caller may not do that.
    AccessDenied,
    /// The deadline passed.
    Timeout,
    /// The way to the service is down.
    Unavailable,
    /// A limit on concurrent work is reached.
    Overloaded,
    /// A limit on size is exceeded.
    TooLarge,
}

impl FaultKind {
    /// Every kind, in CONTRACT's order.
    pub const ALL: [FaultKind; 12] = [
        FaultKind::ParseError,
        FaultKind::InvalidRequest,
        FaultKind::UnknownMethod,
        FaultKind::UnknownService,
        FaultKind::InvalidParams,
        FaultKind::Internal,
        FaultKind::Application,
        FaultKind::AccessDenied,
        FaultKind::Timeout,
        FaultKind::Unavailable,
        FaultKind::Overloaded,
        FaultKind::TooLarge,
    ];

    /// The one that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// CONTRACT's word for it: `unknown_service`.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::ParseError => "parse_error",
            FaultKind::InvalidRequest => "invalid_request",
            FaultKind::UnknownMethod => "unknown_method",
            FaultKind::UnknownService => "unknown_service",
            FaultKind::InvalidParams => "invalid_params",
            FaultKind::Internal => "internal",
            FaultKind::Application => "application",
            FaultKind::AccessDenied => "access_denied",
            FaultKind::Timeout => "timeout",
            FaultKind::Unavailable => "unavailable",
            FaultKind::Overloaded => "overloaded",
            FaultKind::TooLarge => "too_large",
        }
    }
}

/// What the caller may believe about the service's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call never left Genkan, and will not.
    NotSent,
    /// It left, and this very call was certainly refused before it ran: by the broker, or by a
    /// service in words that cannot be another call's, which a service that ran only passes on.
    Rejected,
    /// The service ran it.
    Executed,
    /// It left, and nobody knows.
    Unknown,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 4] =
        [Outcome::NotSent, Outcome::Rejected, Outcome::Executed, Outcome::Unknown];

    /// The one that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// CONTRACT's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::NotSent => "not_sent",
            Outcome::Rejected => "rejected",
            Outcome::Executed => "executed",
            Outcome::Unknown => "unknown",
        }
    }

    /// Whether the service may have run the call.
    pub fn may_have_run(self) -> bool {
        match self {
            Outcome::NotSent | Outcome::Rejected => false,
            Outcome::Executed | Outcome::Unknown => true,
        }
    }
}

/// What a service said of its own error. Each part is there only where the service gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteError {
    /// The error's class: `ValueError`.
    pub class: Option<String>,
    /// What it says: `"bad 1"`, as JSON of any type.
    pub info: Option<Payload>,
    /// The arguments it was raised with, a JSON array.
    pub args: Option<Payload>,
    /// Where the class lives: `builtins.ValueError`.
    pub path: Option<String>,
    /// The service's own error code.
    pub code: Option<RemoteCode>,
    /// The error as it came, where it came as a number, words and data: who speaks such errors too
    /// passes it on.
    pub stated: Option<Stated>,
}

impl RemoteError {
    fn size(&self) -> usize {
        let Self { class, info, args, path, code, stated } = self;
        let stated = stated
            .iter()
            .flat_map(|stated| [&stated.code, &stated.message].into_iter().chain(&stated.data));
        let json = [info, args].into_iter().flatten().chain(stated);
        let word = match code {
            Some(RemoteCode::Word(word)) => word.len(),
            Some(RemoteCode::Number(_)) | None => 0,
        };
        let texts = [class, path].into_iter().flatten().map(String::len).sum::<usize>();
        texts + word + json.map(|json| json.as_bytes().len()).sum::<usize>()
    }

    fn scrub(&mut self) {
        let Self { class, info, args, path, code, stated } = self;
        for text in [class, path].into_iter().flatten() {
            scrub_text(text);
        }
        if let Some(RemoteCode::Word(word)) = code {
            scrub_text(word);
        }
        [info, args].into_iter().flatten().for_each(scrub_json);
        if let Some(Stated { code, message, data }) = stated {
            [code, message].into_iter().chain(data).for_each(scrub_json);
        }
    }
}

fn scrub_text(text: &mut String) {
    if let Cow::Owned(scrubbed) = scrub(text) {
        *text = scrubbed;
    }
}

/// A secret of digits may have been a number, of which no JSON is left: then all of it goes.
fn scrub_json(json: &mut Payload) {
    if let Cow::Owned(scrubbed) = scrub(json.as_str()) {
        let is_json = serde_json::from_str::<&RawValue>(&scrubbed).is_ok();
        *json = match is_json {
            true => Payload::from_validated(scrubbed.into()),
            false => Payload::from_text("***"),
        };
    }
}

/// A service's error as it came, each part as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Its code: `-32050`.
    pub code: Payload,
    /// Its message: `"no such order"`.
    pub message: Payload,
    /// Whatever stood beside them.
    pub data: Option<Payload>,
}

/// A service's own error code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteCode {
    /// `404`.
    Number(i64),
    /// `E42`.
    Word(String),
}

impl RemoteCode {
    /// Reads a code from text: what looks like a number is one.
    pub fn parse(text: &str) -> Self {
        match text.trim().parse() {
            Ok(number) => Self::Number(number),
            Err(_) => Self::Word(text.trim().to_owned()),
        }
    }

    /// The code, if it is a number.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Word(_) => None,
        }
    }

    /// The code as JSON.
    pub fn to_payload(&self) -> Payload {
        match self {
            Self::Number(number) => Payload::from_validated(number.to_string().into()),
            Self::Word(word) => Payload::from_text(word),
        }
    }
}

/// Why a call has no result. Cheap to move: it travels in `Result`s.
#[derive(Clone, Debug)]
pub struct Fault(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: FaultKind,
    outcome: Outcome,
    message: Cow<'static, str>,
    remote: Option<RemoteError>,
    retry_after: Option<Duration>,
    challenge: Option<Challenge>,
}

/// What a caller whom nobody knows can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Show who it is.
    Missing,
    /// Show something else: what it showed is not good.
    Invalid,
}

impl Fault {
    /// A fault of `kind`; `message` says what was tried on what, and the mend, to a person.
    pub fn new(kind: FaultKind, outcome: Outcome, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome,
            message: message.into(),
            remote: None,
            retry_after: None,
            challenge: None,
        }))
    }

    /// A fault found before anything was sent.
    pub fn not_sent(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(kind, Outcome::NotSent, message)
    }

    /// An error that the service itself reported, after it ran.
    pub fn application(message: impl Into<Cow<'static, str>>, remote: RemoteError) -> Self {
        Self::new(FaultKind::Application, Outcome::Executed, message).with_remote(remote)
    }

    /// Adds what the service said.
    #[must_use]
    pub fn with_remote(mut self, remote: RemoteError) -> Self {
        self.0.remote = Some(remote);
        self
    }

    /// The same without the process's secrets, which a peer may have repeated: for faults that hold a
    /// peer's words.
    #[must_use]
    pub fn scrubbed(mut self) -> Self {
        if let Cow::Owned(message) = scrub(&self.0.message) {
            self.0.message = message.into();
        }
        if let Some(remote) = &mut self.0.remote {
            remote.scrub();
        }
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Says that the caller may come back with something that makes it known.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// What the caller can do about it, where nobody knows who it is.
    pub fn challenge(&self) -> Option<Challenge> {
        self.0.challenge
    }

    /// The bytes that it takes to keep it, as far as they are a peer's to choose.
    pub fn size(&self) -> usize {
        self.0.message.len() + self.0.remote.as_ref().map_or(0, RemoteError::size)
    }

    /// Why.
    pub fn kind(&self) -> FaultKind {
        self.0.kind
    }

    /// What the caller may believe about the service's side.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// What a person is told.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the service said of its own error.
    pub fn remote(&self) -> Option<&RemoteError> {
        self.0.remote.as_ref()
    }

    /// When to try again, where that is known and cannot make it run twice.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after.filter(|_| !self.0.outcome.may_have_run())
    }

    /// Whether the same call may be sent again without the risk of running twice, and may then
    /// succeed.
    pub fn retryable(&self) -> bool {
        let passing = matches!(
            self.0.kind,
            FaultKind::Timeout | FaultKind::Unavailable | FaultKind::Overloaded
        );
        passing && !self.0.outcome.may_have_run()
    }
}
