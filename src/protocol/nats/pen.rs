//! How messages are written to a server: gathered, so that many small ones are one piece, and large payloads as they are.

use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::outbox::Publication;
use super::pulse::Pulse;
use super::transport::Writer;
use super::wire;

/// What is gathered before it is written.
const WRITE: usize = 64 * 1024;
/// From this size on a payload is written as it is, not copied.
const LARGE: usize = 16 * 1024;

/// A connection's writing end, and what is about to be written.
pub(super) struct Pen<'a> {
    pub(super) writer: Writer,
    pulse: &'a Mutex<Pulse>,
    pub(super) out: Vec<u8>,
}

impl<'a> Pen<'a> {
    /// Nothing is gathered yet.
    pub(super) fn new(writer: Writer, pulse: &'a Mutex<Pulse>) -> Self {
        Self { writer, pulse, out: Vec::with_capacity(WRITE) }
    }

    /// Gathers a message, and writes what has become much.
    pub(super) async fn publish(
        &mut self,
        publication: &Publication,
        reply: Option<&str>,
    ) -> std::io::Result<()> {
        let Publication { subject, headers, payload } = publication;
        wire::publish(&mut self.out, subject, reply, headers, payload.len());
        if payload.len() >= LARGE {
            self.put().await?;
            put(&mut self.writer, self.pulse, payload).await?;
        } else {
            self.out.extend_from_slice(payload);
        }
        self.out.extend_from_slice(b"\r\n");
        if self.out.len() >= WRITE / 2 {
            self.put().await?;
        }
        Ok(())
    }

    /// Writes what has been gathered.
    pub(super) async fn put(&mut self) -> std::io::Result<()> {
        put(&mut self.writer, self.pulse, &self.out).await?;
        self.out.clear();
        Ok(())
    }
}

async fn put(writer: &mut Writer, pulse: &Mutex<Pulse>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = writer.write(bytes).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        pulse.lock().unwrap_or_else(PoisonError::into_inner).wrote(written, Instant::now());
        bytes = &bytes[written..];
    }
    Ok(())
}
