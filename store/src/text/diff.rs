//! From a text and what it should be to edits.

use std::ops::Range;

use crate::op::{TEXT_EDITS_MAX, TextEdit};

/// Most characters, of both texts together, that are compared one by one; beyond it what differs is replaced as a
/// whole, since the comparison is quadratic in the worst case.
pub const DIFF_CHARS_MAX: usize = 64 * 1024;

/// Steps of the comparison for texts without anything in common, where finding the shortest way is not worth it.
const DIFF_WORK_MAX: usize = 16 * 1024 * 1024;

/// Edits, each on top of the ones before, that make `old` into `new`.
#[must_use]
pub fn edits_between(old: &str, new: &str) -> Vec<TextEdit> {
    if old == new {
        return Vec::new();
    }
    let head_bytes = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
    let head = old[..head_bytes].chars().count();
    let (old_rest, new_rest) = (&old[head_bytes..], &new[head_bytes..]);
    let tail_bytes = old_rest.chars().rev().zip(new_rest.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
    let (old_mid, new_mid) = (&old_rest[..old_rest.len() - tail_bytes], &new_rest[..new_rest.len() - tail_bytes]);
    let (gone, put) = (old_mid.chars().count(), new_mid.chars().count());
    let whole = || vec![TextEdit { pos: head as u64, del: gone as u64, ins: new_mid.into() }];
    if gone == 0 || put == 0 || gone + put > DIFF_CHARS_MAX || gone * put > DIFF_WORK_MAX {
        return whole();
    }
    // Four times as large as they were, so only of what is small.
    let (a, b): (Vec<char>, Vec<char>) = (old_mid.chars().collect(), new_mid.chars().collect());
    let mut edits: Vec<TextEdit> = Vec::new();
    // Everything before `done` is as in the new text already. Only the lengths of the parts are used: the places of
    // deletions are not kept right by the crate when it joins parts.
    let mut done = 0;
    for op in similar::capture_diff_slices(similar::Algorithm::Myers, &a, &b) {
        if let similar::DiffOp::Equal { len, .. } = op {
            done += len;
            continue;
        }
        let (pos, del) = ((head + done) as u64, op.old_range().len() as u64);
        let ins: String = b[done..done + op.new_range().len()].iter().collect();
        done += op.new_range().len();
        match edits.last_mut() {
            Some(last) if last.pos + last.ins.chars().count() as u64 == pos => {
                last.del += del;
                last.ins = format!("{}{ins}", last.ins).into();
            }
            _ => edits.push(TextEdit { pos, del, ins: ins.into() }),
        }
    }
    if edits.len() > TEXT_EDITS_MAX { whole() } else { edits }
}

/// The same events in fewer edits: what is typed on and what is taken out backwards is one, and edits that do nothing are
/// left out. Everybody numbers the events as before.
#[must_use]
pub fn compact(edits: Vec<TextEdit>) -> Vec<TextEdit> {
    let mut out: Vec<(u64, u64, String, u64)> = Vec::new();
    for edit in edits {
        let chars = edit.ins.chars().count() as u64;
        match out.last_mut() {
            _ if edit.del == 0 && chars == 0 => {}
            Some((pos, _, ins, put)) if edit.del == 0 && edit.pos == pos.saturating_add(*put) => {
                ins.push_str(&edit.ins);
                *put += chars;
            }
            // An edit takes out from the last character back to the first.
            Some((pos, del, ins, put)) if *put == 0 && edit.del > 0 && edit.pos.checked_add(edit.del) == Some(*pos) => {
                (*pos, *del, *put) = (edit.pos, del.saturating_add(edit.del), chars);
                ins.push_str(&edit.ins);
            }
            _ => out.push((edit.pos, edit.del, edit.ins.into(), chars)),
        }
    }
    out.into_iter().map(|(pos, del, ins, _)| TextEdit { pos, del, ins: ins.into() }).collect()
}

/// Edits made one on top of the other as replacements of ranges of the text before all of them, ascending: what Braid
/// clients apply.
#[must_use]
pub fn splices(edits: &[TextEdit]) -> Vec<(Range<u64>, String)> {
    // The new text: stretches of the old one (start, count) and what was put in.
    let mut pieces: Vec<Piece> = vec![Piece::Old(0, u64::MAX / 2)];
    for edit in edits {
        let from = cut(&mut pieces, edit.pos);
        let to = cut(&mut pieces, edit.pos + edit.del);
        let put = (!edit.ins.is_empty()).then(|| Piece::New(edit.ins.to_string()));
        pieces.splice(from..to, put);
    }
    let mut out: Vec<(Range<u64>, String)> = Vec::new();
    let (mut old, mut ins) = (0, String::new());
    for piece in pieces {
        match piece {
            Piece::New(text) => ins.push_str(&text),
            Piece::Old(start, count) => {
                if start > old || !ins.is_empty() {
                    out.push((old..start, std::mem::take(&mut ins)));
                }
                old = start + count;
            }
        }
    }
    out
}

enum Piece {
    Old(u64, u64),
    New(String),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Old(_, count) => *count,
            Self::New(text) => text.chars().count() as u64,
        }
    }
}

