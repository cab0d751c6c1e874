//! What went wrong with TLS towards a server, in words that follow "the server:", and the mend: the same for every
//! protocol, and wherever it is told.
//!
//! Pure. The reason and the mend name no address and no file: callers are told them. What names those, and what rustls
//! says, is for the operator's log.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, ExtendedKeyPurpose};

use crate::printable::printable_line;
use crate::units::format_timestamp;

/// So many of the names in a certificate are told.
const MOST_NAMES: usize = 5;

/// What was tried, as far as a mend has to name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether `ca_file` says whom to trust.
    pub has_authorities: bool,
    /// Whether `cert_file` and `key_file` say who we are.
    pub has_identity: bool,
    /// What its URL begins with where TLS is spoken, and where it is not; nothing where it has to be.
    pub schemes: (&'static str, &'static str),
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {mend}")]
pub struct Trouble {
    /// For everybody.
    pub reason: Cow<'static, str>,
    /// For the log.
    pub detail: String,
    /// What the operator has to do.
    pub mend: Cow<'static, str>,
}

impl Trouble {
    fn new(
        reason: impl Into<Cow<'static, str>>,
        mend: impl Into<Cow<'static, str>>,
        detail: impl ToString,
    ) -> Self {
        Self { reason: reason.into(), detail: detail.to_string(), mend: mend.into() }
    }

    /// Why there was no agreement on TLS; `None` where that is not what failed.
    pub fn of(error: &io::Error, tried: &Tried) -> Option<Self> {
        match tls_error(error) {
            Some(error) => Some(Self::of_tls(error, tried)),
            None => is_end(error.kind()).then(|| {
                let mend = format!("its port may speak no TLS: {}", other_port(tried));
                Self::new("it ends the connection as TLS begins", mend, error)
            }),
        }
    }

    /// The same of an error of rustls.
    pub fn of_tls(error: &rustls::Error, tried: &Tried) -> Self {
        match error {
            rustls::Error::InvalidCertificate(why) => of_certificate(why, tried),
            rustls::Error::AlertReceived(alert) => of_any_alert(*alert, tried),
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
                let mend = format!("its port is a plain one, or another's: {}", other_port(tried));
                Self::new("what answers speaks no TLS", mend, error)
            }
            rustls::Error::PeerIncompatible(_) => Self::new(OTHER_TLS, NEWER_TLS, error),
            error => Self::new(
                "TLS with it failed",
                "see the log, and check `ca_file`, `cert_file`, `key_file` and its URL",
                error,
            ),
        }
    }

    /// A peer that was spoken to without TLS [has answered](is_alert) with it. Nothing of what was sent was understood.
    pub fn of_plain((tls, plain): (&'static str, &'static str)) -> Self {
        let mend = format!("write {tls} for {plain} in its URL");
        Self::new("it speaks TLS", mend, "it has answered with an alert of TLS")
    }

    /// The same where nothing has come in the time that there was.
    pub fn of_silence(tried: &Tried) -> Self {
        let mend = format!("its port may speak no TLS: {}", other_port(tried));
        Self::new(SILENT, mend, "the time for connecting has passed")
    }

    /// Why the peer has ended a connection that was made, where it is for what we have shown, or have not. Who speaks
    /// TLS 1.3 is told after its part is done (RFC 8446, section 4.4.2.4).
    pub fn of_alert(alert: AlertDescription, tried: &Tried) -> Option<Self> {
        use AlertDescription as Alert;
        let detail = format!("its alert is {alert:?}");
        let is_about_us = matches!(
            alert,
            Alert::CertificateRequired
                | Alert::HandshakeFailure
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
        );
        if !is_about_us {
            return None;
        }
        if !tried.has_identity {
            return Some(Self::new(
                "it wants a client certificate that it knows",
                "name `cert_file` and `key_file` of a certificate that its authority vouches for",
                detail,
            ));
        }
        let (reason, mend) = match alert {
            Alert::CertificateExpired => {
                ("it says that the certificate in `cert_file` has ended", "put its successor there")
            }
            Alert::CertificateRevoked => {
                ("it says that the certificate in `cert_file` was revoked", "put another one there")
            }
            Alert::UnknownCA => (
                "it does not know who signed the certificate in `cert_file`",
                "name one that its authority vouches for, and the chain up to that in the same file",
            ),
            _ => (
                "it does not take the client certificate in `cert_file`",
                "name one that its authority vouches for, that is good now, and for clients",
            ),
        };
        Some(Self::new(reason, mend, detail))
    }
}

