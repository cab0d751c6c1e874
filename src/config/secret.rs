//! Text that must never show in a log, an error, a metric or the console.

use std::fmt;

/// A secret. Compares equal to its like, and shows as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret's text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the library that connects with it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// For a URL: the same without its user name, password and query, to show to an operator.
    pub fn url_without_credentials(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return "***".to_owned() };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}{path}")
    }
}

/// A value of the configuration in a message: in quotes, as it was written, unless it is long or
/// may hold credentials, as a URL may that was meant for another key.
pub fn quoted(text: &str) -> String {
    if text.chars().count() > 40 || text.contains("://") || text.contains('@') {
        return "that string".to_owned();
    }
    format!("\"{text}\"")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
