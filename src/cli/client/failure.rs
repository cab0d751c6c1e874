//! Why no answer came, what that says of the call, and the mend.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use http::Uri;

use super::address::Address;
use super::tls;
use crate::cli::CommandError;
use crate::units::format_duration;

/// Why an exchange failed.
pub enum Failure {
    /// There was nothing to send it with.
    Setup(anyhow::Error),
    /// No answer came.
    Lost(Lost),
    /// None came in time; how long that was.
    Late(Duration),
}

impl Failure {
    /// What stood in the way where there was no connection, and so nothing was sent.
    pub fn not_connected(&self, to: &Address) -> Option<String> {
        match self {
            Failure::Lost(Lost::NotConnected(error)) => Some(connect_trouble(&**error, to.uri()).0),
            _ => None,
        }
    }

    /// It, for people; `mend` is what helps when nobody answers.
    pub fn explain(self, to: &Address, mend: &str) -> anyhow::Error {
        match self {
            Failure::Setup(error) => error,
            Failure::Lost(lost) => lost.explain(to, mend),
            Failure::Late(waited) => {
                let message = format!(
                    "no answer from {} within {}\n  the call may still be carried out",
                    to.shown(),
                    format_duration(waited)
                );
                CommandError::NoConnection(message).into()
            }
        }
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Failure::Lost(lost)
    }
}

/// Why no answer came.
pub enum Lost {
    /// There was no connection: nothing has been sent.
    NotConnected(Box<dyn StdError + Send + Sync>),
    /// It broke before the whole answer was there.
    Broken(String),
    /// What came back is not HTTP.
    NotHttp,
    /// Its head is larger than what is read of one.
    HeadTooLarge,
    /// HTTP/1.1 was spoken, and it speaks HTTP/2 alone: it has understood nothing.
    OnlyHttp2,
    /// HTTP/2 was spoken, and it does not.
    NoHttp2,
    /// The answer is larger than anyone should send.
    TooLarge,
}

impl Lost {
    pub(super) fn of(error: &hyper::Error) -> Self {
        // hyper has no name for who speaks before it is spoken to, as NATS does. A request that waits then is
        // cancelled because of it.
        let is_no_http = |cause: &(dyn StdError + 'static)| {
            cause.downcast_ref().is_some_and(hyper::Error::is_parse)
                || cause.to_string().starts_with("received unexpected message")
        };
        let is_large = |cause: &(dyn StdError + 'static)| {
            cause.downcast_ref().is_some_and(hyper::Error::is_parse_too_large)
        };
        if chain(error).any(is_large) {
            return Lost::HeadTooLarge;
        }
        if chain(error).any(is_no_http) {
            return Lost::NotHttp;
        }
        Lost::Broken(root_cause(error))
    }

    pub(super) fn from_client(error: hyper_util::client::legacy::Error) -> Self {
        if error.is_connect() || find_tls(&error).is_some_and(tls::is_refusal) {
            return Lost::NotConnected(Box::new(error));
        }
        match find::<hyper::Error>(&error) {
            Some(hyper) => Lost::of(hyper),
            None => Lost::Broken(root_cause(&error)),
        }
    }

    pub(super) fn from_body(error: Box<dyn StdError + Send + Sync>) -> Self {
        if error.is::<http_body_util::LengthLimitError>() {
            return Lost::TooLarge;
        }
        Lost::Broken(root_cause(&*error))
    }

    pub(super) fn explain(self, to: &Address, mend: &str) -> anyhow::Error {
        let shown = to.shown();
        let message = match self {
            Lost::NotConnected(error) => match connect_trouble(&*error, to.uri()) {
                (what, Some(own_mend)) => {
                    format!("cannot connect to {shown}: {what}\n  {own_mend}")
                }
                (what, None) => format!("cannot connect to {shown}: {what}\n  {mend}"),
            },
            Lost::Broken(why) => format!(
                "the connection to {shown} ended before the answer: {why}\n  the call may have been \
                 carried out"
            ),
            Lost::OnlyHttp2 => {
                format!("{shown} speaks HTTP/2 alone, and nothing was called\n  --http2 speaks it")
            }
            Lost::NoHttp2 => format!(
                "{shown} does not speak HTTP/2, and nothing was called\n  leave --http2 out, or let the \
                 service speak it"
            ),
            Lost::NotHttp => {
                let tls = match to.uri().scheme_str() {
                    Some("http") => " Where it speaks TLS, write https://",
                    _ => "",
                };
                return anyhow::anyhow!("{shown} does not speak HTTP: is the port right?{tls}");
            }
            Lost::HeadTooLarge => {
                return anyhow::anyhow!(
                    "{shown} answered with more headers, or longer ones, than are read"
                );
            }
            Lost::TooLarge => {
                return anyhow::anyhow!("the answer of {shown} is larger than 256 MiB");
            }
        };
        CommandError::NoConnection(message).into()
    }
}

/// What stood in the way, and the mend where it is not the usual one.
fn connect_trouble(
    error: &(dyn StdError + Send + Sync + 'static),
    uri: &Uri,
) -> (String, Option<String>) {
    let host = uri.host().unwrap_or_default();
    if let Some(failure) = find_tls(error) {
        let (what, mend) = tls::trouble(failure);
        return (what, Some(mend.to_owned()));
    }
    if chain(error).any(|cause| cause.to_string().starts_with("dns error")) {
        let what = format!("cannot find the host `{host}` ({})", root_cause(error));
        return (what, Some("check the name".to_owned()));
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => ("connection refused".to_owned(), None),
        Some(io::ErrorKind::TimedOut) => ("it does not answer".to_owned(), None),
        _ => (root_cause(error), None),
    }
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| error.source())
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// rustls's errors travel inside I/O errors, and those inside others; an I/O error does not show
/// what it holds as its source.
fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|cause| {
        let mut held = cause;
        while let Some(inside) = held.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            held = inside;
        }
        held.downcast_ref()
    })
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_trouble_is_found_inside_io_errors() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::other(tls));
        let uri = Uri::from_static("https://h/");
        let (what, mend) = connect_trouble(&error, &uri);
        assert!(what.contains("UnknownIssuer"), "{what}");
        assert!(mend.is_some_and(|mend| mend.contains("--ca FILE")));
    }
}