/// What is told of a peer that takes a connection, and nothing else.
pub const SILENT: &str = "it does not answer TLS";

/// Whether what a peer says first is an alert of TLS (RFC 8446, section 5.1).
pub fn is_alert(first: &[u8]) -> bool {
    matches!(first, [0x15, 3, ..])
}

/// Whether a peer has hung up.
fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
    )
}

/// An error of TLS, which travels inside of I/O errors, and those inside of others.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn other_port(Tried { schemes: (tls, plain), .. }: &Tried) -> String {
    let other = if plain.is_empty() { String::new() } else { format!(", or {plain} for {tls}") };
    format!("write the one that does into its URL{other}")
}

const OTHER_TLS: &str = "it has no version and no cipher of TLS in common with Genkan";
const NEWER_TLS: &str = "let it speak TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3";

fn of_any_alert(alert: AlertDescription, tried: &Tried) -> Trouble {
    use AlertDescription as Alert;
    let detail = format!("its alert is {alert:?}");
    match alert {
        Alert::ProtocolVersion | Alert::InsufficientSecurity => {
            Trouble::new(OTHER_TLS, NEWER_TLS, detail)
        }
        Alert::UnrecognisedName => {
            let mend = "write a name there that it has a certificate for";
            Trouble::new("it has no certificate for the name in its URL", mend, detail)
        }
        alert => Trouble::of_alert(alert, tried).unwrap_or_else(|| {
            let mend = "see its log, and check that the port in its URL is the right one";
            Trouble::new("it breaks off TLS with an alert", mend, detail)
        }),
    }
}

fn of_certificate(error: &CertificateError, tried: &Tried) -> Trouble {
    use CertificateError as Bad;
    const RENEW: &str = "renew it there, or set this machine's clock";
    match error {
        Bad::Expired => Trouble::new("its certificate has ended", RENEW, error),
        Bad::ExpiredContext { not_after, .. } => {
            Trouble::new(format!("its certificate ended {}", date(*not_after)), RENEW, error)
        }
        Bad::NotValidYet => Trouble::new("its certificate is not good yet", RENEW, error),
        Bad::NotValidYetContext { not_before, .. } => {
            let from = date(*not_before);
            Trouble::new(
                format!("its certificate is good from {from} on, and not yet"),
                RENEW,
                error,
            )
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Trouble::new(
            "its certificate is not for the name in its URL",
            "write a name there that it is for, or let it show one for this name",
            for_others(error),
        ),
        Bad::UnknownIssuer | Bad::BadSignature if tried.has_authorities => Trouble::new(
            "its certificate is signed by nobody in `ca_file`",
            "put the certificate of the authority that signed it there, and let it show those in between",
            error,
        ),
        Bad::UnknownIssuer | Bad::BadSignature => Trouble::new(
            "its certificate is signed by no authority that this system trusts",
            "name the certificate of the authority that signed it in `ca_file`, and let it show those in between",
            error,
        ),
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => Trouble::new(
            "its certificate is not one for servers",
            "let it show one with extendedKeyUsage=serverAuth, or none of that extension",
            purposes(error),
        ),
        // The name of an error of the library below, which rustls hands on as it is.
        Bad::Other(_) if error.to_string().contains("CaUsedAsEndEntity") => Trouble::new(
            "it shows the certificate of an authority as its own",
            "it needs one of its own: signed by that authority, or self-signed with `openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE`, which `ca_file` then names",
            error,
        ),
        _ => Trouble::new(
            "its certificate cannot be verified",
            "see the log, and let it show another one",
            error,
        ),
    }
}

fn date(at: UnixTime) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs());
    format_timestamp(at).replace(".000Z", "Z")
}

