//! Two headers by which one gateway knows what another says of its call over HTTP.
//!
//! ```text
//! request   Genkan-Call: TOKEN          of this call alone, and nobody can guess it
//! response  Genkan-Call: TOKEN          the same
//!           Genkan-Fault: KIND OUTCOME  of this call
//! ```
//!
//! An error's own words do not do: a service that ran may pass on those that a call of its own was
//! answered with.

use http::HeaderName;

/// The header of a call's mark.
pub(super) const CALL: HeaderName = HeaderName::from_static("genkan-call");
/// The header of its fault.
pub(super) const FAULT: HeaderName = HeaderName::from_static("genkan-fault");
