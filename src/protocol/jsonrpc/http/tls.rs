//! The certificate and key of HTTPS, and those who vouch for clients: read again when somebody
//! replaces them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::super::config::{LARGEST_CRL, LARGEST_PEM, TlsConfig};
use super::client_certs::Authorities;
use crate::config::file;
use crate::pem;
use crate::validity::{self, Standing};

/// What speaks TLS.
#[derive(Clone)]
pub(super) struct Tls {
    /// Accepts connections.
    pub(super) acceptor: TlsAcceptor,
    /// Who vouches for clients; none where they are not asked for a certificate.
    pub(super) authorities: Option<Arc<Authorities>>,
    /// What clients are shown.
    chain: Arc<[CertificateDer<'static>]>,
}

impl Tls {
    /// Whether clients are shown the same certificates.
    pub(super) fn shows_the_same_as(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// How what clients are shown stands, and what an operator is told; none where it is good.
    pub(super) fn out_of_time(&self) -> Option<(Standing, String)> {
        validity::of_chain(&self.chain, SystemTime::now())
    }
}

/// The files as they are, or why they cannot be read.
pub(super) struct Files {
    cert: std::io::Result<Vec<u8>>,
    key: std::io::Result<Vec<u8>>,
    client_ca: Option<std::io::Result<Vec<u8>>>,
    client_crl: Option<std::io::Result<Vec<u8>>>,
}

impl Files {
    /// Reads all of them.
    pub(super) fn read(config: &TlsConfig) -> Self {
        let read = |path: &Path| file::read(path, LARGEST_PEM);
        let client_ca = config.clients.as_ref().map(|clients| read(&clients.ca_file));
        let client_crl = config.clients.as_ref().and_then(|clients| clients.crl_file.as_ref());
        let client_crl = client_crl.map(|path| file::read(path, LARGEST_CRL));
        Self { cert: read(&config.cert_file), key: read(&config.key_file), client_ca, client_crl }
    }

    /// Differs where anything about them does.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let clients = self.client_ca.iter().chain(&self.client_crl);
        for read in [&self.cert, &self.key].into_iter().chain(clients) {
            read.as_ref().map_err(ToString::to_string).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Who vouches for clients. The error names the file and what is wrong with it.
    fn authorities(&self, config: &TlsConfig) -> anyhow::Result<Option<Arc<Authorities>>> {
        let (Some(clients), Some(content)) = (&config.clients, &self.client_ca) else {
            return Ok(None);
        };
        let file = clients.ca_file.display();
        let wrong = |why: String| anyhow!("[http.tls] client_ca_file {file} {why}");
        let content =
            content.as_ref().map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let roots = pem::authorities(content).map_err(wrong)?;
        let (Some(file), Some(list)) = (&clients.crl_file, &self.client_crl) else {
            return Authorities::new((content, roots), None, clients.required)
                .map(Some)
                .map_err(wrong);
        };
        let file = file.display();
        let wrong = |why: String| anyhow!("[http.tls] client_crl_file {file} {why}");
        let list = list.as_ref().map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let lists = pem::revocation_lists(list).map_err(wrong)?;
        let revoked = Some((list.as_slice(), lists));
        Authorities::new((content, roots), revoked, clients.required).map(Some).map_err(wrong)
    }

    /// What accepts connections with them. The error names the file and what is wrong with it.
    pub(super) fn tls(&self, config: &TlsConfig, http2: bool) -> anyhow::Result<Tls> {
        let (cert_file, key_file) = (config.cert_file.display(), config.key_file.display());
        let cert =
            self.cert.as_ref().map_err(|e| anyhow!("[http.tls] cert_file {cert_file}: {e}"))?;
        let key = self.key.as_ref().map_err(|e| anyhow!("[http.tls] key_file {key_file}: {e}"))?;
        let chain = pem::certificates(cert)
            .map_err(|complaint| anyhow!("[http.tls] cert_file {cert_file} {complaint}"))?;
        let shown = Arc::from(chain.as_slice());
        let key = pem::private_key(key)
            .map_err(|complaint| anyhow!("[http.tls] key_file {key_file} {complaint}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = self.authorities(config)?;
        let verifier = authorities.as_ref().map(|authorities| authorities.verifier());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(
                verifier.unwrap_or_else(WebPkiClientVerifier::no_client_auth),
            )
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("[http.tls] {cert_file} and {key_file} do not fit together")
            })?;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(server)), authorities, chain: shown })
    }
}

/// When an operator is told again of a certificate that ends.
#[derive(Default)]
pub(super) struct Reminder(Option<(Standing, Instant)>);

impl Reminder {
    /// Whether to tell how it stands now: at once where it stands otherwise than was told, and else once a day.
    pub(super) fn is_due(&mut self, standing: Standing, now: Instant) -> bool {
        const DAY: Duration = Duration::from_secs(86_400);
        let due = self.0.is_none_or(|(told, at)| told != standing || now - at >= DAY);
        if due {
            self.0 = Some((standing, now));
        }
        due
    }
}

/// Tells when the files are others than at the last look but one, and hold still.
pub(super) struct Watch {
    known: u64,
    changing: Option<u64>,
}

impl Watch {
    /// For files that have this fingerprint.
    pub(super) fn new(known: u64) -> Self {
        Self { known, changing: None }
    }

    /// Whether to take what has this fingerprint now. Once for each change: one of the files
    /// may have been written, and another not yet.
    pub(super) fn is_other(&mut self, now: u64) -> bool {
        if now == self.known {
            self.changing = None;
            return false;
        }
        if self.changing.replace(now) != Some(now) {
            return false;
        }
        *self = Self::new(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operator_is_reminded_once_a_day_and_when_it_has_ended() {
        let (mut reminder, hour) = (Reminder::default(), Duration::from_secs(3_600));
        let told = |reminder: &mut Reminder, standing, hours: u32| {
            reminder.is_due(standing, Instant::now() + hour * hours)
        };
        let hours = [0, 1, 23, 24, 25, 48].map(|at| told(&mut reminder, Standing::Ending, at));
        assert_eq!(hours, [true, false, false, true, false, true]);
        assert!(told(&mut reminder, Standing::Ended, 49));
        assert!(!told(&mut reminder, Standing::Ended, 50));
    }

    #[test]
    fn files_are_taken_once_when_they_hold_still() {
        let mut watch = Watch::new(1);
        let looks = [1, 2, 3, 3, 3, 1, 3, 1, 1, 1].map(|now| watch.is_other(now));
        let taken: Vec<usize> = (0..looks.len()).filter(|look| looks[*look]).collect();
        assert_eq!(taken, [3, 8]);
    }
}
