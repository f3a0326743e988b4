//! Which ops have an effect although their writer may no longer write.
//!
//! A change is *rooted* while the right it was written with is in force and its author has not forked his chain. An
//! op of a change that is not rooted still has an effect where somebody entitled vouches for it. A change vouches for
//! those that it is made on top of and those that its body names, and only where it could itself have written: a rooted
//! one of its own accord, another one as far as it is vouched for, or kept by a revocation, itself. So what anybody
//! vouches for ends at the first change on the way down whose writer could not have written there, and a member with a
//! narrow scope cannot have a wide one vouch, without knowing, for what he built on.
//!
//! Changes that are not rooted have a row in [`Table::Unrooted`] with the scopes in which they have an effect. In the
//! usual case there are none, and nothing here is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use timebus_identity::PublicKey;

use crate::auth::Rights;
use crate::auth::cap::{own_word, own_word_of};
use crate::codec::{DecodeError, Reader, Writer};
use crate::grant::{Scope, Timelines};
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::keyspace::{Layered, Rows, Table};
use crate::path::Path;
use crate::store::StorageError;
use crate::summary::{Summary, change_key, summary};
use crate::view::back;

/// Most scopes of one change, narrower ones left out: as many as a space has different ones above each other.
const SCOPES_MAX: usize = 65_536;
/// Changes that are looked at together when rights changed; bounds memory.
const WINDOW: u64 = 8192;

/// Scopes in which a change has an effect, none within another. One for everything leaves out what is the owner's own word, which
/// is named beside it: see [`OWN_WORDS`](crate::auth::OWN_WORDS).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Whether a path is in one of them.
    #[must_use]
    pub fn cover(&self, path: &Path, author: &PublicKey) -> bool {
        self.0.iter().any(|scope| scope.covers(path, author) && (!scope.segments.is_empty() || own_word(path).is_none()))
    }

    /// Whether everything in a scope is in one of them.
    #[must_use]
    pub fn include(&self, scope: &Scope) -> bool {
        self.0.iter().any(|known| includes(known, scope))
    }

    /// Adds a scope; says whether that made a difference.
    fn add(&mut self, scope: &Scope) -> bool {
        if self.include(scope) {
            return false;
        }
        self.0.retain(|known| !includes(scope, known));
        self.0.push(scope.clone());
        true
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.include(scope)) && other.0.iter().all(|scope| self.include(scope))
    }

    /// What of it somebody who could write in `could` passes on.
    fn within(&self, could: &[Scope]) -> Vec<Scope> {
        self.0.iter().flat_map(|scope| could.iter().filter_map(|could| common(could, scope))).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.var(self.0.len() as u64);
        self.0.iter().for_each(|scope| scope.encode(&mut out));
        out.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let count = input.count(SCOPES_MAX, "scopes")?;
        let scopes = (0..count).map(|_| Scope::decode(&mut input)).collect::<Result<_, _>>()?;
        input.finish()?;
        Ok(Self(scopes))
    }
}

/// Where a change could have written, in parts; nowhere, if its grant is not known.
pub(crate) fn could(rights: &Rights, author: &PublicKey, cap: Option<&GrantId>) -> Vec<Scope> {
    match cap {
        None => rights.parts(None, Scope::everything()),
        Some(cap) => rights.grant(cap).map_or_else(Vec::new, |held| rights.parts(Some(held), held.grant.scope.of_author(author))),
    }
}

/// Whether everything that one scope covers is covered by another, as they count here.
fn includes(scope: &Scope, other: &Scope) -> bool {
    scope.includes(other) && (!scope.segments.is_empty() || own_word_of(other).is_none())
}

/// What both cover, if that is anything.
fn common(one: &Scope, other: &Scope) -> Option<Scope> {
    match (includes(one, other), includes(other, one)) {
        (true, _) => Some(other.clone()),
        (_, true) => Some(one.clone()),
        _ => None,
    }
}

