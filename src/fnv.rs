//! FNV-1a, for what has to be the same in every build of Genkan, which the standard library's hash does not
//! promise.

/// A hash of what it was given so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// Of nothing.
    pub(crate) const NEW: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Of these bytes too.
    #[must_use]
    pub(crate) fn and(self, bytes: &[u8]) -> Self {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, mix))
    }

    /// The hash.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    Fnv::NEW.and(bytes).get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_that_is_published() {
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fnv::NEW.and(b"foo").and(b"bar").get(), 0x8594_4171_f739_67e8);
    }
}
