//! Shows until when the certificates are good that files hold: of every table that names some.
//!
//! It tells of the files as they are, not of the connections that were made with what they held before. A file
//! that cannot be read, or holds nothing of the kind, says nothing new: whoever uses it says so in the log.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::config::certificates::{CertificateFile, Role};
use crate::config::file;
use crate::metrics;
use crate::pem;
use crate::validity::{self, Validity};

/// How often the files are read.
const LOOK: Duration = Duration::from_secs(10);
/// More than the certificates of any system take, in bytes.
const LARGEST: usize = 1 << 20;

/// The files, and when they are to be read next.
pub(super) struct Certificates {
    files: Vec<CertificateFile>,
    next_look: Instant,
}

impl Certificates {
    /// Those that a configuration names.
    pub(super) fn new(files: Vec<CertificateFile>) -> Self {
        Self { files, next_look: Instant::now() }
    }

    /// Takes those of another configuration.
    pub(super) fn apply(&mut self, files: &[CertificateFile]) {
        let is_named = |old: &CertificateFile| {
            files.iter().any(|new| (&new.table, new.key) == (&old.table, old.key))
        };
        for gone in self.files.iter().filter(|old| !is_named(old)) {
            metrics::no_certificate(&gone.table, gone.key);
        }
        *self = Self::new(files.to_vec());
    }

    /// Reads them, where it is time.
    pub(super) fn look(&mut self) {
        if Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + LOOK;
        for CertificateFile { table, key, file, role } in &self.files {
            let content = file::read(file, LARGEST).ok();
            let held = content.and_then(|content| pem::certificates(&content).ok());
            if let Some(found) = held.and_then(|held| validity(&held, *role)) {
                metrics::certificate(table, key, found.from(), found.until());
            }
        }
    }
}

fn validity(certificates: &[CertificateDer<'_>], role: Role) -> Option<Validity> {
    match role {
        Role::Shown => validity::first_to_end(certificates),
        Role::Authorities => validity::last_to_end(certificates),
    }
}
