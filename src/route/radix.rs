//! A radix tree over bytes: finds all keys that a text begins with, in one walk along the text.

/// What is kept under each key.
#[derive(Debug)]
pub(super) struct Radix<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    /// The bytes that lead here from the parent: at least one, the root excepted.
    label: Box<[u8]>,
    value: T,
    /// Sorted by the first byte of their labels, of which no two are alike.
    children: Vec<Node<T>>,
}

impl<T: Default> Radix<T> {
    /// What is kept under a key; made if it is new.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut T {
        let (mut node, mut rest) = (&mut self.root, key);
        while let Some(first) = rest.first() {
            let at = match node.child(*first) {
                Ok(at) => {
                    let child = &mut node.children[at];
                    let alike = child.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    child.split(alike);
                    rest = &rest[alike..];
                    at
                }
                Err(at) => {
                    node.children.insert(at, Node::new(std::mem::take(&mut rest)));
                    at
                }
            };
            node = &mut node.children[at];
        }
        &mut node.value
    }
}

impl<T> Radix<T> {
    /// Visits what is kept under each key that the text begins with, the shortest first.
    pub(super) fn along(&self, mut text: impl Iterator<Item = u8>, mut visit: impl FnMut(&T)) {
        let mut node = &self.root;
        loop {
            visit(&node.value);
            let Some(at) = text.next().and_then(|byte| node.child(byte).ok()) else { return };
            node = &node.children[at];
            if !node.label[1..].iter().all(|byte| text.next() == Some(*byte)) {
                return;
            }
        }
    }
}

impl<T: Default> Default for Radix<T> {
    fn default() -> Self {
        Self { root: Node::new(&[]) }
    }
}

impl<T> Node<T> {
    /// The child whose label begins with a byte, else where it would stand.
    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |child| child.label[0])
    }
}

impl<T: Default> Node<T> {
    fn new(label: &[u8]) -> Self {
        Self { label: label.into(), value: T::default(), children: Vec::new() }
    }

    /// Ends the label after so many bytes; what came behind it comes behind a child with the rest.
    fn split(&mut self, at: usize) {
        if at == self.label.len() {
            return;
        }
        let mut rest = Node::new(&self.label[at..]);
        self.label = self.label[..at].into();
        std::mem::swap(&mut rest.value, &mut self.value);
        std::mem::swap(&mut rest.children, &mut self.children);
        self.children.push(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_a_text_begins_with() {
        let mut tree: Radix<Vec<&str>> = Radix::default();
        for key in ["abcd", "ab", "", "abce", "b", "abc", "ab"] {
            tree.entry(key.as_bytes()).push(key);
        }
        let along = |text: &str| {
            let mut met = Vec::new();
            tree.along(text.bytes(), |keys| met.extend(keys.iter().copied()));
            met
        };
        assert_eq!(along(""), [""]);
        assert_eq!(along("abcf"), ["", "ab", "ab", "abc"]);
        assert_eq!(along("abcd"), ["", "ab", "ab", "abc", "abcd"]);
        assert_eq!(along("bab"), ["", "b"]);
        assert_eq!(along("a"), [""]);
    }
}
