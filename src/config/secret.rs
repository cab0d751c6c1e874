//! Text that must never show in a log, an error, a metric or the console.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::file;
use crate::metrics::RefusedFile;
use crate::redact;

/// More than any secret or chain of certificates takes.
const LARGEST_FILE: usize = 1 << 20;

/// Reads a file that a key names. A larger one than any secret is refused.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path, LARGEST_FILE)
}

/// A secret. Compares equal to its like, and shows as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret's text, and has it taken out of whatever the process shows.
    pub fn new(text: String) -> Self {
        redact::register(&text);
        Self(text)
    }

    /// The text, for the library that connects with it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Another one has taken its place.
    pub fn was_replaced_by(&self, next: &Self) {
        if next != self {
            redact::replace(&self.0, &next.0);
        }
    }

    /// For a URL: what may be shown of it.
    pub fn url_without_credentials(&self) -> String {
        url_without_credentials(&self.0)
    }
}

/// A URL without its user name, password and query, to show to an operator. Where it is broken so
/// that they cannot be told from the host, without that too.
pub fn url_without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return if is_place(url) { url.to_owned() } else { "***".to_owned() };
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // `u:pass/word@h`, or `u:pass` and a comma behind it: a password where the port should be.
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) || host.ends_with(']');
    if !is_port || path.contains('@') {
        return format!("{scheme}://***");
    }
    format!("{scheme}://{host}{path}")
}

/// Whether a text is `ADDRESS:PORT` or `localhost:PORT`, as somebody writes it who leaves out a URL's scheme. Other
/// names may be a user's, whose password is a number.
fn is_place(text: &str) -> bool {
    let of_this_host =
        text.strip_prefix("localhost:").is_some_and(|port| port.parse::<u16>().is_ok());
    of_this_host || text.parse::<SocketAddr>().is_ok()
}

/// A secret that may stand in a file. The file is read again whenever the secret is needed: one
/// that is rotated is in force from the next connection on, and those that live go on.
pub struct SecretSource {
    file: Option<PathBuf>,
    last: Mutex<Secret>,
    refused: Mutex<Option<RefusedFile>>,
}

impl SecretSource {
    /// One that stands in the configuration itself.
    pub fn fixed(secret: Secret) -> Self {
        Self { file: None, last: Mutex::new(secret), refused: Mutex::default() }
    }

    /// One that was found in `file`.
    pub fn file(file: PathBuf, found: Secret) -> Self {
        Self { file: Some(file), last: Mutex::new(found), refused: Mutex::default() }
    }

    /// The file, for people; `None` where the secret stands in the configuration itself.
    pub fn shown_file(&self) -> Option<String> {
        self.file.as_deref().map(shown_path)
    }

    /// The secret as it is now. A file that cannot be used any more keeps the old one, loudly.
    pub fn now(&self) -> Secret {
        let read = self.file.as_ref().map(|file| (file, read_secret(file)));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Some((_, Ok(secret))) => {
                last.was_replaced_by(&secret);
                (*last, *refused) = (secret, None);
            }
            Some((_, Err(complaint))) => {
                refused.get_or_insert_with(|| RefusedFile::new("secret"));
                tracing::error!(complaint, "a secret's file cannot be used: the old one stays");
            }
            None => {}
        }
        last.clone()
    }
}

/// A secret, and the file that it was found in, if it does not stand in the configuration itself:
/// for whoever looks whether it was rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSecret {
    /// The secret as it was when it was read.
    pub secret: Secret,
    /// Where to read it again.
    pub file: Option<PathBuf>,
}

impl FoundSecret {
    /// The file, for people; `None` where the secret stands in the configuration itself.
    pub fn shown_file(&self) -> Option<String> {
        self.file.as_deref().map(shown_path)
    }

    /// The secret that its file holds now, if it is another one. The complaint names the file.
    pub fn rotated(&self) -> Result<Option<Self>, String> {
        let Some(file) = &self.file else { return Ok(None) };
        let secret = read_secret(file)?;
        Ok((secret != self.secret).then(|| Self { secret, file: Some(file.clone()) }))
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a secret's file, without its last line break. The complaint names the file.
pub fn read_secret(file: &Path) -> Result<Secret, String> {
    let shown = shown_path(file);
    let text = match read_file(file).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return Err(format!("{shown} is not UTF-8")),
        Err(error) => return Err(format!("cannot read {shown}: {}", file::complaint(&error))),
    };
    // An editor's mark of the encoding is no part of a secret.
    let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    if text.contains('\0') {
        return Err(format!(
            "{shown} holds a NUL byte: it was not written to its end, or is no text"
        ));
    }
    if text.is_empty() {
        return Err(format!("{shown} is empty: write the secret into it"));
    }
    Ok(Secret::new(text.to_owned()))
}

/// A value of the configuration in a message: in quotes, as it was written, unless it is long or
/// may hold credentials, as a URL may that was meant for another key.
pub fn quoted(text: &str) -> String {
    if text.chars().count() > 40 || text.contains("://") || text.contains('@') {
        return "that string".to_owned();
    }
    format!("\"{text}\"")
}

/// The path of a file in a message, unless what stands there is the secret itself, a URL.
pub fn shown_path(path: &Path) -> String {
    let text = path.display().to_string();
    let is_path = text.starts_with(['/', '.']) || !text.contains('@');
    if is_path && !text.contains("://") { text } else { "that file".to_owned() }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_its_password() {
        let cases = [
            ("amqp://u:hunter2@h:1/v?x=hunter2", "amqp://h:1/v"),
            ("nats://hunter2@[::1]:4222", "nats://[::1]:4222"),
            ("http://[::1]/api", "http://[::1]/api"),
            ("nats://h", "nats://h"),
            ("nats://u:hunter2", "nats://***"),
            ("nats://u:1/hunter2@h:1", "nats://***"),
            ("amqp://u:hun/ter2@h:1", "amqp://***"),
            ("u:hunter2@h", "***"),
            ("localhost:4222", "localhost:4222"),
            ("[::1]:4222", "[::1]:4222"),
            ("192.0.2.1:4222", "192.0.2.1:4222"),
            ("first.last:12345", "***"),
            ("hunter2", "***"),
            ("u:hunter2", "***"),
            ("u:123456", "***"),
        ];
        for (url, shown) in cases {
            assert_eq!(Secret::new(url.to_owned()).url_without_credentials(), shown);
        }
    }

    #[test]
    fn values_and_paths_are_repeated_unless_they_may_hold_a_secret() {
        assert_eq!(quoted("localhost:80"), "\"localhost:80\"");
        for text in ["amqp://h", "u:hunter2@h", &"x".repeat(41)] {
            assert_eq!(quoted(text), "that string");
        }
        assert_eq!(shown_path(Path::new("/run/user@1/token")), "/run/user@1/token");
        assert_eq!(shown_path(Path::new("token")), "token");
        for text in ["amqp://u:hunter2@h", "u:hunter2@h"] {
            assert_eq!(shown_path(Path::new(text)), "that file");
        }
    }
}
