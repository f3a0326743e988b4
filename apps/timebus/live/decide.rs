//! What to do about a file, from what it is on both sides and what both agreed on last.

use super::journal::{Agreed, Kind};

/// A file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Here<'a> {
    pub(crate) hash: &'a str,
    pub(crate) is_text: bool,
}

/// A value of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct There<'a> {
    pub(crate) version: &'a [String],
    pub(crate) shown: &'a str,
    pub(crate) kind: Kind,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is to do.
    Rest,
    /// Both sides have the same.
    Agree,
    /// Both sides have nothing.
    Forget,
    /// Send the file, as written upon the version that both agreed on.
    Send,
    /// Send the file as something new.
    SendNew,
    /// Put the value into the folder.
    Take,
    /// Remove the file from the folder.
    Remove,
    /// Delete the value, as far as it was seen.
    Delete,
    /// Keep the file under another name, and put the value into its place.
    SetAside,
}

/// Decides; `is_same` says whether both sides hold the same. Neither side's work is ever dropped: only what was agreed on
/// before is replaced or removed.
pub(crate) fn decide(agreed: Option<&Agreed>, here: Option<Here<'_>>, there: Option<There<'_>>, is_same: bool) -> Step {
    let (Some(agreed), here, there) = (agreed, here, there) else {
        return match (here, there) {
            (None, None) => Step::Forget,
            (Some(_), None) => Step::SendNew,
            (None, Some(_)) => Step::Take,
            (Some(_), Some(_)) if is_same => Step::Agree,
            // Two that were never the same have nothing to be merged upon.
            (Some(_), Some(_)) => Step::SetAside,
        };
    };
    let edited = here.is_none_or(|here| here.hash != agreed.hash);
    let changed = there.is_none_or(|there| there.shown != agreed.shown || there.kind != agreed.kind);
    match (here, there) {
        (None, None) => Step::Forget,
        (Some(_), Some(there)) if is_same => {
            if !edited && !changed && there.version == agreed.version {
                Step::Rest
            } else {
                Step::Agree
            }
        }
        (Some(_), None) if edited => Step::SendNew,
        (Some(_), None) => Step::Remove,
        // Who edits is stronger than who deletes.
        (None, Some(_)) if changed => Step::Take,
        (None, Some(_)) => Step::Delete,
        (Some(_), Some(_)) if !edited => Step::Take,
        (Some(_), Some(_)) if !changed => Step::Send,
        (Some(here), Some(there)) if here.is_text && there.kind == Kind::Text && agreed.kind == Kind::Text => Step::Send,
        (Some(_), Some(_)) => Step::SetAside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(kind: Kind) -> Agreed {
        Agreed { version: vec!["v1".into()], hash: "old".into(), shown: "old".into(), kind }
    }

    fn step(kind: Option<Kind>, here: Option<&str>, there: Option<&str>) -> Step {
        let old = kind.map(agreed);
        let kind = kind.unwrap_or(Kind::Text);
        let version = [if there == Some("old") { "v1" } else { "v2" }.to_owned()];
        let is_same = here == there;
        let here = here.map(|hash| Here { hash, is_text: kind == Kind::Text });
        let there = there.map(|shown| There { version: &version, shown, kind });
        decide(old.as_ref(), here, there, is_same)
    }

    #[test]
    fn every_case() {
        use Step::*;
        let text = Some(Kind::Text);
        for (kind, here, there, wanted) in [
            (None, None, None, Forget),
            (None, Some("a"), None, SendNew),
            (None, None, Some("a"), Take),
            (None, Some("a"), Some("a"), Agree),
            (None, Some("a"), Some("b"), SetAside),
            (text, None, None, Forget),
            (text, Some("old"), Some("old"), Rest),
            (text, Some("new"), Some("old"), Send),
            (text, Some("old"), Some("new"), Take),
            (text, Some("new"), Some("new"), Agree),
            (text, Some("new"), Some("other"), Send),
            (Some(Kind::Bytes), Some("new"), Some("other"), SetAside),
            (Some(Kind::Json), Some("new"), Some("other"), SetAside),
            (Some(Kind::Bytes), Some("new"), Some("old"), Send),
            (text, None, Some("old"), Delete),
            (text, None, Some("new"), Take),
            (text, Some("old"), None, Remove),
            (text, Some("new"), None, SendNew),
        ] {
            assert_eq!(step(kind, here, there), wanted, "{kind:?} {here:?} {there:?}");
        }
    }

    #[test]
    fn a_text_that_became_bytes_is_no_longer_merged() {
        let old = agreed(Kind::Text);
        let there = There { version: &["v2".to_owned()], shown: "other", kind: Kind::Text };
        assert_eq!(decide(Some(&old), Some(Here { hash: "new", is_text: false }), Some(there), false), Step::SetAside);
    }
}
