//! What every part of the benchmark measures and shows with.
//!
//! - `role` and `child`: processes, from the inside and from the outside.
//! - `process`: what a process has used; `subject`: how one number is taken.
//! - `gateway`: the program that is measured.
//! - `http` and `axum`: the load over HTTP, and its floor; `websocket`: over one WebSocket.
//! - `place`, `setup`, `note`, `table`: folders and ports, the machine, progress, tables.

pub(crate) mod axum;
pub(crate) mod child;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod note;
pub(crate) mod place;
pub(crate) mod process;
pub(crate) mod role;
pub(crate) mod setup;
pub(crate) mod subject;
pub(crate) mod table;
pub(crate) mod websocket;
