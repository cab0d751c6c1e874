//! The configuration: where it is found, how it is read, what is wrong with it.

pub mod problem;
pub mod secret;
pub mod section;
mod source;
pub mod units;

use std::cell::RefCell;
use std::collections::HashMap;

/// Reads a piece of TOML with `read`, for a protocol's own tests: what it made, and every problem.
pub fn read_for_test<T>(
    text: &str,
    read: impl FnOnce(&mut section::Section<'_>) -> T,
) -> (T, Vec<problem::Problem>) {
    let problems = RefCell::new(Vec::new());
    let (source, values) = source::Source::load("genkan.toml", text, HashMap::new(), &problems);
    let made = {
        let mut root = section::Section::root(values, &source, &problems);
        read(&mut root)
    };
    (made, problems.into_inner())
}
