//! The order of a list's elements.
//!
//! Positions form a tree: each stands left or right of the one it was inserted at, and the order is the in-order
//! walk (Fugue, Weidner and Kleppmann 2023). Concurrent insertions at one place become branches that are not
//! interleaved. Positions are never removed; an element shows where its greatest-stamp position is.

use std::collections::HashMap;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{ChangeId, OpId};
use crate::keyspace::{Rows, Table};
use crate::node::{decode_op_id, encode_op_id};
use crate::op::Side;
use crate::store::StorageError;

pub(crate) mod at_hand;
pub(crate) mod shown;

/// One position, made by an insertion or a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The op that made it.
    pub id: OpId,
    /// Lamport clock of its change.
    pub lamport: u64,
    /// What it stands at; `None` is the start of the list.
    pub at: Option<OpId>,
    /// On which side of that.
    pub side: Side,
    /// Whose position it is: the insertion itself, or the element moved.
    pub element: OpId,
    /// Whether it is a move without effect. Others may still stand at it.
    pub hidden: bool,
}

impl Position {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.var(self.lamport);
        out.flag(self.at.is_some());
        if let Some(at) = &self.at {
            encode_op_id(at, &mut out);
        }
        out.flag(self.side == Side::Right);
        out.u8(u8::from(self.element != self.id) << u8::from(self.hidden));
        if self.element != self.id {
            encode_op_id(&self.element, &mut out);
        }
        out.into_bytes()
    }

    /// Reads a row's value.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met: the row is damaged.
    pub fn decode(id: OpId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let lamport = input.var(u64::MAX, "lamport")?;
        let at = if input.flag("anchor")? { Some(decode_op_id(&mut input)?) } else { None };
        let side = if input.flag("side")? { Side::Right } else { Side::Left };
        let moved = input.u8("moved")?;
        if moved > 2 {
            return Err(DecodeError::Invalid { field: "moved" });
        }
        let element = if moved > 0 { decode_op_id(&mut input)? } else { id };
        input.finish()?;
        Ok(Self { id, lamport, at, side, element, hidden: moved == 2 })
    }
}

fn push_op_id(id: &OpId, key: &mut Vec<u8>) {
    key.extend_from_slice(id.change.as_bytes());
    key.extend_from_slice(&id.index.to_be_bytes());
}

fn list_prefix(t: u32, list: &OpId) -> Vec<u8> {
    let mut key = t.to_be_bytes().to_vec();
    push_op_id(list, &mut key);
    key
}

/// Key of a position's row.
#[must_use]
pub fn position_key(t: u32, list: &OpId, position: &OpId) -> Vec<u8> {
    let mut key = list_prefix(t, list);
    push_op_id(position, &mut key);
    key
}

/// All positions of one list in order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    positions: Vec<Position>,
    places: HashMap<OpId, u32>,
    /// Whether something stands right of each position.
    has_right: Vec<bool>,
    /// Whether every element stands where it was inserted.
    is_unmoved: bool,
}

/// No position, in a list of numbers.
const NONE: u32 = u32::MAX;

