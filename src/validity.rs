//! How long certificates are good (RFC 5280, section 4.1.2.5), and what an operator is told before they end.
//!
//! Pure: whoever asks says what time it is. A certificate that cannot be read is nobody's here.

use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::der::{self, CONTEXT_0, INTEGER, SEQUENCE};
use crate::units::{format_timestamp, parse_date};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const DAY: Duration = Duration::from_secs(86_400);
/// So long before the end somebody should know, and earlier than in the last quarter of its time nobody:
/// what lives for a day is made anew each day.
const AHEAD: Duration = Duration::from_secs(14 * 86_400);
const LAST_PART: u32 = 4;

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    from: SystemTime,
    until: SystemTime,
}

/// What is to be said of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing.
    Good,
    /// It ends soon.
    Ending,
    /// It has not begun.
    Early,
    /// It has ended.
    Ended,
}

impl Validity {
    /// That of a certificate in DER.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        Self::found(certificate).map(|(validity, _)| validity)
    }

    /// That of a certificate in DER, and what stands behind it there: the subject, and more.
    pub(crate) fn found(certificate: &[u8]) -> Option<(Self, &[u8])> {
        let (certificate, _) = der::expect(certificate, SEQUENCE)?;
        let (signed, _) = der::expect(certificate, SEQUENCE)?;
        // The version is left out where it is the first.
        let first = der::read(signed)?;
        let serial = if first.tag == 0xa0 { first.rest } else { signed };
        let algorithm = der::read(serial)?.rest;
        let issuer = der::read(algorithm)?.rest;
        let (validity, rest) = der::expect(der::read(issuer)?.rest, SEQUENCE)?;
        Some((Self::read(validity)?, rest))
    }

    fn read(validity: &[u8]) -> Option<Self> {
        let from = der::read(validity)?;
        let until = der::read(from.rest)?;
        Some(Self { from: time(&from)?, until: time(&until)? })
    }

    /// From when on it is good.
    pub(crate) fn from(&self) -> SystemTime {
        self.from
    }

    /// When it ends.
    pub(crate) fn until(&self) -> SystemTime {
        self.until
    }

    /// How it stands now.
    pub(crate) fn standing(&self, now: SystemTime) -> Standing {
        let lifetime = self.until.duration_since(self.from).unwrap_or_default();
        match self.until.duration_since(now) {
            Err(_) => Standing::Ended,
            Ok(_) if self.from > now => Standing::Early,
            Ok(left) if left < AHEAD.min(lifetime / LAST_PART) => Standing::Ending,
            Ok(_) => Standing::Good,
        }
    }

    fn said(&self, now: SystemTime) -> String {
        let date = |at| format_timestamp(at).replace(".000Z", "Z");
        let left = self.until.duration_since(now).unwrap_or_default();
        match self.standing(now) {
            Standing::Good => format!("is good until {}", date(self.until)),
            Standing::Ended => format!("ended {}", date(self.until)),
            Standing::Early => format!("is good from {} on, and not yet", date(self.from)),
            Standing::Ending => match left.as_secs() / DAY.as_secs() {
                0 => format!("ends within a day, {}", date(self.until)),
                1 => format!("ends in one day, {}", date(self.until)),
                days => format!("ends in {days} days, {}", date(self.until)),
            },
        }
    }
}

