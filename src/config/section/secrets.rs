//! Secrets: in the table, in a file that it names, or in the environment. No message repeats one.

use std::path::{Path, PathBuf};

use super::Section;
use crate::config::secret::{FoundSecret, Secret, SecretSource, read_secret};
use crate::config::value::{Table, Value};

impl Section<'_> {
    /// The same as [`Section::secret`], for one that is read again whenever it is needed.
    pub fn secret_source(
        &mut self,
        key: &'static str,
        key_file: &'static str,
    ) -> Option<SecretSource> {
        let file = self.values.get(key_file).and_then(Value::as_text).map(PathBuf::from);
        let secret = self.secret(key, key_file)?;
        Some(match file {
            Some(file) => SecretSource::file(file, secret),
            None => SecretSource::fixed(secret),
        })
    }

    /// The same as [`Section::secret`], for one that is looked at again while it is in force.
    pub fn found_secret(
        &mut self,
        key: &'static str,
        key_file: &'static str,
    ) -> Option<FoundSecret> {
        let file = self.values.get(key_file).and_then(Value::as_text).map(PathBuf::from);
        self.secret(key, key_file).map(|secret| FoundSecret { secret, file })
    }

    /// The content of the file that `key` names, read again whenever it is needed.
    pub fn secret_file(&mut self, key: &'static str) -> Option<SecretSource> {
        let file = self.path(key)?;
        let secret = self.secret_in(key, &file)?;
        Some(SecretSource::file(file, secret))
    }

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
            (Some(text), None) => {
                self.note_secret(
                    key,
                    &text,
                    &format!("name a file that holds it, `{key_file} = \"PATH\"`"),
                );
                Some(Secret::new(text))
            }
            (None, Some(file)) => self.secret_in(key_file, &file),
            (None, None) => None,
        }
    }

    /// Notes a secret that does not stand in a file of its own. A URL is one if it holds a password.
    pub(super) fn note_secret(&self, key: &str, text: &str, mend: &str) {
        let holds_one = text.split_once("://").is_none_or(|(_, rest)| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            authority.contains('@')
        });
        if holds_one && !text.is_empty() {
            let path = self.child_path(key);
            let variable = format!("GENKAN__{}", path.replace('.', "__").to_uppercase());
            let is_plain =
                variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let or = if is_plain { format!(", or set {variable}") } else { String::new() };
            self.source.note_plain_secret(path, format!("{mend}{or}"));
        }
    }

    fn secret_in(&self, key_file: &str, file: &Path) -> Option<Secret> {
        let read = read_secret(file);
        let complain = |complaint| {
            self.problem(key_file, format!("`{key_file}` in {}: {complaint}", self.title));
        };
        read.map_err(complain).ok()
    }

    /// Every key that is left, as a secret by name: `name = "secret"`, or
    /// `name = { file = "PATH" }`. Sorted by name.
    pub fn secrets_by_name(&mut self) -> Vec<(String, FoundSecret)> {
        let mut secrets = Vec::new();
        for (name, value) in std::mem::take(&mut self.values) {
            let secret = match value {
                Value::Text(text) | Value::Variable(text) => {
                    let mend =
                        format!("name a file that holds it, `{name} = {{ file = \"PATH\" }}`");
                    self.note_secret(&name, &text, &mend);
                    Some(FoundSecret { secret: Secret::new(text), file: None })
                }
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

    fn secret_of(&self, name: &str, values: Table) -> Option<FoundSecret> {
        let title = format!("`{name}` in {}", self.title);
        let file = values.get("file").and_then(Value::as_text).map(PathBuf::from);
        let mut table = self.table(Some(Value::Table(values)), self.child_path(name), title);
        if !table.has("file") && !table.has("token") {
            table.problem_here(format!("{} needs `file`", table.title()));
        }
        table.secret("token", "file").map(|secret| FoundSecret { secret, file })
    }
}
