//! Of certificates: from when until when they are good.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::gauge;

use super::{CERTIFICATE_BEGINS, CERTIFICATE_ENDS, GONE};

/// Shows the time of what a file holds that this key of this table names.
pub fn certificate(table: &str, key: &'static str, from: SystemTime, until: SystemTime) {
    set(table, key, [from, until].map(seconds));
}

/// The key names none any more: nothing is told of it.
pub fn no_certificate(table: &str, key: &'static str) {
    set(table, key, [GONE, GONE]);
}

fn set(table: &str, key: &'static str, [from, until]: [f64; 2]) {
    gauge!(CERTIFICATE_BEGINS, "table" => table.to_owned(), "key" => key).set(from);
    gauge!(CERTIFICATE_ENDS, "table" => table.to_owned(), "key" => key).set(until);
}

fn seconds(at: SystemTime) -> f64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
