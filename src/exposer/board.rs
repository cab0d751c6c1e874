//! What operators are shown of services that are to be exposed and are not, or not wholly. The composition root writes
//! it, the pages for operators show it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Extent;

/// Services that are not exposed.
#[derive(Default)]
pub struct Board(ArcSwap<Vec<Unexposed>>);

/// One of them, on one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexposed {
    /// The upstream.
    pub on: String,
    /// Its name over there.
    pub name: String,
    /// How much of it is.
    pub extent: Extent,
    /// Why; no credentials.
    pub why: String,
}

impl Board {
    /// Shows these, and no others.
    pub fn show(&self, unexposed: Vec<Unexposed>) {
        self.0.store(Arc::new(unexposed));
    }

    /// What is shown.
    pub fn shown(&self) -> Arc<Vec<Unexposed>> {
        self.0.load_full()
    }
}
