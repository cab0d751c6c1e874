//! TLS towards a server: whom to trust, and who we are.
//!
//! The files are checked when the configuration is read, and read again for whoever connects, so
//! that certificates can be replaced without a restart.

pub mod trouble;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;

use crate::config::certificates::Role;
use crate::config::file;
use crate::config::secret::shown_path;
use crate::config::section::Section;
use crate::metrics::RefusedFile;
use crate::pem;
use trouble::Tried;

/// More than any chain of certificates takes, in bytes.
pub(crate) const LARGEST_PEM: usize = 1 << 20;

/// The files that a client's side of TLS is made of.
#[derive(Debug, Default)]
pub struct ClientFiles {
    /// Whom to trust instead of the system's authorities.
    ca_file: Option<PathBuf>,
    /// The client's own certificate and key.
    identity: Option<(PathBuf, PathBuf)>,
    /// What was made of those files last, and the fingerprint of what they held.
    last: Mutex<Option<(u64, Arc<ClientConfig>)>>,
    refused: Mutex<Option<RefusedFile>>,
}

/// What the files hold, or why they cannot be read.
struct Held {
    ca: Option<Result<Vec<u8>, String>>,
    identity: Option<[Result<Vec<u8>, String>; 2]>,
}

impl Held {
    /// Differs where anything about them does.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.ca, &self.identity).hash(&mut hasher);
        hasher.finish()
    }
}

impl ClientFiles {
    /// Reads the keys `ca_file`, `cert_file` and `key_file`, and reports what cannot be used.
    pub fn read(section: &mut Section<'_>) -> Self {
        let ca_file = section.path("ca_file");
        let (cert, key) = (section.path("cert_file"), section.path("key_file"));
        if let Some(file) = &ca_file {
            check_authorities(section, file);
        }
        if let Some(file) = &cert {
            let chain = check_file(section, "cert_file", file, pem::certificates);
            warn(section, "cert_file", file, chain.and_then(|chain| pem::out_of_time(&chain)));
            section.note_certificates("cert_file", file, Role::Shown);
        }
        if let Some(file) = &key {
            check_file(section, "key_file", file, pem::private_key);
        }
        let identity = identity(section, cert, key);
        Self { ca_file, identity, ..Self::default() }
    }

    /// Reads `ca_file` alone: for those to whom nothing is proven.
    pub fn read_authority(section: &mut Section<'_>) -> Self {
        let ca_file = section.path("ca_file");
        if let Some(file) = &ca_file {
            check_authorities(section, file);
        }
        Self { ca_file, ..Self::default() }
    }

    /// Whether others are read from the same places.
    pub fn are_the_files_of(&self, other: &Self) -> bool {
        self.ca_file == other.ca_file && self.identity == other.identity
    }

    /// Whether any file is named.
    pub fn are_named(&self) -> bool {
        self.ca_file.is_some() || self.identity.is_some()
    }

    /// What is tried with them, for whoever tells what went wrong: `schemes` are what a URL begins with where TLS is
    /// spoken, and where it is not.
    pub fn tried(&self, schemes: (&'static str, &'static str)) -> Tried {
        let (has_authorities, has_identity) = (self.ca_file.is_some(), self.identity.is_some());
        Tried { has_authorities, has_identity, schemes }
    }

    /// The certificates as the files hold them now: the same, with the sessions that they have, where those hold what
    /// they held. Files that cannot be used any more keep the old ones, loudly.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let held = self.hold();
        let print = held.fingerprint();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*last, self.are_named()) {
            // The system's own authorities are in files that are not looked at here.
            (Some((known, old)), true) if *known == print => {
                *refused = None;
                return Ok(Arc::clone(old));
            }
            _ => {}
        }
        match (self.load(held), &*last) {
            (Ok(config), _) => {
                *refused = None;
                Ok(Arc::clone(&last.insert((print, config)).1))
            }
            (Err(complaint), Some((_, old))) => {
                refused.get_or_insert_with(|| RefusedFile::new("ca_file"));
                tracing::error!(complaint, "certificates cannot be used: the old ones stay");
                Ok(Arc::clone(old))
            }
            (Err(complaint), None) => Err(complaint),
        }
    }

    /// Reads the files.
    fn hold(&self) -> Held {
        let identity = self.identity.as_ref();
        Held {
            ca: self.ca_file.as_deref().map(content),
            identity: identity.map(|(cert, key)| [content(cert), content(key)]),
        }
    }

    /// What the files make that hold this. The error names the one that is at fault.
    fn load(&self, held: Held) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match self.ca_file.as_deref().zip(held.ca) {
            None => builder
                .with_native_roots()
                .map_err(|error| format!("cannot read the system's certificates: {error}"))?,
            Some((file, held)) => {
                builder.with_root_certificates(read(file, held, pem::authorities)?)
            }
        };
        let Some(((cert_file, key_file), [cert, key])) = self.identity.as_ref().zip(held.identity)
        else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = read(cert_file, cert, pem::certificates)?;
        let key = read(key_file, key, pem::private_key)?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map(Arc::new).map_err(|error| {
            let (cert, key) = (shown_path(cert_file), shown_path(key_file));
            format!("{cert} and {key} do not fit together: {error}")
        })
    }
}