/// Where a change that is not rooted has an effect; `None` for one that is rooted.
///
/// # Errors
///
/// [`StorageError`].
pub fn unrooted(rows: &impl Rows, t: u32, a: u64) -> Result<Option<Scopes>, StorageError> {
    Ok(rows.get(Table::Unrooted, &change_key(t, a))?.map(|row| Scopes::decode(&row)).transpose()?)
}

/// The first change of a timeline that is not rooted.
///
/// # Errors
///
/// [`StorageError`].
pub fn oldest_unrooted(rows: &impl Rows, t: u32) -> Result<Option<u64>, StorageError> {
    let row = rows.scan(Table::Unrooted, &t.to_be_bytes(), None).next().transpose()?;
    Ok(row.and_then(|(key, _)| arrival(&key)))
}

fn arrival(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|a| u64::from_be_bytes(*a))
}

/// Last parts of the complete runs that a change belongs to. A change that is no part is its own last part. Empty: the
/// run is not complete, so the change has no effect yet.
///
/// # Errors
///
/// [`StorageError`].
pub fn ends_of(rows: &impl Rows, t: u32, a: u64, own: &Summary) -> Result<Vec<u64>, StorageError> {
    let Some((number, count)) = own.part else { return Ok(vec![a]) };
    if number == count {
        return Ok(if own.folded { vec![a] } else { Vec::new() });
    }
    let mut ends = Vec::new();
    for row in rows.scan(Table::Chain, &crate::pipeline::chain_prefix(t, &own.author, own.seq + (count - number)), None) {
        let Some(last) = arrival(&row?.0) else { continue };
        let end = summary(rows, t, last)?;
        if end.folded && end.part == Some((count, count)) && back(rows, t, last, count - number)? == Some(a) {
            ends.push(last);
        }
    }
    Ok(ends)
}

