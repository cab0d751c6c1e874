//! `[log]`: what is logged, and for whom. All of it goes to standard error.

use tracing::Level;

use super::section::Section;

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What is written: this, and what is worse.
    pub level: Level,
    /// For whom.
    pub format: Format,
}

/// For whom lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// People on a terminal, programs elsewhere.
    Auto,
    /// People.
    Human,
    /// Programs.
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
