//! Who may ask for the pages: no foreign web page, and where `[admin] token` is set, whoever shows it.
//! Whether Genkan lives and is ready may be asked by all: what asks that has no secrets.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::Request;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;
use tracing::warn;

use crate::auth::guesses::{Guesses, Refused};
use crate::config::AdminConfig;
use crate::config::socket::Listen;
use crate::flood::Flood;
use crate::metrics::credential_refused;
use crate::networks::of_one_machine;
use crate::units::whole_seconds;
use crate::web::{Unwelcome, WebPolicy};

/// What anybody may ask.
const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// Who has shown wrong tokens, over all gates that stood here, and the log's lines about that.
pub(super) struct Wrong {
    guesses: Guesses,
    lines: Mutex<Flood<()>>,
}

impl Wrong {
    /// Nobody has.
    pub(super) fn new() -> Self {
        Self { guesses: Guesses::new(), lines: Mutex::new(Flood::new(1)) }
    }

    fn note(&self, from: Option<IpAddr>, how: Refused) {
        credential_refused(how.label());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.admits((), |()| (), Instant::now()) {
            let address = from.map(tracing::field::display);
            warn!(
                address,
                reason = how.label(),
                "a wrong token was shown for the pages of [admin]"
            );
        }
    }

    /// Writes what has not been. To be called every second or so.
    pub(super) fn sum_up(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for ((), more) in lines.sums(Some(Instant::now())) {
            warn!(more, "further wrong tokens were shown for the pages of [admin]");
        }
    }
}

/// What stands before the pages.
pub(super) struct Gate {
    policy: WebPolicy,
    /// The token's hash: those of two tokens tell nothing of how much of them is alike.
    token: Option<[u8; 32]>,
}

impl Gate {
    /// The one that the configuration asks for.
    pub(super) fn new(config: &AdminConfig) -> Self {
        // No web page reaches a Unix socket by a name that leads here, and clients give it any.
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = match config.listen {
            Listen::Tcp(address) => address,
            Listen::Unix(_) => nowhere,
        };
        let policy = WebPolicy::new(address, false, &config.hosts, &[]);
        let token = config.token.as_ref().map(|token| hash(token.secret.expose().as_bytes()));
        Self { policy, token }
    }

    /// Why a request from that address, or from none, is not answered, as the answer to it.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        (from, wrong): (Option<IpAddr>, &Wrong),
    ) -> Result<(), Box<Response>> {
        self.policy.check(request).map_err(|unwelcome| Box::new(unwelcome_here(&unwelcome)))?;
        let Some(token) = &self.token else { return Ok(()) };
        if FREE.contains(&request.uri().path()) {
            return Ok(());
        }
        let mut shown = request.headers().get_all(header::AUTHORIZATION).into_iter();
        let (first, second) = (shown.next(), shown.next());
        let Some(shown) = first.filter(|_| second.is_none()).map(HeaderValue::as_bytes) else {
            return Err(Box::new(unknown(
                "Bearer realm=\"genkan admin\"",
                "send the token of [admin], once, as `Authorization: Bearer TOKEN`",
            )));
        };
        let is_right = || bearer(shown).is_some_and(|shown| are_equal(&hash(shown), token));
        wrong.guesses.look(from.map(of_one_machine), is_right).map_err(|how| {
            wrong.note(from, how);
            Box::new(match how {
                Refused::Wrong => unknown(
                    "Bearer realm=\"genkan admin\", error=\"invalid_token\"",
                    "that is not the token of [admin]",
                ),
                Refused::TooMany(after) => too_many(after),
            })
        })
    }
}

/// What stands behind the scheme, whose case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn hash(text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

/// In constant time.
fn are_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn unknown(challenge: &'static str, what: &str) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))];
    (StatusCode::UNAUTHORIZED, challenge, format!("{what}\n")).into_response()
}

