//! Spans of time and numbers of bytes as people type them.

/// Milliseconds of a second, and what larger units are of it.
const UNITS_MS: [(&str, u64); 5] = [("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 7 * 86_400_000)];
const UNITS_BYTES: [(&str, u64); 5] = [("b", 1), ("kb", 1000), ("mb", 1_000_000), ("gb", 1_000_000_000), ("tb", 1_000_000_000_000)];

/// How long something lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// So many milliseconds.
    Ms(u64),
    /// Until it is taken back.
    Forever,
}

/// Reads `30m`, `12h`, `7d`, `2w` or `never`.
pub(crate) fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime::Forever);
    }
    match amount(text, &UNITS_MS) {
        Some(ms) if ms > 0 => Ok(Lifetime::Ms(ms)),
        _ => Err("write it like 30m, 12h, 7d, 2w or never".to_owned()),
    }
}

/// Reads a day, as in `2026-12-31`, or a span from now, as in `7d`. Answers Unix milliseconds; a day lasts to its end.
pub(crate) fn until(text: &str) -> Result<u64, String> {
    let bad = || "write a day like 2026-12-31, or a span like 7d".to_owned();
    if let Ok(Lifetime::Ms(ms)) = lifetime(text) {
        return Ok(crate::clock::now_ms() + ms);
    }
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let (Some(Some(year)), Some(Some(month)), Some(Some(day)), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = usize::try_from(month - 1).ok().and_then(|month| days_in.get(month)).copied().ok_or_else(bad)?;
    if !(1970..=9999).contains(&year) || !(1..=days).contains(&day) {
        return Err(bad());
    }
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let before: i64 = days_in[..usize::try_from(month - 1).map_err(|_| bad())?].iter().sum();
    let since = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1;
    u64::try_from((since + 1) * 86_400_000 - 1).map_err(|_| bad())
}

/// Reads `50MB`, `1.5GB` or a plain number of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let with_unit = if lower.ends_with('b') { lower } else { lower + "b" };
    match amount(&with_unit, &UNITS_BYTES) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("write it like 500kB, 50MB or 1GB".to_owned()),
    }
}

/// How many bytes may go in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// So many.
    Bytes(u64),
    /// As many as can.
    Unlimited,
}

/// Reads `1MB/s`, `500kB` or `none`.
pub(crate) fn speed(text: &str) -> Result<Speed, String> {
    if text == "none" {
        return Ok(Speed::Unlimited);
    }
    let bad = |_| "write it like 500kB/s, 1MB/s, or none for no limit".to_owned();
    bytes(text.strip_suffix("/s").unwrap_or(text)).map(Speed::Bytes).map_err(bad)
}

/// A number and a unit behind it.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let unit = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    // Six places behind the point are more than anybody types.
    if part.len() > 6 || number.ends_with('.') {
        return None;
    }
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()?.checked_mul(unit)? / 10u64.pow(part.len() as u32) };
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, ms) in [("30m", 1_800_000), ("7d", 604_800_000), ("1.5h", 5_400_000), ("2w", 1_209_600_000)] {
            assert_eq!(lifetime(text), Ok(Lifetime::Ms(ms)), "{text}");
        }
        assert_eq!(lifetime("never"), Ok(Lifetime::Forever));
        for bad in ["", "7", "d", "0d", "-1d", "1y", "1.h", "99999999999999999999d", "1.2.3d"] {
            assert!(lifetime(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_are_read() {
        assert_eq!(until("1970-01-01"), Ok(86_399_999));
        assert_eq!(until("2026-11-26"), Ok(1_795_651_200_000 + 86_399_999));
        assert_eq!(until("2000-02-29"), Ok(951_782_400_000 + 86_399_999));
        assert!(until("7d").is_ok_and(|at| at > crate::clock::now_ms()));
        for bad in ["", "2026-13-01", "2026-02-30", "2026-02", "tomorrow", "1969-01-01", "2026-00-01", "2026-01-00", "2026-1-1-1"] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn speeds_are_read() {
        for (text, count) in [("1MB/s", 1_000_000), ("500kB/s", 500_000), ("1.5mb", 1_500_000), ("20000", 20_000)] {
            assert_eq!(speed(text), Ok(Speed::Bytes(count)), "{text}");
        }
        assert_eq!(speed("none"), Ok(Speed::Unlimited));
        for bad in ["", "/s", "0", "1MB/h", "fast", "-1MB/s"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, count) in [("50MB", 50_000_000), ("1.5GB", 1_500_000_000), ("500kB", 500_000), ("12", 12), ("12b", 12), ("1 GB", 1_000_000_000)] {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for bad in ["", "MB", "0", "1XB", "99999999999GB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
