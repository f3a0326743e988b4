//! What ops do to texts and counters.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use super::{Bodies, Fold, Right, Seen, Touched};
use crate::change::Body;
use crate::ids::{ChangeId, OpId};
use crate::keyspace::{Rows, Table};
use crate::node::{Entry, history_key, history_prefix, node_key, split_history_key};
use crate::objects::{Creator, Kind, ObjectId, creator, put_addition, put_creator, put_event_name};
use crate::op::{Op, OpRef};
use crate::path::Path;
use crate::store::StorageError;
use crate::summary::{Summary, summary};
use crate::text::TextOp;
use crate::value::Value;

/// Changes whose ops on a text count now, or no longer, by text.
pub(super) type Flips = BTreeMap<ObjectId, (Path, Vec<(ChangeId, bool)>)>;

impl Fold<'_> {
    /// Notes which object a write makes, if its value is one. What is written where the writer had seen no write is the
    /// path's own object.
    pub(super) fn make_object(&mut self, own: &Summary, seen: &Seen, id: OpId, path: &Path, value: &Value) -> Result<(), StorageError> {
        let Some(kind) = Kind::of(value) else { return Ok(()) };
        let key = path.key();
        let mut object = ObjectId::of_path(kind, &key);
        for row in self.rows.scan(Table::History, &history_prefix(&node_key(self.t, &key)), None) {
            let (history_key, entry) = row?;
            let (_, a, index) = split_history_key(&history_key).ok_or(StorageError::Damaged { table: Table::History.name() })?;
            if !Entry::decode(&entry)?.writes || (a, index) == (seen.a, id.index) {
                continue;
            }
            let other = OpId { change: summary(self.rows, self.t, a)?.id, index };
            if seen.find(self.rows, self.t, own, id, other)?.is_some() {
                object = ObjectId::of(&id);
                break;
            }
        }
        put_creator(self.rows, self.t, &id, kind, object, &key);
        Ok(())
    }

    /// The object that an op is about, if it was made before it and the op may change it.
    fn object_of(
        &mut self,
        own: &Summary,
        body: &Body,
        id: OpId,
        (made, kind): (OpRef, Kind),
        right: &Right<'_>,
        seen: &Seen,
    ) -> Result<Option<Creator>, StorageError> {
        let Some(made) = Bodies::resolve(own, body, made) else { return Ok(None) };
        if seen.past(self.rows, self.t, own, id, made)?.is_none() {
            return Ok(None);
        }
        let found = creator(self.rows, self.t, &made)?.filter(|found| found.kind == kind);
        Ok(found.filter(|found| right.reach.covers(&found.path, &own.author)))
    }

    fn note_object_op(&mut self, path: &Path, a: u64, id: OpId, hidden: bool) {
        let entry = Entry { writes: false, list: None, preds: Vec::new(), hidden };
        self.rows.staged.put(Table::History, history_key(&node_key(self.t, &path.key()), a, id.index), entry.encode());
    }

    pub(super) fn apply_inc(
        &mut self,
        own: &Summary,
        body: &Body,
        id: OpId,
        (made, delta): (OpRef, i64),
        right: &Right<'_>,
        seen: &Seen,
    ) -> Result<(), StorageError> {
        let Some(counter) = self.object_of(own, body, id, (made, Kind::Counter), right, seen)? else { return Ok(()) };
        let hidden = right.hides(&counter.path, &own.author);
        put_addition(self.rows, self.t, &counter.object, (seen.a, id.index), delta, !hidden)?;
        self.note_object_op(&counter.path, seen.a, id, hidden);
        if !hidden {
            self.effect.touched.entry(counter.path.clone()).or_default().text = None;
            self.touch(&counter.path, &node_key(self.t, &counter.path.key()), 0)?;
        }
        Ok(())
    }

    pub(super) fn apply_text(&mut self, own: &Summary, body: &Body, id: OpId, op: &Op, right: &Right<'_>, seen: &Seen) -> Result<(), StorageError> {
        let Op::Text { obj, base: named, agent, seq, edits } = op else { return Ok(()) };
        let Some(text) = self.object_of(own, body, id, (*obj, Kind::Text), right, seen)? else { return Ok(()) };
        let mut base = Vec::with_capacity(named.len());
        for (change, event) in named {
            let Some(OpId { change, .. }) = Bodies::resolve(own, body, OpRef { change: *change, index: 0 }) else { return Ok(()) };
            base.push((change, *event));
        }
        let hidden = right.hides(&text.path, &own.author);
        let op = TextOp { change: own.id, author: own.author, base, agent: agent.clone(), seq: *seq, edits: edits.clone() };
        let t = self.t;
        let in_past = |rows: &crate::keyspace::Layered, change: &ChangeId| seen.has(rows, t, own, id, change);
        let Some(moved) = self.bodies.texts.take(self.rows, t, &text, (seen.a, id.index), (op, !hidden), in_past)? else { return Ok(()) };
        if own.label.is_none() {
            put_event_name(self.rows, t, &text.object, seen.a, &format!("{agent}-{seq}"));
        }
        self.note_object_op(&text.path, seen.a, id, hidden);
        if hidden {
            return Ok(());
        }
        match self.effect.touched.entry(text.path.clone()) {
            // Where it was written too, the whole text is told.
            MapEntry::Occupied(mut touched) => {
                if let Some((object, edits)) = &mut touched.get_mut().text
                    && *object == text.object
                {
                    edits.extend(moved);
                } else {
                    touched.get_mut().text = None;
                }
            }
            MapEntry::Vacant(new) => drop(new.insert(Touched { text: Some((text.object, moved)), ..Touched::default() })),
        }
        self.touch(&text.path, &node_key(self.t, &text.path.key()), 0)
    }

    /// Where an op on an object has an effect.
    pub(super) fn object_path(&mut self, own: &Summary, body: &Body, op: &Op) -> Result<Option<Creator>, StorageError> {
        let (Op::Text { obj, .. } | Op::Inc { obj, .. }) = op else { return Ok(None) };
        let Some(made) = Bodies::resolve(own, body, *obj) else { return Ok(None) };
        creator(self.rows, self.t, &made)
    }

    /// An op on an object counts now, or no longer.
    pub(super) fn flip_object(
        &mut self,
        own: &Summary,
        body: &Body,
        (a, index): (u64, u32),
        op: &Op,
        hidden: bool,
        flips: &mut Flips,
    ) -> Result<(), StorageError> {
        let Some(creator) = self.object_path(own, body, op)? else { return Ok(()) };
        match op {
            Op::Text { .. } => flips.entry(creator.object).or_insert_with(|| (creator.path.clone(), Vec::new())).1.push((own.id, !hidden)),
            Op::Inc { delta, .. } => put_addition(self.rows, self.t, &creator.object, (a, index), *delta, !hidden)?,
            _ => {}
        }
        Ok(())
    }
}
