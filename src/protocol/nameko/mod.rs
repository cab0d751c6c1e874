//! Nameko.

use std::sync::Arc;

use crate::call::Request;
use crate::config::section::Section;
use crate::fault::Fault;
use crate::metrics::UpstreamMetrics;
use crate::tasks::Tasks;
use crate::upstream::{Connector, Envelope, Upstream};

struct Stub;

impl Connector for Stub {
    fn protocol(&self) -> &'static str {
        "nameko"
    }
    fn address(&self) -> String {
        String::new()
    }
    fn explain(&self, _: &Request<'_>) -> Result<Envelope, Fault> {
        todo!()
    }
    fn connect(&self, _: UpstreamMetrics, _: &Tasks) -> Arc<dyn Upstream> {
        todo!()
    }
}

/// Reads the table.
pub fn read_connector(section: &mut Section<'_>) -> Box<dyn Connector> {
    section.ignore_rest();
    Box::new(Stub)
}
