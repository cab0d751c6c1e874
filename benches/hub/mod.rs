//! The hub, beside a bare relay that copies lines and knows nothing of them.

pub(crate) mod crowd;
mod daemon;
pub(crate) mod measure;
mod module;
pub(crate) mod pair;
pub(crate) mod relay;
pub(crate) mod report;
