//! Braid range patches: new content for one place, or for a part of an array or string.

use super::{Json, PlaceError, array_index, check_depth, child_mut, out_of_range, wrong_kind};

/// One step of the way to a place in a value, as in the Braid range `.list[3]["a key"][1:-0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of an object; or, in decimal as statebus sends it, an element of an array.
    Key(String),
    /// An element of an array; below zero it counts from the end, -1 being the last.
    Index(i64),
    /// Behind the last element of an array, written `[-0]`.
    End,
    /// A part of an array, or of a string counted in code points.
    Splice {
        /// Where the part starts.
        start: Pos,
        /// Where it ends; the position itself is no longer in it.
        end: Pos,
    },
}

/// A position between the elements of an array or the code points of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pos {
    /// So many from the start.
    FromStart(u64),
    /// So many from the end, as in `-1`; `-0` is the end.
    FromEnd(u64),
}

impl Pos {
    fn resolve(self, len: usize) -> Result<usize, PlaceError> {
        let position = match self {
            Pos::FromStart(count) => usize::try_from(count).ok().filter(|count| *count <= len),
            Pos::FromEnd(count) => usize::try_from(count).ok().and_then(|count| len.checked_sub(count)),
        };
        position.ok_or_else(|| {
            let position = match self {
                Pos::FromStart(count) => count.to_string(),
                Pos::FromEnd(count) => format!("-{count}"),
            };
            PlaceError::OutOfRange { position, len }
        })
    }
}

/// Why a Braid range patch was refused; the value is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step} of the range: {reason}")]
pub struct SpliceError {
    /// The step that failed, counted from 1; 0 is the document before any step.
    pub step: usize,
    /// Why it failed.
    pub reason: PlaceError,
}

/// Puts `content` at the place that `steps` lead to, or removes what is there if it is `None`.
///
/// A last key, and an index equal to the length of its array, may be new; everything before must
/// exist. Removing a field that is not there changes nothing. A [`Step::Splice`] replaces the
/// range with the elements of an array, or, in a string, with a string. No steps at all mean the
/// whole document.
///
/// # Errors
///
/// [`SpliceError`] names the step; the value is then unchanged.
pub fn apply_splice(target: &mut Json, steps: &[Step], content: Option<Json>) -> Result<(), SpliceError> {
    let fail = |step| move |reason| SpliceError { step, reason };
    if let Some(content) = &content {
        // The elements of spliced content lose the array around them.
        let splices = matches!(steps.last(), Some(Step::Splice { .. }));
        let levels = steps.len() - usize::from(splices);
        check_depth(levels, content).map_err(fail(steps.len()))?;
    }

    let Some((last, parents)) = steps.split_last() else {
        *target = content.ok_or(PlaceError::WholeDocument).map_err(fail(0))?;
        return Ok(());
    };
    let mut place = target;
    for (at, step) in parents.iter().enumerate() {
        place = enter(place, step).map_err(fail(at + 1))?;
    }
    change_last(place, last, content).map_err(fail(steps.len()))
}

fn enter<'a>(parent: &'a mut Json, step: &Step) -> Result<&'a mut Json, PlaceError> {
    match (step, parent) {
        (Step::Key(key), parent) => child_mut(parent, key),
        (Step::Index(index), Json::Array(items)) => {
            let at = resolve_index(*index, items.len())?;
            let len = items.len();
            items.get_mut(at).ok_or_else(|| out_of_range(index, len))
        }
        (Step::Index(_), other) => Err(wrong_kind("an array", other)),
        (Step::End | Step::Splice { .. }, _) => Err(PlaceError::NotLast),
    }
}

fn change_last(parent: &mut Json, step: &Step, content: Option<Json>) -> Result<(), PlaceError> {
    match (step, parent) {
        (Step::Key(key), Json::Object(fields)) => {
            match content {
                Some(content) => fields.insert(key.clone(), content),
                None => fields.remove(key),
            };
            Ok(())
        }
        (Step::Key(key), Json::Array(items)) => {
            let at = array_index(key, items.len())?;
            change_element(items, at, key, content)
        }
        (Step::Key(_), other) => Err(wrong_kind("an object or array", other)),
        (Step::Index(index), Json::Array(items)) => {
            let at = resolve_index(*index, items.len())?;
            change_element(items, at, index, content)
        }
        (Step::End, Json::Array(items)) => {
            let at = items.len();
            change_element(items, at, &"-0", content)
        }
        (Step::Index(_) | Step::End, other) => Err(wrong_kind("an array", other)),
        (Step::Splice { start, end }, Json::Array(items)) => {
            let range = resolve_range(*start, *end, items.len())?;
            let new = match content {
                Some(Json::Array(new)) => new,
                None => Vec::new(),
                Some(other) => return Err(wrong_content("an array", &other)),
            };
            items.splice(range, new);
            Ok(())
        }
        (Step::Splice { start, end }, Json::String(string)) => {
            let range = resolve_range(*start, *end, string.chars().count())?;
            let new = match content {
                Some(Json::String(new)) => new,
                None => String::new(),
                Some(other) => return Err(wrong_content("a string", &other)),
            };
            let byte_at = |count| string.char_indices().nth(count).map_or(string.len(), |c| c.0);
            string.replace_range(byte_at(range.start)..byte_at(range.end), &new);
            Ok(())
        }
        (Step::Splice { .. }, other) => Err(wrong_kind("an array or string", other)),
    }
}

