//! Ops of one text with what came before each, as a test writes them.

use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::ids::ChangeId;
use timebus_store::op::TextEdit;
use timebus_store::text::{Budget, NoEffect, TextObject, TextOp};

/// An op's number in its history, and an event in it from 1.
pub(crate) type At = (usize, u64);

/// One op and the ops before it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) op: TextOp,
    pub(crate) base: Vec<At>,
    /// Numbers of the ops in its change's past.
    pub(crate) past: BTreeSet<usize>,
}

/// Ops in an order in which they could have been made.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) said: Vec<Said>,
}

/// The id of the `n`-th change of a test.
pub(crate) fn change(n: usize) -> ChangeId {
    ChangeId(*blake3::hash(&(n as u64).to_le_bytes()).as_bytes())
}

/// The key of the `n`-th author of a test.
pub(crate) fn author(n: usize) -> PublicKey {
    PublicKey::from_bytes([n as u8 + 1; 32])
}

/// An edit.
pub(crate) fn edit(pos: usize, del: usize, ins: &str) -> TextEdit {
    TextEdit { pos: pos as u64, del: del as u64, ins: ins.into() }
}

/// Events of some edits.
pub(crate) fn events(edits: &[TextEdit]) -> u64 {
    edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).fold(0, u64::saturating_add)
}

impl History {
    /// Adds an op whose change's past is what its base stands on.
    pub(crate) fn say(&mut self, author_number: usize, agent: &str, seq_first: u64, base: &[At], edits: Vec<TextEdit>) -> usize {
        let mut past: BTreeSet<usize> = base.iter().map(|(op, _)| *op).collect();
        for (op, _) in base {
            past.extend(&self.said[*op].past);
        }
        self.say_after(author_number, agent, seq_first, base, edits, past)
    }

    /// Adds an op whose change came after others, too.
    pub(crate) fn say_after(
        &mut self,
        author_number: usize,
        agent: &str,
        seq_first: u64,
        base: &[At],
        edits: Vec<TextEdit>,
        past: BTreeSet<usize>,
    ) -> usize {
        let number = self.said.len();
        let op = TextOp {
            change: change(number),
            author: author(author_number),
            base: base.iter().map(|(op, event)| (change(*op), *event)).collect(),
            agent: agent.into(),
            seq: seq_first.saturating_add(events(&edits)).saturating_sub(1),
            edits,
        };
        self.said.push(Said { op, base: base.to_vec(), past });
        number
    }

    /// The last event of an op.
    pub(crate) fn end(&self, op: usize) -> At {
        (op, events(&self.said[op].op.edits))
    }

    /// Gives one op to a text.
    pub(crate) fn admit(&self, object: &mut TextObject, number: usize) -> Result<(), NoEffect> {
        let past: BTreeSet<ChangeId> = self.said[number].past.iter().map(|op| change(*op)).collect();
        object.admit(&self.said[number].op, |change| past.contains(change))
    }

    /// A text that got the ops in an order, in portions.
    pub(crate) fn deliver(&self, order: &[usize], portion: usize) -> TextObject {
        let mut object = TextObject::new();
        let mut text = Text::default();
        for numbers in order.chunks(portion) {
            for number in numbers {
                // Some are invalid on purpose.
                let _ = self.admit(&mut object, *number);
            }
            let merged = object.merge(&mut Budget::unlimited());
            assert!(!merged.parked);
            text.apply(&merged.patches);
            debug_assert_eq!(text.to_string(), object.text(), "patches lead to the text");
        }
        assert_eq!(text.to_string(), object.text(), "patches lead to the text");
        object
    }

    /// An order of delivery in which nothing comes before its past.
    pub(crate) fn shuffled(&self, dice: &mut crate::dice::Dice) -> Vec<usize> {
        let mut waiting: Vec<usize> = (0..self.said.len()).collect();
        let mut done = BTreeSet::new();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let ready: Vec<usize> = waiting.iter().copied().filter(|op| self.said[*op].past.is_subset(&done)).collect();
            let next = *dice.pick(&ready).expect("a past has no circles");
            waiting.retain(|op| *op != next);
            done.insert(next);
            order.push(next);
        }
        order
    }
}

/// A text that a watcher keeps: characters in a vector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text(pub(crate) Vec<char>);

impl Text {
    /// The characters of a text.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Applies edits in order.
    pub(crate) fn apply(&mut self, edits: &[TextEdit]) {
        for edit in edits {
            let pos = edit.pos as usize;
            self.0.splice(pos..pos + edit.del as usize, edit.ins.chars());
        }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{c}"))
    }
}
