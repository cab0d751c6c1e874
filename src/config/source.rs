//! Where the configuration comes from: a TOML file, with environment variables over it; and the
//! place that each key was set in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;

use super::document::{self, line_of};
use super::overlay::{Overlay, SEPARATOR, order};
use super::problem::{Place, Problem, Severity};
use super::value::Table;

const PREFIX: &str = "GENKAN__";

/// The environment, by the names of its variables.
pub type Variables = HashMap<OsString, OsString>;

/// Where each key was set.
pub(super) struct Source {
    places: Places,
    whole: bool,
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
        let (mut table, mut source) = document::read(file, text, problems);
        source.lay_over(&mut table, variables, problems);
        (source, table)
    }

    pub(super) fn new(places: Places, whole: bool) -> Self {
        Self { places, whole }
    }

    /// Whether all of the file could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    fn lay_over(
        &mut self,
        table: &mut Table,
        variables: Variables,
        problems: &RefCell<Vec<Problem>>,
    ) {
        let named = variables.into_iter().map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            (shown, name.into_string().is_ok().then(|| value.into_string().ok()).flatten())
        });
        let mut ours: Vec<_> = named.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        ours.sort_by_cached_key(|(name, _)| order(name));
        for (variable, text) in ours {
            let parts: Vec<&str> = variable[PREFIX.len()..].split(SEPARATOR).collect();
            let (places, whole) = (&mut self.places, self.whole);
            let done = match &text {
                Some(text) => {
                    Overlay { places, variable: &variable, text, whole }.set(table, &parts)
                }
                None => Err("is not UTF-8: set it anew, or unset it".to_owned()),
            };
            if let Err(message) = done {
                let message = format!("{variable} {message}");
                let place = Place::Environment(variable);
                problems.borrow_mut().push(Problem { severity: Severity::Error, place, message });
            }
        }
    }

    /// The place of a key: the variable that sets it, its line, or the nearest table's place.
    pub(super) fn place(&self, path: &str) -> Place {
        self.places.find(path)
    }
}

/// The places of keys, by their paths: `http.listen`, `routes[2].match`.
pub(super) struct Places {
    file: String,
    text: String,
    places: HashMap<String, Place>,
}

impl Places {
    /// None yet, of a file with its text.
    pub(super) fn new(file: &str, text: String) -> Self {
        Self { file: file.to_owned(), text, places: HashMap::new() }
    }

    /// Notes that a key stands at an offset of the text.
    pub(super) fn note_offset(&mut self, path: &str, offset: usize) {
        let place = Place::Line(self.file.clone(), line_of(self.text.as_bytes(), offset));
        self.places.insert(path.to_owned(), place);
    }

    /// Notes that a variable sets a key.
    pub(super) fn note_variable(&mut self, path: &str, variable: &str) {
        self.places.insert(path.to_owned(), Place::Environment(variable.to_owned()));
    }

    fn find(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Place::File(self.file.clone()),
            }
        }
    }
}
