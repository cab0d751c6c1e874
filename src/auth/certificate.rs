//! Who a certificate makes known (RFC 5280, section 4.1). Pure: whoever hands it in has verified it.
//!
//! The subject is the first URI among its alternative names, else the first DNS name, else the first
//! e-mail address, else its common name. A name that no person could read is none, and nothing takes
//! its place.

use crate::caller::{Identity, Scheme};
use crate::der::{self, CONTEXT_3, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, Value};
use crate::validity::Validity;

/// 2.5.29.17
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The kinds of alternative names that count, in the order in which they do.
const URI: u8 = 0x86;
const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

/// The longest name that is one, in bytes.
const LONGEST: usize = 1_024;

/// Who it makes known; none where it names nobody.
pub(crate) fn identity(certificate: &[u8]) -> Option<Identity> {
    let (validity, rest) = Validity::found(certificate)?;
    let (subject, rest) = der::expect(rest, SEQUENCE)?;
    // The key, and then what is optional.
    let optional = der::read(rest)?.rest;
    let subject = match alternative_name(optional) {
        Some(name) => text(&name)?,
        None => common_name(subject)?,
    };
    Some(Identity {
        user_id: Some(format!("cert:{subject}")),
        until: Some(validity.until()),
        ..Identity::new(Scheme::Certificate, subject)
    })
}

/// The alternative name that counts most.
fn alternative_name(optional: &[u8]) -> Option<Value<'_>> {
    let extensions = values(optional).find(|value| value.tag == CONTEXT_3)?;
    let (extensions, _) = der::expect(extensions.content, SEQUENCE)?;
    let names = values(extensions).find_map(|extension| {
        let (id, rest) = der::expect(extension.content, OBJECT_ID)?;
        // Whether it is critical may stand before.
        let value = values(rest).find(|value| value.tag == OCTET_STRING)?;
        (id == ALTERNATIVE_NAME).then_some(value.content)
    })?;
    let (names, _) = der::expect(names, SEQUENCE)?;
    [URI, DNS, EMAIL].into_iter().find_map(|kind| values(names).find(|name| name.tag == kind))
}

/// The most specific one, which is the last.
fn common_name(subject: &[u8]) -> Option<String> {
    let attributes = values(subject).filter(|part| part.tag == SET);
    let attributes = attributes.flat_map(|part| values(part.content));
    let names = attributes.filter_map(|attribute| {
        let (id, value) = der::expect(attribute.content, OBJECT_ID)?;
        (id == COMMON_NAME).then(|| der::read(value)).flatten()
    });
    text(&names.last()?)
}

fn text(name: &Value<'_>) -> Option<String> {
    let is_text = match name.tag {
        UTF8 => true,
        URI | DNS | EMAIL | PRINTABLE | IA5 => name.content.is_ascii(),
        _ => false,
    };
    let text = std::str::from_utf8(name.content).ok().filter(|_| is_text)?;
    // Services are told it in a header, where blanks at its ends would go.
    let is_name = (1..=LONGEST).contains(&text.len())
        && !text.contains(char::is_control)
        && text.trim() == text;
    is_name.then(|| text.to_owned())
}

