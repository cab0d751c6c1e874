//! Where the configuration comes from: a TOML file, with environment variables over it, merged
//! by the `config` crate; and the line that each key stands on, which that crate does not keep.

use std::cell::RefCell;
use std::collections::HashMap;

use config::{FileFormat, Source as _, Value};
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Severity};

/// What the `config` crate calls the environment.
pub(super) const ENVIRONMENT_ORIGIN: &str = "the environment";
const PREFIX: &str = "GENKAN";
const SEPARATOR: &str = "__";

/// A file's text and name, and the environment's variables.
pub(super) struct Source {
    file: String,
    lines: HashMap<String, usize>,
    environment: HashMap<String, String>,
}

impl Source {
    /// Parses and merges. What cannot be parsed is reported to `problems`, each with its line,
    /// and counts as empty.
    pub(super) fn load(
        file: &str,
        text: &str,
        environment: HashMap<String, String>,
        problems: &RefCell<Vec<Problem>>,
    ) -> (Self, HashMap<String, Value>) {
        let ours = environment.into_iter().filter(|(name, _)| name.starts_with("GENKAN__"));
        let mut source =
            Self { file: file.to_owned(), lines: HashMap::new(), environment: ours.collect() };
        let (document, errors) = DeTable::parse_recoverable(text);
        index_table(document.get_ref(), "", text, &mut source.lines);
        for error in &errors {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let place = Place::Line(source.file.clone(), line);
            let message = format!("not valid TOML: {}", error.message().trim());
            problems.borrow_mut().push(Problem { severity: Severity::Error, place, message });
        }
        let text = if errors.is_empty() { text } else { "" };
        let values = match source.merge(text) {
            Ok(values) => values,
            Err(error) => {
                let place = Place::File(source.file.clone());
                let message = error.to_string();
                problems.borrow_mut().push(Problem { severity: Severity::Error, place, message });
                HashMap::new()
            }
        };
        (source, values)
    }

    fn merge(&self, text: &str) -> Result<HashMap<String, Value>, config::ConfigError> {
        let environment = config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .try_parsing(true)
            .source(Some(self.environment.clone().into_iter().collect()));
        let merged = config::Config::builder()
            .add_source(config::File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .build()?;
        Ok(merged.collect()?.into_iter().collect())
    }

    /// The place of a key: the variable that sets it, its line, or the nearest table's line.
    pub(super) fn place(&self, path: &str) -> Place {
        let variable = format!("{PREFIX}{SEPARATOR}{}", path.replace('.', SEPARATOR));
        let set = self.environment.keys().find(|name| name.eq_ignore_ascii_case(&variable));
        if let Some(name) = set {
            return Place::Environment(name.clone());
        }
        match self.line(path) {
            0 => Place::File(self.file.clone()),
            line => Place::Line(self.file.clone(), line),
        }
    }

    /// The line of a key or the nearest table around it, from 1; 0 where there is none.
    pub(super) fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 0,
            }
        }
    }
}

fn index_table(table: &DeTable<'_>, path: &str, text: &str, lines: &mut HashMap<String, usize>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        lines.insert(path.clone(), line_of(text, key.span().start));
        index_value(value.get_ref(), &path, text, lines);
    }
}

fn index_value(value: &DeValue<'_>, path: &str, text: &str, lines: &mut HashMap<String, usize>) {
    match value {
        DeValue::Table(table) => index_table(table, path, text, lines),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                lines.insert(path.clone(), line_of(text, item.span().start));
                index_value(item.get_ref(), &path, text, lines);
            }
        }
        _ => {}
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
