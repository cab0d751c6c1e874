//! Reads one table of the configuration, key by key, and gathers every problem on the way.
//!
//! The code that reads a key is the schema: a key that nobody asked for is unknown, and the keys
//! that were asked for are what it may have been meant to be. A wrong value is reported with its
//! place and replaced by the default, so that one run finds every mistake.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};

use super::problem::{Problem, Severity};
use super::secret::Secret;
use super::source::Source;
use super::units;

/// One table of the configuration. Reports its unknown keys when it is dropped.
pub struct Section<'a> {
    path: String,
    title: String,
    values: HashMap<String, Value>,
    asked: Vec<&'static str>,
    source: &'a Source,
    problems: &'a RefCell<Vec<Problem>>,
    open: bool,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(
        values: HashMap<String, Value>,
        source: &'a Source,
        problems: &'a RefCell<Vec<Problem>>,
    ) -> Self {
        Self {
            path: String::new(),
            title: "the top level".to_owned(),
            values,
            asked: Vec::new(),
            source,
            problems,
            open: false,
        }
    }

    /// How messages call the table: `[[routes]] #3`.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A number that differs where any key of the table does.
    pub fn fingerprint(&self) -> u64 {
        let mut keys: Vec<_> = self.values.iter().collect();
        keys.sort_by_key(|(key, _)| *key);
        let mut hasher = DefaultHasher::new();
        for (key, value) in keys {
            key.hash(&mut hasher);
            value.to_string().hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether the key is set.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        match value.kind {
            ValueKind::String(text) => Some(text),
            // An environment variable such as `42` has been read as a number.
            ref other if Self::is_from_environment(&value) => Some(scalar_text(other)),
            ref other => self.wrong(key, "a string in quotes", other),
        }
    }

    /// A string that must be there.
    pub fn required_text(&mut self, key: &'static str) -> String {
        if !self.has(key) {
            let title = self.title.clone();
            self.asked.push(key);
            self.problem_here(format!("{title} needs `{key}`: add `{key} = \"…\"`"));
            return String::new();
        }
        self.text(key).unwrap_or_default()
    }

    /// A duration such as `"250ms"`, `"5s"` or `"2m"`, more than zero.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.optional_duration(key).unwrap_or(default)
    }

    /// The same without a default.
    pub fn optional_duration(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.take(key)?;
        let parsed = value.clone().into_string().ok().and_then(|text| units::parse_duration(&text));
        match parsed {
            Some(duration) => Some(duration),
            None => self.wrong(key, "a duration such as \"250ms\", \"5s\" or \"2m\"", &value.kind),
        }
    }

    /// A size in bytes such as `"64KiB"`, `"1MiB"` or `65536`.
    pub fn size(&mut self, key: &'static str, default: usize) -> usize {
        let Some(value) = self.take(key) else { return default };
        let parsed = match &value.kind {
            ValueKind::I64(bytes) => usize::try_from(*bytes).ok(),
            ValueKind::String(text) => units::parse_size(text),
            _ => None,
        };
        match parsed.filter(|bytes| *bytes > 0) {
            Some(bytes) => bytes,
            None => self
                .wrong(key, "a size such as \"64KiB\" or \"1MiB\"", &value.kind)
                .unwrap_or(default),
        }
    }

    /// A whole number from `low` to `high`.
    pub fn count(&mut self, key: &'static str, default: usize, low: usize, high: usize) -> usize {
        let Some(value) = self.take(key) else { return default };
        let parsed = match &value.kind {
            ValueKind::I64(number) => usize::try_from(*number).ok(),
            ValueKind::String(text) if Self::is_from_environment(&value) => {
                text.trim().parse().ok()
            }
            _ => None,
        };
        match parsed.filter(|number| (low..=high).contains(number)) {
            Some(number) => number,
            None => self
                .wrong(key, &format!("a whole number from {low} to {high}"), &value.kind)
                .unwrap_or(default),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        match &value.kind {
            ValueKind::Boolean(flag) => *flag,
            ValueKind::String(text) if Self::is_from_environment(&value) && text == "true" => true,
            ValueKind::String(text) if Self::is_from_environment(&value) && text == "false" => {
                false
            }
            other => self.wrong(key, "true or false", other).unwrap_or(default),
        }
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        let Some(value) = self.take(key) else { return default };
        let text = value.clone().into_string().unwrap_or_default();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return *choice;
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let listed = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let hint = super::problem::did_you_mean(&text, words.iter().copied());
        self.problem(key, format!("`{key}` in {} must be one of {listed}{hint}", self.title));
        default
    }

    /// A list of strings, or one string alone. From the environment: separated by commas.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let expected = "a list of strings";
        match &value.kind {
            ValueKind::String(text) if Self::is_from_environment(&value) => {
                text.split(',').map(|part| part.trim().to_owned()).collect()
            }
            ValueKind::String(text) => vec![text.clone()],
            ValueKind::Array(items) => {
                let texts = items.iter().map(|item| match &item.kind {
                    ValueKind::String(text) => Some(text.clone()),
                    _ => None,
                });
                match texts.collect::<Option<Vec<_>>>() {
                    Some(texts) => texts,
                    None => self.wrong(key, expected, &value.kind).unwrap_or_default(),
                }
            }
            other => self.wrong(key, expected, other).unwrap_or_default(),
        }
    }

    /// An address to listen on: `"127.0.0.1:8080"`.
    pub fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let Some(value) = self.take(key) else { return default };
        let parsed = value.clone().into_string().ok().and_then(|text| text.parse().ok());
        let expected = "an address and a port such as \"127.0.0.1:8080\"";
        parsed.or_else(|| self.wrong(key, expected, &value.kind)).unwrap_or(default)
    }

    /// A path.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A secret: `key`, or the content of the file that `key_file` names, without its last line
    /// break. Both names are given, because they are the schema.
    pub fn secret(&mut self, key: &'static str, key_file: &'static str) -> Option<Secret> {
        let direct = self.take(key).and_then(|value| match value.kind {
            ValueKind::String(text) => Some(text),
            ref other if Self::is_from_environment(&value) => Some(scalar_text(other)),
            // The value may be the secret: it is not repeated.
            _ => {
                self.problem(key, format!("`{key}` in {} must be a string in quotes", self.title));
                None
            }
        });
        let file = self.path(key_file);
        match (direct, file) {
            (Some(_), Some(_)) => {
                let title = self.title.clone();
                self.problem(
                    key_file,
                    format!("{title} has both `{key}` and `{key_file}`: keep one of them"),
                );
                None
            }
            (Some(text), None) => Some(Secret::new(text)),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    let message = format!(
                        "`{key_file}` in {}: cannot read {}: {error}",
                        self.title,
                        file.display()
                    );
                    self.problem(key_file, message);
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// Every key that is left, as a secret by name: `name = "secret"`, or
    /// `name = { file = "PATH" }`. Sorted by name.
    pub fn secrets_by_name(&mut self) -> Vec<(String, Secret)> {
        let mut values: Vec<_> = std::mem::take(&mut self.values).into_iter().collect();
        values.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut secrets = Vec::new();
        for (name, value) in values {
            let secret = match value.kind {
                ValueKind::String(text) => Some(Secret::new(text)),
                ref other if Self::is_from_environment(&value) => {
                    Some(Secret::new(scalar_text(other)))
                }
                ValueKind::Table(_) => {
                    let (path, title) = (self.child_path(&name), self.title.clone());
                    let title = format!("`{name}` in {title}");
                    let mut table = self.table(Some(value), path, title, &name);
                    if !table.has("file") && !table.has("token") {
                        table.problem_here(format!("{} needs `file`", table.title()));
                    }
                    table.secret("token", "file")
                }
                // The value may be the secret: it is not repeated.
                _ => {
                    let mend = "a string in quotes, or { file = \"PATH\" }";
                    self.problem(&name, format!("`{name}` in {} must be {mend}", self.title));
                    None
                }
            };
            secrets.extend(secret.map(|secret| (name, secret)));
        }
        secrets
    }

    /// A table inside this one; empty where it is absent.
    pub fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.take(key);
        let title = match self.path.as_str() {
            "" => format!("[{key}]"),
            path => format!("[{path}.{key}]"),
        };
        let path = self.child_path(key);
        self.table(value, path, title, key)
    }

    /// The tables of an array of tables: `[[routes]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let ValueKind::Array(items) = value.kind else {
            return self
                .wrong(key, &format!("a list of tables, each under [[{key}]]"), &value.kind)
                .unwrap_or_default();
        };
        let numbered = items.into_iter().enumerate();
        numbered
            .map(|(index, item)| {
                let path = format!("{}[{index}]", self.child_path(key));
                self.table(Some(item), path, format!("[[{key}]] #{}", index + 1), key)
            })
            .collect()
    }

    /// The named tables inside one: `[upstreams.rabbit]`, in the order of the file.
    pub fn named_sections(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let ValueKind::Table(tables) = value.kind else {
            return self
                .wrong(key, &format!("tables with names: [{key}.NAME]"), &value.kind)
                .unwrap_or_default();
        };
        let mut named: Vec<_> = tables.into_iter().collect();
        let parent = self.child_path(key);
        named.sort_by_key(|(name, _)| self.source.line(&format!("{parent}.{name}")));
        named
            .into_iter()
            .map(|(name, value)| {
                let path = format!("{parent}.{name}");
                let title = format!("[{path}]");
                let table = self.table(Some(value), path, title, key);
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

    fn report(&self, severity: Severity, path: &str, message: String) {
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

    fn table(&self, value: Option<Value>, path: String, title: String, key: &str) -> Section<'a> {
        let values = match value.map(|value| value.kind) {
            None => HashMap::new(),
            Some(ValueKind::Table(values)) => values.into_iter().collect(),
            Some(other) => {
                self.wrong::<()>(key, "a table", &other);
                HashMap::new()
            }
        };
        Section {
            path,
            title,
            values,
            asked: Vec::new(),
            source: self.source,
            problems: self.problems,
            open: false,
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.values.remove(key)
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn is_from_environment(value: &Value) -> bool {
        value.origin().is_some_and(|origin| origin == super::source::ENVIRONMENT_ORIGIN)
    }

    fn wrong<T>(&self, key: &str, expected: &str, found: &ValueKind) -> Option<T> {
        let found = describe(found);
        self.problem(key, format!("`{key}` in {} must be {expected}, not {found}", self.title));
        None
    }

    /// Accepts keys that nobody asks for: whoever dropped the schema reports them otherwise.
    pub fn ignore_rest(&mut self) {
        self.open = true;
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        if self.open {
            return;
        }
        let mut unknown: Vec<_> = self.values.keys().collect();
        unknown.sort();
        for key in unknown {
            let free = self.asked.iter().copied().filter(|asked| !self.values.contains_key(*asked));
            let hint = super::problem::did_you_mean(key, free);
            self.problem(key, format!("unknown key `{key}` in {}{hint}", self.title));
        }
    }
}

fn describe(found: &ValueKind) -> String {
    match found {
        ValueKind::String(text) if text.chars().count() <= 40 => format!("\"{text}\""),
        ValueKind::String(_) => "that string".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
        other => scalar_text(other),
    }
}

fn scalar_text(value: &ValueKind) -> String {
    match value {
        ValueKind::Boolean(flag) => flag.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::I128(number) => number.to_string(),
        ValueKind::U64(number) => number.to_string(),
        ValueKind::U128(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::String(text) => text.clone(),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => String::new(),
    }
}