/// Sets, appends or removes the element at `at`, which errors call `position`.
fn change_element(items: &mut Vec<Json>, at: usize, position: &impl ToString, content: Option<Json>) -> Result<(), PlaceError> {
    let len = items.len();
    match content {
        Some(content) if at == len => items.push(content),
        Some(content) if at < len => items[at] = content,
        None if at < len => {
            items.remove(at);
        }
        _ => return Err(out_of_range(position, len)),
    }
    Ok(())
}

/// The position an index means; not below zero, but possibly at the length or above.
fn resolve_index(index: i64, len: usize) -> Result<usize, PlaceError> {
    let magnitude = usize::try_from(index.unsigned_abs()).ok();
    let at = if index < 0 { magnitude.and_then(|back| len.checked_sub(back)) } else { magnitude };
    at.ok_or_else(|| out_of_range(&index, len))
}

fn resolve_range(start: Pos, end: Pos, len: usize) -> Result<std::ops::Range<usize>, PlaceError> {
    let (start, end) = (start.resolve(len)?, end.resolve(len)?);
    if start > end {
        return Err(PlaceError::BackwardRange { start, end });
    }
    Ok(start..end)
}

fn wrong_content(expected: &'static str, found: &Json) -> PlaceError {
    PlaceError::WrongContent { expected, found: found.kind() }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{json, text};
    use super::*;

    fn key(key: &str) -> Step {
        Step::Key(key.to_owned())
    }

    fn range(start: Pos, end: Pos) -> Step {
        Step::Splice { start, end }
    }

    fn spliced(document: &str, steps: &[Step], content: Option<&str>) -> Result<String, String> {
        let mut target = json(document);
        let result = apply_splice(&mut target, steps, content.map(json));
        if result.is_err() {
            assert_eq!(target, json(document), "a refused patch changes nothing");
        }
        result.map(|()| text(&target)).map_err(|error| error.to_string())
    }

    #[test]
    fn splice_sets_and_removes_fields_and_elements() {
        let document = r#"{"a":{"x":1},"l":[1,2,3]}"#;
        let l = || key("l");
        for (steps, content, result) in [
            (vec![key("a"), key("x")], Some("2"), r#"{"a":{"x":2},"l":[1,2,3]}"#),
            (vec![key("a"), key("y")], Some("2"), r#"{"a":{"x":1,"y":2},"l":[1,2,3]}"#),
            (vec![key("a"), key("x")], None, r#"{"a":{},"l":[1,2,3]}"#),
            (vec![key("a"), key("y")], None, document),
            (vec![l(), Step::Index(1)], Some("9"), r#"{"a":{"x":1},"l":[1,9,3]}"#),
            (vec![l(), Step::Index(-1)], Some("9"), r#"{"a":{"x":1},"l":[1,2,9]}"#),
            (vec![l(), Step::Index(-3)], None, r#"{"a":{"x":1},"l":[2,3]}"#),
            (vec![l(), Step::Index(3)], Some("9"), r#"{"a":{"x":1},"l":[1,2,3,9]}"#),
            (vec![l(), Step::End], Some("[9]"), r#"{"a":{"x":1},"l":[1,2,3,[9]]}"#),
            (vec![l(), key("1")], Some("9"), r#"{"a":{"x":1},"l":[1,9,3]}"#),
            (vec![l(), key("3")], Some("9"), r#"{"a":{"x":1},"l":[1,2,3,9]}"#),
            (vec![l(), key("0")], None, r#"{"a":{"x":1},"l":[2,3]}"#),
            (vec![], Some("[]"), "[]"),
        ] {
            assert_eq!(spliced(document, &steps, content).as_deref(), Ok(result), "{steps:?}");
        }
        let nested = [Step::Index(-1), key("0"), key("a")];
        assert_eq!(spliced(r#"[[{"a":1}]]"#, &nested, Some("2")).as_deref(), Ok(r#"[[{"a":2}]]"#));
    }

    #[test]
    fn splice_replaces_ranges() {
        use Pos::{FromEnd, FromStart};
        for (document, start, end, content, result) in [
            ("[1,2,3]", FromStart(1), FromStart(2), Some("[8,9]"), "[1,8,9,3]"),
            ("[1,2,3]", FromStart(0), FromStart(0), Some("[0]"), "[0,1,2,3]"),
            ("[1,2,3]", FromEnd(0), FromEnd(0), Some("[4]"), "[1,2,3,4]"),
            ("[1,2,3]", FromEnd(2), FromEnd(1), Some("[]"), "[1,3]"),
            ("[1,2,3]", FromStart(1), FromEnd(0), None, "[1]"),
            (r#""a😀c""#, FromStart(1), FromStart(2), Some(r#""bé""#), r#""abéc""#),
            (r#""a😀c""#, FromEnd(0), FromStart(3), Some(r#""!""#), r#""a😀c!""#),
            (r#""a😀c""#, FromEnd(2), FromEnd(0), None, r#""a""#),
        ] {
            let result = Ok(result.to_owned());
            assert_eq!(spliced(document, &[range(start, end)], content), result, "{document}");
        }
    }

    #[test]
    fn splice_errors_name_the_step_and_the_reason() {
        use Pos::{FromEnd, FromStart};
        let document = r#"{"l":[1,2],"s":"añ","n":1}"#;
        for (steps, content, message) in [
            (vec![key("a"), key("b")], Some("1"), r#"step 1 of the range: there is no key "a""#),
            (vec![key("n"), key("b")], Some("1"), "step 2 of the range: expected an object or array there, found a number"),
            (vec![key("l"), key("x")], Some("1"), r#"step 2 of the range: "x" is not an index of an array"#),
            (vec![key("l"), Step::Index(3)], Some("1"), "step 2 of the range: position 3 is out of range, the length is 2"),
            (vec![key("l"), Step::Index(2)], None, "step 2 of the range: position 2 is out of range, the length is 2"),
            (
                vec![key("l"), Step::Index(i64::MIN), key("x")],
                None,
                "step 2 of the range: position -9223372036854775808 is out of range, \
 the length is 2",
            ),
            (vec![key("l"), Step::End], None, "step 2 of the range: position -0 is out of range, the length is 2"),
            (vec![key("l"), range(FromStart(1), FromStart(3))], Some("[]"), "step 2 of the range: position 3 is out of range, the length is 2"),
            (vec![key("s"), range(FromEnd(3), FromEnd(0))], Some("\"\""), "step 2 of the range: position -3 is out of range, the length is 2"),
            (vec![key("s"), range(FromStart(2), FromStart(1))], Some("\"\""), "step 2 of the range: the range from 2 to 1 ends before it starts"),
            (
                vec![key("l"), range(FromStart(0), FromStart(1))],
                Some("1"),
                "step 2 of the range: the content for this range must be an array, not a number",
            ),
            (
                vec![key("s"), range(FromStart(0), FromStart(1))],
                Some("[]"),
                "step 2 of the range: the content for this range must be a string, not an array",
            ),
            (
                vec![key("l"), Step::End, key("x")],
                Some("1"),
                "step 2 of the range: a range or the end of an array cannot be followed \
 by another step",
            ),
            (vec![], None, "step 0 of the range: the whole document cannot be removed"),
        ] {
            assert_eq!(spliced(document, &steps, content), Err(message.to_owned()), "{steps:?}");
        }
    }

    #[test]
    fn splice_cannot_nest_without_end() {
        let mut document = json("[]");
        let nested = json(&format!("{}{}", "[".repeat(31), "]".repeat(31)));
        assert_eq!(apply_splice(&mut document, &[Step::End], Some(nested.clone())), Ok(()));
        let deeper = apply_splice(&mut document, &[Step::Index(0), Step::End], Some(nested.clone()));
        assert_eq!(deeper.map_err(|e| e.reason), Err(PlaceError::TooDeep { depth_max: 32 }));
        // The array around spliced elements is not in the result.
        let part = range(Pos::FromStart(0), Pos::FromEnd(0));
        let whole = json(&format!("{}{}", "[".repeat(32), "]".repeat(32)));
        assert_eq!(apply_splice(&mut document, &[part], Some(whole.clone())), Ok(()));
        assert_eq!(document, whole);
    }
}
