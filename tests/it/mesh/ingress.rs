//! The eight ingresses: what a caller can say there, and how a fault looks from there.

use serde_json::{Value, json};

use super::cases::{Case, Told};

/// An ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ingress {
    Api,
    Call,
    Hub,
    Nameko,
    Picom,
    Plain,
    Micro,
    Nest,
}

impl Ingress {
    pub const ALL: [Self; 8] = [
        Self::Api,
        Self::Call,
        Self::Hub,
        Self::Nameko,
        Self::Picom,
        Self::Plain,
        Self::Micro,
        Self::Nest,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "HTTP `/api`",
            Self::Call => "HTTP `/call`",
            Self::Hub => "hub module",
            Self::Nameko => "Nameko",
            Self::Picom => "Picom",
            Self::Plain => "plain NATS",
            Self::Micro => "NATS micro",
            Self::Nest => "NestJS",
        }
    }

    /// The upstream that services are exposed on for it. Their names begin with that word there.
    pub fn exposed(self) -> Option<&'static str> {
        match self {
            Self::Api | Self::Call | Self::Hub => None,
            Self::Nameko => Some("nameko"),
            Self::Picom => Some("picom"),
            Self::Plain => Some("plain"),
            Self::Micro => Some("micro"),
            Self::Nest => Some("nest"),
        }
    }

    /// Why a case does not hold, whatever is called.
    pub fn objects(self, case: Case) -> Option<&'static str> {
        match (self, case) {
            (Self::Call, Case::Notification) => Some("`/call` always answers"),
            (Self::Hub, Case::Notification) => {
                Some("a module of the hub can only call: it is answered, and need not listen")
            }
            (Self::Hub, Case::Context) => Some("Juno's frames have no place for a context"),
            (Self::Picom, Case::Context) => Some("Picom's clients send no headers"),
            (
                Self::Picom,
                Case::Application | Case::UnknownService | Case::BadParams | Case::TimeOut,
            ) => Some("an error is a text to Picom's clients, without a code"),
            (Self::Picom | Self::Nest, Case::LargeInteger) => {
                Some("a number of JavaScript's is a double: 1.1805916207174113e+21")
            }
            _ => None,
        }
    }

    /// What of a fault can be seen from there.
    pub fn shows(self, fault: &Told) -> Told {
        let Told { kind, class, words, .. } = fault.clone();
        let is_own = kind.as_deref() == Some("application");
        match self {
            Self::Picom => {
                let known = kind.filter(|kind| kind == "unknown_method");
                Told { kind: known, words, ..Told::default() }
            }
            // An exception has its words, and a class where it is the service's own.
            Self::Nameko => {
                let info = if is_own { json!(words) } else { Value::Null };
                Told { kind, class: class.filter(|_| is_own), info, words, ..Told::default() }
            }
            // JSON-RPC's own errors come as they are, with words that say less.
            Self::Api if fault.code.as_i64().is_some_and(|code| code < 0) => {
                Told { words: String::new(), ..fault.clone() }
            }
            _ => fault.clone(),
        }
    }
}
