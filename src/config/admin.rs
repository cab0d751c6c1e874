//! `[admin]`: where the pages for operators are served, and under which names.

use std::net::SocketAddr;

use super::section::Section;

/// The settings of the pages for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where they are served.
    pub listen: SocketAddr,
    /// Names of the listener, beside its addresses and `localhost`.
    pub hosts: Vec<String>,
}

impl AdminConfig {
    /// Reads `[admin]`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 8081));
        Self { listen: section.address("listen", default), hosts: section.texts("hosts") }
    }
}
