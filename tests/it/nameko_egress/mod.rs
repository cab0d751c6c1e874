//! The Nameko egress against a real RabbitMQ, through the library's own seam, with fake services
//! that answer what real ones never would. What is said here about a test's services is in `world`.

mod calls;
mod faults;
mod world;
