//! What is fuzzed: everything that reads what a stranger wrote. Each target takes any bytes, and panics
//! where a promise is broken; most promise only not to.
//!
//! `fuzz/` runs them under libFuzzer, and a test replays every input that was ever of interest. Built
//! for those two alone.

use crate::call::Params;
use crate::route::pattern::Pattern;
use crate::{auth, config, json, protocol};

/// A target.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by their names.
pub fn targets() -> Vec<Target> {
    let own: [Target; 3] = [("json", json), ("glob", glob), ("configuration", configuration)];
    own.into_iter().chain(auth::fuzzing::TARGETS).chain(protocol::fuzzed()).collect()
}

/// Runs one of them.
///
/// # Panics
/// Where there is none by that name, and where a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let target = targets().into_iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target `{name}`")).1(data);
}

/// Two parts of the data, which a zero byte is between.
pub(crate) fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(0, data).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

/// Whether what is passed on as JSON is some.
///
/// # Panics
/// Where it is none.
pub(crate) fn is_json(json: &[u8]) {
    let read = serde_json::from_slice::<&serde_json::value::RawValue>(json);
    // Deeper than that parser goes it cannot tell.
    let deep = read.as_ref().is_err_and(|error| error.to_string().contains("recursion"));
    assert!(read.is_ok() || deep, "{}", String::from_utf8_lossy(json));
}

/// The same of all params.
pub(crate) fn are_json(params: &Params) {
    match params {
        Params::None => {}
        Params::Array(json) | Params::Object(json) => is_json(json.as_bytes()),
        Params::Both { positional, named } => {
            is_json(positional.as_bytes());
            is_json(named.as_bytes());
        }
    }
}

/// The one walk says yes to what a parser does, and to nothing else.
fn json(data: &[u8]) {
    let Some(text) = json::text(data) else { return };
    let mut members = Vec::new();
    let found = json::outline::outline(text, json::REQUEST_DEPTH, |member| members.push(member));
    if found == Err(json::outline::Flaw::TooDeep) {
        return;
    }
    let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text);
    assert_eq!(found.is_ok(), parsed.is_ok(), "{text:?}: {found:?}, {parsed:?}");
    for member in members.iter().filter(|_| found.is_ok()) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(member.value).is_ok(), "{text:?}");
    }
    if let Some(mended) = json::repair(data) {
        assert!(json::repair(&mended).is_none(), "{text:?}: words of Python's are left");
    }
}

/// What covers a pattern matches all that it does; what matches both says that they meet.
fn glob(data: &[u8]) {
    let (patterns, name) = halves(data);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let Ok(patterns) = std::str::from_utf8(patterns) else { return };
    let (one, other) = patterns.split_once('\n').unwrap_or((patterns, "*"));
    // Beyond that only the time grows.
    if one.len() > 64 || other.len() > 64 || name.len() > 256 {
        return;
    }
    let (one, other) = (Pattern::new(one), Pattern::new(other));
    assert_eq!(one.meets(&other), other.meets(&one), "{one}, {other}");
    if other.matches(name) {
        assert!(!one.covers(&other) || one.matches(name), "{one} covers {other}: {name:?}");
        assert!(!one.matches(name) || one.meets(&other), "{one} meets {other}: {name:?}");
    }
}

fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that it names would be opened.
    if text.contains("_file") || text.contains("_dir") || text.contains("schema") {
        return;
    }
    let loaded = config::parse("fuzzed.toml", text, Default::default(), &protocol::readers());
    for problem in loaded.problems {
        assert!(!problem.to_string().contains('\n'), "{problem}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let entries = entries.map(|entry| entry.expect("an entry").path());
        let read = |path: std::path::PathBuf| {
            (path.display().to_string(), std::fs::read(&path).expect("a file"))
        };
        entries.map(read).collect()
    }

    #[test]
    fn what_was_ever_of_interest_does_no_harm() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in targets() {
            let seeds = files(&root.join("corpus").join(name));
            assert!(!seeds.is_empty(), "fuzz/corpus/{name} has no seed");
            for (file, data) in seeds.into_iter().chain(files(&root.join("finds").join(name))) {
                let done = std::panic::catch_unwind(|| target(&data));
                assert!(done.is_ok(), "{name}: {file}");
            }
        }
    }

    #[test]
    fn every_target_can_be_fuzzed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let mut built: Vec<_> = files(&root).into_iter().map(|(file, _)| file).collect();
        built.sort_unstable();
        let name = |(name, _): Target| root.join(format!("{name}.rs")).display().to_string();
        let mut wanted: Vec<_> = targets().into_iter().map(name).collect();
        wanted.sort_unstable();
        assert_eq!(built, wanted);
    }
}
