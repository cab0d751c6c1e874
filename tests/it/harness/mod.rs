//! What the tests stand on: the gateway, real brokers, real services, clients and patience.
//!
//! A missing broker or package is a failure that says what to install, never a skip.

pub mod certs;
pub mod clients;
pub mod echo;
pub mod eventually;
pub mod gateway;
pub mod gemstone;
pub mod http;
pub mod linked;
pub mod nats;
pub mod process;
pub mod proxy;
pub mod rabbit;
pub mod raw_amqp;
pub mod raw_nats;
pub mod responder;
pub mod rotating;
pub mod services;
pub mod tunnel;
pub mod web;
pub mod websocket;

pub use echo::Echo;
pub use eventually::{eventually, until};
pub use gateway::{Fault, Gateway, as_fault};
pub use gemstone::Gemstone;
pub use linked::Linked;
pub use nats::Nats;
pub use proxy::Proxy;
pub use rabbit::RabbitMq;
pub use raw_nats::RawNats;
pub use responder::{Answer, NamekoResponder, NatsResponder, Seen};
pub use rotating::Rotating;
pub use services::{
    Desk, GemstoneService, Mailer, MicroService, NamekoVersion, NestService, NodeService, Shop,
    Watch,
};
pub use tunnel::Tunnel;
pub use web::{Asked, Say, Web};
