//! `If-Match` and `If-None-Match` (RFC 9110 §13.1), for entity tags and for versions.
//!
//! Two readings share one spelling. For HTTP, `"a", "b"` means "any of these tags". For Braid it is
//! one version, the set of a and b. We give both comparisons, and a caller may ask both: where a
//! tag of ours looks like a version, it names the same state. Version ids are JSON strings
//! (braid.md §1.1), so a backslash escapes the character behind it; tags of ours contain none.

use crate::versions::{ID_BYTES_MAX, IDS_MAX};

/// Tags in one condition: as many as a version has ids.
pub const TAGS_MAX: usize = IDS_MAX;

/// Bytes of one tag between its quotes: a version id with each byte as `\u00xx`.
const TAG_BYTES_MAX: usize = ID_BYTES_MAX * 6;

/// The value of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `*`: whatever exists.
    Any,
    /// A list, which may be empty: the version before all writes.
    Tags(Vec<Tag>),
}

/// One entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Whether it was written with `W/`.
    pub weak: bool,
    /// What stood between the quotes, escapes and all.
    pub opaque: String,
}

/// Why a condition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// Not `*` and not quoted tags behind commas.
    #[error("condition is neither * nor a list of quoted tags, at byte {at}")]
    Syntax {
        /// Where reading stopped.
        at: usize,
    },
    /// More than [`TAGS_MAX`].
    #[error("condition has more than {TAGS_MAX} tags")]
    TooMany,
    /// One tag is longer than any of ours.
    #[error("tag has {bytes} bytes, more than {TAG_BYTES_MAX}")]
    TagTooLong {
        /// Its length.
        bytes: usize,
    },
}

impl Condition {
    /// Parses a header value.
    ///
    /// # Errors
    ///
    /// A [`ConditionError`]: answer 400, since guessing would write where the client said not to.
    pub fn parse(header: &str) -> Result<Self, ConditionError> {
        let blank = [' ', '\t'];
        let header = header.trim_end_matches(blank);
        let mut rest = header.trim_start_matches(blank);
        if rest == "*" {
            return Ok(Self::Any);
        }
        let syntax = |rest: &str| ConditionError::Syntax { at: header.len() - rest.len() };
        let mut tags = Vec::new();
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(',') {
                // RFC 9110 §5.6.1: empty members are ignored.
                rest = behind.trim_start_matches(blank);
                continue;
            }
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(behind) => (true, behind),
                None => (false, rest),
            };
            let opening = quoted.strip_prefix('"').ok_or_else(|| syntax(rest))?;
            let end = closing_quote(opening).ok_or_else(|| syntax(rest))?;
            let (opaque, behind) = opening.split_at(end);
            if opaque.chars().any(char::is_control) {
                return Err(syntax(rest));
            }
            if opaque.len() > TAG_BYTES_MAX {
                return Err(ConditionError::TagTooLong { bytes: opaque.len() });
            }
            if tags.len() == TAGS_MAX {
                return Err(ConditionError::TooMany);
            }
            tags.push(Tag { weak, opaque: opaque.to_owned() });
            rest = behind[1..].trim_start_matches(blank);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(syntax(rest));
            }
        }
        Ok(Self::Tags(tags))
    }

    /// Strong comparison, for `If-Match`: a strong tag equal to `etag`, the text in our quotes.
    pub fn matches_strong(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| !tag.weak && tag.opaque == etag),
        }
    }

    /// Weak comparison, for `If-None-Match`: any tag with the text of `etag`.
    pub fn matches_weak(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag.opaque == etag),
        }
    }

    /// Whether the list, read as one Braid version, is exactly this set of ids. False for `*`,
    /// which names no version.
    pub fn matches_version<S: AsRef<str>>(&self, ids: &[S]) -> bool {
        let Some(mut asked) = self.version() else {
            return false;
        };
        let mut ours: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        ours.sort_unstable();
        ours.dedup();
        asked.sort_unstable();
        asked.dedup();
        asked == ours
    }

    /// The list read as one Braid version; `None` for `*`, weak tags and what is no JSON string.
    pub fn version(&self) -> Option<Vec<String>> {
        match self {
            Self::Any => None,
            Self::Tags(tags) => tags.iter().map(Tag::version_id).collect(),
        }
    }
}