/// Whether an op at a path has an effect, for a change with these last parts.
///
/// # Errors
///
/// [`StorageError`].
pub fn has_effect(rows: &impl Rows, t: u32, ends: &[u64], path: &Path, author: &PublicKey) -> Result<bool, StorageError> {
    for end in ends {
        if unrooted(rows, t, *end)?.is_none_or(|scopes| scopes.cover(path, author)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A change to build on: its arrival number, id and Lamport clock.
pub type Before = (u64, ChangeId, u64);

/// Decides for one timeline of values.
pub struct Judge<'a> {
    /// The tables.
    pub rows: &'a mut Layered,
    /// The statements of its space.
    pub rights: &'a Rights,
    /// Local number of the timeline.
    pub t: u32,
    /// Its id.
    pub timeline: TimelineId,
    /// The space's `main`.
    pub main: TimelineId,
    /// The lowest `seq` with two changes, of authors that have one.
    pub forks: &'a HashMap<PublicKey, u64>,
}

impl Judge<'_> {
    /// Whether a change has an effect by itself.
    #[must_use]
    pub fn is_rooted(&self, own: &Summary) -> bool {
        let tainted = self.forks.get(&own.author).is_some_and(|fork| own.seq >= *fork);
        !tainted && self.rights.rooted(&own.author, own.cap.as_ref())
    }

    /// Where a change could have written.
    fn scope(&self, author: &PublicKey, cap: Option<&GrantId>) -> Vec<Scope> {
        could(self.rights, author, cap)
    }

    /// The changes to build on instead of one that has no effect everywhere: those before it that have. Whoever builds
    /// on a change vouches for it. `known` are the answers for others, so that a hidden chain is not walked down anew each time
    /// that it has become longer; and what was met for their sake, `met`, is not met again for another one's.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn before_hidden(&self, head: u64, known: &HashMap<u64, Vec<Before>>, met: &mut HashSet<u64>) -> Result<Option<Vec<Before>>, StorageError> {
        let mut found: BTreeMap<u64, Before> = BTreeMap::new();
        let mut queue = vec![head];
        while let Some(a) = queue.pop() {
            if let Some(before) = known.get(&a) {
                found.extend(before.iter().map(|before| (before.0, *before)));
                continue;
            }
            if met.contains(&a) {
                continue;
            }
            let own = summary(self.rows, self.t, a)?;
            let shows = match unrooted(self.rows, self.t, a)? {
                None => true,
                Some(scopes) => self.scope(&own.author, own.cap.as_ref()).iter().all(|scope| scopes.include(scope)),
            };
            if shows && a == head {
                return Ok(None);
            }
            met.insert(a);
            if shows {
                found.insert(a, (a, own.id, own.lamport));
            } else {
                queue.extend(own.deps);
            }
        }
        Ok(Some(found.into_values().collect()))
    }

    /// What revocations keep here: scopes by change.
    fn kept(&self) -> HashMap<ChangeId, Scopes> {
        let mut kept: HashMap<ChangeId, Scopes> = HashMap::new();
        for keeper in self.rights.keepers() {
            let timelines: &Timelines = keeper.timelines;
            if timelines.contains(&self.timeline, &self.main) {
                for id in keeper.keep {
                    let kept = kept.entry(*id).or_default();
                    for scope in &keeper.scopes {
                        kept.add(scope);
                    }
                }
            }
        }
        kept
    }

    /// Takes in a change that has just come; `oldest` is the first one that is not rooted. Answers the changes that it
    /// helps to an effect, itself left out.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn add(&mut self, a: u64, own: &Summary, oldest: Option<u64>) -> Result<BTreeSet<u64>, StorageError> {
        let rooted = self.is_rooted(own);
        let mut told = BTreeSet::new();
        if rooted && oldest.is_none() {
            return Ok(told);
        }
        let could = self.scope(&own.author, own.cap.as_ref());
        let passed = if rooted {
            could
        } else {
            let kept = self.kept().remove(&own.id).unwrap_or_default();
            self.rows.staged.put(Table::Unrooted, change_key(self.t, a).to_vec(), kept.encode());
            kept.within(&could)
        };
        for scope in passed {
            self.spread(own, &scope, oldest.unwrap_or(a), &mut told)?;
        }
        Ok(told)
    }

    /// Tells the changes that one vouches for, and those further down, that they have an effect in a scope.
    fn spread(&mut self, from: &Summary, scope: &Scope, oldest: u64, told: &mut BTreeSet<u64>) -> Result<(), StorageError> {
        let mut queue: Vec<(u64, Scope)> = from.vouched().map(|a| (a, scope.clone())).collect();
        while let Some((a, scope)) = queue.pop() {
            if a < oldest {
                continue;
            }
            // What is rooted vouches for as much as it can already.
            let Some(mut scopes) = unrooted(self.rows, self.t, a)? else { continue };
            if !scopes.add(&scope) {
                continue;
            }
            self.rows.staged.put(Table::Unrooted, change_key(self.t, a).to_vec(), scopes.encode());
            told.insert(a);
            let own = summary(self.rows, self.t, a)?;
            for passed in self.scope(&own.author, own.cap.as_ref()).iter().filter_map(|could| common(could, &scope)) {
                queue.extend(own.vouched().map(|dep| (dep, passed.clone())));
            }
        }
        Ok(())
    }

    /// The changes of an author to keep, so that all that he did in the name of some grants and that has an effect
    /// keeps it: the last one of each stretch.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn keep_list(&self, author: &PublicKey, caps: &HashSet<GrantId>) -> Result<Vec<ChangeId>, StorageError> {
        let mut ends = Vec::new();
        let mut last: Option<(u64, Summary)> = None;
        for row in self.rows.scan(Table::Chain, &crate::pipeline::author_prefix(self.t, author), None) {
            let Some(a) = arrival(&row?.0) else { continue };
            let own = summary(self.rows, self.t, a)?;
            let could = self.scope(&own.author, own.cap.as_ref());
            let shows = match unrooted(self.rows, self.t, a)? {
                None => true,
                Some(scopes) => could.iter().all(|could| scopes.include(could)),
            };
            let counts = shows && own.cap.is_some_and(|cap| caps.contains(&cap));
            if let Some((_, end)) = last.take_if(|(before, end)| !counts || end.cap != own.cap || !own.deps.contains(before)) {
                ends.push(end.id);
            }
            if counts {
                last = Some((a, own));
            }
        }
        ends.extend(last.map(|(_, end)| end.id));
        Ok(ends)
    }

    /// Decides anew after rights changed, or a fork was found: `authors` are those whose changes may be rooted no
    /// longer, or again. `end` is one more than the last arrival number. Answers the changes for which the answer is
    /// another one.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn again(&mut self, authors: &BTreeSet<PublicKey>, end: u64) -> Result<BTreeSet<u64>, StorageError> {
        let mut before: BTreeMap<u64, Scopes> = BTreeMap::new();
        for row in self.rows.scan(Table::Unrooted, &self.t.to_be_bytes(), None) {
            let (key, value) = row?;
            before.extend(arrival(&key).map(|a| Scopes::decode(&value).map(|scopes| (a, scopes))).transpose()?);
        }
        let mut now: BTreeMap<u64, Scopes> = BTreeMap::new();
        for a in before.keys() {
            if !self.is_rooted(&summary(self.rows, self.t, *a)?) {
                now.insert(*a, Scopes::default());
            }
        }
        for author in authors {
            let mut all = Vec::new();
            for row in self.rows.scan(Table::Chain, &crate::pipeline::author_prefix(self.t, author), None) {
                all.extend(arrival(&row?.0));
            }
            for a in all {
                if !self.is_rooted(&summary(self.rows, self.t, a)?) {
                    now.insert(a, Scopes::default());
                }
            }
        }
        let Some(oldest) = [before.first_key_value(), now.first_key_value()].into_iter().flatten().map(|(a, _)| *a).min() else {
            return Ok(BTreeSet::new());
        };
        self.sweep(&mut now, oldest, end)?;
        let mut changed = BTreeSet::new();
        for a in before.keys().chain(now.keys()).copied().collect::<BTreeSet<u64>>() {
            let key = change_key(self.t, a).to_vec();
            match (before.get(&a), now.get(&a)) {
                (Some(before), Some(now)) if before.is_same(now) => continue,
                (_, Some(now)) => self.rows.staged.put(Table::Unrooted, key, now.encode()),
                (_, None) => self.rows.staged.delete(Table::Unrooted, key),
            }
            changed.insert(a);
        }
        Ok(changed)
    }

    /// Finds where each of some changes has an effect, from the last change back to the first of them.
    fn sweep(&self, unrooted: &mut BTreeMap<u64, Scopes>, oldest: u64, end: u64) -> Result<(), StorageError> {
        let kept = self.kept();
        // What the changes that stand on a change pass on to it.
        let mut passed: HashMap<u64, Scopes> = HashMap::new();
        let mut scopes: HashMap<(PublicKey, Option<GrantId>), Vec<Scope>> = HashMap::new();
        let mut high = end;
        while high > oldest {
            let low = oldest.max(high.saturating_sub(WINDOW));
            let mut window: Vec<(u64, Summary)> = Vec::new();
            for row in self.rows.scan(Table::Change, &self.t.to_be_bytes(), Some(&change_key(self.t, low))) {
                let (key, value) = row?;
                let Some(a) = arrival(&key).filter(|a| *a < high) else { break };
                window.push((a, Summary::decode(&value)?));
            }
            for (a, own) in window.into_iter().rev() {
                let mut known = passed.remove(&a).unwrap_or_default();
                let could = scopes.entry((own.author, own.cap)).or_insert_with(|| self.scope(&own.author, own.cap.as_ref()));
                let pass: Vec<Scope> = match unrooted.get_mut(&a) {
                    Some(row) => {
                        for scope in kept.get(&own.id).into_iter().flat_map(|kept| &kept.0) {
                            known.add(scope);
                        }
                        row.clone_from(&known);
                        known.within(could)
                    }
                    None => could.clone(),
                };
                for dep in own.vouched().filter(|dep| *dep >= oldest && !pass.is_empty()) {
                    let passed = passed.entry(dep).or_default();
                    for scope in &pass {
                        passed.add(scope);
                    }
                }
            }
            high = low;
        }
        Ok(())
    }
}
