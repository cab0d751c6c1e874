//! The files of certificates that a configuration names, whatever table they stand in.

use std::path::PathBuf;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// The table, by its path: `upstreams.rabbit`.
    pub table: String,
    /// The key that names it.
    pub key: &'static str,
    /// The file, PEM.
    pub file: PathBuf,
    /// What its certificates are for.
    pub role: Role,
}

/// What certificates are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A chain that others are shown.
    Shown,
    /// Those who are believed.
    Authorities,
}
