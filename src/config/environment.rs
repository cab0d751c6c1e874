//! The environment: the variables that are keys of the configuration, and those that the command
//! line's clients ask for. Nothing outside `config/` reads it.

#![expect(clippy::disallowed_methods, reason = "only `config/` reads the environment")]

use std::ffi::OsString;

use super::source::Variables;

/// All of it, for the keys that it sets.
pub(super) fn all() -> Variables {
    std::env::vars_os().collect()
}

/// The gateway that `genkan call` and `notify` use without `--gateway`: `GENKAN_GATEWAY`, where
/// it is set and not empty.
pub fn gateway() -> Option<String> {
    std::env::var("GENKAN_GATEWAY").ok().filter(|url| !url.is_empty())
}

/// The key or token that the command line's clients show to a gateway: `GENKAN_TOKEN`, where it is set and
/// not empty.
pub fn token() -> Option<String> {
    std::env::var("GENKAN_TOKEN").ok().filter(|token| !token.is_empty())
}

/// Where whoever supervises the process hears of it (sd_notify(3)): `NOTIFY_SOCKET`.
pub fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET")
}

/// Whether the terminal's user or the terminal itself wants no colour: `NO_COLOR` is set and not
/// empty (no-color.org), or `TERM` is `dumb`.
pub fn no_color() -> bool {
    let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    set || std::env::var("TERM").is_ok_and(|term| term == "dumb")
}
