//! Rights, sizes and days in words that people use.

use timebus_store::grant::{Actions, Scope, ScopeSegment};

/// Whether a character is unseen and changes how those around it read: control characters, line ends, and what turns the
/// direction of a text.
pub(crate) fn is_unseen(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What others call themselves, as one line that reads as it is written, and does not end a command that it stands in.
pub(crate) fn plain(name: &str) -> String {
    let letter = |letter| match letter {
        '`' => '\'',
        letter if is_unseen(letter) => '\u{fffd}',
        letter => letter,
    };
    name.chars().map(letter).collect()
}

/// A text as one word of a shell command.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// What a grant allows, the strongest words last.
pub(crate) fn action_words(actions: Actions) -> Vec<String> {
    let all = [
        (Actions::READ, "read"),
        (Actions::WRITE, "write"),
        (Actions::GRANT, "give rights on"),
        (Actions::MODERATE, "moderate"),
        (Actions::KEEP, "keep the order"),
        (Actions::RUN, "install programs"),
    ];
    let words: Vec<String> = all.iter().filter(|(action, _)| actions.contains(*action)).map(|(_, word)| (*word).to_owned()).collect();
    if words.is_empty() && actions.contains(Actions::SYNC) { vec!["fetch".to_owned()] } else { words }
}

/// Where a grant is good.
pub(crate) fn scope_words(scope: &Scope) -> String {
    match (scope.segments.is_empty(), scope.deep) {
        (true, true) => "everywhere".to_owned(),
        (_, true) => format!("at and below {}", scope_path(scope)),
        (_, false) => format!("at {} alone", scope_path(scope)),
    }
}

/// The path of a scope.
pub(crate) fn scope_path(scope: &Scope) -> String {
    let names: Vec<&str> = scope
        .segments
        .iter()
        .map(|segment| match segment {
            ScopeSegment::Name(name) => &**name,
            ScopeSegment::Author => "{author}",
        })
        .collect();
    format!("/{}", names.join("/"))
}

/// Things in a row: "a, b and c".
pub(crate) fn join(items: &[String]) -> String {
    match items {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// "1 change", "2 changes".
pub(crate) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// The beginning of an id, enough for people.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Bytes as people say them: "31 GB".
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        None => format!("{bytes} bytes"),
        Some((unit, name)) => {
            let tenths = bytes / (unit / 10);
            let (whole, part) = (tenths / 10, tenths % 10);
            if whole >= 10 || part == 0 { format!("{whole} {name}") } else { format!("{whole}.{part} {name}") }
        }
    }
}

/// The day of a Unix time in milliseconds: "2026-11-26".
pub(crate) fn day(ms: u64) -> String {
    // Days since 1970 to a date, after the era algorithm of Howard Hinnant's calendar notes.
    let days = (ms / 86_400_000) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The moment of a Unix time in milliseconds: "2026-11-26 09:05:00Z".
pub(crate) fn moment(ms: u64) -> String {
    let second = ms / 1000 % 86_400;
    format!("{} {:02}:{:02}:{:02}Z", day(ms), second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_call_themselves_stays_one_word_of_a_command() {
        assert_eq!(quoted("/notes/a-b@c"), "/notes/a-b@c");
        assert_eq!(["$(curl x|sh)", "Carol /x", "it's", ""].map(quoted), ["'$(curl x|sh)'", "'Carol /x'", r"'it'\''s'", "''"]);
        assert_eq!(plain("a`b\u{202e}c"), "a'b\u{fffd}c");
    }

    #[test]
    fn days_and_sizes_are_said_as_people_do() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_795_651_200_000), "2026-11-26");
        assert_eq!(day(951_782_400_000), "2000-02-29");
        assert_eq!([0, 1_795_651_200_000 + 83_045_999].map(moment), ["1970-01-01 00:00:00Z", "2026-11-26 23:04:05Z"]);
        for (bytes, said) in
            [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (31_000_000_000, "31 GB"), (50_000_000, "50 MB"), (2_000_000, "2 MB")]
        {
            assert_eq!(size(bytes), said);
        }
    }

    #[test]
    fn scopes_are_said_as_people_do() {
        let scope = |text: &str, deep| Scope {
            segments: text.split('/').filter(|name| !name.is_empty()).map(|name| ScopeSegment::Name(name.into())).collect(),
            deep,
        };
        assert_eq!(scope_words(&scope("", true)), "everywhere");
        assert_eq!(scope_words(&scope("a/b", true)), "at and below /a/b");
        assert_eq!(scope_words(&scope("a", false)), "at /a alone");
        assert_eq!(join(&action_words(Actions(31))), "read, write, give rights on and moderate");
    }
}
