//! What stands in a table, by its type.
//!
//! A variable of the environment holds text alone: it is read as what its key asks for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Section;
use crate::config::problem::did_you_mean;
use crate::config::value::Value;
use crate::route::rate::Rate;
use crate::units;

impl Section<'_> {
    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::Text(text) | Value::Variable(text) => Some(text),
            other => self.wrong(key, "a string in quotes", &other),
        }
    }

    /// A string, left where it is: for what is said of the table.
    pub fn peek_text(&self, key: &str) -> Option<String> {
        self.values.get(key).and_then(Value::as_text).map(str::to_owned)
    }

    /// A string that must be there, and not be empty; `None` where that had to be reported.
    pub fn required_text(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            let instead = self.instead_of(key);
            self.problem_here(format!(
                "{} needs `{key}`: add `{key} = \"…\"`{instead}",
                self.title
            ));
            return None;
        }
        let text = self.text(key)?;
        if text.is_empty() {
            let title = &self.title;
            self.problem(key, format!("`{key}` in {title} is empty: write `{key} = \"…\"`"));
            return None;
        }
        Some(text)
    }

    /// A duration such as `"250ms"`, `"5s"` or `"2m"`, more than zero.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.take(key) else { return default };
        let parsed = value.as_text().and_then(units::parse_duration);
        let expected = "a duration such as \"250ms\", \"5s\" or \"2m\", at most \"24h\"";
        parsed.or_else(|| self.wrong(key, expected, &value)).unwrap_or(default)
    }

    /// A duration that may be zero.
    pub fn duration_or_none(&mut self, key: &'static str, default: Duration) -> Duration {
        let Some(value) = self.take(key) else { return default };
        let parsed = value.as_text().and_then(units::parse_duration_or_none);
        let expected = "a duration such as \"0s\", \"250ms\", \"5s\" or \"2m\", at most \"24h\"";
        parsed.or_else(|| self.wrong(key, expected, &value)).unwrap_or(default)
    }

    /// A rate such as `"100/s"` or `"10/m"`, more than none.
    pub fn rate(&mut self, key: &'static str) -> Option<Rate> {
        let value = self.take(key)?;
        let parsed = value.as_text().and_then(Rate::parse);
        let expected = "a rate such as \"100/s\", \"10/m\", \"1000/h\" or \"5/d\", and not none";
        parsed.or_else(|| self.wrong(key, expected, &value))
    }

    /// A size in bytes such as `"64KiB"`, `"1MiB"` or `65536`.
    pub fn size(&mut self, key: &'static str, default: usize) -> usize {
        let Some(value) = self.take(key) else { return default };
        let parsed = match &value {
            Value::Integer(bytes) => usize::try_from(*bytes).ok(),
            other => other.as_text().and_then(units::parse_size),
        };
        let parsed = parsed.filter(|bytes| *bytes > 0);
        let expected = "a size such as \"64KiB\" or \"1MiB\"";
        parsed.or_else(|| self.wrong(key, expected, &value)).unwrap_or(default)
    }

    /// A size in bytes that is at least `least`: below it nothing would work.
    pub fn size_from(&mut self, key: &'static str, default: usize, least: usize) -> usize {
        let size = self.size(key, default);
        if size >= least {
            return size;
        }
        let (title, least) = (&self.title, units::format_size(least));
        let message =
            format!("`{key}` in {title} must be at least {least}: nothing of use is smaller");
        self.problem(key, message);
        default
    }

    /// A whole number from `low` to `high`.
    pub fn count(&mut self, key: &'static str, default: usize, low: usize, high: usize) -> usize {
        let Some(value) = self.take(key) else { return default };
        let parsed = match &value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        };
        let parsed = parsed.filter(|number| (low..=high).contains(number));
        let expected = format!("a whole number from {low} to {high}");
        parsed.or_else(|| self.wrong(key, &expected, &value)).unwrap_or(default)
    }

    /// A part of all such as `0.5`, more than none.
    pub fn part(&mut self, key: &'static str, default: f64) -> f64 {
        let Some(value) = self.take(key) else { return default };
        let parsed = match &value {
            Value::Other(text) | Value::Variable(text) => text.trim().parse().ok(),
            Value::Integer(1) => Some(1.0),
            _ => None,
        };
        let parsed = parsed.filter(|part| *part > 0.0 && *part <= 1.0);
        let expected = "a part of all such as 0.5: more than 0, and 1 at most";
        parsed.or_else(|| self.wrong(key, expected, &value)).unwrap_or(default)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        let flag = match &value {
            Value::Flag(flag) => Some(*flag),
            Value::Variable(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        flag.or_else(|| self.wrong(key, "true or false", &value)).unwrap_or(default)
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        let Some(value) = self.take(key) else { return default };
        let text = value.as_text().unwrap_or_default();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return *choice;
        }
        let words = choices.iter().map(|(word, _)| *word);
        let listed = words.clone().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let hint = did_you_mean(text, words);
        self.problem(key, format!("`{key}` in {} must be one of {listed}{hint}", self.title));
        default
    }

    /// A list of strings, or one string alone. From the environment: separated by commas.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        let texts = self.list(key);
        for url in texts.iter().filter(|text| text.contains("://")) {
            self.note_secret(
                key,
                url,
                "leave the password out of the URL, and say it in a file of its own",
            );
        }
        texts
    }

    fn list(&mut self, key: &'static str) -> Vec<String> {
        let texts = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Text(text)) => return vec![text],
            Some(Value::Variable(text)) if text.trim().is_empty() => return Vec::new(),
            Some(Value::Variable(text)) => {
                return text.split(',').map(|part| part.trim().to_owned()).collect();
            }
            Some(Value::List(items)) => {
                let texts = items.iter().map(|item| item.as_text().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().ok_or(Value::List(items))
            }
            Some(other) => Err(other),
        };
        texts
            .or_else(|other| self.wrong(key, "a list of strings", &other).ok_or(()))
            .unwrap_or_default()
    }

    /// Every key that is left, each a string. Sorted by name.
    pub fn texts_by_name(&mut self) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (name, value) in std::mem::take(&mut self.values) {
            match value {
                Value::Text(text) | Value::Variable(text) => texts.push((name, text)),
                other => {
                    let (title, found) = (&self.title, other.kind());
                    let message =
                        format!("`{name}` in {title} must be a string in quotes, not {found}");
                    self.problem(&name, message);
                }
            }
        }
        texts.sort_unstable();
        texts
    }

    /// An address to listen on: `"127.0.0.1:8080"`.
    pub fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let Some(value) = self.take(key) else { return default };
        let parsed = value.as_text().and_then(|text| text.parse().ok());
        let expected = "an address and a port such as \"127.0.0.1:8080\"";
        parsed.or_else(|| self.wrong(key, expected, &value)).unwrap_or(default)
    }

    /// One text or several, of which there has to be one.
    pub fn required_texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let holds_several = match self.values.get(key) {
            Some(Value::List(_)) => true,
            Some(Value::Variable(text)) => !text.trim().is_empty(),
            _ => false,
        };
        if !holds_several {
            return self.required_text(key).map(|text| vec![text]);
        }
        if matches!(self.values.get(key), Some(Value::List(items)) if items.is_empty()) {
            let title = &self.title;
            self.problem(key, format!("`{key}` in {title} is empty: write `{key} = \"…\"`"));
        }
        Some(self.texts(key)).filter(|texts| !texts.is_empty())
    }

    /// A path.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }
}