/// What stands in a file, or why it cannot be read.
fn content(file: &Path) -> Result<Vec<u8>, String> {
    file::read(file, LARGEST_PEM)
        .map_err(|error| format!("cannot be read: {}", file::complaint(&error)))
}

/// What a file's content holds, or what is wrong with the file.
fn read<T>(
    file: &Path,
    content: Result<Vec<u8>, String>,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let held = content.and_then(|content| read(&content));
    held.map_err(|complaint| format!("{} {complaint}", shown_path(file)))
}

fn identity(
    section: &Section<'_>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    let (has, lacks) = match (cert, key) {
        (Some(cert), Some(key)) => return Some((cert, key)),
        (None, None) => return None,
        (Some(_), None) => ("cert_file", "key_file"),
        (None, Some(_)) => ("key_file", "cert_file"),
    };
    let title = section.title();
    let message = format!("{title} has `{has}` without `{lacks}`: add `{lacks} = \"…\"`");
    section.problem(has, message);
    None
}

/// Reports a file that cannot be used. What it holds, if it can.
fn check_file<T>(
    section: &Section<'_>,
    key: &str,
    file: &Path,
    held: impl Fn(&[u8]) -> Result<T, String>,
) -> Option<T> {
    let complain = |complaint| {
        section.problem(key, format!("`{key}` in {}: {complaint}", section.title()));
    };
    read(file, content(file), held).map_err(complain).ok()
}

fn check_authorities(section: &Section<'_>, file: &Path) {
    let told =
        |content: &[u8]| pem::authorities(content).map(|_| pem::authorities_out_of_time(content));
    let told = check_file(section, "ca_file", file, told).flatten();
    warn(section, "ca_file", file, told);
    section.note_certificates("ca_file", file, Role::Authorities);
}

/// Warns of certificates that are out of their time, or soon are.
fn warn(section: &Section<'_>, key: &str, file: &Path, told: Option<String>) {
    if let Some(told) = told {
        let title = section.title();
        section.warn(key, format!("`{key}` in {title}: {} {told}", shown_path(file)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's key belongs to it any more.
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBbjCCARWgAwIBAgIUP1Rinlzgq9ZfrDeFCm4HY9iUn+swCgYIKoZIzj0EAwIw\n\
        DTELMAkGA1UEAwwCY2EwHhcNMjYxMTMwMjE0MDQ5WhcNMjYxMjAyMjE0MDQ5WjAN\n\
        MQswCQYDVQQDDAJjYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPqIhuaSJ+hX\n\
        f3Y/g4xNCYR6aNDMhn5m9XbSLbfjYHx5YTgOFFJtdhHkQlPhU/9yjZVuPhZk8qKR\n\
        9GS8+1A1/FyjUzBRMB0GA1UdDgQWBBQIZijUD7UM4sBzHu16OwwzGPAsgzAfBgNV\n\
        HSMEGDAWgBQIZijUD7UM4sBzHu16OwwzGPAsgzAPBgNVHRMBAf8EBTADAQH/MAoG\n\
        CCqGSM49BAMCA0cAMEQCIGNUY6dnBHThFlKgMJm/k48QFbqnaQEtmnHPbOhP6/Og\n\
        AiBVSHqtJh+LwFuhdKIfyaUS9HfOkNNcd338iuhXVUtKMw==\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_made_anew_where_their_files_hold_something_else() {
        let file = std::env::temp_dir().join(format!("genkan-{:x}.pem", fastrand::u64(..)));
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        write(AUTHORITY);
        let files = ClientFiles { ca_file: Some(file.clone()), ..ClientFiles::default() };
        let first = files.config().expect("certificates");
        write(AUTHORITY);
        assert!(Arc::ptr_eq(&first, &files.config().expect("certificates")), "nothing is other");
        write(&format!("{AUTHORITY}{AUTHORITY}"));
        let second = files.config().expect("certificates");
        assert!(!Arc::ptr_eq(&first, &second), "another one was added");
        write("nothing");
        assert!(Arc::ptr_eq(&second, &files.config().expect("the old ones")));
        std::fs::remove_file(&file).expect("removed");
    }
}
