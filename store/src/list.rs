//! The order of a list's elements.
//!
//! Positions form a tree: each stands left or right of the one it was inserted at, and the order is the in-order
//! walk (Fugue, Weidner and Kleppmann 2023). Concurrent insertions at one place become branches that are not
//! interleaved. Positions are never removed; an element shows where its greatest-stamp position is.

use std::collections::HashMap;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::OpId;
use crate::keyspace::{Rows, Table};
use crate::node::{decode_op_id, encode_op_id};
use crate::op::Side;
use crate::store::StorageError;

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
    places: HashMap<OpId, usize>,
}

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
            positions.push(Position::decode(OpId { change: crate::ids::ChangeId(*change), index }, &value)?);
        }
        Ok(Self::new(positions))
    }

    /// Orders positions.
    #[must_use]
    pub fn new(mut positions: Vec<Position>) -> Self {
        // Siblings on one side stand in the ascending order of their ids.
        positions.sort_by_key(|position| position.id);
        let mut children: HashMap<Option<OpId>, [Vec<usize>; 2]> = HashMap::new();
        for (at, position) in positions.iter().enumerate() {
            children.entry(position.at).or_default()[usize::from(position.side == Side::Right)].push(at);
        }
        let mut order = Vec::with_capacity(positions.len());
        // An explicit stack, since a list written from front to back is as deep as it is long.
        enum Step {
            Enter(Option<usize>),
            Emit(usize),
        }
        let mut stack = vec![Step::Enter(None)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Emit(at) => order.push(at),
                Step::Enter(node) => {
                    let none = [Vec::new(), Vec::new()];
                    let [left, right] = children.get(&node.map(|at| positions[at].id)).unwrap_or(&none);
                    stack.extend(right.iter().rev().map(|at| Step::Enter(Some(*at))));
                    stack.extend(node.map(Step::Emit));
                    stack.extend(left.iter().rev().map(|at| Step::Enter(Some(*at))));
                }
            }
        }
        let positions: Vec<Position> = order.into_iter().map(|at| positions[at].clone()).collect();
        let places = positions.iter().enumerate().map(|(at, position)| (position.id, at)).collect();
        Self { positions, places }
    }

    /// The elements in order, each at its greatest-stamp position.
    #[must_use]
    pub fn elements(&self) -> Vec<OpId> {
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
        self.positions
            .iter()
            .filter(|position| position.element == *element && !position.hidden)
            .max_by_key(|position| (position.lamport, position.id))
            .map(|position| position.id)
    }

    /// Where to insert so that the new element follows the one at position `before` (or begins the list) and
    /// precedes whatever follows it now.
    #[must_use]
    pub fn place_after(&self, before: Option<&OpId>) -> (Option<OpId>, Side) {
        let has_right = |anchor: Option<OpId>| self.positions.iter().any(|p| p.at == anchor && p.side == Side::Right);
        let anchor = before.copied();
        if !has_right(anchor) {
            return (anchor, Side::Right);
        }
        // The next position in order is in the anchor's right branch and has nothing on its left.
        let next = before.and_then(|id| self.places.get(id)).map_or(0, |at| at + 1);
        match self.positions.get(next) {
            Some(next) => (Some(next.id), Side::Left),
            None => (anchor, Side::Right),
        }
    }

    /// Adds a position that was just made, so that the next one can be placed.
    pub fn push(&mut self, position: Position) {
        let mut positions = std::mem::take(&mut self.positions);
        positions.push(position);
        *self = Self::new(positions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;

    fn id(n: u8) -> OpId {
        OpId { change: ChangeId([n; 32]), index: 0 }
    }

    fn insert(order: &mut Order, n: u8, before: Option<u8>) {
        let (at, side) = order.place_after(before.map(id).as_ref());
        order.push(Position { id: id(n), lamport: u64::from(n), at, side, element: id(n), hidden: false });
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
        order.push(Position { id: id(9), lamport: 9, at, side, element: id(1), hidden: false });
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
}
