//! How long a connection may keep the hub waiting: until a module registers, for the rest of a
//! line, and for a socket that takes nothing while much waits for it.
//!
//! A registered module that is silent may stay for ever, and costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::closing::Closing;
use super::config::HubConfig;

/// What one connection is waited for.
pub(super) struct Patience {
    /// When a module must have registered; `None` once one has.
    register_by: Option<Instant>,
    stall_timeout: Duration,
    /// When the half line that has come must be whole.
    whole_by: Option<Instant>,
    /// Much waits for the connection: how many bytes it had taken when it last took some, and
    /// when it must have taken more.
    stuck: Option<(u64, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// For a connection that was made `now`.
    pub(super) fn new(now: Instant, config: &HubConfig) -> Self {
        Self {
            register_by: Some(now + config.register_timeout),
            stall_timeout: config.stall_timeout,
            whole_by: None,
            stuck: None,
            timer: None,
        }
    }

    /// Whether [`Patience::registered`] was called.
    pub(super) fn knows_module(&self) -> bool {
        self.register_by.is_none()
    }

    /// A module has registered.
    pub(super) fn registered(&mut self) {
        self.register_by = None;
    }

    /// Bytes came: whether a line is half there now, and where among them the last line ended.
    pub(super) fn line_ended_or_began(&mut self, half: bool, end: Option<usize>, now: Instant) {
        if !half {
            self.whole_by = None;
        } else if end.is_some() || self.whole_by.is_none() {
            self.whole_by = Some(now + self.stall_timeout);
        }
    }

    /// The connection is not read, because much waits for it; it has taken `written` bytes.
    pub(super) fn paused(&mut self, written: u64, now: Instant) {
        let again = now + self.stall_timeout;
        if self.stuck.is_none_or(|(before, _)| before != written) {
            self.stuck = Some((written, again));
        }
        // The rest of the line may be there already: it is the hub that does not look.
        self.whole_by = self.whole_by.map(|_| again);
    }

    /// The connection is read.
    pub(super) fn resumed(&mut self) {
        self.stuck = None;
    }

    /// Ready when it is over, with the reason.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closing> {
        let waits = [
            (self.register_by, Closing::Unregistered),
            (self.whole_by, Closing::HalfLine),
            (self.stuck.map(|(_, by)| by), Closing::Slow),
        ];
        let waits = waits.into_iter().filter_map(|(by, reason)| Some((by?, reason)));
        let Some((by, reason)) = waits.min_by_key(|(by, _)| *by) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(by)));
        if timer.deadline() != by {
            timer.as_mut().reset(by);
        }
        timer.as_mut().poll(cx).map(|()| reason)
    }
}
