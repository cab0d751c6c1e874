//! The subject of a request, and what is refused before it is sent.

use super::{Dialect, nest};
use crate::call::{Request, is_plain_name};
use crate::fault::{Fault, FaultKind};

/// A NATS server ends a connection whose control line is over 4 KiB. The line holds the subject,
/// the reply subject and two numbers.
const LONGEST_SUBJECT: usize = 1024;

/// The members of JavaScript's Object.prototype. A Picom service finds them as handlers, calls
/// them, and dies (WIRE, section 2.3).
const OBJECT_PROTOTYPE: [&str; 12] = [
    "constructor",
    "toString",
    "toLocaleString",
    "valueOf",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "__proto__",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
];

/// What subjects of NATS's own begin with: of the system, of micro services' inquiries, of JetStream and what is kept in
/// it, of MQTT, and of servers among each other.
const OWN: [&str; 13] = [
    "$SYS", "$SRV", "$JS", "$JSC", "$KV", "$O", "$OBJ", "$MQTT", "$NRG", "$LDS", "$GR", "$G", "$RQ",
];

/// A call that was refused because it would harm a peer.
#[derive(Debug)]
pub(in crate::protocol::nats) struct Unsendable {
    /// For the metric.
    pub(in crate::protocol::nats) reason: &'static str,
    /// For the caller.
    pub(in crate::protocol::nats) fault: Fault,
}

/// The subject of a call: its row's, or `service.method`. `inbox_prefix` is where replies come in:
/// nobody may call there.
pub(in crate::protocol::nats) fn subject(
    dialect: Dialect,
    inbox_prefix: &str,
    request: &Request<'_>,
) -> Result<String, Unsendable> {
    let subject = match request.subject {
        Some(subject) => written(dialect, subject),
        None => [request.service, ".", request.method].concat(),
    };
    let flaw = match request.subject {
        Some(_) => flaw_as_told(&subject, inbox_prefix),
        None => flaw(&subject, inbox_prefix),
    };
    if let Some((reason, flaw)) = flaw {
        let message = format!("{} cannot be called over NATS: {flaw}", shown(&subject));
        return Err(Unsendable {
            reason,
            fault: Fault::not_sent(FaultKind::InvalidRequest, message),
        });
    }
    let method = last_token(&subject);
    if dialect == Dialect::Picom && OBJECT_PROTOTYPE.contains(&method) {
        let message = format!(
            "method not found: {} is a member of every JavaScript object, and calling it would \
             end the Picom service",
            shown(method)
        );
        let fault = Fault::not_sent(FaultKind::UnknownMethod, message);
        return Err(Unsendable { reason: "object_prototype", fault });
    }
    Ok(subject)
}

/// The subject that somebody wrote into a row: in Nest it may be an object.
pub(in crate::protocol::nats) fn written(dialect: Dialect, subject: &str) -> String {
    if dialect == Dialect::Nest { nest::subject(subject) } else { subject.to_owned() }
}

/// The token that Picom takes as the method.
pub(super) fn last_token(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(_, last)| last)
}

/// Why a subject of a caller's words must not be published to: the metric's reason, and the words for a person.
/// What begins with `$` may be NATS's own, now or in a later version.
pub(super) fn flaw(subject: &str, inbox_prefix: &str) -> Option<(&'static str, &'static str)> {
    const SYSTEM: &str = "its name begins with `$`, as those of NATS itself do";
    let flaw = flaw_as_told(subject, inbox_prefix);
    flaw.or_else(|| subject.starts_with('$').then_some(("system_subject", SYSTEM)))
}

/// The same of a subject that a row or its service tells: it may begin with `$`, where it is not NATS's own.
pub(super) fn flaw_as_told(
    subject: &str,
    inbox_prefix: &str,
) -> Option<(&'static str, &'static str)> {
    if subject.len() > LONGEST_SUBJECT {
        return Some(("long_subject", "its name is longer than 1024 bytes"));
    }
    if !is_plain_name(subject) {
        if subject.bytes().any(|b| matches!(b, b'*' | b'>')) {
            return Some(("wildcard", "its name holds a wildcard, `*` or `>`"));
        }
        let blank = |c: char| c.is_control() || c.is_whitespace();
        if subject.contains(blank) {
            return Some(("blank", "its name holds a blank or a control character"));
        }
        if subject.split('.').any(str::is_empty) {
            return Some(("empty_token", "its name has nothing between two dots, or at an end"));
        }
    }
    let in_inbox = |rest: &str| rest.is_empty() || rest.starts_with('.');
    if is_own(subject) || subject.strip_prefix(inbox_prefix).is_some_and(in_inbox) {
        return Some(("system_subject", "its name belongs to NATS itself"));
    }
    None
}

/// Whether a subject is of NATS's own.
pub(super) fn is_own(subject: &str) -> bool {
    let first = subject.split('.').next().unwrap_or_default();
    OWN.contains(&first) || subject.starts_with("_INBOX")
}

