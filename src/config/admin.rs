//! `[admin]`: where the pages for operators are served, and under which names.

use std::net::SocketAddr;

use super::audit::Advice;
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

    /// What an operator whom the world can reach should mend.
    pub(super) fn advise(&self) -> Vec<Advice> {
        let at = self.listen;
        let is_open = !at.ip().is_loopback();
        let advice = is_open.then(|| {
            let what = format!(
                "`listen` in [admin]: whoever reaches {at} reads the metrics, the rows and who is connected: \
                 listen on loopback"
            );
            Advice::new("listen", what)
        });
        advice.into_iter().collect()
    }
}
