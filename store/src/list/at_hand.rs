//! Lists at hand: where the end of those is that were written last, and what they show. So a list of any length is appended
//! to, and its subscribers are told, without reading it.

use std::collections::HashMap;

use super::{Order, Position};
use crate::fold::Effect;
use crate::ids::OpId;
use crate::keyspace::Rows;
use crate::op::Side;
use crate::path::Path;
use crate::store::StorageError;

/// Lists kept at hand.
const LISTS_MAX: usize = 8;
/// Elements of a list that are kept; of a longer one only its end is known. Each takes 36 bytes.
const ELEMENTS_MAX: usize = 1 << 17;

/// The lists that were written last, of one moment: that of the change that was folded last.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    at_hand: HashMap<(u32, OpId), List>,
    /// Counts uses, so that what was used longest ago goes first.
    uses: u64,
}

#[derive(Debug)]
struct List {
    used: u64,
    last: Option<OpId>,
    shown: Option<Shown>,
}

/// What a list shows.
#[derive(Debug)]
struct Shown {
    path: Path,
    elements: Vec<OpId>,
    /// Positions behind all others that came since, in order.
    came: Vec<OpId>,
    /// Whether something happened since that changes what it shows.
    is_stale: bool,
}

impl Lists {
    /// The last position of a list, shown or not.
    pub(crate) fn last(&mut self, rows: &impl Rows, t: u32, list: &OpId) -> Result<Option<OpId>, StorageError> {
        if let Some(known) = self.find(t, list) {
            return Ok(known.last);
        }
        let last = Order::load(rows, t, list)?.last();
        self.keep(t, list, last, None);
        Ok(last)
    }

    /// A position was made.
    pub(crate) fn inserted(&mut self, t: u32, list: &OpId, position: &Position) {
        let Some(known) = self.at_hand.get_mut(&(t, *list)) else { return };
        if position.at != known.last || position.side != Side::Right || position.element != position.id {
            // It stands somewhere inside; or behind others of one place, and then only the order tells which is the last.
            self.at_hand.remove(&(t, *list));
            return;
        }
        known.last = Some(position.id);
        if let Some(shown) = &mut known.shown {
            shown.came.push(position.id);
        }
    }

    /// A change did this, or nobody was told of it: what is known to show may not be what shows.
    pub(crate) fn touched(&mut self, t: u32, effect: &Effect) {
        for shown in self.shown_of(t) {
            let depth = shown.path.segments().len();
            shown.is_stale |= !shown.came.is_empty()
                || effect.touched.iter().any(|(path, touched)| {
                    let above = path.contains(&shown.path);
                    let below = !above && shown.path.contains(path);
                    let reshaped = touched.reshaped.is_some_and(|(reshaped, ..)| reshaped <= depth + 1);
                    above || below && (reshaped || touched.moved && path.segments().len() == depth + 1)
                });
        }
    }

    /// Elements came, and nothing else happened: where they stand now, if that is the end.
    pub(crate) fn appended(&mut self, t: u32, list: &OpId, came: &[OpId]) -> Option<(usize, Vec<OpId>)> {
        let shown = self.find(t, list)?.shown.as_mut()?;
        if shown.came.len() != came.len() || !shown.came.iter().all(|id| came.contains(id)) {
            return None;
        }
        let start = shown.elements.len();
        let came = std::mem::take(&mut shown.came);
        shown.elements.extend(&came);
        shown.is_stale = false;
        Some((start, came))
    }

    /// An element went, and nothing else happened: where it was.
    pub(crate) fn removed(&mut self, t: u32, list: &OpId, element: &OpId) -> Option<usize> {
        let shown = self.find(t, list)?.shown.as_mut().filter(|shown| shown.came.is_empty())?;
        let at = shown.elements.iter().position(|other| other == element)?;
        shown.elements.remove(at);
        shown.is_stale = false;
        Some(at)
    }

    /// Where an element stands among those that show.
    pub(crate) fn index_of(&self, t: u32, list: &OpId, element: &OpId) -> Option<usize> {
        let shown = self.at_hand.get(&(t, *list))?.shown.as_ref().filter(|shown| !shown.is_stale)?;
        shown.elements.iter().position(|other| other == element)
    }

    /// What a list shows, as it was read just now.
    pub(crate) fn read(&mut self, rows: &impl Rows, t: u32, path: &Path, list: &OpId, elements: Vec<OpId>) -> Result<(), StorageError> {
        let last = self.last(rows, t, list)?;
        let fits = elements.len() <= ELEMENTS_MAX;
        let shown = Shown { path: path.clone(), elements, came: Vec::new(), is_stale: false };
        self.keep(t, list, last, fits.then_some(shown));
        Ok(())
    }

    /// Forgets what is shown otherwise than it was.
    pub(crate) fn settle(&mut self, t: u32) {
        for list in self.at_hand.iter_mut().filter(|((of, _), _)| *of == t).map(|(_, list)| list) {
            if list.shown.as_ref().is_some_and(|shown| shown.is_stale || shown.elements.len() > ELEMENTS_MAX) {
                list.shown = None;
            }
        }
    }

    /// Forgets all lists.
    pub(crate) fn clear(&mut self) {
        self.at_hand.clear();
    }

    fn shown_of(&mut self, t: u32) -> impl Iterator<Item = &mut Shown> {
        self.at_hand.iter_mut().filter(move |((of, _), _)| *of == t).filter_map(|(_, list)| list.shown.as_mut())
    }

    fn find(&mut self, t: u32, list: &OpId) -> Option<&mut List> {
        self.uses += 1;
        let known = self.at_hand.get_mut(&(t, *list))?;
        known.used = self.uses;
        Some(known)
    }

    fn keep(&mut self, t: u32, list: &OpId, last: Option<OpId>, shown: Option<Shown>) {
        self.uses += 1;
        self.at_hand.insert((t, *list), List { used: self.uses, last, shown });
        if self.at_hand.len() > LISTS_MAX {
            let oldest = self.at_hand.iter().min_by_key(|(_, list)| list.used).map(|(key, _)| *key);
            oldest.and_then(|key| self.at_hand.remove(&key));
        }
    }
}
