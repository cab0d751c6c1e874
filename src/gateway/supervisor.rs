//! What the process tells systemd (`Type=notify-reload`, sd_notify(3)): that it takes calls, reads its
//! configuration again, ends. Nothing where nobody asked for it.

use sd_notify::NotifyState;
use tracing::warn;

use super::reload::Reload;

/// Whoever supervises the process.
#[derive(Default)]
pub(super) struct Supervisor {
    is_reloading: bool,
    /// Which of the reload's ends was told last.
    told: u64,
}

impl Supervisor {
    /// Calls are taken, by so many rows.
    pub(super) fn ready(&self, rows: usize) {
        tell(&[
            NotifyState::Ready,
            NotifyState::Status(&format!("calls are taken, by {rows} rows")),
        ]);
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

    /// Tells that a reload is over, when it is, and whether the configuration was put in force, or refused:
    /// of one, too, for which nobody sent a signal.
    pub(super) fn look(&mut self, reload: &Reload) {
        let (ended, status) = reload.ended();
        let status = (ended != self.told).then_some(NotifyState::Status(status));
        self.told = ended;
        let is_over = self.is_reloading && reload.is_over();
        if is_over {
            self.is_reloading = false;
        }
        let states: Vec<_> =
            is_over.then_some(NotifyState::Ready).into_iter().chain(status).collect();
        if !states.is_empty() {
            tell(&states);
        }
    }

    /// No new calls are taken.
    pub(super) fn stopping(&self) {
        tell(&[
            NotifyState::Stopping,
            NotifyState::Status("ending: calls in flight get their answers"),
        ]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, mend = "check NOTIFY_SOCKET", "systemd cannot be told of this process");
    }
}
