//! What the process tells systemd (`Type=notify-reload`, sd_notify(3)): that it takes calls, reads its
//! configuration again, ends. Nothing where nobody asked for it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;
use tracing::warn;

use super::reload::Reload;
use crate::config::environment::notify_socket;

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
    let place = notify_socket();
    let name = place.as_ref().and_then(|place| place.as_bytes().strip_prefix(b"@"));
    // Of a name that is no file's, the crate knows nothing.
    let told = match name {
        Some(name) => tell_name(name, states),
        None => sd_notify::notify(states),
    };
    if let Err(error) = told {
        warn!(%error, mend = "check NOTIFY_SOCKET", "systemd cannot be told of this process");
    }
}

/// Tells it to whoever listens at an abstract name (unix(7)), as systemd's container managers do.
fn tell_name(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.send(text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_name_is_told_as_a_file_is() {
        let name = format!("genkan-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let systemd = UnixDatagram::bind_addr(&address).expect("it listens");
        tell_name(name.as_bytes(), &[NotifyState::Ready, NotifyState::Status("well")])
            .expect("it is told");
        let mut heard = [0; 64];
        let length = systemd.recv(&mut heard).expect("a message");
        assert_eq!(&heard[..length], b"READY=1\nSTATUS=well\n");
    }
}