/// The place in `pieces` at which the character `pos` begins, after cutting the piece that it is inside of.
fn cut(pieces: &mut Vec<Piece>, mut pos: u64) -> usize {
    for at in 0..pieces.len() {
        let len = pieces[at].len();
        if pos == 0 {
            return at;
        }
        if pos < len {
            let rest = match &mut pieces[at] {
                Piece::Old(start, count) => {
                    let rest = Piece::Old(*start + pos, *count - pos);
                    *count = pos;
                    rest
                }
                Piece::New(text) => {
                    let bytes = text.char_indices().nth(pos as usize).map_or(text.len(), |(at, _)| at);
                    Piece::New(text.split_off(bytes))
                }
            };
            pieces.insert(at + 1, rest);
            return at + 1;
        }
        pos -= len;
    }
    pieces.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(text: &str, edits: &[TextEdit]) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for edit in edits {
            chars.splice(edit.pos as usize..(edit.pos + edit.del) as usize, edit.ins.chars());
        }
        chars.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn edits_lead_from_one_text_to_the_other(old in "[ab\u{1f98a}]{0,12}", new in "[ab\u{1f98a}]{0,12}") {
            let edits = edits_between(&old, &new);
            prop_assert_eq!(&apply(&old, &edits), &new);
            let ranges = splices(&edits);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].0.end < pair[1].0.start));
            let mut chars: Vec<char> = old.chars().collect();
            for (range, ins) in ranges.iter().rev() {
                chars.splice(range.start as usize..range.end as usize, ins.chars());
            }
            prop_assert_eq!(chars.into_iter().collect::<String>(), new);
        }
    }

    /// What each event takes out or puts in, and where.
    fn events(edits: &[TextEdit]) -> Vec<(u64, Option<char>)> {
        let of = |edit: &TextEdit| -> Vec<(u64, Option<char>)> {
            let out = (edit.pos..edit.pos + edit.del).rev().map(|pos| (pos, None));
            out.chain(edit.ins.chars().enumerate().map(|(at, put)| (edit.pos + at as u64, Some(put)))).collect()
        };
        edits.iter().flat_map(of).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fewer_edits_are_the_same_events(edits in prop::collection::vec((0u64..6, 0u64..3, "[a\u{1f98a}]{0,2}"), 0..12)) {
            let edits: Vec<TextEdit> = edits.into_iter().map(|(pos, del, ins)| TextEdit { pos, del, ins: ins.as_str().into() }).collect();
            prop_assert_eq!(events(&compact(edits.clone())), events(&edits));
        }
    }

    #[test]
    fn what_is_typed_on_and_taken_back_is_one_edit() {
        let edit = |pos, del, ins: &str| TextEdit { pos, del, ins: ins.into() };
        let typed =
            vec![edit(5, 2, ""), edit(5, 0, "h"), edit(6, 0, "\u{1f98a}"), edit(7, 0, "llo"), edit(9, 1, ""), edit(8, 1, ""), edit(7, 1, "x")];
        assert_eq!(compact(typed), [edit(5, 2, "h\u{1f98a}llo"), edit(7, 3, "x")]);
        assert_eq!(compact(vec![edit(3, 1, ""), edit(3, 1, "")]), [edit(3, 1, ""), edit(3, 1, "")], "forwards the last one goes first");
    }

    #[test]
    fn texts_too_long_to_compare_are_replaced_between_what_is_equal() {
        let (old, new) = (format!("head{}tail", "x".repeat(DIFF_CHARS_MAX)), "headytail");
        assert_eq!(edits_between(&old, new), [TextEdit { pos: 4, del: DIFF_CHARS_MAX as u64, ins: "y".into() }]);
    }
}
