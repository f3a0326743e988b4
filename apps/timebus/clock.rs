//! Time for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds now.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Unix milliseconds as `2026-11-20 14:50:03Z`.
pub(crate) fn utc(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (year, month, day) = date((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// The date that is `days` after 1970-01-01, in the Gregorian calendar.
fn date(days: i64) -> (i64, u64, u64) {
    // Years are counted from March, so that the leap day is the last one; 146 097 days are 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

/// A span of time in its largest unit: `3 minutes`.
pub(crate) fn span(ms: u64) -> String {
    let (count, unit) = match ms / 1000 {
        0 => return format!("{ms} ms"),
        s @ 1..60 => (s, "second"),
        s @ 60..3600 => (s / 60, "minute"),
        s @ 3600..86_400 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        let table = [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (951_868_799_999, "2000-02-29 23:59:59Z"),
            (1_798_761_599_000, "2026-12-31 23:59:59Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ];
        for (time_ms, text) in table {
            assert_eq!(utc(time_ms), text);
        }
    }

    #[test]
    fn writes_spans() {
        let table = [(12, "12 ms"), (1000, "1 second"), (61_000, "1 minute"), (7_300_000, "2 hours"), (90_000_000, "1 day")];
        for (ms, text) in table {
            assert_eq!(span(ms), text);
        }
    }
}
