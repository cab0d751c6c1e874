//! The gateway in front of brokers, beside a bare HTTP server and each broker's bare client, and
//! beside what others take for the same.

mod alone;
pub(crate) mod backends;
pub(crate) mod brokers;
pub(crate) mod clients;
mod exposed;
mod glance;
mod jsonrpc;
pub(crate) mod measure;
mod peers;
pub(crate) mod report;
mod scale;
pub(crate) mod trust;
