//! The Nameko egress against a real RabbitMQ, with fake services that answer what real ones never
//! would. What is said here about a test's broker and services is in `rabbit.rs` and `world.rs`.

#![expect(clippy::unwrap_used, reason = "a test is meant to panic")]

mod calls;
mod faults;
mod rabbit;
mod world;
