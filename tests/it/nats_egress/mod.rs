//! The NATS egress against a real nats-server, through the library's own seam: what callers over HTTP
//! cannot see of it. What is said here about a test's services is in `world`.

mod calls;
mod logins;
mod outages;
mod refusals;
mod world;
