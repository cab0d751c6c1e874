//! Clients' certificates: which are accepted, and what a connection that has shown one is known by.
//!
//! A connection outlives the file that vouched for its client. So its certificate is verified again
//! when the authorities are others: one that they do not vouch for makes nobody known any more.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConnection};
use tokio::sync::Notify;
use tracing::debug;

use super::super::config::verifier;
use crate::auth::certificate;
use crate::caller::{Caller, Identity};
use crate::validity::of_lists;

/// Who vouches for clients.
pub(super) struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Differs where their file does.
    fingerprint: u64,
    /// What an operator is told of what they have revoked.
    doubts: Vec<String>,
}

impl Authorities {
    /// Those of a file, and of another one what they have revoked. A client needs no certificate unless one is
    /// `required`.
    pub(super) fn new(
        (file, roots): (&[u8], RootCertStore),
        revoked: Option<(&[u8], Vec<CertificateRevocationListDer<'static>>)>,
        required: bool,
    ) -> Result<Arc<Self>, String> {
        let (list, lists) = revoked.unzip();
        let doubts = lists.as_ref().map(|lists| of_lists(lists, &roots, SystemTime::now()));
        let doubts = doubts.unwrap_or_default();
        let verifier = verifier(roots, lists.unwrap_or_default(), required)?;
        let mut hasher = DefaultHasher::new();
        (file, list).hash(&mut hasher);
        Ok(Arc::new(Self { verifier, fingerprint: hasher.finish(), doubts }))
    }

    /// What verifies a certificate in a handshake.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// What is dubious about the lists of what they have revoked, in words that follow the name of their file.
    pub(super) fn doubts(&self) -> &[String] {
        &self.doubts
    }

    fn vouch_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((certificate, between)) = chain.split_first() else { return false };
        let verified = self.verifier.verify_client_cert(certificate, between, UnixTime::now());
        verified.inspect_err(|error| debug!(%error, "a client's certificate holds no more")).is_ok()
    }
}

/// A connection's certificate, and whom it makes known.
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    identity: Arc<Identity>,
    /// The fingerprint of the authorities that were asked last.
    asked: AtomicU64,
    /// Its client was told that it makes nobody known any more.
    refused: Notify,
}

impl Shown {
    /// What a client has shown that has shaken hands; none where that names nobody.
    pub(super) fn by(
        connection: &ServerConnection,
        authorities: &Authorities,
    ) -> Option<Arc<Self>> {
        let chain = connection.peer_certificates()?;
        let Some(identity) = certificate::identity(chain.first()?) else {
            debug!("a client's certificate has no name that could be used");
            return None;
        };
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let asked = AtomicU64::new(authorities.fingerprint);
        let (identity, refused) = (Arc::new(identity), Notify::new());
        Some(Arc::new(Self { chain, identity, asked, refused }))
    }

    /// The caller as the certificate makes it known.
    pub(super) fn introduce(&self, caller: Caller) -> Caller {
        caller.connected_as(Arc::clone(&self.identity))
    }

    /// A request was refused because nobody knows who sends it. Whether it is this certificate that makes nobody
    /// known any more, which is for good: a connection anew is looked at anew.
    pub(super) fn is_refused(&self) -> bool {
        let is_withdrawn = self.identity.standing.is_withdrawn();
        if is_withdrawn {
            self.refused.notify_one();
        }
        is_withdrawn
    }

    /// Waits until such a request has been refused.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Looks whether those in force still vouch for it. Verifies where they are others alone.
    pub(super) fn look(&self, authorities: Option<&Authorities>) {
        let fingerprint = authorities.map_or(0, |authorities| authorities.fingerprint);
        if authorities.is_some() && self.asked.load(Ordering::Relaxed) == fingerprint {
            return;
        }
        if !authorities.is_some_and(|now| now.vouch_for(&self.chain)) {
            self.identity.standing.withdraw();
        }
        // Afterwards: another request of the connection is not to be let in meanwhile.
        self.asked.store(fingerprint, Ordering::Relaxed);
    }
}
