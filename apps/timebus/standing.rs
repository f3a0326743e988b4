//! How other peers and their spaces are, in words for people.

use crate::clock::span;
use crate::output::printable;
use crate::value::{Json, items, member, number, text};

/// Letters of a key that people are shown; enough to tell their peers apart.
pub(crate) const SHORT_CHARS: usize = 8;

/// The beginning of a key.
pub(crate) fn short(key: &str) -> String {
    key.chars().take(SHORT_CHARS).collect()
}

/// What a peer or space is called: the owner's name for it with an `@`, else its own, else its key. A machine that is somebody's no
/// more is called so.
pub(crate) fn called(status: &Json) -> String {
    let thrown_out = member(status, "thrown_out").and_then(|out| text(out, "by"));
    if let Some(by) = thrown_out {
        let name = text(status, "name").map_or_else(|| short(text(status, "id").unwrap_or("?")), printable);
        return if by == "you" { format!("{name}, thrown out") } else { format!("{name}, thrown out by {}", printable(by)) };
    }
    match (text(status, "petname"), text(status, "name")) {
        (Some(petname), _) => format!("@{}", printable(petname)),
        (None, Some(name)) if !name.is_empty() => printable(name),
        _ => short(text(status, "id").or(text(status, "space")).unwrap_or("?")),
    }
}

/// How a peer is.
pub(crate) fn of_peer(peer: &Json, now_ms: u64) -> String {
    match text(peer, "state") {
        Some("connected") => "connected".to_owned(),
        Some("calling") => "being called".to_owned(),
        Some("unreachable") => format!("not reached, next try {}", ahead(peer, "next_try_ms", now_ms)),
        Some("idle") => "known, not called".to_owned(),
        Some("blocked") => "blocked by you".to_owned(),
        Some("banned") => format!("broke the rules, not talked to until {} from now", ahead_ms(peer, "until_ms", now_ms)),
        other => other.unwrap_or("?").to_owned(),
    }
}

/// How the space of somebody else is here, with what of it was taken back.
pub(crate) fn of_space(space: &Json, now_ms: u64) -> String {
    let state = state_of(space, now_ms);
    let taken: Vec<String> = items(space, "taken_back").iter().map(taken_back).collect();
    if taken.is_empty() { state } else { format!("{state}; {}", taken.join("; ")) }
}

/// What was taken back, in words.
pub(crate) fn taken_back(over: &Json) -> String {
    let says = printable(text(over, "says").unwrap_or("it was taken back"));
    match text(over, "path") {
        Some("/") | None => format!("{says}; what is here is of before"),
        Some(path) => format!("of {} {says}; what is here is of before", printable(path)),
    }
}

fn state_of(space: &Json, now_ms: u64) -> String {
    if let Some(answer) = refusal(space) {
        return format!("the invite was refused: {}", printable(answer));
    }
    let state = match text(space, "state") {
        Some("live") if is_true(space, "owner_connected", false) && !is_community(space) => {
            let seen = number(space, "owner_seen_ms").filter(|seen| *seen > 0);
            let ago = seen.map_or_else(String::new, |seen| format!(", seen {} ago", span(now_ms.saturating_sub(seen))));
            return format!("live{}; its owner is not reached{ago}", from(space));
        }
        Some("live") => return format!("live{}", from(space)),
        Some("loading") => format!("coming in{}", from(space)),
        Some("connecting") => "being called".to_owned(),
        Some("waiting") => match text(space, "petname") {
            Some(name) => format!("waiting for {} to accept what you wrote", printable(name)),
            None => "waiting for its owner to accept what you wrote".to_owned(),
        },
        // A community has no owner to ask: it comes from whoever else is in it.
        Some("unknown") if is_community(space) => "nobody else is known who is in it".to_owned(),
        Some("denied") if is_community(space) && !is_waiting(space) => "nobody who is connected is in it".to_owned(),
        Some("denied") if !is_waiting(space) => "not given to us; ask its owner for an invite".to_owned(),
        Some("denied") => "connected, waiting for an answer to the invite".to_owned(),
        Some("unreachable") => {
            let seen = match number(space, "seen_ms") {
                None | Some(0) => "never met".to_owned(),
                Some(seen) => format!("last seen {} ago", span(now_ms.saturating_sub(seen))),
            };
            format!("not reached ({seen}), next try {}", ahead(space, "next_try_ms", now_ms))
        }
        Some("unknown") => "nobody is known who has it".to_owned(),
        Some("offline") => "this peer is offline and calls nobody".to_owned(),
        other => other.unwrap_or("?").to_owned(),
    };
    match is_waiting(space) {
        true => format!("invite not answered yet; {state}"),
        false => state,
    }
}

