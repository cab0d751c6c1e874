//! `GET /api` and `GET /api/{service}` with Upgrade: JSON-RPC 2.0 over WebSocket.

mod calls;
mod clients;
mod ending;
mod frames;
mod limits;
mod opening;
