//! What the process tells systemd (`Type=notify-reload`, sd_notify(3)): that it takes calls, reads its
//! configuration again, ends. Nothing where nobody asked for it.

use sd_notify::NotifyState;
use tracing::warn;

use super::reload::Reload;

/// Whoever supervises the process.
#[derive(Default)]
pub(super) struct Supervisor {
    is_reloading: bool,
}

impl Supervisor {
    /// Calls are taken.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// SIGHUP came: it waits to be told how that ends.
    pub(super) fn reloads(&mut self, reload: &mut Reload) {
        reload.ask();
        self.is_reloading = true;
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "no monotonic time for systemd"),
        }
    }

    /// Tells that the reload is over, when it is: the configuration was put in force, or refused.
    pub(super) fn look(&mut self, reload: &Reload) {
        if self.is_reloading && reload.is_over() {
            self.is_reloading = false;
            self.ready();
        }
    }

    /// No new calls are taken.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, mend = "check NOTIFY_SOCKET", "systemd cannot be told of this process");
    }
}