/// Values that stand one behind the other, as far as they can be read.
fn values(mut der: &[u8]) -> impl Iterator<Item = Value<'_>> {
    std::iter::from_fn(move || {
        let value = der::read(der)?;
        der = value.rest;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("a short one").to_be_bytes();
        [&[tag, 0x82, length[0], length[1]][..], content].concat()
    }

    fn attribute(id: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let pair = [der(OBJECT_ID, id), der(tag, value)].concat();
        der(SET, &der(SEQUENCE, &pair))
    }

    /// One with these parts of a subject and these alternative names, until an instant.
    fn certificate(subject: &[Vec<u8>], names: &[(u8, &[u8])], end: (u8, &[u8])) -> Vec<u8> {
        let names: Vec<u8> = names.iter().flat_map(|(tag, name)| der(*tag, name)).collect();
        let other = [der(OBJECT_ID, &[0x55, 0x1d, 0x0f]), der(OCTET_STRING, &[1])].concat();
        let critical = der(1, &[0xff]);
        let value = der(OCTET_STRING, &der(SEQUENCE, &names));
        let alternative = [der(OBJECT_ID, ALTERNATIVE_NAME), critical, value].concat();
        let extensions = [der(SEQUENCE, &other), der(SEQUENCE, &alternative)].concat();
        let extensions = der(CONTEXT_3, &der(SEQUENCE, &extensions));
        let validity = [der(UTC_TIME, b"200101000000Z"), der(end.0, end.1)].concat();
        let signed = [
            der(0xa0, &der(2, &[2])),
            der(2, &[7]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &attribute(COMMON_NAME, UTF8, b"ca")),
            der(SEQUENCE, &validity),
            der(SEQUENCE, &subject.concat()),
            der(SEQUENCE, &[]),
            der(0x81, &[0, 1]),
            if names.is_empty() { Vec::new() } else { extensions },
        ];
        der(SEQUENCE, &der(SEQUENCE, &signed.concat()))
    }

    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    const LATE: (u8, &[u8]) = (UTC_TIME, b"491231235959Z");

    fn subject(parts: &[Vec<u8>], names: &[(u8, &[u8])]) -> Option<String> {
        let identity = identity(&certificate(parts, names, LATE))?;
        assert_eq!(identity.scheme, Scheme::Certificate);
        assert_eq!(identity.user_id, Some(format!("cert:{}", identity.subject)));
        Some(identity.subject)
    }

    #[test]
    fn the_subject_is_the_name_that_counts_most() {
        let name = || vec![attribute(COMMON_NAME, UTF8, b"edge")];
        let (uri, dns, email) = (&b"spiffe://x/edge"[..], &b"edge.example"[..], &b"a@example"[..]);
        for (names, expected) in [
            (&[][..], "edge"),
            (&[(EMAIL, email), (DNS, dns), (URI, uri)], "spiffe://x/edge"),
            (&[(EMAIL, email), (DNS, dns), (DNS, b"b.example")], "edge.example"),
            (&[(0x87, &[127, 0, 0, 1]), (EMAIL, email)], "a@example"),
            (&[(0x87, &[127, 0, 0, 1])], "edge"),
        ] {
            assert_eq!(subject(&name(), names).as_deref(), Some(expected), "{names:?}");
        }
        let several = [
            attribute(COMMON_NAME, PRINTABLE, b"unit"),
            attribute(&[0x55, 0x04, 0x0a], UTF8, b"organization"),
            attribute(COMMON_NAME, UTF8, "j\u{fc}rgen".as_bytes()),
        ];
        assert_eq!(subject(&several, &[]).as_deref(), Some("j\u{fc}rgen"));
    }

    #[test]
    fn a_name_that_nobody_can_read_is_none() {
        let name = || vec![attribute(COMMON_NAME, UTF8, b"edge")];
        let long = vec![b'a'; LONGEST + 1];
        for bad in [&b"a\0.example"[..], b"", b"a\n", "j\u{fc}".as_bytes(), b"\xff", &long] {
            assert_eq!(subject(&name(), &[(DNS, bad), (EMAIL, b"a@b")]), None, "{bad:?}");
        }
        assert_eq!(subject(&[], &[]), None);
        for (tag, bad) in [(UTF8, &b"\xff"[..]), (0x1e, b"\0a"), (PRINTABLE, b"\xfc"), (UTF8, b"")]
        {
            assert_eq!(subject(&[attribute(COMMON_NAME, tag, bad)], &[]), None, "{bad:?}");
        }
    }

    #[test]
    fn it_ends_when_it_says() {
        let name = || vec![attribute(COMMON_NAME, UTF8, b"edge")];
        let until = |end| identity(&certificate(&name(), &[], end)).map(|known| known.until);
        let at = |seconds| Some(Some(UNIX_EPOCH + Duration::from_secs(seconds)));
        assert_eq!(until((UTC_TIME, b"000101000000Z")), at(946_684_800));
        assert_eq!(until((UTC_TIME, b"991231235959Z")), at(946_684_799));
        assert_eq!(until((GENERALIZED_TIME, b"21000101000000Z")), at(4_102_444_800));
        for bad in [&b"21000101000000"[..], b"2100Z", b"", b"21001301000000Z", b"\xff"] {
            assert_eq!(until((GENERALIZED_TIME, bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn half_a_certificate_names_nobody() {
        let names = [(URI, &b"spiffe://x/edge"[..])];
        let whole = certificate(&[attribute(COMMON_NAME, UTF8, b"edge")], &names, LATE);
        assert!(identity(&whole).is_some());
        for end in 0..whole.len() {
            assert!(identity(&whole[..end]).is_none(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let names = [(DNS, &b"edge.example"[..])];
            let mut bytes = certificate(&[attribute(COMMON_NAME, UTF8, b"e")], &names, LATE);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            identity(&bytes);
        }
    }
}
