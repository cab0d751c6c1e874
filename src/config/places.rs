//! Which keys are set, and where: what messages point at, and what a variable's name may mean.

use std::collections::HashMap;

use super::document::line_of;
use super::problem::Place;
use super::value::Shape;

/// The keys that are set, by their paths: `http.listen`, `routes[2].match`.
pub(super) struct Places {
    file: String,
    text: String,
    keys: HashMap<String, (Place, Shape)>,
}

impl Places {
    /// None yet, of a file with its text.
    pub(super) fn new(file: &str, text: String) -> Self {
        Self { file: file.to_owned(), text, keys: HashMap::new() }
    }

    /// Notes that a key stands at an offset of the text.
    pub(super) fn note_offset(&mut self, path: &str, offset: usize, shape: Shape) {
        let place = Place::Line(self.file.clone(), line_of(self.text.as_bytes(), offset));
        self.keys.insert(path.to_owned(), (place, shape));
    }

    /// Notes that a variable sets a key.
    pub(super) fn note_variable(&mut self, path: &str, variable: &str, shape: Shape) {
        self.keys.insert(path.to_owned(), (Place::Environment(variable.to_owned()), shape));
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
    /// one. Fails where it may mean two.
    pub(super) fn key_for(&self, table: &str, part: &str) -> Result<String, String> {
        let small = part.to_lowercase();
        let keys = self.keys.keys().filter_map(|path| key_of(table, path));
        let mut alike: Vec<&str> = keys.filter(|key| key.to_lowercase() == small).collect();
        alike.sort_unstable();
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
            if let Some((place, _)) = self.keys.get(path) {
                return place.clone();
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Place::File(self.file.clone()),
            }
        }
    }
}

/// The key that a path names, if it stands right in that table.
fn key_of<'a>(table: &str, path: &'a str) -> Option<&'a str> {
    let key = if table.is_empty() { path } else { path.strip_prefix(table)?.strip_prefix('.')? };
    (!key.contains(['.', '['])).then_some(key)
}
