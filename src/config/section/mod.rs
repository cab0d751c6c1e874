//! Reads one table of the configuration, key by key, and gathers every problem on the way.
//!
//! The code that reads a key is the schema: a key that nobody asked for is unknown, and the keys
//! that were asked for are what it may have been meant to be. A wrong value is reported with its
//! place and replaced by the default, so that one run finds every mistake.
//!
//! Here are the tables and the problems; `values` and `secrets` read what stands in a table.

mod secrets;
mod values;

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::certificates::{CertificateFile, Role};
use super::overlay::nearly;
use super::problem::{Place, Problem, Severity, did_you_mean};
use super::secret::{quoted, read_file};
use super::source::Source;
use super::value::{Table, Value};

#[cfg(test)]
thread_local! {
    /// Every key that this thread asked for, with its table's title: the schema.
    pub(in crate::config) static SCHEMA: RefCell<Vec<(String, &'static str)>> =
        const { RefCell::new(Vec::new()) };
}

/// One table of the configuration. Reports its unknown keys when it is dropped.
pub struct Section<'a> {
    path: String,
    title: String,
    values: Table,
    asked: RefCell<Vec<&'static str>>,
    source: &'a Source,
    problems: &'a RefCell<Vec<Problem>>,
    /// Accepts keys that nobody asks for.
    open: bool,
    /// Reports nothing: what was to be a table is none, and that has been said.
    mute: bool,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(
        values: Table,
        source: &'a Source,
        problems: &'a RefCell<Vec<Problem>>,
    ) -> Self {
        Self {
            path: String::new(),
            title: "the top level".to_owned(),
            values,
            asked: RefCell::default(),
            source,
            problems,
            open: false,
            mute: false,
        }
    }

    /// How messages call the table: `[[routes]] #3`.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A number that differs where any key of the table does, those in `without` excepted, or
    /// what stands in a file that one names as `…_file`.
    pub fn fingerprint(&self, without: &[&str]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, value) in self.values.iter().filter(|(key, _)| !without.contains(&key.as_str())) {
            key.hash(&mut hasher);
            value.hash(&mut hasher);
            let file = value.as_text().filter(|_| key.ends_with("_file"));
            // One that cannot be read has no content; reading its key says so.
            file.and_then(|file| read_file(Path::new(file)).ok()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether the key is set.
    pub fn has(&self, key: &'static str) -> bool {
        self.asked.borrow_mut().push(key);
        self.values.contains_key(key)
    }

    /// A key of the file that a missing one may have been meant by, for messages.
    fn instead_of(&self, key: &str) -> String {
        let keys = self.values.keys().map(String::as_str);
        let near = did_you_mean(key, keys.filter(|there| !self.asked.borrow().contains(there)));
        if near.is_empty() {
            near
        } else {
            format!("; it has{}", near.replace(": did you mean", ""))
        }
    }

    /// Whether a key below this table was set, by its path: `http.listen`.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.source.is_set(&self.child_path(path))
    }

    /// Whether a variable of the environment set that key.
    pub fn is_from_environment(&self, key: &str) -> bool {
        matches!(self.source.place(&self.child_path(key)), Place::Environment(_))
    }

    /// Whether all of the file could be read. Else what is named here may stand in a part of it
    /// that could not.
    pub fn is_of_a_whole(&self) -> bool {
        self.source.is_whole()
    }

    /// A table inside this one; empty where it is absent.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.take(key);
        let path = self.child_path(key);
        // In a row: its number, in the file's own words.
        let title = match path
            .split_once('[')
            .and_then(|(array, rest)| Some((array, rest.split_once(']')?)))
        {
            Some((array, (index, rest))) => {
                let number = index.parse::<usize>().map_or(0, |index| index + 1);
                format!("[{array}{rest}] #{number}")
            }
            None => format!("[{path}]"),
        };
        self.table(value, path, title)
    }

    /// The tables of an array of tables: `[[routes]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::List(items) = value else {
            self.wrong_shape(
                key,
                &format!("a list of tables, each under [[{}]]", self.child_path(key)),
                &value,
            );
            return Vec::new();
        };
        let numbered = items.into_iter().enumerate();
        numbered
            .map(|(index, item)| {
                let array = self.child_path(key);
                let title = format!("[[{array}]] #{}", index + 1);
                self.table(Some(item), format!("{array}[{index}]"), title)
            })
            .collect()
    }

    /// The named tables inside one: `[upstreams.rabbit]`, in the order of the file.
    pub fn named_sections(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::Table(tables) = value else {
            self.wrong_shape(key, &format!("tables with names: [{key}.NAME]"), &value);
            return Vec::new();
        };
        let parent = self.child_path(key);
        let path = |name: &str| format!("{parent}.{name}");
        let mut named: Vec<_> = tables.into_iter().collect();
        named.sort_by_key(|(name, _)| self.source.place(&path(name)).line());
        named
            .into_iter()
            .map(|(name, value)| {
                let table = self.table(Some(value), path(&name), format!("[{}]", path(&name)));
                (name, table)
            })
            .collect()
    }

    /// Reports a problem with the value of a key: an error, with the key's place.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.report(Severity::Error, &self.child_path(key), message.into());
    }

    /// Reports a problem with the table as a whole.
    pub fn problem_here(&self, message: impl Into<String>) {
        self.report(Severity::Error, &self.path, message.into());
    }

    /// Reports something that works and is probably not meant.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        self.report(Severity::Warning, &self.child_path(key), message.into());
    }

    /// Notes the file of certificates that a key names: somebody watches until when they are good.
    pub fn note_certificates(&self, key: &'static str, file: &Path, role: Role) {
        let (table, file) = (self.path.clone(), file.to_owned());
        self.source.note_certificates(CertificateFile { table, key, file, role });
    }

    /// Every file that was noted so, of all tables.
    pub(super) fn certificates(&self) -> Vec<CertificateFile> {
        self.source.certificates()
    }

    /// Accepts keys that nobody asks for: whoever dropped the schema reports them otherwise.
    pub fn ignore_rest(&mut self) {
        self.open = true;
    }

    fn report(&self, severity: Severity, path: &str, message: String) {
        if self.mute {
            return;
        }
        let place = self.source.place(path);
        // The file's name and line stand before the message, but not everywhere it is quoted.
        let message = match place.line() {
            0 => message,
            line => {
                let title = format!("in {}", self.title);
                message.replacen(&title, &format!("{title}, line {line}"), 1)
            }
        };
        self.problems.borrow_mut().push(Problem { severity, place, message });
    }

    fn table(&self, value: Option<Value>, path: String, title: String) -> Section<'a> {
        let mute = self.mute;
        let mut table = Section {
            path,
            title,
            values: Table::new(),
            asked: RefCell::default(),
            source: self.source,
            problems: self.problems,
            open: false,
            mute,
        };
        match value {
            None => {}
            Some(Value::Table(values)) => table.values = values,
            Some(other) => {
                let (title, found) = (&table.title, other.kind());
                let mend = match self.source.place(&table.path) {
                    Place::Environment(variable) => {
                        format!("a variable sets one key of it, as {variable}__KEY=…")
                    }
                    _ => {
                        let header =
                            title.split_once(" #").map_or(title.as_str(), |(header, _)| header);
                        format!("write `{header}`, and `key = …` below it")
                    }
                };
                table.problem_here(format!("{title} must be a table, not {found}: {mend}"));
                table.mute = true;
            }
        }
        table
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.get_mut().push(key);
        self.values.remove(key)
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports a value that its key cannot take.
    fn wrong<T>(&self, key: &str, expected: &str, found: &Value) -> Option<T> {
        let found = match found {
            // A variable may hold what was meant for its neighbour, a password.
            Value::Variable(_) if self.path.starts_with("upstreams.") => "that string".to_owned(),
            Value::Text(text) | Value::Variable(text) => quoted(text),
            Value::Integer(number) => number.to_string(),
            Value::Other(number) => number.clone(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(_) | Value::Table(_) => found.kind().to_owned(),
        };
        self.problem(key, format!("`{key}` in {} must be {expected}, not {found}", self.title));
        None
    }

    /// Reports a value where tables were expected. What it says is not repeated: it may be the
    /// URL or the secret that was to stand in one of them.
    fn wrong_shape(&self, key: &str, expected: &str, found: &Value) {
        let found = found.kind();
        self.problem(key, format!("`{key}` in {} must be {expected}, not {found}", self.title));
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        #[cfg(test)]
        SCHEMA.with_borrow_mut(|schema| {
            schema.extend(self.asked.borrow().iter().map(|key| (self.title.clone(), *key)));
        });
        if self.open {
            return;
        }
        let asked = self.asked.borrow();
        for key in self.values.keys() {
            let free = asked.iter().copied().filter(|asked| !self.values.contains_key(*asked));
            let hint = match self.source.place(&self.child_path(key)) {
                Place::Environment(variable) => nearly(&variable, key, asked.iter().copied())
                    .map(|name| format!(": did you mean {name}?")),
                _ => None,
            };
            let hint = hint.unwrap_or_else(|| did_you_mean(key, free));
            self.problem(key, format!("unknown key `{key}` in {}{hint}", self.title));
        }
    }
}
