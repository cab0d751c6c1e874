//! The seven upstreams: what a service there says in every case.

use serde_json::{Value, json};

use super::cases::{Case, Told};

/// An upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    Nameko,
    Picom,
    Plain,
    Micro,
    Nest,
    Hub,
    JsonRpc,
}

impl Upstream {
    pub const ALL: [Self; 7] =
        [Self::Nameko, Self::Picom, Self::Plain, Self::Micro, Self::Nest, Self::Hub, Self::JsonRpc];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nameko => "Nameko",
            Self::Picom => "Picom",
            Self::Plain => "plain NATS",
            Self::Micro => "NATS micro",
            Self::Nest => "NestJS",
            Self::Hub => "hub module",
            Self::JsonRpc => "JSON-RPC",
        }
    }

    /// The upstream's name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nameko => "nameko",
            Self::Picom => "picom",
            Self::Plain => "plain",
            Self::Micro => "micro",
            Self::Nest => "nest",
            Self::Hub => "hub",
            Self::JsonRpc => "jsonrpc",
        }
    }

    /// The service that is there; or the one that nobody is.
    pub fn service(self, case: Case) -> String {
        let begin = if case == Case::UnknownService { "ghost" } else { "mesh" };
        format!("{begin}_{}", self.word())
    }

    /// Why a case does not hold, whoever calls.
    pub fn objects(self, case: Case) -> Option<&'static str> {
        match (self, case) {
            (Self::Picom, Case::Application | Case::BadParams) => {
                Some("a Picom service's error is a text, without a class or a code")
            }
            (Self::Plain | Self::Micro, Case::Application) => {
                Some("an error in NATS's headers has a code and data, and no class")
            }
            (Self::Plain | Self::Micro, Case::BadParams) => Some(
                "an error in NATS's headers has a code of the service's own choice: `application`",
            ),
            (Self::Plain, Case::UnknownMethod) => Some(
                "an error in NATS's headers has a code of the service's own choice: `application`",
            ),
            (Self::Nest, Case::Application) => Some("an `RpcException` has data, and no class"),
            (Self::Nest, Case::BadParams) => {
                Some("NestJS has no word for it: it is the service's own error")
            }
            (Self::Nest, Case::UnknownMethod) => Some(
                "a pattern of NestJS's is a subject: where nobody listens, the service is unknown",
            ),
            (Self::Hub, Case::Application) => {
                Some("an error of a module has a number and data, and no class")
            }
            (Self::Hub, Case::BadParams) => {
                Some("Juno has no word for it: it is the module's own error")
            }
            (Self::Picom | Self::Nest, Case::LargeInteger) => {
                Some("a number of JavaScript's is a double: 1.1805916207174113e+21")
            }
            (Self::Picom, Case::Context) => Some("Picom's services see no headers"),
            (Self::Hub, Case::Context) => Some("Juno's frames have no place for a context"),
            _ => None,
        }
    }

    /// The fault of a case that has one, with all that the service's protocol can say of it.
    pub fn says(self, case: Case) -> Option<Told> {
        let fault = |kind: &str, outcome: &str, words: &str| Told {
            kind: Some(kind.to_owned()),
            outcome: Some(outcome.to_owned()),
            words: words.to_owned(),
            ..Told::default()
        };
        let own =
            |words, info, code| Told { info, code, ..fault("application", "executed", words) };
        let class = |class: &str, info: Value, told: Told| Told {
            class: Some(class.to_owned()),
            info,
            ..told
        };
        let code = |code: i64, told: Told| Told { code: json!(code), ..told };
        let (missing, none) = ("a size is missing", Value::Null);
        Some(match (self, case) {
            (Self::Nameko, Case::Application) => {
                let words = "('no size', {'line': 7})";
                class("Refused", json!(words), own(words, Value::Null, none))
            }
            (Self::Picom, Case::Application) => {
                let words = "no size {\"code\":\"E42\"}";
                own(words, json!(words), none)
            }
            (Self::Plain | Self::Micro, Case::Application) => {
                own("no size", json!({"line": 7}), json!(409))
            }
            (Self::Nest, Case::Application) => {
                let said = json!({"code": "E42", "message": "no size", "details": {"line": 7}});
                own("no size", said, json!("E42"))
            }
            (Self::Hub, Case::Application) => own("no size", json!({"line": 7}), json!(2)),
            (Self::JsonRpc, Case::Application) => {
                let words = r#"Refused: {"line":7}"#;
                class("Refused", json!({"line": 7}), own(words, Value::Null, json!(-32603)))
            }
            (Self::Nameko, Case::BadParams) => {
                let words = "pick() missing 1 required positional argument: 'size'";
                let told = fault("invalid_params", "unknown", words);
                class("IncorrectSignature", json!(words), told)
            }
            (Self::Picom, Case::BadParams) => own(missing, json!(missing), none),
            (Self::Plain | Self::Micro, Case::BadParams) => {
                own(missing, json!(missing), json!(422))
            }
            (Self::Nest, Case::BadParams) => {
                own(missing, json!({"status": "error", "message": missing}), none)
            }
            (Self::Hub, Case::BadParams) => own(missing, none, json!(0)),
            (Self::JsonRpc, Case::BadParams) => {
                code(-32602, fault("invalid_params", "unknown", ""))
            }
            (Self::Nameko, Case::UnknownMethod) => {
                class("MethodNotFound", json!("nope"), fault("unknown_method", "unknown", "nope"))
            }
            (Self::Picom, Case::UnknownMethod) => fault("unknown_method", "unknown", "nope"),
            (Self::Plain, Case::UnknownMethod) => {
                own("no such method", json!("no such method"), json!(404))
            }
            (Self::Micro | Self::Hub, Case::UnknownMethod) => {
                fault("unknown_method", "not_sent", "nope")
            }
            (Self::Nest, Case::UnknownMethod) => fault("unknown_service", "not_sent", "nope"),
            (Self::JsonRpc, Case::UnknownMethod) => {
                code(-32601, fault("unknown_method", "unknown", ""))
            }
            (Self::JsonRpc, Case::UnknownService) => fault("unknown_service", "unknown", ""),
            (_, Case::UnknownService) => fault("unknown_service", "not_sent", ""),
            (_, Case::TimeOut) => fault("timeout", "unknown", "4s"),
            _ => return None,
        })
    }

    /// Whether a service sees the call of a case; a library may refuse it before.
    pub fn sees(self, case: Case) -> bool {
        match case {
            Case::UnknownService => false,
            Case::UnknownMethod => matches!(self, Self::Picom | Self::Plain | Self::JsonRpc),
            Case::BadParams => self != Self::Nameko,
            _ => true,
        }
    }
}
