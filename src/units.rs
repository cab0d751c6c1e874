//! Durations and sizes as an operator writes them: `250ms`, `5s`, `2m`, `64KiB`, `1MiB`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest duration that is accepted: a day. Longer ones are slips of the pen.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `250ms`, `1.5s`, `2m` or `1h`; `None` for anything else, for zero and for more than a
/// day.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_duration_or_none(text).filter(|duration| !duration.is_zero())
}

/// Reads the same, and zero too.
pub fn parse_duration_or_none(text: &str) -> Option<Duration> {
    parse_any_duration(text).filter(|duration| *duration <= LONGEST)
}

/// Reads how long a caller waits: the same, and what is longer than a day as a day, for no row lets a call
/// take more. `None` for zero.
pub fn parse_patience(text: &str) -> Option<Duration> {
    let patience = parse_any_duration(text).filter(|patience| !patience.is_zero());
    patience.map(|patience| patience.min(LONGEST))
}

fn parse_any_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" => number / 1_000_000.0,
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return None,
    };
    // There is no sign: what does not fit is too long.
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// In whole seconds, and never too few: as `Retry-After` says it.
pub fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)))
}

/// Writes a duration the same way, rounded to the unit's thousandth: `90s`, not `1.5m`.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    let (number, unit) = match millis {
        m if m < 1_000.0 => (m, "ms"),
        m if m < 60_000.0 || m < 600_000.0 && m % 60_000.0 != 0.0 => (m / 1_000.0, "s"),
        m if m % 3_600_000.0 != 0.0 => (m / 60_000.0, "m"),
        m => (m / 3_600_000.0, "h"),
    };
    let text = format!("{number:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Writes an instant as RFC 3339 does, in UTC, with milliseconds: `2026-11-29T08:00:00.000Z`.
pub fn format_timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days are counted in eras of 400 years that begin with a March, as a leap day is last then.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        year + era * 400,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Reads a date, `2027-12-31`, or a time in UTC, `2027-12-31T12:00:00Z`: the instant, at a date's
/// begin, and whether it was a date.
pub fn parse_date(text: &str) -> Option<(SystemTime, bool)> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time.strip_suffix(['Z', 'z'])?)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=days_of_month).contains(&day) {
        return None;
    }
    // As in `format_timestamp`: years begin with March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = match time.map(|time| time.split('.').next().unwrap_or_default()) {
        Some(time) => {
            let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
            (hour < 24 && minute < 60 && second < 60)
                .then_some(hour * 3_600 + minute * 60 + second)?
        }
        None => 0,
    };
    let since = Duration::from_secs((days - 719_468) * 86_400 + seconds);
    Some((UNIX_EPOCH + since, time.is_none()))
}

/// Three numbers of so many digits.
fn numbers(text: &str, between: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut read = [0; 3];
    for (number, length) in read.iter_mut().zip(lengths) {
        let part = parts.next()?;
        let fits = part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| fits)?;
    }
    parts.next().is_none().then_some(read)
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
    fn whole_seconds_are_never_too_few() {
        for (millis, seconds) in [(0, 0), (1, 1), (1_000, 1), (2_999, 3), (3_001, 4)] {
            let rounded = whole_seconds(Duration::from_millis(millis));
            assert_eq!(rounded, Duration::from_secs(seconds), "{millis}");
        }
    }

    #[test]
    fn timestamps() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(format_timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn dates_are_read_as_timestamps_are_written() {
        for (text, seconds, is_day) in [
            ("1970-01-01", 0, true),
            ("2000-02-29", 951_782_400, true),
            ("2024-02-29T23:59:59Z", 1_709_251_199, false),
            ("2024-02-29 23:59:59.5Z", 1_709_251_199, false),
            ("2026-01-01t00:00:00z", 1_767_225_600, false),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(parse_date(text), Some((at, is_day)), "{text}");
        }
        for text in [
            "",
            "soon",
            "2027",
            "2027-13-01",
            "2027-02-29",
            "2027-00-01",
            "2027-1-1",
            "1969-12-31",
            "2027-12-31T12:00:00",
            "2027-12-31T12:00:00+01:00",
            "2027-12-31T24:00:00Z",
            "+027-12-31",
            "2027-12-31T12:00Z",
            "2027-12-31-1",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

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
    fn a_caller_may_wait_for_longer_than_a_day() {
        let endless = format!("{}ms", "9".repeat(400));
        let cases = [
            ("800ms", Some(Duration::from_millis(800))),
            ("24h", Some(LONGEST)),
            ("25h", Some(LONGEST)),
            ("2147483647ms", Some(LONGEST)),
            ("9007199254740991ms", Some(LONGEST)),
            (&endless, Some(LONGEST)),
            ("0ms", None),
            ("0.0001us", None),
            ("soon", None),
            ("-25h", None),
            ("1.2.3s", None),
            (".s", None),
        ];
        for (text, patience) in cases {
            assert_eq!(parse_patience(text), patience, "{text:?}");
        }
        assert_eq!(parse_duration(&endless), None);
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