fn is_true(space: &Json, name: &str, wanted: bool) -> bool {
    member(space, name) == Some(&Json::Bool(wanted))
}

/// Who gives a space, if it comes from somebody.
fn from(space: &Json) -> String {
    text(space, "from").map_or_else(String::new, |from| format!(", from {}", printable(from)))
}

/// Why an invite to a space was refused, if it was.
pub(crate) fn refusal(space: &Json) -> Option<&str> {
    text(space, "invite").filter(|_| !is_waiting(space))
}

/// Whether a space is a community that the owner is in.
pub(crate) fn is_community(space: &Json) -> bool {
    member(space, "is_community") == Some(&Json::Bool(true))
}

/// Whether an invite to a space is still to be answered.
pub(crate) fn is_waiting(space: &Json) -> bool {
    member(space, "is_waiting") == Some(&Json::Bool(true))
}

/// Why a call did not work, one line for each address.
pub(crate) fn problem(status: &Json) -> Vec<String> {
    text(status, "problem").unwrap_or_default().lines().map(printable).filter(|line| !line.is_empty()).collect()
}

fn ahead(status: &Json, name: &str, now_ms: u64) -> String {
    match number(status, name).unwrap_or(0).saturating_sub(now_ms) {
        0 => "now".to_owned(),
        ms => format!("in {}", span(ms)),
    }
}

fn ahead_ms(status: &Json, name: &str, now_ms: u64) -> String {
    span(number(status, name).unwrap_or(0).saturating_sub(now_ms))
}

/// Rows as columns of equal width, without blanks at the ends of lines.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let one_line = |cell: &String| cell.replace(['\n', '\t'], "\u{fffd}");
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", one_line(cell))).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        crate::value::parse(text.as_bytes()).expect("JSON")
    }

    #[test]
    fn states_are_told_apart() {
        let table = [
            (r#"{"state":"live","peers":1,"is_waiting":false}"#, "live"),
            (r#"{"state":"live","peers":4,"from":"carol and 3 others","is_waiting":false}"#, "live, from carol and 3 others"),
            (r#"{"state":"unknown","is_community":true,"is_waiting":false}"#, "nobody else is known who is in it"),
            (r#"{"state":"denied","is_community":true,"is_waiting":false}"#, "nobody who is connected is in it"),
            (r#"{"state":"denied","is_waiting":false}"#, "not given to us; ask its owner for an invite"),
            (r#"{"state":"denied","invite":"used up","is_waiting":false}"#, "the invite was refused: used up"),
            (r#"{"state":"unreachable","seen_ms":0,"next_try_ms":64000,"is_waiting":false}"#, "not reached (never met), next try in 4 seconds"),
            (
                r#"{"state":"unreachable","seen_ms":0,"next_try_ms":0,"invite":"waiting","is_waiting":true}"#,
                "invite not answered yet; not reached (never met), next try now",
            ),
        ];
        let taken = r#"{"state":"live","is_waiting":false,"taken_back":[{"path":"/trip","says":"ada took it back on 2026-11-28"}]}"#;
        assert_eq!(of_space(&json(taken), 60_000), "live; of /trip ada took it back on 2026-11-28; what is here is of before");
        for (status, words) in table {
            assert_eq!(of_space(&json(status), 60_000), words);
        }
    }

    #[test]
    fn names_of_others_are_harmless_in_a_terminal() {
        assert_eq!(called(&json(r#"{"id":"abcdefghijkl","petname":null,"name":"a\u001b[2Jb"}"#)), "a\u{fffd}[2Jb");
        assert_eq!(called(&json(r#"{"id":"abcdefghijkl","petname":null,"name":""}"#)), "abcdefgh");
        assert_eq!(called(&json(r#"{"id":"abcdefghijkl","petname":"alice","name":"x"}"#)), "@alice");
        let out = r#"{"id":"abcdefghijkl","petname":null,"name":"laptop","thrown_out":{"by":"ada"}}"#;
        assert_eq!(called(&json(out)), "laptop, thrown out by ada");
        assert_eq!(called(&json(&out.replace("ada", "you"))), "laptop, thrown out");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["efg".to_owned(), "h".to_owned()]];
        assert_eq!(table(&rows), ["a    bcd", "efg  h"]);
    }
}
