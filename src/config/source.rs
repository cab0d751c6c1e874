//! Where the configuration comes from: a TOML file, with environment variables over it, merged by
//! the `config` crate; and the place that each key was set in, which that crate does not keep.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

use config::{Map, Value as Merged, ValueKind};

use super::certificates::CertificateFile;
use super::document;
use super::overlay::{Overlay, SEPARATOR, order, says};
use super::places::Places;
use super::problem::{Place, Problem, Severity};
use super::value::{self, ENVIRONMENT, Table};

const PREFIX: &str = "GENKAN__";

/// The environment, by the names of its variables.
pub type Variables = HashMap<OsString, OsString>;

/// Where each key was set.
pub(super) struct Source {
    places: Places,
    whole: bool,
    /// The paths of secrets that stand in it, each with where else it could.
    plain: RefCell<BTreeMap<String, String>>,
    /// The files of certificates that it names.
    certificates: RefCell<Vec<CertificateFile>>,
}

impl Source {
    /// Parses and merges. What cannot be parsed is reported to `problems`, each with its line,
    /// and left out.
    pub(super) fn load(
        file: &str,
        text: &[u8],
        variables: Variables,
        problems: &RefCell<Vec<Problem>>,
    ) -> (Self, Table) {
        let (document, mut source) = document::read(file, text, problems);
        let overlay = source.overlay(variables, (file, &document), problems);
        let merged = merge(document, overlay).unwrap_or_else(|error| {
            let (place, message) = (Place::File(file.to_owned()), error.to_string());
            problems.borrow_mut().push(Problem { severity: Severity::Error, place, message });
            Map::new()
        });
        (source, value::table(merged))
    }

    pub(super) fn new(places: Places, whole: bool) -> Self {
        Self { places, whole, plain: RefCell::default(), certificates: RefCell::default() }
    }

    /// Notes that a file of certificates is named.
    pub(super) fn note_certificates(&self, file: CertificateFile) {
        self.certificates.borrow_mut().push(file);
    }

    /// Those that were.
    pub(super) fn certificates(&self) -> Vec<CertificateFile> {
        self.certificates.borrow().clone()
    }

    /// Notes that a secret was found there.
    pub(super) fn note_plain_secret(&self, path: String, mend: String) {
        self.plain.borrow_mut().insert(path, mend);
    }

    /// The paths where one was, each with where else it could stand.
    pub(super) fn plain_secrets(&self) -> BTreeMap<String, String> {
        self.plain.borrow().clone()
    }

    /// Whether all of the file could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The keys that variables set, by their paths, each with the variable's text.
    fn overlay(
        &mut self,
        variables: Variables,
        (file, document): (&str, &Map<String, Merged>),
        problems: &RefCell<Vec<Problem>>,
    ) -> Vec<(String, String)> {
        let named = variables.into_iter().map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            (shown, name.into_string().is_ok().then(|| value.into_string().ok()).flatten())
        });
        let (mut ours, others): (Vec<_>, Vec<_>) =
            named.partition(|(name, _)| name.starts_with(PREFIX));
        let mut meant: Vec<_> =
            others.into_iter().filter_map(|(name, _)| Some((meant(&name)?, name))).collect();
        meant.sort_unstable();
        for (meant, variable) in meant {
            let message = format!("{variable} sets nothing: its name must be {meant}");
            let place = Place::Environment(variable);
            problems.borrow_mut().push(Problem { severity: Severity::Warning, place, message });
        }
        ours.sort_by_cached_key(|(name, _)| order(name));
        let mut overlay = Vec::new();
        for (variable, text) in ours {
            let parts: Vec<&str> = variable[PREFIX.len()..].split(SEPARATOR).collect();
            let (places, whole) = (&mut self.places, self.whole);
            let found = match &text {
                Some(_) => Overlay { places, variable: &variable, whole }.path(&parts),
                None => Err("is not UTF-8: set it anew, or unset it".to_owned()),
            };
            let (severity, message) = match (found, text) {
                (Ok(Some(path)), Some(text)) => {
                    let line = self.places.line(&path).filter(|_| !says(document, &path, &text));
                    overlay.push((path, text));
                    let Some(line) = line else { continue };
                    let mend = "unset it, or take that line out";
                    let message =
                        format!("goes before line {line} of {file}, which says otherwise: {mend}");
                    (Severity::Warning, message)
                }
                (Err(message), _) => (Severity::Error, message),
                _ => continue,
            };
            let message = format!("{variable} {message}");
            let place = Place::Environment(variable);
            problems.borrow_mut().push(Problem { severity, place, message });
        }
        overlay
    }

    /// The place of a key: the variable that sets it, its line, or the nearest table's place.
    pub(super) fn place(&self, path: &str) -> Place {
        self.places.find(path)
    }

    /// Whether the key itself was set.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.places.shape(path).is_some()
    }
}

/// The name of the variable that one may be meant for, which lacks an underscore or is not in capitals. What
/// Kubernetes calls a service's (`GENKAN_PORT_80_TCP`) has two of them nowhere.
fn meant(name: &str) -> Option<String> {
    let name = name.to_uppercase();
    let rest = name.strip_prefix("GENKAN_")?.trim_start_matches('_');
    rest.contains(SEPARATOR).then(|| [PREFIX, rest].concat())
}

/// Lays variables over the file. Their text stays text, whatever it looks like.
fn merge(
    document: Map<String, Merged>,
    overlay: Vec<(String, String)>,
) -> Result<Map<String, Merged>, config::ConfigError> {
    let mut builder = config::Config::builder().add_source(Document(document));
    let origin = ENVIRONMENT.to_owned();
    for (path, text) in overlay {
        let text = Merged::new(Some(&origin), ValueKind::String(text));
        builder = builder.set_override(path, text)?;
    }
    config::Source::collect(&builder.build()?)
}

/// The file, as the `config` crate takes it.
#[derive(Clone, Debug)]
struct Document(Map<String, Merged>);

impl config::Source for Document {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Merged>, config::ConfigError> {
        Ok(self.0.clone())
    }

    /// A key is a name here: that crate would take `"a.b"` for a path.
    fn collect_to(&self, cache: &mut Merged) -> Result<(), config::ConfigError> {
        cache.kind = ValueKind::Table(self.0.clone());
        Ok(())
    }
}
