//! Which keys are set, and where: what messages point at, and what a variable's name may mean.

use std::collections::HashMap;

use super::problem::Place;
use super::value::Shape;

/// The keys that are set, by their paths: `http.listen`, `routes[2].match`.
pub(super) struct Places {
    file: String,
    /// Where each line of the text ends.
    breaks: Vec<usize>,
    keys: HashMap<String, (At, Shape)>,
}

/// Where a key is set.
enum At {
    /// On a line of the file, counted from 1.
    Line(usize),
    /// By a variable of that name, which may go before a line of the file.
    Variable(String, Option<usize>),
}

impl Places {
    /// None yet, of a file with its text.
    pub(super) fn new(file: &str, text: &str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
        Self { file: file.to_owned(), breaks, keys: HashMap::new() }
    }

    /// Notes that a key stands at an offset of the text.
    pub(super) fn note_offset(&mut self, path: &str, offset: usize, shape: Shape) {
        let line = 1 + self.breaks.partition_point(|end| *end < offset);
        self.keys.insert(path.to_owned(), (At::Line(line), shape));
    }

    /// Notes that a variable sets a key.
    pub(super) fn note_variable(&mut self, path: &str, variable: &str, shape: Shape) {
        let line = self.line(path);
        self.keys.insert(path.to_owned(), (At::Variable(variable.to_owned(), line), shape));
    }

    /// The line of the file that sets a key, whether or not a variable goes before it.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        match self.keys.get(path)? {
            (At::Line(line), _) => Some(*line),
            (At::Variable(_, line), _) => *line,
        }
    }

    /// What a key holds, if it is set.
    pub(super) fn shape(&self, path: &str) -> Option<Shape> {
        self.keys.get(path).map(|(_, shape)| *shape)
    }

    /// Notes that a list has one item more.
    pub(super) fn lengthen(&mut self, list: &str) {
        if let Some((_, Shape::List(count))) = self.keys.get_mut(list) {
            *count += 1;
        }
    }

    /// The key of a table that a part of a variable's name means: one that is there, else a new
    /// one. A shell's variable has no dash in its name, and means one by `_`. Fails where it may mean two.
    pub(super) fn key_for(&self, table: &str, part: &str) -> Result<String, String> {
        let small = part.to_lowercase();
        let dashed = |key: &str| key.to_lowercase().replace('_', "-");
        let keys = self.keys.keys().filter_map(|path| key_of(table, path));
        let mut alike: Vec<&str> = keys.filter(|key| dashed(key) == dashed(part)).collect();
        alike.sort_unstable();
        if alike.iter().any(|key| key.to_lowercase() == small) {
            alike.retain(|key| key.to_lowercase() == small);
        }
        if let Some(key) = [part, &small].into_iter().find(|key| alike.contains(key)) {
            return Ok(key.to_owned());
        }
        match alike.as_slice() {
            [] => Ok(small),
            [one] => Ok((*one).to_owned()),
            [one, other, ..] => Err(format!(
                "may mean `{one}` or `{other}`: write `{one}` in the variable's name as it stands \
                 there"
            )),
        }
    }

    /// The place of a key, or of the nearest table around it.
    pub(super) fn find(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            match (self.keys.get(path), path.rfind(['.', '['])) {
                (Some((At::Line(line), _)), _) => return Place::Line(self.file.clone(), *line),
                (Some((At::Variable(name, _), _)), _) => return Place::Environment(name.clone()),
                (None, Some(cut)) => path = &path[..cut],
                (None, None) => return Place::File(self.file.clone()),
            }
        }
    }
}

/// The key that a path names, if it stands right in that table.
fn key_of<'a>(table: &str, path: &'a str) -> Option<&'a str> {
    let key = if table.is_empty() { path } else { path.strip_prefix(table)?.strip_prefix('.')? };
    (!key.contains(['.', '['])).then_some(key)
}
