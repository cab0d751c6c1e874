//! A row of the routing table, as an operator means it. Plain data: the configuration reads it, the
//! router holds calls to it.

pub mod pattern;

use std::time::Duration;

use crate::call::CallName;
use pattern::Pattern;

/// The upstream that is always there, to which the implicit last row sends.
pub const HUB: &str = "hub";

/// One row.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which calls it is for.
    pub pattern: Pattern,
    /// The upstream's name.
    pub upstream: String,
    /// The service to ask for instead of the caller's.
    pub service: Option<String>,
    /// The method to ask for instead of the caller's.
    pub method: Option<String>,
    /// The subject to send to, for an upstream that has subjects.
    pub subject: Option<String>,
    /// Names for positional params.
    pub params: Vec<String>,
    /// How long a call may take.
    pub timeout: Duration,
}

impl Rule {
    /// A row that sends calls on as they are.
    pub fn new(pattern: &str, upstream: &str, timeout: Duration) -> Self {
        Self {
            pattern: Pattern::new(pattern),
            upstream: upstream.to_owned(),
            service: None,
            method: None,
            subject: None,
            params: Vec::new(),
            timeout,
        }
    }

    /// The service to ask for when `name` is called.
    pub fn service<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.service.as_deref().unwrap_or(name.service())
    }

    /// The method to ask for when `name` is called.
    pub fn method<'a>(&'a self, name: &'a CallName) -> &'a str {
        self.method.as_deref().unwrap_or(name.method())
    }
}