/// Whether the token was right is not told.
fn too_many(after: Duration) -> Response {
    let after = HeaderValue::from(whole_seconds(after).as_secs().max(1));
    let what = "too many wrong tokens came from there, so that none is looked at for now: try again later\n";
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, after)], what).into_response()
}

fn unwelcome_here(unwelcome: &Unwelcome) -> Response {
    let text = match unwelcome {
        Unwelcome::Malformed(how) => (*how).to_owned(),
        Unwelcome::Host(_) => format!("{unwelcome} in [admin]"),
        Unwelcome::Origin(_) | Unwelcome::Site => "pages of other sites may not ask".to_owned(),
    };
    (unwelcome.status(), format!("{text}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::{FoundSecret, Secret};
    use crate::config::socket::SocketAccess;

    fn gate(token: Option<&str>) -> Gate {
        let secret =
            |token: &str| FoundSecret { secret: Secret::new(token.to_owned()), file: None };
        Gate::new(&AdminConfig {
            listen: Listen::Unix("/run/genkan/admin.sock".into()),
            access: SocketAccess::default(),
            hosts: Vec::new(),
            token: token.map(secret),
        })
    }

    #[test]
    fn a_unix_socket_has_any_name_and_no_foreign_page() {
        let gate = gate(None);
        let check = |name: &str, value: &str| {
            let request = Request::get("/metrics").header("host", "x").header(name, value);
            gate.check(&request.body(()).expect("a request"), (None, &Wrong::new())).is_ok()
        };
        assert!(check("accept", "*/*"));
        assert!(!check("origin", "https://evil.example"));
    }

    #[test]
    fn the_token_opens_what_is_not_free() {
        let gate = gate(Some("hunter2hunter2"));
        let status = |path: &str, shown: &[&str]| {
            let mut request = Request::get(path).header("host", "localhost");
            for value in shown {
                request = request.header("authorization", *value);
            }
            let request = request.body(()).expect("a request");
            let checked = gate.check(&request, (None, &Wrong::new()));
            checked.err().map(|response| response.status().as_u16())
        };
        let good = "Bearer hunter2hunter2";
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(path, &[]), None, "{path}");
        }
        assert_eq!(status("/metrics", &[good]), None);
        assert_eq!(status("/metrics", &["bearer hunter2hunter2"]), None);
        for wrong in [
            &[][..],
            &["Bearer hunter2"],
            &["Bearer hunter2hunter2x"],
            &["Bearer "],
            &["Basic hunter2hunter2"],
            &["hunter2hunter2"],
            &[good, good],
        ] {
            assert_eq!(status("/metrics", wrong), Some(401), "{wrong:?}");
        }
        assert_eq!(status("/healthz/", &[]), Some(401));
    }

    #[test]
    fn who_guesses_at_the_token_is_held_up_and_nobody_else() {
        let (gate, wrong) = (gate(Some("hunter2hunter2")), Wrong::new());
        let status = |from: &str, path: &str, shown: Option<&str>| {
            let request = Request::get(path).header("host", "localhost");
            let request = match shown {
                Some(shown) => request.header("authorization", format!("Bearer {shown}")),
                None => request,
            };
            let from = Some(from.parse().expect("an address"));
            let checked = gate.check(&request.body(()).expect("a request"), (from, &wrong));
            checked.err().map(|response| response.status().as_u16())
        };
        let good = Some("hunter2hunter2");
        let all: Vec<_> =
            (0..50).map(|n| status("2001:db8::1", "/metrics", Some(&n.to_string()))).collect();
        assert_eq!((all[9], all[49]), (Some(401), Some(429)), "{all:?}");
        assert_eq!(status("2001:db8::2", "/metrics", good), Some(429), "one machine has the /64");
        assert_eq!(status("2001:db8::1", "/metrics", None), Some(401), "nothing was guessed");
        assert_eq!(status("2001:db8::1", "/readyz", None), None);
        assert_eq!(status("192.0.2.1", "/metrics", good), None);
    }
}
