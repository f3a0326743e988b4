//! The definition, followed slowly: every op is placed by looking at every character ever put in.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;

use crate::history::{At, History};

/// An event: op and number in it from 1.
type Event = At;

struct Item {
    id: Event,
    value: char,
    left: Option<Event>,
    right: Option<Event>,
    /// Events that took it out.
    taken: Vec<Event>,
}

/// The text that a history gives, if all of its ops are valid; ops that do not fit have no effect.
pub(crate) struct Model {
    items: Vec<Item>,
    names: Vec<String>,
    seq_first: Vec<u64>,
    changes: Vec<[u8; 32]>,
    /// Events at or before the end of each op.
    seen: Vec<BTreeSet<Event>>,
    /// Ops without effect.
    pub(crate) without: BTreeSet<usize>,
}

impl Model {
    pub(crate) fn of(history: &History, valid: &BTreeSet<usize>) -> Self {
        let mut model = Self {
            items: Vec::new(),
            names: names(history, valid),
            seq_first: Vec::new(),
            changes: Vec::new(),
            seen: Vec::new(),
            without: BTreeSet::new(),
        };
        for (number, said) in history.said.iter().enumerate() {
            model.changes.push(*said.op.change.as_bytes());
            let events: u64 = history.end(number).1;
            model.seq_first.push((said.op.seq + 1).saturating_sub(events));
            let past = model.version(&said.base);
            let good = valid.contains(&number) && past.as_ref().is_some_and(|past| model.fits(past, history, number));
            let mut seen = past.unwrap_or_default();
            if good {
                model.say(history, number, &mut seen);
            } else {
                model.without.insert(number);
            }
            model.seen.push(seen);
        }
        model
    }

    /// The events of a version; `None` if an op without effect is in it.
    pub(crate) fn version(&self, heads: &[At]) -> Option<BTreeSet<Event>> {
        let mut all = BTreeSet::new();
        for (op, event) in heads {
            if self.without.contains(op) {
                return None;
            }
            all.extend(self.seen[*op].iter().filter(|(other, number)| other != op || number <= event));
        }
        Some(all)
    }

    fn shown(item: &Item, version: &BTreeSet<Event>) -> bool {
        version.contains(&item.id) && !item.taken.iter().any(|taker| version.contains(taker))
    }

    fn fits(&self, past: &BTreeSet<Event>, history: &History, number: usize) -> bool {
        let mut len = self.items.iter().filter(|item| Self::shown(item, past)).count() as u64;
        for edit in &history.said[number].op.edits {
            if edit.pos + edit.del > len {
                return false;
            }
            len = len - edit.del + edit.ins.chars().count() as u64;
        }
        true
    }

    fn say(&mut self, history: &History, number: usize, seen: &mut BTreeSet<Event>) {
        let mut event = 0;
        for edit in &history.said[number].op.edits {
            for at in (edit.pos..edit.pos + edit.del).rev() {
                event += 1;
                let item = self.items.iter_mut().filter(|item| Self::shown(item, seen)).nth(at as usize).expect("it fits");
                item.taken.push((number, event));
                seen.insert((number, event));
            }
            for (at, value) in (edit.pos..).zip(edit.ins.chars()) {
                event += 1;
                self.put((number, event), at as usize, value, seen);
                seen.insert((number, event));
            }
        }
    }

    fn put(&mut self, id: Event, pos: usize, value: char, seen: &BTreeSet<Event>) {
        let place = |of: Option<Event>| of.and_then(|id| self.items.iter().position(|item| item.id == id));
        let left = pos.checked_sub(1).map(|at| self.items.iter().filter(|item| Self::shown(item, seen)).nth(at).expect("it fits").id);
        let start = place(left).map_or(0, |at| at + 1);
        let right = self.items[start..].iter().find(|item| seen.contains(&item.id)).map(|item| item.id);
        let place_of_right = |of: Option<Event>| place(of).unwrap_or(self.items.len());
        let end = place_of_right(right);
        let (mut at, mut scanning) = (start, false);
        for other_at in start..=end {
            if !scanning {
                at = other_at;
            }
            if other_at == end {
                break;
            }
            let other = &self.items[other_at];
            let other_start = place(other.left).map_or(0, |at| at + 1);
            match other_start.cmp(&start) {
                Ordering::Less => break,
                Ordering::Greater => {}
                Ordering::Equal if other.right == right => {
                    if self.key(id) < self.key(other.id) {
                        break;
                    }
                    scanning = false;
                }
                Ordering::Equal => scanning = place_of_right(other.right) < end,
            }
        }
        self.items.insert(at, Item { id, value, left, right, taken: Vec::new() });
    }

    fn key(&self, (op, event): Event) -> (&str, u64, &[u8; 32]) {
        (&self.names[op], self.seq_first[op] + event, &self.changes[op])
    }

    /// The text of a version.
    pub(crate) fn text(&self, version: &BTreeSet<Event>) -> String {
        self.items.iter().filter(|item| Self::shown(item, version)).map(|item| item.value).collect()
    }

    /// The text of everything.
    pub(crate) fn tip(&self) -> String {
        let all: BTreeSet<Event> =
            self.seen.iter().enumerate().filter(|(op, _)| !self.without.contains(op)).flat_map(|(_, seen)| seen).copied().collect();
        self.text(&all)
    }
}

/// The name under which each op's characters are ordered.
fn names(history: &History, valid: &BTreeSet<usize>) -> Vec<String> {
    let mut claims: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for number in valid {
        claims.entry(&history.said[*number].op.agent).or_default().push(*number);
    }
    let clashed = |name: &str| {
        let Some(claims) = claims.get(name) else { return false };
        claims.iter().enumerate().any(|(at, one)| {
            claims[..at].iter().any(|other| {
                let (a, b) = (&history.said[*one].op, &history.said[*other].op);
                let first = |number: usize| (history.said[number].op.seq + 1) - history.end(number).1;
                a.author != b.author || (first(*one) <= b.seq && first(*other) <= a.seq)
            })
        })
    };
    history
        .said
        .iter()
        .map(|said| {
            if clashed(&said.op.agent) {
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(said.op.change.as_bytes())
            } else {
                said.op.agent.to_string()
            }
        })
        .collect()
}
