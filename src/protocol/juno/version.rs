//! Versions and ranges as Juno modules write them.
//!
//! The real daemon reads Rust's form (`^1.2, <1.9`; a bare `1.2.3` means `^1.2.3`). Modules from
//! Node's world also write npm's: comparators parted by blanks, `1.0.0 - 2.0.0`, `1.x || 2.x`.
//! Where both can be read, Rust's meaning holds.

use semver::{Version, VersionReq};

/// Which versions of a module fit: one of the alternatives must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range(Vec<VersionReq>);

impl Range {
    /// Reads a range; `None` for what is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split("||").map(alternative).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether a version fits.
    pub(super) fn fits(&self, version: &Version) -> bool {
        self.0.iter().any(|range| range.matches(version))
    }
}

fn alternative(text: &str) -> Option<VersionReq> {
    let text = text.trim();
    if text.is_empty() {
        return Some(VersionReq::STAR);
    }
    if let Ok(range) = VersionReq::parse(text) {
        return Some(range);
    }
    if let Some((low, high)) = text.split_once(" - ") {
        return VersionReq::parse(&format!(">={}, <={}", low.trim(), high.trim())).ok();
    }
    // An operator may stand apart from its version: `>= 1.0.0 < 2.0.0`.
    let mut comparators: Vec<String> = Vec::new();
    for word in text.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        match comparators.last_mut() {
            Some(last) if last.ends_with(['<', '>', '=', '^', '~']) => last.push_str(word),
            _ => comparators.push(word.to_owned()),
        }
    }
    VersionReq::parse(&comparators.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases: [(&str, &[&str], &[&str]); 16] = [
            ("*", &["0.0.1", "9.9.9"], &["1.0.0-alpha"]),
            ("", &["1.0.0"], &[]),
            ("1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]),
            ("=1.2.3", &["1.2.3"], &["1.2.4"]),
            ("^1.0.0", &["1.0.0", "1.99.0"], &["0.9.9", "2.0.0"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0"]),
            ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("1.*", &["1.0.0", "1.5.2"], &["2.0.0"]),
            ("1.x", &["1.0.0", "1.5.2"], &["2.0.0"]),
            (">=1.0.0, <2.0.0", &["1.5.0"], &["2.0.0"]),
            (">=1.0.0 <2.0.0", &["1.5.0"], &["0.9.0", "2.0.0"]),
            (">= 1.0.0 < 2.0.0", &["1.5.0"], &["2.0.0"]),
            ("1.0.0 - 2.0.0", &["1.0.0", "2.0.0"], &["2.0.1"]),
            ("1.x || >=2.5.0", &["1.1.0", "2.5.0"], &["2.4.0"]),
            (">1", &["2.0.0"], &["1.9.9"]),
            ("1.0.0-beta", &["1.0.0-beta", "1.0.0"], &["1.0.0-alpha"]),
        ];
        for (text, fitting, others) in cases {
            let range = Range::parse(text).unwrap_or_else(|| panic!("{text:?} is a range"));
            let fits = |version: &&str| range.fits(&Version::parse(version).expect("a version"));
            assert!(fitting.iter().all(fits), "{text:?} fits {fitting:?}");
            assert!(!others.iter().any(fits), "{text:?} does not fit {others:?}");
        }
        for text in ["abc", "latest", "1.2.3.4", ">", "1 - ", "^", "1.0.0 -- 2"] {
            assert_eq!(Range::parse(text), None, "{text:?}");
        }
    }
}
