//! `[admin]`: where the pages for operators are served, under which names, and what opens them.

use std::net::SocketAddr;

use super::audit::Advice;
use super::hosts;
use super::secret::{FoundSecret, Secret, quoted};
use super::section::Section;
use super::socket::{Listen, SocketAccess};

/// The settings of the pages for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where they are served.
    pub listen: Listen,
    /// Who may connect, where that is a Unix socket.
    pub access: SocketAccess,
    /// Names of the listener, beside its addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What whoever asks must show.
    pub token: Option<FoundSecret>,
}

impl AdminConfig {
    /// Reads `[admin]`.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let config = Self {
            listen: read_listen(section),
            access: SocketAccess::read(section),
            hosts: hosts::read(section),
            token: section.found_secret("token", "token_file"),
        };
        config.access.check(section, std::slice::from_ref(&config.listen));
        if let Some(Err(complaint)) = config.token.as_ref().map(|token| check_token(&token.secret))
        {
            // Nothing of it is repeated.
            let key = if section.is_set("token") { "token" } else { "token_file" };
            section.problem(key, format!("`{key}` in [admin]: {complaint}"));
        }
        config
    }

    /// The token that its file holds now, if it is another one.
    pub fn rotated(&self) -> Result<Option<FoundSecret>, String> {
        let Some(token) = &self.token else { return Ok(None) };
        let Some(token) = token.rotated()? else { return Ok(None) };
        check_token(&token.secret)?;
        Ok(Some(token))
    }

    /// What an operator whom the world can reach should mend.
    pub(super) fn advise(&self) -> Vec<Advice> {
        let open = self.listen.tcp().filter(|address| !address.ip().is_loopback());
        let mut advice = Vec::new();
        if let Some(at) = open {
            let what = if self.token.is_none() {
                format!(
                    "`listen` in [admin]: whoever reaches {at} reads the metrics, the rows and who is \
                     connected: add `token`, or listen on loopback or a Unix socket"
                )
            } else {
                format!(
                    "`listen` in [admin]: on the way to {at} the token can be read, for there is no TLS: \
                     listen on loopback or a Unix socket, or keep that network to yourself"
                )
            };
            advice.push(Advice::new("listen", what));
        }
        if let Some(mode) =
            self.access.mode.filter(|mode| mode & 0o006 != 0 && self.token.is_none())
        {
            let what = format!(
                "`mode` in [admin]: with {mode:04o} every user of the system may connect to the socket: \
                 write \"0660\", and a `group`"
            );
            advice.push(Advice::new("mode", what));
        }
        advice
    }
}

/// An address alone, as everywhere, or a place as the hub has them.
fn read_listen(section: &mut Section<'_>) -> Listen {
    let default = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8081)));
    let Some(text) = section.text("listen") else { return default };
    let read = if text.contains("://") {
        Listen::parse(&text)
    } else {
        text.parse().map(Listen::Tcp).map_err(|_| {
            format!(
                "{} must be an address and a port such as \"127.0.0.1:8081\", or \
                 \"unix:///run/genkan/admin.sock\"",
                quoted(&text)
            )
        })
    };
    let complain = |what| section.problem("listen", format!("`listen` in [admin]: {what}"));
    read.map_err(complain).unwrap_or(default)
}

fn check_token(token: &Secret) -> Result<(), String> {
    let text = token.expose();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let complaint = "a token is sent in a header: it must not be empty, and have no blanks nor \
                     letters beyond ASCII";
    Err(complaint.to_owned())
}
