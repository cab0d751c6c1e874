//! Events on their way: bridges carry them from one place to others, topics show them to browsers.
//! No protocol is known here, and nothing of a payload is read.

pub mod board;
pub mod bridges;
mod complaints;
mod dead_letter;
mod inlet;
mod pump;
mod relay;
pub mod topics;
