//! Lists of version ids in `Version`, `Parents` and `Current-Version`.
//!
//! The form that all Braid clients speak, which is not the one in the draft: JSON strings behind
//! commas, everything outside ASCII as `\uXXXX`, sorted as JavaScript sorts strings. An unsorted
//! list freezes simpleton clients for good (braid.md §1.1).

use std::fmt::Write as _;

/// Ids in one list: with more heads peers no longer talk in lists either (threats.md P15).
pub const IDS_MAX: usize = timebus_store::writer::NAMES_MAX;

/// Bytes of one decoded id: an 80-byte label or a 52-character change id fits, with room.
pub const ID_BYTES_MAX: usize = 128;

/// Bytes of a header value: the longest legal list, each byte as `\u00xx`, and room for spaces.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Why a version list was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionsError {
    /// Not JSON strings behind commas. Lone surrogates and `%"…"` strings are here too.
    #[error("version list is not a list of JSON strings behind commas")]
    NotStrings {
        /// What the JSON parser said.
        source: serde_json::Error,
    },
    /// More than [`IDS_MAX`].
    #[error("version list has {count} ids, more than {IDS_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// An empty string.
    #[error("version id is empty")]
    EmptyId,
    /// More than [`ID_BYTES_MAX`] after decoding.
    #[error("version id has {bytes} bytes, more than {ID_BYTES_MAX}")]
    IdTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A header longer than any legal list.
    #[error("version list has {bytes} bytes, more than {HEADER_BYTES_MAX}")]
    HeaderTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Parses a header value. An empty one is the empty list: the root, before all writes.
///
/// The ids come back sorted as they are printed and without doubles: their order means nothing.
///
/// # Errors
///
/// A [`VersionsError`] for lists that are not JSON strings, or over the limits.
pub fn parse_versions(header: &[u8]) -> Result<Vec<String>, VersionsError> {
    if header.len() > HEADER_BYTES_MAX {
        return Err(VersionsError::HeaderTooLong { bytes: header.len() });
    }
    let json = [b"[".as_slice(), header, b"]"].concat();
    let mut ids: Vec<String> = serde_json::from_slice(&json).map_err(|source| VersionsError::NotStrings { source })?;
    if ids.len() > IDS_MAX {
        return Err(VersionsError::TooMany { count: ids.len() });
    }
    for id in &ids {
        if id.is_empty() {
            return Err(VersionsError::EmptyId);
        }
        if id.len() > ID_BYTES_MAX {
            return Err(VersionsError::IdTooLong { bytes: id.len() });
        }
    }
    ids.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    ids.dedup();
    Ok(ids)
}

/// Prints a header value: sorted by UTF-16 code units, without doubles, `", "` between, ASCII only.
pub fn print_versions<S: AsRef<str>>(ids: &[S]) -> String {
    let mut sorted: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    sorted.dedup();
    let mut out = String::new();
    for id in sorted {
        if !out.is_empty() {
            out.push_str(", ");
        }
        print_ascii_json(&mut out, id);
    }
    out
}

