//! Why a connection ends.

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The other side closed it, or it broke.
    Gone,
    /// The other side does not read.
    Slow,
    /// The other side does not read, and there is no memory for what waits.
    NoMemory,
    /// A line has no end.
    EndlessLine,
    /// The rest of a line does not come.
    HalfLine,
    /// No module has registered.
    Unregistered,
    /// No module speaks on it.
    NoModule,
    /// Genkan stops.
    Shutdown,
}

/// The code of a connection that does not end.
pub(super) const OPEN: u8 = 0;

impl Closing {
    /// Its code, which is none of [`OPEN`].
    pub(super) fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The one of that code.
    pub(super) fn of(code: u8) -> Option<Self> {
        let all = [
            Closing::Gone,
            Closing::Slow,
            Closing::NoMemory,
            Closing::EndlessLine,
            Closing::HalfLine,
            Closing::Unregistered,
            Closing::NoModule,
            Closing::Shutdown,
        ];
        all.into_iter().find(|closing| closing.code() == code)
    }
}