impl Tag {
    fn version_id(&self) -> Option<String> {
        if self.weak {
            return None;
        }
        serde_json::from_str(&format!("\"{}\"", self.opaque)).ok()
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::print_versions;
    use proptest::prelude::*;

    fn tags(header: &str) -> Vec<(bool, String)> {
        match Condition::parse(header).expect(header) {
            Condition::Any => panic!("{header} is a list"),
            Condition::Tags(tags) => tags.into_iter().map(|t| (t.weak, t.opaque)).collect(),
        }
    }

    #[test]
    fn reads_lists() {
        assert_eq!(Condition::parse(" * "), Ok(Condition::Any));
        assert_eq!(tags(""), []);
        assert_eq!(tags("\"\""), [(false, String::new())]);
        assert_eq!(tags("\"a\""), [(false, "a".into())]);
        assert_eq!(tags("W/\"a\" ,, \"b c\",\"*\""), [(true, "a".into()), (false, "b c".into()), (false, "*".into())]);
        assert_eq!(tags(r#""a\"b""#), [(false, r#"a\"b"#.into())]);
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["a", "*, \"a\"", "\"a\", *", "\"a", "\"a\" \"b\"", "\"a\"b", "w/\"a\"", "W/a", "W/", "\"a\r\n\"", "\"a\\\"", "'a'"] {
            let error = Condition::parse(bad).expect_err(bad);
            assert!(matches!(error, ConditionError::Syntax { .. }), "{bad}");
        }
        let many = vec!["\"a\""; TAGS_MAX + 1].join(",");
        assert_eq!(Condition::parse(&many), Err(ConditionError::TooMany));
        let long = format!("\"{}\"", "a".repeat(TAG_BYTES_MAX + 1));
        assert!(matches!(Condition::parse(&long), Err(ConditionError::TagTooLong { bytes: 769 })));
    }

    #[test]
    fn compares_strong_and_weak() {
        let condition = Condition::parse("W/\"a\", \"b\"").expect("a list");
        assert!(!condition.matches_strong("a"));
        assert!(condition.matches_weak("a"));
        assert!(condition.matches_strong("b"));
        assert!(!condition.matches_weak("c"));
        assert!(Condition::Any.matches_strong("anything"));
    }

    #[test]
    fn compares_versions_as_sets() {
        let condition = Condition::parse(r#""jos\u00e9-2", "bob-1", "bob-1""#).expect("a list");
        assert!(condition.matches_version(&["bob-1", "josé-2"]));
        assert!(!condition.matches_version(&["bob-1"]));
        assert!(!condition.matches_version(&["bob-1", "josé-2", "x-1"]));
        let empty: [&str; 0] = [];
        let root = Condition::parse("").expect("a list");
        assert!(root.matches_version(&empty) && !root.matches_version(&["a-1"]));
        assert!(!Condition::Any.matches_version(&empty));
        let weak = Condition::parse("W/\"a-1\"").expect("a list");
        assert!(!weak.matches_version(&["a-1"]));
    }

    proptest! {
        #[test]
        fn no_text_panics(header in "([a\"W/,* \\\\]|\\PC){0,40}") {
            if let Ok(condition) = Condition::parse(&header) {
                let _ = condition.version();
            }
        }

        #[test]
        fn a_printed_version_matches_itself(ids in prop::collection::vec(".{1,20}", 0..5)) {
            prop_assume!(ids.iter().all(|id| id.len() <= ID_BYTES_MAX));
            let condition = Condition::parse(&print_versions(&ids));
            prop_assert!(condition.is_ok_and(|condition| condition.matches_version(&ids)));
        }
    }
}
