//! An exposed service as NATS's micro services know it: one instance with an id, and what its
//! endpoints have done. It outlives connections.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::super::wire::{self, Described, Dialect, EndpointStats, Verb};
use crate::fault::Fault;
use crate::route::expose::Expose;
use crate::token::random_uuid;

pub(super) struct Instance {
    id: String,
    /// As RFC 3339 has it.
    started: String,
    /// What each method has done, in their order.
    done: Mutex<Vec<Done>>,
}

#[derive(Clone, Default)]
struct Done {
    requests: u64,
    errors: u64,
    last_error: String,
    processing: Duration,
}

impl Instance {
    /// One that starts now.
    pub(super) fn new(methods: &[String]) -> Self {
        let mut started = String::new();
        // A String takes everything.
        let _written = SystemTime.format_time(&mut Writer::new(&mut started));
        Self { id: random_uuid(), started, done: Mutex::new(vec![Done::default(); methods.len()]) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Counts a call of an endpoint, which took that long.
    pub(super) fn count(&self, endpoint: usize, took: Duration, fault: Option<&Fault>) {
        if let Some(done) = self.done().get_mut(endpoint) {
            done.requests += 1;
            done.processing += took;
            if let Some(fault) = fault {
                done.errors += 1;
                done.last_error = wire::last_error(fault);
            }
        }
    }

    /// What it answers to a question about itself.
    pub(super) fn describe(&self, verb: Verb, expose: &Expose) -> serde_json::Result<Vec<u8>> {
        let done = self.done().clone();
        let endpoints = expose.methods.iter().zip(done).map(|(method, done)| EndpointStats {
            method,
            subject: wire::endpoint(Dialect::Micro, expose, method),
            requests: done.requests,
            errors: done.errors,
            last_error: done.last_error,
            processing: done.processing,
        });
        let described = Described {
            name: &expose.name,
            id: &self.id,
            service: &expose.service,
            started: &self.started,
            endpoints: endpoints.collect(),
        };
        wire::described(verb, &described)
    }

    fn done(&self) -> MutexGuard<'_, Vec<Done>> {
        // Every use leaves the counts whole.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
