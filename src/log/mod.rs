//! Logs: for people on a terminal, one JSON object a line elsewhere. All to standard error, for
//! which nobody waits: see `queue`. What a line holds is made fit to be shown in `format`.

mod format;
mod queue;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::config::log::{Format, LogConfig};
use format::Style;
use queue::Queue;

/// How long the end of the process waits for whoever reads standard error.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The log at work. Dropped, it waits a moment for what is not written yet.
pub struct Log {
    queue: Queue,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Waits a moment until everything is written. False where it is not: nobody reads standard
    /// error, and whoever writes there himself would wait for ever.
    pub fn flush(&self) -> bool {
        self.queue.flush(LAST_WORDS)
    }
}

impl Log {
    /// Puts another level in force. True where nothing else has changed, which takes a new start.
    pub fn apply(&self, before: LogConfig, next: LogConfig) -> bool {
        // It fails where this is not the log that is at work.
        drop(self.filter.reload(filter(next.level)));
        before.format == next.format
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Starts logging for the process, once; a second time changes nothing.
pub fn start(config: LogConfig) -> io::Result<Log> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Human => false,
        Format::Json => true,
    };
    let colour = terminal && !crate::config::environment::no_color();
    let style = if json { Style::Json } else { Style::Human { colour } };
    let queue = Queue::start()?;
    let layer = tracing_subscriber::fmt::layer().with_writer(queue.clone());
    // Each value is escaped already, where it is written.
    let layer = layer.with_ansi(style.colours()).fmt_fields(style).event_format(style);
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let registry = tracing_subscriber::registry().with(filter);
    // It fails where logging has been started before: that one goes on.
    drop(registry.with(layer).try_init());
    Ok(Log { queue, filter: handle })
}

fn filter(level: Level) -> Targets {
    let quiet = LevelFilter::from_level(level).min(LevelFilter::WARN);
    Targets::new()
        .with_default(level)
        // lapin writes whole messages, with what users sent, into its warnings; its connections are
        // watched by supervisors that say in Genkan's words what happened.
        .with_target("lapin", LevelFilter::OFF)
        .with_target("hyper", quiet)
        .with_target("h2", quiet)
        .with_target("rustls", quiet)
}