/// How a chain stands that is shown to others, by the one in it that is worst off, and what an operator is told,
/// in words that follow the name of its file; none where all is well.
pub(crate) fn of_chain(
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Option<(Standing, String)> {
    let read = chain.iter().enumerate().filter_map(|(at, one)| Some((at, Validity::of(one)?)));
    let (at, worst) = read.max_by_key(|(_, validity)| validity.standing(now))?;
    let standing = worst.standing(now);
    let which = if chain.len() > 1 { format!(", number {},", at + 1) } else { String::new() };
    let mend =
        "those who are shown it do not take one that is out of its time: put its successor there";
    let told = format!("holds a certificate{which} that {}: {mend}", worst.said(now));
    (standing != Standing::Good).then_some((standing, told))
}

/// The time of the one in a chain that ends first: the others are of no use without it.
pub(crate) fn first_to_end(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    chain.iter().filter_map(|one| Validity::of(one)).min_by_key(Validity::until)
}

/// The time of the authority that ends last: until then somebody is believed.
pub(crate) fn last_to_end(authorities: &[CertificateDer<'_>]) -> Option<Validity> {
    authorities.iter().filter_map(|one| Validity::of(one)).max_by_key(Validity::until)
}

/// What an operator is told of authorities, of whom one that is good is enough.
pub(crate) fn of_authorities(all: &[CertificateDer<'_>], now: SystemTime) -> Option<String> {
    let read = all.iter().filter_map(|one| Validity::of(one));
    let best = read.min_by_key(|validity| (validity.standing(now), validity.from))?;
    let which = if all.len() > 1 { "authorities, of whom the last" } else { "an authority that" };
    let mend = "others do not believe it when it is out of its time: add its successor";
    let told = format!("holds {which} {}: {mend}", best.said(now));
    (best.standing(now) != Standing::Good).then_some(told)
}

/// What is to be said of lists of what authorities have revoked: one that is older than it should be, and an authority
/// that has none.
pub(crate) fn of_lists(
    lists: &[CertificateRevocationListDer<'_>],
    authorities: &RootCertStore,
    now: SystemTime,
) -> Vec<String> {
    let read: Vec<_> = lists.iter().filter_map(|list| Issued::of(list)).collect();
    let old = read.iter().enumerate().filter_map(|(at, list)| {
        let due = list.next.filter(|due| *due <= now)?;
        let due = format_timestamp(due).replace(".000Z", "Z");
        Some(format!(
            "holds a list of what was revoked, number {}, that goes on to be used, though the next one was due {due}: put \
             that there",
            at + 1
        ))
    });
    let has_list = |subject: &[u8]| read.iter().any(|list| list.issuer == subject);
    let lacking = authorities.roots.iter().filter(|root| !has_list(&root.subject)).count();
    let lacking = (lacking > 0).then(|| {
        format!(
            "holds no list of {lacking} of the {} authorities in `client_ca_file`, so that whoever has a \
             certificate of theirs is turned away: add it, an empty one where nothing is revoked",
            authorities.len()
        )
    });
    old.chain(lacking).collect()
}

/// Why a list of what was revoked cannot be used, where it lacks what RFC 5280 asks for (section 5.1.2); none where it
/// is something else.
pub(crate) fn unusable_list(lists: &[CertificateRevocationListDer<'_>]) -> Option<String> {
    let lacks = |list: &CertificateRevocationListDer<'_>| {
        let issued = Issued::of(list)?;
        if issued.next.is_none() {
            return Some(
                "does not say when the next one is due: make it anew with that (`openssl ca -gencrl -crldays 30 …`)",
            );
        }
        (!issued.has_extensions).then_some(
            "has no number: make it anew with one (`openssl ca -gencrl …` numbers its lists where its section has \
             `crlnumber = FILE`, of a file that holds `01` at first)",
        )
    };
    let (at, lacking) = lists.iter().enumerate().find_map(|(at, list)| Some((at, lacks(list)?)))?;
    Some(format!("holds a list of what was revoked, number {}, that {lacking}", at + 1))
}

/// What a list says of itself (RFC 5280, section 5.1).
struct Issued<'a> {
    issuer: &'a [u8],
    /// When its successor is there at the latest.
    next: Option<SystemTime>,
    /// Its number and its like stand there.
    has_extensions: bool,
}

impl<'a> Issued<'a> {
    fn of(list: &'a [u8]) -> Option<Self> {
        let (list, _) = der::expect(list, SEQUENCE)?;
        let (signed, _) = der::expect(list, SEQUENCE)?;
        // The version is left out where it is the first.
        let first = der::read(signed)?;
        let algorithm = if first.tag == INTEGER { first.rest } else { signed };
        let (issuer, rest) = der::expect(der::read(algorithm)?.rest, SEQUENCE)?;
        let next = der::read(der::read(rest)?.rest);
        let next = next.filter(|next| matches!(next.tag, UTC_TIME | GENERALIZED_TIME));
        let mut rest = next.as_ref().map_or(&[][..], |next| next.rest);
        let mut has_extensions = false;
        while let Some(member) = der::read(rest) {
            has_extensions |= member.tag == CONTEXT_0;
            rest = member.rest;
        }
        Some(Self { issuer, next: next.as_ref().and_then(time), has_extensions })
    }
}

/// An instant in a certificate.
fn time(value: &der::Value<'_>) -> Option<SystemTime> {
    let digits = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    let (century, digits) = match (value.tag, digits.len()) {
        (GENERALIZED_TIME, 14) => digits.split_at_checked(2)?,
        // RFC 5280, section 4.1.2.5.1.
        (UTC_TIME, 12) => (if digits < "50" { "20" } else { "19" }, digits),
        _ => return None,
    };
    let part = |at: usize| digits.get(at..at + 2);
    let (year, month, day) = (part(0)?, part(2)?, part(4)?);
    let (hour, minute, second) = (part(6)?, part(8)?, part(10)?);
    let date = format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    parse_date(&date).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// One that is good from a day of 1970 until another.
    fn good(from: u32, until: u32) -> Validity {
        Validity { from: UNIX_EPOCH + DAY * from, until: UNIX_EPOCH + DAY * until }
    }

    #[test]
    fn the_end_is_told_ahead_and_not_of_what_is_made_anew_each_day() {
        let now = UNIX_EPOCH + DAY * 100;
        for (from, until, standing, said) in [
            (50, 200, Standing::Good, "is good until 1970-07-20T00:00:00Z"),
            (50, 110, Standing::Ending, "ends in 10 days, 1970-04-21T00:00:00Z"),
            (99, 101, Standing::Good, "is good until"),
            (90, 101, Standing::Ending, "ends in one day, "),
            (101, 200, Standing::Early, "is good from 1970-04-12T00:00:00Z on, and not yet"),
            (1, 99, Standing::Ended, "ended 1970-04-10T00:00:00Z"),
        ] {
            let validity = good(from, until);
            assert_eq!(validity.standing(now), standing, "{from} {until}");
            assert!(validity.said(now).starts_with(said), "{}", validity.said(now));
        }
    }

    #[test]
    fn what_is_no_certificate_is_told_nothing_of() {
        let none = [CertificateDer::from(&b"\x30\x03abc"[..])];
        assert_eq!(
            (of_chain(&none, SystemTime::now()), of_authorities(&none, UNIX_EPOCH)),
            (None, None)
        );
    }
}
