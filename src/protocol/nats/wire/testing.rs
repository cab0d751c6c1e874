//! A request for the wire's tests.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::{Context, Deadline, Params, Request, TraceParent};

/// Owns what a [`Request`] borrows.
pub(super) struct Sample {
    pub(super) service: String,
    pub(super) method: String,
    pub(super) params: Params,
    pub(super) param_names: Vec<String>,
    pub(super) context: Context,
}

impl Sample {
    pub(super) fn new(params: Params) -> Self {
        Self {
            service: "mailer".to_owned(),
            method: "send".to_owned(),
            params,
            param_names: Vec::new(),
            context: Context::new(TraceParent::generate()),
        }
    }

    pub(super) fn request(&self) -> Request<'_> {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let name = (self.service.as_str(), self.method.as_str());
        let request = Request::new(name, &self.params, &self.context, deadline);
        Request { param_names: &self.param_names, ..request }
    }
}