impl Order {
    /// Reads the positions of a list.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load(rows: &impl Rows, t: u32, list: &OpId) -> Result<Self, StorageError> {
        let prefix = list_prefix(t, list);
        let mut positions = Vec::new();
        for row in rows.scan(Table::Position, &prefix, None) {
            let (key, value) = row?;
            let damaged = || StorageError::Damaged { table: Table::Position.name() };
            let (change, index) = key[prefix.len()..].split_first_chunk::<32>().ok_or_else(damaged)?;
            let index = u32::from_be_bytes(index.try_into().map_err(|_| damaged())?);
            positions.push(Position::decode(OpId { change: ChangeId(*change), index }, &value)?);
        }
        Ok(Self::new(positions))
    }

    /// Orders positions.
    #[must_use]
    pub fn new(mut positions: Vec<Position>) -> Self {
        // Siblings on one side stand in the ascending order of their ids, which is that of the rows.
        positions.sort_by_key(|position| position.id);
        let count = positions.len();
        let mut places: HashMap<OpId, u32> = HashMap::with_capacity(count);
        places.extend(positions.iter().zip(0u32..).map(|(position, at)| (position.id, at)));
        // The first child of each position, and of the start at the end, by side; and the next sibling of each.
        let mut children = [vec![NONE; count + 1], vec![NONE; count + 1]];
        let mut siblings = vec![NONE; count];
        for (at, position) in positions.iter().enumerate().rev() {
            let parent = match &position.at {
                None => count,
                // Under a position that is not there nothing shows.
                Some(parent) => match places.get(parent) {
                    Some(parent) => *parent as usize,
                    None => continue,
                },
            };
            let first = &mut children[usize::from(position.side == Side::Right)][parent];
            siblings[at] = std::mem::replace(first, at as u32);
        }
        let [left, right] = children;
        let mut order: Vec<u32> = Vec::with_capacity(count);
        // An explicit stack, since a list written from front to back is as deep as it is long. A position is entered to its
        // left, and left to its right; with the bit set its left side is done.
        const DONE: u64 = 1 << 32;
        let mut stack: Vec<u64> = Vec::new();
        let below = |first: u32, stack: &mut Vec<u64>| {
            let begin = stack.len();
            let mut at = first;
            while at != NONE {
                stack.push(u64::from(at));
                at = siblings[at as usize];
            }
            stack[begin..].reverse();
        };
        below(right[count], &mut stack);
        // What stands left of the start comes before what stands right of it.
        below(left[count], &mut stack);
        while let Some(step) = stack.pop() {
            let at = (step & u64::from(u32::MAX)) as u32;
            if step & DONE == 0 && left[at as usize] != NONE {
                stack.push(step | DONE);
                below(left[at as usize], &mut stack);
            } else {
                order.push(at);
                below(right[at as usize], &mut stack);
            }
        }
        let has_right = order.iter().map(|at| right[*at as usize] != NONE).collect();
        let is_unmoved = positions.iter().all(|position| position.element == position.id && !position.hidden);
        let mut taken: Vec<Option<Position>> = positions.into_iter().map(Some).collect();
        let positions: Vec<Position> = order.into_iter().filter_map(|at| taken[at as usize].take()).collect();
        places.clear();
        places.extend(positions.iter().zip(0u32..).map(|(position, at)| (position.id, at)));
        Self { positions, places, has_right, is_unmoved }
    }

    /// The elements in order, each at its greatest-stamp position.
    #[must_use]
    pub fn elements(&self) -> Vec<OpId> {
        if self.is_unmoved {
            return self.positions.iter().map(|position| position.id).collect();
        }
        self.elements_in(|_| Ok(true)).unwrap_or_default()
    }

    /// As [`Order::elements`], when only some of the positions had been made.
    ///
    /// # Errors
    ///
    /// What `made` answers.
    pub fn elements_in(&self, made: impl Fn(&Position) -> Result<bool, StorageError>) -> Result<Vec<OpId>, StorageError> {
        let mut current: HashMap<OpId, (u64, OpId)> = HashMap::new();
        for position in &self.positions {
            if !position.hidden && made(position)? {
                let stamp = (position.lamport, position.id);
                current.entry(position.element).and_modify(|best| *best = (*best).max(stamp)).or_insert(stamp);
            }
        }
        let shown = self.positions.iter().filter(|position| current.get(&position.element) == Some(&(position.lamport, position.id)));
        Ok(shown.map(|position| position.element).collect())
    }

    /// The position at which an element shows.
    #[must_use]
    pub fn position_of(&self, element: &OpId) -> Option<OpId> {
        if self.is_unmoved {
            return self.places.contains_key(element).then_some(*element);
        }
        self.positions
            .iter()
            .filter(|position| position.element == *element && !position.hidden)
            .max_by_key(|position| (position.lamport, position.id))
            .map(|position| position.id)
    }

    /// The last position, which may be one that shows nothing.
    #[must_use]
    pub fn last(&self) -> Option<OpId> {
        self.positions.last().map(|position| position.id)
    }

    /// For whoever had seen only some of the positions: an element is where the last of those put it.
    #[must_use]
    pub fn seen_by(mut self, seen: impl Fn(&OpId) -> bool) -> Self {
        if !self.is_unmoved {
            self.positions.iter_mut().for_each(|position| position.hidden |= !seen(&position.id));
        }
        self
    }

    /// Where an element showed before a change moved it; `None` if it does not show where that change moved it.
    #[must_use]
    pub fn position_before(&self, element: &OpId, change: &ChangeId) -> Option<OpId> {
        let moved = self.position_of(element).filter(|position| position.change == *change)?;
        let others = self.positions.iter().filter(|other| other.element == *element && !other.hidden && other.id != moved);
        others.max_by_key(|other| (other.lamport, other.id)).map(|other| other.id)
    }

    /// Where to insert so that the new element follows the one at position `before` (or begins the list) and
    /// precedes whatever follows it now.
    #[must_use]
    pub fn place_after(&self, before: Option<&OpId>) -> (Option<OpId>, Side) {
        let next = match before {
            None => self.positions.first(),
            Some(before) => match self.places.get(before).map(|at| *at as usize) {
                // The next position in order is in the right branch.
                Some(place) if self.has_right[place] => self.positions.get(place + 1),
                _ => None,
            },
        };
        // It has nothing on its left.
        next.map_or((before.copied(), Side::Right), |next| (Some(next.id), Side::Left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;

    fn id(n: u8) -> OpId {
        OpId { change: ChangeId([n; 32]), index: 0 }
    }

    fn push(order: &mut Order, position: Position) {
        let mut positions = std::mem::take(&mut order.positions);
        positions.push(position);
        *order = Order::new(positions);
    }

    fn insert(order: &mut Order, n: u8, before: Option<u8>) {
        let (at, side) = order.place_after(before.map(id).as_ref());
        push(order, Position { id: id(n), lamport: u64::from(n), at, side, element: id(n), hidden: false });
    }

    fn names(order: &Order) -> Vec<u8> {
        order.elements().iter().map(|id| id.change.0[0]).collect()
    }

    #[test]
    fn elements_stand_where_they_were_put() {
        let mut order = Order::default();
        insert(&mut order, 1, None);
        insert(&mut order, 2, Some(1));
        insert(&mut order, 3, Some(1));
        insert(&mut order, 4, None);
        insert(&mut order, 5, Some(2));
        assert_eq!(names(&order), [4, 1, 3, 2, 5]);
    }

    #[test]
    fn a_moved_element_shows_once_where_it_went() {
        let mut order = Order::default();
        insert(&mut order, 1, None);
        insert(&mut order, 2, Some(1));
        let (at, side) = order.place_after(Some(&id(2)));
        push(&mut order, Position { id: id(9), lamport: 9, at, side, element: id(1), hidden: false });
        assert_eq!(names(&order), [2, 1]);
        assert_eq!(order.position_of(&id(1)), Some(id(9)));
    }

    #[test]
    fn two_writers_at_one_place_are_not_interleaved() {
        let mut base = Order::default();
        insert(&mut base, 1, None);
        let (mut a, mut b) = (base.clone(), base.clone());
        for (order, first) in [(&mut a, 10), (&mut b, 20)] {
            insert(order, first, Some(1));
            insert(order, first + 1, Some(first));
            insert(order, first + 2, Some(first + 1));
        }
        let mut all: Vec<Position> = a.positions.clone();
        all.extend(b.positions.iter().filter(|p| p.id != id(1)).cloned());
        assert_eq!(names(&Order::new(all)), [1, 10, 11, 12, 20, 21, 22]);
    }

    /// The order by its definition: left branches, the position, right branches.
    fn walk(positions: &[Position], node: Option<OpId>, out: &mut Vec<OpId>) {
        for side in [Side::Left, Side::Right] {
            let mut children: Vec<&Position> = positions.iter().filter(|p| p.at == node && p.side == side).collect();
            children.sort_by_key(|p| p.id);
            if side == Side::Right {
                out.extend(node);
            }
            children.iter().for_each(|p| walk(positions, Some(p.id), out));
        }
    }

    #[test]
    fn any_tree_of_positions_is_walked_in_order() {
        let mut seed = 1u32;
        let mut below = |n: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % n
        };
        for _ in 0..300 {
            let count = 1 + below(30);
            let mut positions: Vec<Position> = Vec::new();
            for n in 0..count {
                let at = if positions.is_empty() || below(4) == 0 { None } else { Some(positions[below(positions.len())].id) };
                let side = if below(2) == 0 { Side::Left } else { Side::Right };
                // Ids do not follow the order of insertion.
                let id = OpId { change: ChangeId([(n * 89 % 251) as u8; 32]), index: below(3) as u32 };
                positions.push(Position { id, lamport: n as u64, at, side, element: id, hidden: false });
            }
            let mut wanted = Vec::new();
            walk(&positions, None, &mut wanted);
            let order = Order::new(positions.clone());
            assert_eq!(order.elements(), wanted);
            for before in [None].into_iter().chain(wanted.iter().map(Some)) {
                let (at, side) = order.place_after(before);
                let id = OpId { change: ChangeId([255; 32]), index: 0 };
                let mut more = positions.clone();
                more.push(Position { id, lamport: 99, at, side, element: id, hidden: false });
                let after = Order::new(more).elements();
                let place = before.map_or(0, |before| wanted.iter().position(|id| id == before).expect("there") + 1);
                assert_eq!(after.iter().position(|other| *other == id), Some(place), "right behind {before:?}");
            }
        }
    }

    #[test]
    fn what_stands_at_nothing_shows_nowhere() {
        let lost = Position { id: id(2), lamport: 1, at: Some(id(9)), side: Side::Right, element: id(2), hidden: false };
        let there = Position { id: id(1), lamport: 1, at: None, side: Side::Right, element: id(1), hidden: false };
        assert_eq!(names(&Order::new(vec![lost, there])), [1]);
    }
}
