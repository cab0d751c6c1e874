//! Secrets: in the table, in a file that it names, or in the environment. No message repeats one.

use std::path::Path;

use super::Section;
use crate::config::secret::{Secret, read_file, shown_path};
use crate::config::value::{Table, Value};

impl Section<'_> {
    /// A secret: `key`, or the content of the file that `key_file` names, without its last line
    /// break. Both names are given, because they are the schema.
    pub fn secret(&mut self, key: &'static str, key_file: &'static str) -> Option<Secret> {
        let direct = self.take(key).and_then(|value| match value {
            Value::Text(text) | Value::Variable(text) => Some(text),
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
            (None, Some(file)) => self.secret_in(key_file, &file),
            (None, None) => None,
        }
    }

    fn secret_in(&self, key_file: &str, file: &Path) -> Option<Secret> {
        let complaint = match read_file(file).map(String::from_utf8) {
            Ok(Ok(text)) => {
                let text = text.trim_end_matches(['\r', '\n']);
                if !text.is_empty() {
                    return Some(Secret::new(text.to_owned()));
                }
                format!("{} is empty: write the secret into it", shown_path(file))
            }
            Ok(Err(_)) => format!("{} is not UTF-8", shown_path(file)),
            Err(error) => format!("cannot read {}: {error}", shown_path(file)),
        };
        self.problem(key_file, format!("`{key_file}` in {}: {complaint}", self.title));
        None
    }

    /// Every key that is left, as a secret by name: `name = "secret"`, or
    /// `name = { file = "PATH" }`. Sorted by name.
    pub fn secrets_by_name(&mut self) -> Vec<(String, Secret)> {
        let mut secrets = Vec::new();
        for (name, value) in std::mem::take(&mut self.values) {
            let secret = match value {
                Value::Text(text) | Value::Variable(text) => Some(Secret::new(text)),
                Value::Table(table) => self.secret_of(&name, table),
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

    fn secret_of(&self, name: &str, values: Table) -> Option<Secret> {
        let title = format!("`{name}` in {}", self.title);
        let mut table = self.table(Some(Value::Table(values)), self.child_path(name), title);
        if !table.has("file") && !table.has("token") {
            table.problem_here(format!("{} needs `file`", table.title()));
        }
        table.secret("token", "file")
    }
}
