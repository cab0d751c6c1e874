//! The gateway in front of brokers, beside a bare HTTP server and each broker's bare client.

pub(crate) mod backends;
mod brokers;
pub(crate) mod clients;
pub(crate) mod measure;
pub(crate) mod report;
