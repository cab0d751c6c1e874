//! The environment variables that are not keys of the configuration: what the command line's
//! clients ask for. Nothing else outside `config/` reads the environment.

#![expect(clippy::disallowed_methods, reason = "only `config/` reads the environment")]

/// The gateway that `genkan call` and `notify` use without `--gateway`: `GENKAN_GATEWAY`, where
/// it is set and not empty.
pub fn gateway() -> Option<String> {
    std::env::var("GENKAN_GATEWAY").ok().filter(|url| !url.is_empty())
}

/// Whether the terminal's user or the terminal itself wants no colour: `NO_COLOR` is set and not
/// empty (no-color.org), or `TERM` is `dumb`.
pub fn no_color() -> bool {
    let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    set || std::env::var("TERM").is_ok_and(|term| term == "dumb")
}
