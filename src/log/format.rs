//! How a line of the log reads, and what every field of it goes through.
//!
//! Fields hold what callers and peers chose. Each is cut at a length, its characters that a viewer
//! would act on are escaped, and the process's secrets are taken out of it: here, over all fields
//! of all lines, so that nobody has to think of it who logs.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::printable::{beginning, is_unprintable};
use crate::redact::{self, scrub};

/// The longest value of a field, in bytes.
const LONGEST: usize = 1 << 10;

/// For whom a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// People, perhaps in colour.
    Human { colour: bool },
    /// Programs: an object of JSON a line.
    Json,
}

impl Style {
    /// Whether it is in colour.
    pub(super) fn colours(self) -> bool {
        self == Style::Human { colour: true }
    }
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = metadata.level();
        if *self == Style::Json {
            to.write_str("{\"timestamp\":\"")?;
            SystemTime.format_time(&mut to)?;
            write!(to, "\",\"level\":\"{level}\"")?;
            Fields::new(*self, &mut to, false).all(event)?;
            write!(to, ",\"target\":\"{}\"", metadata.target())?;
            let span = event.parent().and_then(|id| context.span(id));
            if let Some(span) = span.or_else(|| context.lookup_current()) {
                to.write_str(",\"span\":{")?;
                if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                    && !fields.is_empty()
                {
                    write!(to, "{fields},")?;
                }
                write!(to, "\"name\":\"{}\"}}", span.name())?;
            }
            return to.write_str("}\n");
        }
        let (dim, plain) = if self.colours() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        to.write_str(dim)?;
        SystemTime.format_time(&mut to)?;
        let colour = if self.colours() { colour(*level) } else { "" };
        write!(to, "{plain} {colour}{level:>5}{plain}")?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(to, " {dim}{}{{", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(to, "{fields}")?;
            }
            write!(to, "}}:{plain}")?;
        }
        to.write_char(' ')?;
        Fields::new(*self, &mut to, true).all(event)?;
        to.write_char('\n')
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// The fields of spans.
impl<'a> FormatFields<'a> for Style {
    fn format_fields<R: RecordFields>(&self, mut to: Writer<'a>, fields: R) -> fmt::Result {
        Fields::new(*self, &mut to, true).all(fields)
    }

    fn add_fields(
        &self,
        current: &'a mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let first = current.is_empty();
        Fields::new(*self, &mut current.as_writer(), first).all(fields)
    }
}

/// Writes fields, with what goes between two of them.
struct Fields<'w, 'a> {
    style: Style,
    to: &'a mut Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl<'w, 'a> Fields<'w, 'a> {
    fn new(style: Style, to: &'a mut Writer<'w>, first: bool) -> Self {
        Self { style, to, first, result: Ok(()) }
    }

    fn all(mut self, fields: impl RecordFields) -> fmt::Result {
        fields.record(&mut self);
        self.result
    }

    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Self) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field).and_then(|()| value(self));
        }
    }

    fn name(&mut self, field: &Field) -> fmt::Result {
        let name = field.name().trim_start_matches("r#");
        let first = std::mem::replace(&mut self.first, false);
        match self.style {
            Style::Json if first => write!(self.to, "\"{name}\":"),
            Style::Json => write!(self.to, ",\"{name}\":"),
            Style::Human { colour } => {
                if !first {
                    self.to.write_char(' ')?;
                }
                match (name, colour) {
                    ("message", _) => Ok(()),
                    (_, true) => write!(self.to, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m"),
                    (_, false) => write!(self.to, "{name}="),
                }
            }
        }
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.put(field, |fields| write!(fields.to, "{value}"));
    }

    /// A text that somebody else may have chosen, of `size` bytes in all.
    fn text(&mut self, field: &Field, text: &str, size: usize) {
        let is_message = field.name() == "message";
        self.put(field, |fields| {
            let scrubbed = scrub(text);
            let shown = beginning(&scrubbed, LONGEST);
            let is_cut = shown.len() < scrubbed.len() || text.len() < size;
            let quoted = match fields.style {
                Style::Json => true,
                Style::Human { .. } => !is_message && (is_cut || !is_bare(shown)),
            };
            fields.quote(quoted)?;
            fields.escaped(shown, quoted)?;
            if is_cut {
                write!(fields.to, "… ({size} bytes)")?;
            }
            fields.quote(quoted)
        });
    }

    fn quote(&mut self, quoted: bool) -> fmt::Result {
        if quoted { self.to.write_char('"') } else { Ok(()) }
    }

    fn escaped(&mut self, text: &str, quoted: bool) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let is_delimiter = quoted && matches!(c, '"' | '\\');
            if !is_delimiter && !is_unprintable(c) {
                continue;
            }
            self.to.write_str(&text[plain..at])?;
            plain = at + c.len_utf8();
            match (c, self.style) {
                ('"' | '\\', _) => write!(self.to, "\\{c}"),
                ('\n', _) => self.to.write_str("\\n"),
                ('\t', _) => self.to.write_str("\\t"),
                (c, Style::Json) => write!(self.to, "\\u{:04x}", u32::from(c)),
                (c, Style::Human { .. }) => write!(self.to, "{}", c.escape_unicode()),
            }?;
        }
        self.to.write_str(&text[plain..])
    }
}