/// For which names a certificate is, and for which one it was to be.
fn for_others(error: &CertificateError) -> String {
    let CertificateError::NotValidForNameContext { expected, presented } = error else {
        return error.to_string();
    };
    // `DnsName("a.example")` is how the library below says it.
    let plain = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        printable_line(inside.unwrap_or(name).trim_matches('"'))
    };
    let names: Vec<String> = presented.iter().take(MOST_NAMES).map(plain).collect();
    let more = if presented.len() > MOST_NAMES { " and others" } else { "" };
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    format!("it is for {names}{more}, and not for {}", expected.to_str())
}

fn purposes(error: &CertificateError) -> String {
    let CertificateError::InvalidPurposeContext { presented, .. } = error else {
        return error.to_string();
    };
    let shown: Vec<_> = presented.iter().map(ExtendedKeyPurpose::to_string).collect();
    format!("it is for {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError as Bad, Error as Tls, InvalidMessage};

    use super::*;

    const TRIED: Tried =
        Tried { has_authorities: true, has_identity: false, schemes: ("tls://", "nats://") };

    #[test]
    fn what_went_wrong_and_its_mend() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let ended = Bad::ExpiredContext { time: at(9), not_after: at(1_609_459_200) };
        let elsewhere = Bad::NotValidForNameContext {
            expected: "here.example".try_into().expect("a name"),
            presented: vec!["DnsName(\"there\u{1b}.example\")".to_owned()],
        };
        let alert = Tls::AlertReceived;
        for (error, words, detail) in [
            (Tls::InvalidCertificate(ended), "ended 2021-01-01T00:00:00Z: renew", ""),
            (Tls::InvalidCertificate(Bad::UnknownIssuer), "nobody in `ca_file`: put", ""),
            (
                Tls::InvalidCertificate(elsewhere),
                "not for the name in its URL: write",
                "it is for there\\u{1b}.example, and not for here.example",
            ),
            (Tls::InvalidMessage(InvalidMessage::InvalidContentType), "or nats:// for tls://", ""),
            (alert(AlertDescription::CertificateRequired), "wants a client certificate", "alert"),
            (alert(AlertDescription::ProtocolVersion), "no version and no cipher", "alert"),
            (alert(AlertDescription::UnrecognisedName), "no certificate for the name", "alert"),
            (alert(AlertDescription::InternalError), "breaks off TLS with an alert", "alert"),
            (Tls::DecryptError, "TLS with it failed: see the log", ""),
        ] {
            let error = io::Error::other(io::Error::other(error));
            let trouble = Trouble::of(&error, &TRIED).expect("it is TLS that failed");
            assert!(trouble.to_string().contains(words), "{words}: {trouble}");
            assert!(trouble.detail.contains(detail), "{detail}: {trouble:?}");
            assert!(!trouble.to_string().contains("example"), "callers are told: {trouble}");
        }
        let identity = Tried { has_identity: true, ..TRIED };
        let told = Trouble::of_alert(AlertDescription::UnknownCA, &identity).expect("about us");
        assert!(told.reason.contains("who signed the certificate in `cert_file`"), "{told}");
        assert_eq!(Trouble::of(&io::ErrorKind::ConnectionRefused.into(), &TRIED), None);
        let ends = Trouble::of(&io::ErrorKind::UnexpectedEof.into(), &TRIED).expect("TLS");
        assert!(ends.reason.contains("as TLS begins"), "{ends}");
    }
}
