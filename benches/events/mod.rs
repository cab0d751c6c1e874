//! Events: one subject to many browsers, a bridge that loses nothing, and how soon a browser hears.

pub(crate) mod bridge;
pub(crate) mod fan;
pub(crate) mod latency;
pub(crate) mod measure;
pub(crate) mod report;
pub(crate) mod subscribers;
