//! Where two arrays differ, and what only moved between them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::json::Json;

/// A stretch of old elements that becomes a stretch of new ones.
pub(super) struct Gap {
    pub(super) old: std::ops::Range<usize>,
    pub(super) new: std::ops::Range<usize>,
}

/// Where two arrays differ: equal elements are kept, and between them stretches are replaced.
pub(super) fn gaps(old: &[Option<Json>], new: &[Json]) -> Vec<Gap> {
    let same = |o: usize, n: usize| old[o].as_ref() == Some(&new[n]);
    let shortest = old.len().min(new.len());
    let head = (0..shortest).take_while(|&at| same(at, at)).count();
    let tail = (0..shortest - head).take_while(|&at| same(old.len() - 1 - at, new.len() - 1 - at)).count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let old_middle: Vec<_> = old[head..old_end].iter().map(|json| digest(json.as_ref())).collect();
    let new_middle: Vec<_> = new[head..new_end].iter().map(|json| digest(Some(json))).collect();
    let ops = similar::capture_diff_slices(similar::Algorithm::Myers, &old_middle, &new_middle);
    let mut gaps = Vec::new();
    let (mut in_old, mut in_new) = (head, head);
    for op in ops {
        // Only the lengths are used: where an op begins is told wrongly by some versions of the library.
        let (old_end, new_end) = (in_old + op.old_range().len(), in_new + op.new_range().len());
        if !matches!(op, similar::DiffOp::Equal { .. }) {
            gaps.push(Gap { old: in_old..old_end, new: in_new..new_end });
        }
        (in_old, in_new) = (old_end, new_end);
    }
    gaps
}

/// Which old elements show again elsewhere, by their new places.
pub(super) fn moves(old: &[Option<Json>], new: &[Json], gaps: &[Gap]) -> BTreeMap<usize, usize> {
    let mut gone: HashMap<[u8; 16], VecDeque<usize>> = HashMap::new();
    for at in gaps.iter().flat_map(|gap| gap.old.clone()) {
        if let Some(json) = &old[at] {
            gone.entry(digest(Some(json))).or_default().push_back(at);
        }
    }
    let places = gaps.iter().flat_map(|gap| gap.new.clone());
    places.filter_map(|at| Some((at, gone.get_mut(&digest(Some(&new[at])))?.pop_front()?))).collect()
}

/// Comparing hashes keeps a search cheap; equal hashes of 128 bits are equal elements.
fn digest(json: Option<&Json>) -> [u8; 16] {
    let mut bytes = Vec::new();
    if let Some(json) = json {
        json.write(&mut bytes);
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    digest
}