/// Appends a JSON string in ASCII without control characters, so that it is safe in a header.
pub(crate) fn print_ascii_json(out: &mut String, text: &str) {
    out.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\')) => {
                out.push('\\');
                out.push(char::from(byte));
            }
            Ok(byte @ 0x20..=0x7e) => out.push(char::from(byte)),
            _ => write!(out, "\\u{unit:04x}").expect("a String takes everything"),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::captured_values;
    use proptest::prelude::*;

    fn parse(header: &str) -> Vec<String> {
        parse_versions(header.as_bytes()).expect(header)
    }

    #[test]
    fn reads_what_clients_send() {
        assert!(parse("").is_empty());
        assert!(parse(" \t").is_empty());
        assert_eq!(parse(r#""alice-5""#), ["alice-5"]);
        assert_eq!(parse("\"bob-1\",\"alice-5\""), ["alice-5", "bob-1"]);
        assert_eq!(parse("  \"b\" ,\t \"a\" , \"a\""), ["a", "b"]);
        assert_eq!(parse(r#""jos\u00e9-2""#), ["josé-2"]);
        assert_eq!(parse(r#""\ud83d\ude00-0""#), ["😀-0"]);
        assert_eq!(parse("\"josé-2\""), ["josé-2"], "raw UTF-8 is read");
        assert_eq!(parse(r#""a, \"b\"-3""#), ["a, \"b\"-3"]);
        // As JavaScript sorts: U+FF41 behind the surrogates of U+1F600.
        assert_eq!(parse("\"\u{ff41}\", \"\u{1f600}\""), ["\u{1f600}", "\u{ff41}"]);
    }

    #[test]
    fn prints_captured_lists_as_they_were() {
        for header in ["version", "parents", "current-version"] {
            for value in captured_values(header) {
                assert_eq!(print_versions(&parse(&value)), value.trim_end());
            }
        }
    }

    #[test]
    fn refuses_what_is_no_list_of_strings() {
        for bad in [
            "alice-5",
            "5",
            "%\"caf%c3%a9\"",
            "\"a\" \"b\"",
            "\"a\",",
            ",\"a\"",
            "\"a",
            "'a'",
            "null",
            "[\"a\"]",
            "\"a\"],[\"b\"",
            "\"a\"]//",
            r#""\ud83d""#,
            r#""\ude00\ud83d""#,
            "\"\u{1}\"",
        ] {
            let error = parse_versions(bad.as_bytes()).expect_err(bad);
            assert!(matches!(error, VersionsError::NotStrings { .. }), "{bad}");
        }
        assert!(parse_versions(b"\"\xff\"").is_err());
        assert!(matches!(parse_versions(b"\"\""), Err(VersionsError::EmptyId)));
    }

    #[test]
    fn keeps_its_limits() {
        let list = |count: usize| -> String {
            let ids: Vec<String> = (0..count).map(|n| format!("\"a-{n}\"")).collect();
            ids.join(",")
        };
        assert_eq!(parse(&list(IDS_MAX)).len(), IDS_MAX);
        assert!(matches!(parse_versions(list(IDS_MAX + 1).as_bytes()), Err(VersionsError::TooMany { count: 65 })));
        let id = |bytes: usize| format!("\"{}\"", "é".repeat(bytes / 2));
        assert_eq!(parse(&id(128)).len(), 1);
        assert!(matches!(parse_versions(id(130).as_bytes()), Err(VersionsError::IdTooLong { bytes: 130 })));
        assert!(matches!(parse_versions(&vec![b' '; HEADER_BYTES_MAX + 1]), Err(VersionsError::HeaderTooLong { .. })));
        let longest = vec!["\u{1}".repeat(ID_BYTES_MAX); IDS_MAX];
        let printed: Vec<String> = longest.iter().map(|id| print_versions(&[id])).collect();
        assert!(printed.join(", ").len() < HEADER_BYTES_MAX);
    }

    #[test]
    fn prints_sorted_ascii() {
        assert_eq!(print_versions::<&str>(&[]), "");
        assert_eq!(print_versions(&["b-1", "a-2", "b-1"]), r#""a-2", "b-1""#);
        assert_eq!(print_versions(&["josé-2"]), r#""jos\u00e9-2""#);
        // U+FF41 sorts after the surrogates of U+1F600 in JavaScript, before it in UTF-8.
        assert_eq!(print_versions(&["\u{ff41}", "\u{1f600}"]), r#""\ud83d\ude00", "\uff41""#);
        assert_eq!(print_versions(&["a\"\\\r\n\u{7f}"]), r#""a\"\\\u000d\u000a\u007f""#);
    }

    proptest! {
        #[test]
        fn parsing_gives_back_what_was_printed(
            ids in prop::collection::btree_set(".{1,30}", 0..6),
        ) {
            let ids: Vec<String> = ids.into_iter().collect();
            prop_assume!(ids.iter().all(|id| id.len() <= ID_BYTES_MAX));
            let printed = print_versions(&ids);
            prop_assert!(printed.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let parsed = parse(&printed);
            prop_assert_eq!(print_versions(&parsed), printed);
            let mut parsed = parsed;
            parsed.sort();
            prop_assert_eq!(parsed, ids);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_versions(&bytes);
        }
    }
}
