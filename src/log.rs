//! Logs: for people on a terminal, one JSON object a line elsewhere. All to standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::config::section::Section;

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    level: Level,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Auto,
    Human,
    Json,
}

impl LogConfig {
    /// Reads `[log]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        let levels = [
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ];
        let formats = [("auto", Format::Auto), ("human", Format::Human), ("json", Format::Json)];
        Self {
            level: section.choice("level", &levels, Level::INFO),
            format: section.choice("format", &formats, Format::Auto),
        }
    }
}

/// Starts logging for the process, once; a second call changes nothing.
pub fn start(config: LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Human => false,
        Format::Json => true,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter(config.level));
    let started = if json {
        let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
        registry.with(layer).try_init()
    } else {
        let colour = terminal && !crate::config::environment::no_color();
        registry.with(layer.with_ansi(colour).with_target(false)).try_init()
    };
    // It fails where logging has been started before: that one goes on.
    drop(started);
}

fn filter(level: Level) -> Targets {
    let quiet = LevelFilter::from_level(level).min(LevelFilter::WARN);
    Targets::new()
        .with_default(level)
        // lapin writes whole messages, with what users sent, into its warnings; both libraries'
        // connections are watched by supervisors that say in Genkan's words what happened.
        .with_target("lapin", LevelFilter::OFF)
        .with_target("async_nats", LevelFilter::OFF)
        .with_target("hyper", quiet)
        .with_target("h2", quiet)
        .with_target("rustls", quiet)
}
