//! The eleven cases: what is asked, and when one holds.

use serde_json::{Value, json};

use super::Cell;

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Case {
    Result,
    Null,
    Application,
    UnknownMethod,
    UnknownService,
    BadParams,
    TimeOut,
    Notification,
    LargeInteger,
    LargeText,
    Context,
}

/// 2^70, which no number of JavaScript's can be written as.
pub const LARGE: &str = "1180591620717411303424";
/// What JavaScript makes of it.
pub const DOUBLE: &str = "1.1805916207174113e+21";
/// How long callers say that they wait, where they can say it: far from what the rows allow.
pub const LIMIT_SECONDS: u64 = 9;

impl Case {
    pub const ALL: [Self; 11] = [
        Self::Result,
        Self::Null,
        Self::Application,
        Self::UnknownMethod,
        Self::UnknownService,
        Self::BadParams,
        Self::TimeOut,
        Self::Notification,
        Self::LargeInteger,
        Self::LargeText,
        Self::Context,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Null => "null",
            Self::Application => "application error",
            Self::UnknownMethod => "unknown method",
            Self::UnknownService => "unknown service",
            Self::BadParams => "bad params",
            Self::TimeOut => "time-out",
            Self::Notification => "notification",
            Self::LargeInteger => "2^70",
            Self::LargeText => "200 KiB",
            Self::Context => "context",
        }
    }

    /// The method that is called.
    pub fn method(self) -> &'static str {
        match self {
            Self::Result | Self::UnknownService => "echo",
            Self::LargeInteger | Self::LargeText | Self::Context => "echo",
            Self::Null => "nothing",
            Self::Application => "fail",
            Self::UnknownMethod => "nope",
            Self::BadParams => "pick",
            Self::TimeOut => "late",
            Self::Notification => "note",
        }
    }

    /// The params of the call, as JSON text: by `cell` the service's side is found again.
    pub fn params(self, cell: &Cell) -> String {
        let id = json!(cell.id());
        match self {
            Self::Result => format!(r#"{{"cell":{id},"value":["é",1.5,null,{{"deep":true}}]}}"#),
            Self::LargeInteger => format!(r#"{{"cell":{id},"value":{LARGE}}}"#),
            Self::LargeText => format!(r#"{{"cell":{id},"value":"{}"}}"#, "é".repeat(100 << 10)),
            _ => format!(r#"{{"cell":{id}}}"#),
        }
    }

    /// The fault that its caller ought to be told of.
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Self::Application => Some("application"),
            Self::UnknownMethod => Some("unknown_method"),
            Self::UnknownService => Some("unknown_service"),
            Self::BadParams => Some("invalid_params"),
            Self::TimeOut => Some("timeout"),
            _ => None,
        }
    }
}

/// What a caller got, in words that all of them share.
#[derive(Clone, Debug)]
pub enum Got {
    /// The result as it was written.
    Result(String),
    /// A fault, with as much of it as the caller's library shows.
    Fault(Told),
    /// Nothing is answered, as it ought to be.
    Nothing,
}

/// A fault as a caller sees it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The kind, where the caller can tell it.
    pub kind: Option<String>,
    /// What it may believe about the service's side.
    pub outcome: Option<String>,
    /// What a person reads. What Genkan says in its own words is left out.
    pub words: String,
    /// The class of a service's own error.
    pub class: Option<String>,
    /// What the service said beside it.
    pub info: Value,
    /// The service's own code.
    pub code: Value,
}

impl Told {
    /// Whether it is what was expected, to the letter but for the words, which may say more.
    pub fn is(&self, expected: &Self) -> bool {
        let parts = |told: &Self| {
            (told.kind.clone(), told.outcome.clone(), told.class.clone(), told.info.clone())
        };
        let words = self.words.contains(&expected.words) && !self.words.is_empty();
        parts(self) == parts(expected) && self.code == expected.code && words
    }
}

/// What travelled beside a call, as its service saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub request_id: Option<String>,
    pub language: Option<String>,
    pub trace: Option<String>,
    /// What was left of the time.
    pub millis: Option<u64>,
}

/// A call as its service saw it.
#[derive(Clone, Debug)]
pub struct Sight {
    pub method: String,
    /// The params as they were written.
    pub params: String,
    pub context: Context,
}

/// Whether a case holds: what the caller got, and what the service saw, is what was meant.
pub fn holds(cell: &Cell, got: &Got, sights: &[Sight]) -> bool {
    let case = cell.case;
    let reaches = case != Case::UnknownService && case != Case::UnknownMethod;
    // A service's own library may refuse what does not fit before the service sees it.
    let seen = match sights {
        [] => !reaches || case == Case::BadParams,
        [sight] => same(&sight.params, &case.params(cell)) && sight.method == case.method(),
        _ => false,
    };
    seen && match (case, got) {
        (Case::Notification, got) => matches!(got, Got::Nothing),
        (Case::Null, Got::Result(json)) => json == "null",
        (Case::Context, Got::Result(_)) => {
            sights.iter().all(|sight| is_whole(cell, &sight.context))
        }
        (_, Got::Result(json)) => case.fault().is_none() && same(json, &case.params(cell)),
        (_, Got::Fault(told)) => {
            let has_data = told.info.to_string().contains("line");
            let is_told = case != Case::Application || told.class.is_some() && has_data;
            told.kind.as_deref() == case.fault() && case.fault().is_some() && is_told
        }
        (_, Got::Nothing) => false,
    }
}

/// Whether two texts are the same JSON, integers to the last digit.
pub fn same(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let digits = |text: &str| text.contains(LARGE);
    digits(one) == digits(other) && read(one).is_some() && read(one) == read(other)
}

/// Whether all of the context has come that the caller sent.
fn is_whole(cell: &Cell, seen: &Context) -> bool {
    let sent = sent(cell);
    let in_time = seen.millis.is_some_and(|millis| millis <= LIMIT_SECONDS * 1_000);
    in_time && Context { millis: None, ..seen.clone() } == Context { millis: None, ..sent }
}

/// What a caller that has context sends with the case for it.
pub fn sent(cell: &Cell) -> Context {
    let trace = format!("00-{:032x}-b7ad6b7169203331-01", 0xa_0000 + cell.number());
    Context {
        request_id: Some(cell.id()),
        language: Some("de".to_owned()),
        trace: Some(trace),
        millis: Some(LIMIT_SECONDS * 1_000),
    }
}