/// A caller's words in a message: quoted, without control characters, cut short.
fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;
    use crate::call::Params;

    #[test]
    fn subjects() {
        for (service, method, expected) in [
            ("mailer", "send", Ok("mailer.send")),
            ("a.b.c", "d", Ok("a.b.c.d")),
            ("カート", "追加", Ok("カート.追加")),
            ("mailer", "s*", Err("wildcard")),
            ("*", "send", Err("wildcard")),
            ("mailer", ">", Err("wildcard")),
            ("mailer", "se nd", Err("blank")),
            ("mailer", "send\r\nPUB x 0", Err("blank")),
            ("mailer", "send\t", Err("blank")),
            ("mailer", "send\0", Err("blank")),
            ("mailer", "send\u{7f}", Err("blank")),
            ("mailer", "send\u{a0}", Err("blank")),
            ("mailer", "send\u{2028}", Err("blank")),
            ("", "send", Err("empty_token")),
            ("mailer", "", Err("empty_token")),
            (".mailer", "send", Err("empty_token")),
            ("mail..er", "send", Err("empty_token")),
            ("mailer.", "send", Err("empty_token")),
            ("$SRV", "PING", Err("system_subject")),
            ("$SYS.REQ", "USER", Err("system_subject")),
            ("$JS.API", "INFO", Err("system_subject")),
            ("$other", "x", Err("system_subject")),
            ("_INBOX.abc", "1", Err("system_subject")),
            ("_INBOX_other", "1", Err("system_subject")),
            ("own.inbox", "1", Err("system_subject")),
            ("own.inboxes", "1", Ok("own.inboxes.1")),
            ("mailer.$SYS", "x", Ok("mailer.$SYS.x")),
        ] {
            let mut sample = Sample::new(Params::None);
            (sample.service, sample.method) = (service.to_owned(), method.to_owned());
            for dialect in [Dialect::Picom, Dialect::Plain, Dialect::Micro] {
                let made = subject(dialect, "own.inbox", &sample.request());
                let found = made.as_deref().map_err(|refusal| refusal.reason);
                assert_eq!(found, expected, "{service:?} {method:?}");
                let Err(refusal) = made else { continue };
                assert_eq!(refusal.fault.kind(), FaultKind::InvalidRequest);
                assert_eq!(refusal.fault.outcome().as_str(), "not_sent");
                assert!(!refusal.fault.message().contains(char::is_control));
            }
        }
    }

    #[test]
    fn a_row_may_name_a_subject_that_begins_as_those_of_nats_do() {
        for (told, expected) in [
            ("$EVT.config.change", Ok("$EVT.config.change")),
            ("$SYSTEM.x", Ok("$SYSTEM.x")),
            ("$SYS.REQ.USER", Err("system_subject")),
            ("$SRV.PING", Err("system_subject")),
            ("$JS.API.INFO", Err("system_subject")),
            ("$JS", Err("system_subject")),
            ("$KV.conf.a", Err("system_subject")),
            ("$O.files.C.x", Err("system_subject")),
            ("_INBOX.a", Err("system_subject")),
            ("own.inbox.a", Err("system_subject")),
            ("$EVT.*", Err("wildcard")),
        ] {
            let sample = Sample::new(Params::None);
            let request = Request { subject: Some(told), ..sample.request() };
            let made = subject(Dialect::Micro, "own.inbox", &request);
            assert_eq!(made.as_deref().map_err(|refusal| refusal.reason), expected, "{told}");
        }
    }

    #[test]
    fn a_subject_fits_the_control_line() {
        let mut sample = Sample::new(Params::None);
        sample.service = "s".repeat(5000);
        let refusal =
            subject(Dialect::Plain, "_INBOX", &sample.request()).expect_err("it is too long");
        assert_eq!(refusal.reason, "long_subject");
        assert!(refusal.fault.message().len() < 200);
    }

    #[test]
    fn members_of_every_object_never_reach_picom() {
        for member in OBJECT_PROTOTYPE {
            for (service, method) in [("mailer", member), ("mailer", &format!("a.{member}"))] {
                let mut sample = Sample::new(Params::None);
                (sample.service, sample.method) = (service.to_owned(), method.to_owned());
                let request = sample.request();
                let refusal = subject(Dialect::Picom, "_INBOX", &request).expect_err("refused");
                assert_eq!(refusal.reason, "object_prototype");
                assert_eq!(refusal.fault.kind(), FaultKind::UnknownMethod);
                assert_eq!(refusal.fault.outcome().as_str(), "not_sent");
                assert!(subject(Dialect::Plain, "_INBOX", &request).is_ok());
                assert!(subject(Dialect::Micro, "_INBOX", &request).is_ok());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_caller_writes_is_one_subject_or_refused(name in "\\PC{0,12}|[a.$*> _-]{0,9}") {
            let mut sample = Sample::new(Params::None);
            sample.service = name;
            if let Ok(subject) = subject(Dialect::Picom, "_INBOX", &sample.request()) {
                let tokens_are_whole = subject.split('.').all(|token| !token.is_empty());
                proptest::prop_assert!(tokens_are_whole);
                let harmless = !subject.contains([' ', '\r', '\n', '\t', '*', '>']);
                proptest::prop_assert!(harmless && !subject.starts_with('$'));
            }
        }
    }
}