/// Whether a value can be told from what stands beside it without quotes.
fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '=', '\\'])
}

impl Visit for Fields<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match self.style {
            Style::Json if !value.is_finite() => self.plain(field, "null"),
            _ => self.plain(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // A secret that begins before the cut is known by its whole.
        self.text(field, beginning(value, LONGEST + redact::LONGEST), value.len());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut gathered = Gathered::default();
        self.result = self.result.and_then(|()| write!(gathered, "{value:?}"));
        self.text(field, &gathered.text, gathered.size);
    }
}

/// The beginning of a text that is written in pieces.
#[derive(Default)]
struct Gathered {
    text: String,
    size: usize,
}

impl fmt::Write for Gathered {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() == self.size {
            let room = LONGEST + redact::LONGEST - self.text.len();
            self.text.push_str(beginning(piece, room));
        }
        self.size += piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes, but for the time.
    fn written(style: Style, log: impl FnOnce()) -> String {
        let to = Written::default();
        let writer = to.clone();
        let layer = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let layer = layer.with_max_level(Level::TRACE).with_ansi(style.colours());
        let subscriber = layer.fmt_fields(style).event_format(style).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(to.0.lock().unwrap().clone()).expect("UTF-8");
        let start = text.find("Z").expect("a time");
        text[start + 1..].to_owned()
    }

    const HUMAN: Style = Style::Human { colour: false };

    fn a_call() {
        let span = tracing::info_span!("call", name = "a.b", outcome = tracing::field::Empty);
        span.record("outcome", "ok");
        let _entered = span.enter();
        tracing::warn!(count = 3, is = true, half = 0.5, none = f64::NAN, text = "a b", "said");
    }

    #[test]
    fn a_line_for_programs_is_an_object() {
        let line = written(Style::Json, a_call);
        let line = format!("{{\"timestamp\":\"{line}");
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let expected = serde_json::json!({
            "timestamp": "", "level": "WARN", "message": "said", "count": 3, "is": true,
            "half": 0.5, "none": null, "text": "a b", "target": "genkan::log::format::tests",
            "span": {"name": "call", "outcome": "ok"},
        });
        assert_eq!(parsed, expected, "{line}");
    }

    #[test]
    fn a_line_for_people_reads_from_left_to_right() {
        assert_eq!(
            written(HUMAN, a_call),
            "  WARN call{name=a.b outcome=ok}: said count=3 is=true half=0.5 none=NaN text=\"a b\"\n"
        );
        let coloured = written(Style::Human { colour: true }, || tracing::info!(a = "b", "said"));
        assert_eq!(coloured, "\x1b[0m \x1b[32m INFO\x1b[0m said \x1b[3ma\x1b[0m\x1b[2m=\x1b[0mb\n");
    }

    #[test]
    fn a_value_can_neither_end_its_line_nor_pass_for_another_field() {
        let value = "x\u{1b}[2J\u{202e}\u{2028}\n INFO forged=1 \"\\";
        let human = written(HUMAN, || tracing::info!(by = %value, "said"));
        assert_eq!(
            human,
            "  INFO said by=\"x\\u{1b}[2J\\u{202e}\\u{2028}\\n INFO forged=1 \\\"\\\\\"\n"
        );
        let json = written(Style::Json, || tracing::info!(by = value, "said"));
        let shown = r#""by":"x\u001b[2J\u202e\u2028\n INFO forged=1 \"\\""#;
        assert!(json.contains(shown), "{json}");
    }

    #[test]
    fn a_long_value_is_cut_and_its_secrets_are_not_cut_in_two() {
        redact::register("a-secret-of-the-formats");
        let long = format!("{}a-secret-of-the-formats{}", "x".repeat(1_010), "y".repeat(100_000));
        let shown = format!("{}***{}… (101033 bytes)", "x".repeat(1_010), "y".repeat(11));
        for line in [
            written(HUMAN, || tracing::info!(by = long, "said")),
            written(HUMAN, || tracing::info!(by = %long, "said")),
        ] {
            assert_eq!(line, format!("  INFO said by=\"{shown}\"\n"));
        }
    }
}
