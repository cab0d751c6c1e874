//! Durations and sizes as an operator writes them: `250ms`, `5s`, `2m`, `64KiB`, `1MiB`.

use std::time::Duration;

/// The longest duration that is accepted: a day. Longer ones are slips of the pen.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `250ms`, `1.5s`, `2m` or `1h`; `None` for anything else, for zero and for more than a
/// day.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" => number / 1_000_000.0,
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return None,
    };
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    (duration > Duration::ZERO && duration <= LONGEST).then_some(duration)
}

/// Writes a duration the same way, rounded to the unit's thousandth.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    let (number, unit) = match millis {
        m if m < 1_000.0 => (m, "ms"),
        m if m < 60_000.0 => (m / 1_000.0, "s"),
        m => (m / 60_000.0, "m"),
    };
    let text = format!("{number:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Reads `512B`, `64KiB`, `1MiB` or `2GiB` (and `KB`, `MB`, `GB` in powers of ten).
pub fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let scale: f64 = match unit {
        "" | "B" => 1.0,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    let bytes = number * scale;
    // Up to 2^53 every whole number of bytes is exact.
    (bytes.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&bytes))
        .then_some(bytes as usize)
}

/// Writes a size in the largest unit that leaves it whole, else with one decimal.
pub fn format_size(bytes: usize) -> String {
    const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, scale) in UNITS {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
        if bytes >= scale * 10 {
            return format!("{:.1}{unit}", bytes as f64 / scale as f64);
        }
    }
    format!("{bytes}B")
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("250ms", Some(250_000)),
            ("5s", Some(5_000_000)),
            ("1.5s", Some(1_500_000)),
            ("2m", Some(120_000_000)),
            ("1h", Some(3_600_000_000)),
            (" 3 s ", Some(3_000_000)),
            ("5", None),
            ("0s", None),
            ("-1s", None),
            ("1e3s", None),
            ("2d", None),
            ("25h", None),
            ("", None),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_duration(text), micros.map(Duration::from_micros), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("1.5KiB", Some(1_536)),
            ("10", Some(10)),
            ("1 MB", Some(1_000_000)),
            ("1.5B", None),
            ("1mib", None),
            ("-1", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
        assert_eq!(format_size(1_048_576), "1MiB");
        assert_eq!(format_size(1_500), "1500B");
        assert_eq!(format_size(15_000), "14.6KiB");
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["250ms", "1.5s", "5s", "2m", "800ms"] {
            let duration = parse_duration(text).expect("valid");
            assert_eq!(format_duration(duration), text);
        }
    }
}
