//! The little of DER (X.690, section 8) that is needed of keys and certificates. What does not fit is
//! none.

/// A value, by its tag, and what follows it.
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) rest: &'a [u8],
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// Members that are known by their number.
pub(crate) const CONTEXT_0: u8 = 0xa0;
pub(crate) const CONTEXT_3: u8 = 0xa3;

/// The first value.
pub(crate) fn read(der: &[u8]) -> Option<Value<'_>> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (&[high, low], rest) = rest.split_first_chunk()?;
            (usize::from(high) << 8 | usize::from(low), rest)
        }
        // Lists of what was revoked may be so long.
        0x83 => {
            let (&[high, middle, low], rest) = rest.split_first_chunk()?;
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            (Some(length).filter(|length| *length > 0xffff)?, rest)
        }
        // Nothing here is longer.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Value { tag, content, rest })
}

/// The content of the first value, which has that tag, and what follows.
pub(crate) fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let value = read(der)?;
    (value.tag == tag).then_some((value.content, value.rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_lengths() {
        let long = [&[0x30, 0x81, 0x80][..], &[7; 0x80], &[9]].concat();
        let longer = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 0x100]].concat();
        assert_eq!(expect(&[2, 1, 5, 9], INTEGER), Some((&[5][..], &[9][..])));
        assert_eq!(
            expect(&long, SEQUENCE).map(|(it, rest)| (it.len(), rest.len())),
            Some((128, 1))
        );
        assert_eq!(expect(&longer, SEQUENCE).map(|(it, _)| it.len()), Some(256));
        let list = [&[0x30, 0x83, 0x01, 0x00, 0x00][..], &[7; 0x1_0000], &[9]].concat();
        assert_eq!(
            expect(&list, SEQUENCE).map(|(it, rest)| (it.len(), rest)),
            Some((0x1_0000, &[9][..]))
        );
        for broken in [&[][..], &[2], &[2, 2, 1], &[2, 0x80], &[2, 0x81], &[2, 0x83, 0, 0, 1, 5]] {
            assert!(read(broken).is_none(), "{broken:?}");
        }
        assert!(expect(&[2, 1, 5], SEQUENCE).is_none());
    }
}
