//! What is fuzzed of callers' credentials.

use super::certificate;
use super::tokens::fuzzing::{key_set, token};
use crate::fuzzing::Target;

pub(crate) const TARGETS: [Target; 3] =
    [("token", token), ("key_set", key_set), ("certificate", certificate)];

/// A client's certificate.
fn certificate(data: &[u8]) {
    drop(certificate::identity(data));
}
