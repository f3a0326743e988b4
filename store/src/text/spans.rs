//! A sequence of spans of characters, with two lengths: what a version shows, and what is left in the merged text.
//!
//! Several versions can be shown at once, each on a *plane*: somebody who writes on one branch while others write on
//! another does not make us go to and fro.
//!
//! A B-tree in two arenas (leaves and inner nodes); spans live in a third and are named by their place in it, so that
//! a name stays good while spans move.

/// Name of a span.
pub(crate) type SpanId = u32;

const LEAF_SPANS: usize = 24;
const INNER_KIDS: usize = 16;
const NO_NODE: u32 = u32::MAX;

/// Most versions shown at once: long branches that are written on at the same time.
pub(crate) const PLANES: usize = 4;

/// Characters put in one after the other, in the same state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chars {
    /// Event that put in the first; the others follow.
    pub(crate) start: u32,
    /// How many.
    pub(crate) len: u32,
    /// Character on whose right the first was put; each other stands on the one before.
    pub(crate) left: u32,
    /// Character before which they were put.
    pub(crate) right: u32,
    /// By plane: 0 not there yet, 1 there, more: taken out so many times less one.
    pub(crate) state: [u32; PLANES],
    /// Taken out in any version seen so far.
    pub(crate) gone: bool,
    leaf: u32,
}

impl Chars {
    /// Characters with a state on each plane.
    pub(crate) fn new(start: u32, len: u32, left: u32, right: u32, state: [u32; PLANES]) -> Self {
        Self { start, len, left, right, state, gone: false, leaf: NO_NODE }
    }

    /// How many of them a plane's version shows.
    pub(crate) fn shown(&self, plane: usize) -> u32 {
        if self.state[plane] == 1 { self.len } else { 0 }
    }

    /// How many of them the merged text has.
    pub(crate) fn kept(&self) -> u32 {
        if self.gone { 0 } else { self.len }
    }
}

#[derive(Clone, Debug)]
struct Leaf {
    parent: u32,
    next: u32,
    count: usize,
    spans: [SpanId; LEAF_SPANS],
}

#[derive(Clone, Debug)]
struct Inner {
    parent: u32,
    count: usize,
    /// Whether the kids are leaves.
    bottom: bool,
    kids: [u32; INNER_KIDS],
    shown: [[u32; INNER_KIDS]; PLANES],
    kept: [u32; INNER_KIDS],
}

/// Lengths of what is below a node.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    shown: [u32; PLANES],
    kept: u32,
}

impl Inner {
    fn set(&mut self, kid: usize, sums: Sums) {
        for (shown, sum) in self.shown.iter_mut().zip(sums.shown) {
            shown[kid] = sum;
        }
        self.kept[kid] = sums.kept;
    }

    fn sums(&self) -> Sums {
        Sums { shown: self.shown.map(|shown| shown[..self.count].iter().sum()), kept: self.kept[..self.count].iter().sum() }
    }
}

/// A place between or at spans: a leaf and a place in it, which may be the leaf's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    leaf: u32,
    at: usize,
}

/// The sequence.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    chars: Vec<Chars>,
    leaves: Vec<Leaf>,
    inners: Vec<Inner>,
    root: u32,
    shown: [u32; PLANES],
    /// Planes in use, which are the first ones.
    planes: usize,
    /// The plane that positions and states are about.
    now: usize,
}

impl Spans {
    /// No spans.
    pub(crate) fn new() -> Self {
        let leaf = Leaf { parent: 0, next: NO_NODE, count: 0, spans: [0; LEAF_SPANS] };
        let root = Inner { parent: NO_NODE, count: 1, bottom: true, kids: [0; INNER_KIDS], shown: [[0; INNER_KIDS]; PLANES], kept: [0; INNER_KIDS] };
        Self { chars: Vec::new(), leaves: vec![leaf], inners: vec![root], root: 0, shown: [0; PLANES], planes: 1, now: 0 }
    }

    /// Characters that the version shows.
    pub(crate) fn shown(&self) -> u32 {
        self.shown[self.now]
    }

    /// Planes in use.
    pub(crate) fn planes(&self) -> usize {
        self.planes
    }

    /// The plane that positions and states are about.
    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// Turns to another plane in use.
    pub(crate) fn turn_to(&mut self, plane: usize) {
        self.now = plane;
    }

    /// Starts a new plane with what another shows, and turns to it. There are fewer than [`PLANES`].
    pub(crate) fn fork_plane(&mut self, from: usize) {
        let to = self.planes;
        self.planes += 1;
        self.now = to;
        self.shown[to] = self.shown[from];
        for chars in &mut self.chars {
            chars.state[to] = chars.state[from];
        }
        for inner in &mut self.inners {
            inner.shown[to] = inner.shown[from];
        }
    }

    /// The state of a span on this plane.
    pub(crate) fn state(&self, id: SpanId) -> u32 {
        self.chars[id as usize].state[self.now]
    }

    /// Whether a span is there on this plane and not yet there on all others.
    pub(crate) fn only_here(&self, id: SpanId) -> bool {
        self.chars[id as usize].state[..self.planes].iter().enumerate().all(|(plane, state)| *state == u32::from(plane == self.now))
    }

    /// How many spans there are.
    pub(crate) fn len(&self) -> usize {
        self.chars.len()
    }

    /// The span of this name.
    pub(crate) fn chars(&self, id: SpanId) -> &Chars {
        &self.chars[id as usize]
    }

    /// The start.
    pub(crate) fn start(&self) -> Cursor {
        Cursor { leaf: 0, at: 0 }
    }

    /// The span at a place, after stepping over the ends of leaves.
    pub(crate) fn at(&self, cursor: &mut Cursor) -> Option<SpanId> {
        loop {
            let leaf = &self.leaves[cursor.leaf as usize];
            if cursor.at < leaf.count {
                return Some(leaf.spans[cursor.at]);
            }
            if leaf.next == NO_NODE {
                return None;
            }
            *cursor = Cursor { leaf: leaf.next, at: 0 };
        }
    }

    /// The place after the span that the cursor is at.
    pub(crate) fn after(&self, cursor: Cursor) -> Cursor {
        Cursor { leaf: cursor.leaf, at: cursor.at + 1 }
    }

    /// The span with the `pos`-th shown character, and how far into it. `pos` is less than [`Spans::shown`].
    pub(crate) fn find(&self, mut pos: u32) -> (SpanId, Cursor, u32) {
        debug_assert!(pos < self.shown());
        let now = self.now;
        let mut inner = &self.inners[self.root as usize];
        loop {
            let mut kid = 0;
            while kid + 1 < inner.count && pos >= inner.shown[now][kid] {
                pos -= inner.shown[now][kid];
                kid += 1;
            }
            if !inner.bottom {
                inner = &self.inners[inner.kids[kid] as usize];
                continue;
            }
            let leaf_id = inner.kids[kid];
            let leaf = &self.leaves[leaf_id as usize];
            for (at, id) in leaf.spans[..leaf.count].iter().enumerate() {
                let shown = self.chars[*id as usize].shown(now);
                if pos < shown {
                    return (*id, Cursor { leaf: leaf_id, at }, pos);
                }
                pos -= shown;
            }
            // Sums that lie would be a bug of this file; the first span is as wrong as any other answer.
            debug_assert!(false, "the sums do not fit the spans");
            return (0, Cursor { leaf: leaf_id, at: 0 }, 0);
        }
    }

    /// The place of a span.
    pub(crate) fn cursor(&self, id: SpanId) -> Cursor {
        let leaf_id = self.chars[id as usize].leaf;
        let leaf = &self.leaves[leaf_id as usize];
        let at = leaf.spans[..leaf.count].iter().position(|other| *other == id).unwrap_or(0);
        Cursor { leaf: leaf_id, at }
    }

    /// Characters of the merged text before a place.
    pub(crate) fn kept_before(&self, cursor: Cursor) -> u32 {
        let leaf = &self.leaves[cursor.leaf as usize];
        let mut sum: u32 = leaf.spans[..cursor.at.min(leaf.count)].iter().map(|id| self.chars[*id as usize].kept()).sum();
        let (mut kid, mut parent) = (cursor.leaf, leaf.parent);
        while parent != NO_NODE {
            let inner = &self.inners[parent as usize];
            for at in 0..inner.count {
                if inner.kids[at] == kid {
                    break;
                }
                sum += inner.kept[at];
            }
            (kid, parent) = (parent, inner.parent);
        }
        sum
    }

    /// Whether one span comes before another.
    pub(crate) fn before(&self, a: SpanId, b: SpanId) -> bool {
        let (a, b) = (self.cursor(a), self.cursor(b));
        if a.leaf == b.leaf {
            return a.at < b.at;
        }
        let (mut a_kid, mut b_kid) = (a.leaf, b.leaf);
        let (mut a_parent, mut b_parent) = (self.leaves[a_kid as usize].parent, self.leaves[b_kid as usize].parent);
        while a_parent != b_parent {
            (a_kid, b_kid) = (a_parent, b_parent);
            (a_parent, b_parent) = (self.inners[a_kid as usize].parent, self.inners[b_kid as usize].parent);
        }
        let inner = &self.inners[a_parent as usize];
        inner.kids[..inner.count].iter().find(|kid| **kid == a_kid || **kid == b_kid) == Some(&a_kid)
    }

    /// Adds to the lengths on the way from a leaf to the root.
    fn add(&mut self, leaf: u32, shown: i64, kept: i64) {
        if shown == 0 && kept == 0 {
            return;
        }
        let now = self.now;
        self.shown[now] = (i64::from(self.shown[now]) + shown) as u32;
        let (mut kid, mut parent) = (leaf, self.leaves[leaf as usize].parent);
        while parent != NO_NODE {
            let inner = &mut self.inners[parent as usize];
            if let Some(at) = inner.kids[..inner.count].iter().position(|other| *other == kid) {
                inner.shown[now][at] = (i64::from(inner.shown[now][at]) + shown) as u32;
                inner.kept[at] = (i64::from(inner.kept[at]) + kept) as u32;
            }
            (kid, parent) = (parent, inner.parent);
        }
    }

    /// Puts characters in at a place; on planes other than this one they are not there yet.
    pub(crate) fn insert(&mut self, cursor: Cursor, mut chars: Chars) -> SpanId {
        let id = self.chars.len() as SpanId;
        let (shown, kept) = (chars.shown(self.now), chars.kept());
        chars.leaf = cursor.leaf;
        self.chars.push(chars);
        self.place(cursor, id);
        let leaf = self.chars[id as usize].leaf;
        self.add(leaf, i64::from(shown), i64::from(kept));
        id
    }

    /// Makes a span, which is [`Spans::only_here`], longer at its end.
    pub(crate) fn extend(&mut self, id: SpanId, len: u32) {
        let now = self.now;
        let chars = &mut self.chars[id as usize];
        chars.len += len;
        let (leaf, shown, kept) = (chars.leaf, if chars.state[now] == 1 { len } else { 0 }, if chars.gone { 0 } else { len });
        self.add(leaf, i64::from(shown), i64::from(kept));
    }

    /// Cuts a span in two: the first `len` characters keep the name, the rest gets the name returned.
    pub(crate) fn split(&mut self, id: SpanId, len: u32) -> SpanId {
        let mut cursor = self.cursor(id);
        if self.leaves[cursor.leaf as usize].count == LEAF_SPANS {
            // While the lengths are still whole: splitting a leaf counts its spans again.
            self.split_leaf(cursor.leaf);
            cursor = self.cursor(id);
        }
        let chars = &mut self.chars[id as usize];
        let rest = Chars { start: chars.start + len, len: chars.len - len, left: chars.start + len - 1, ..*chars };
        chars.len = len;
        let rest_id = self.chars.len() as SpanId;
        self.chars.push(rest);
        self.place(self.after(cursor), rest_id);
        rest_id
    }

    /// Gives a span another state on this plane.
    pub(crate) fn change(&mut self, id: SpanId, state: u32, gone: bool) {
        let now = self.now;
        let chars = &mut self.chars[id as usize];
        let (shown, kept) = (i64::from(chars.shown(now)), i64::from(chars.kept()));
        chars.state[now] = state;
        chars.gone = gone;
        let (shown, kept, leaf) = (i64::from(chars.shown(now)) - shown, i64::from(chars.kept()) - kept, chars.leaf);
        self.add(leaf, shown, kept);
    }

    /// Puts a name into a leaf, which is split when full.
    fn place(&mut self, mut cursor: Cursor, id: SpanId) {
        if self.leaves[cursor.leaf as usize].count == LEAF_SPANS {
            let new = self.split_leaf(cursor.leaf);
            let kept = self.leaves[cursor.leaf as usize].count;
            if cursor.at > kept {
                cursor = Cursor { leaf: new, at: cursor.at - kept };
            }
        }
        let leaf = &mut self.leaves[cursor.leaf as usize];
        leaf.spans.copy_within(cursor.at..leaf.count, cursor.at + 1);
        leaf.spans[cursor.at] = id;
        leaf.count += 1;
        self.chars[id as usize].leaf = cursor.leaf;
    }

    fn sums(&self, leaf: u32) -> Sums {
        let leaf = &self.leaves[leaf as usize];
        let mut sums = Sums::default();
        for id in &leaf.spans[..leaf.count] {
            let chars = &self.chars[*id as usize];
            sums.kept += chars.kept();
            for plane in 0..self.planes {
                sums.shown[plane] += chars.shown(plane);
            }
        }
        sums
    }

    fn split_leaf(&mut self, leaf_id: u32) -> u32 {
        let new_id = self.leaves.len() as u32;
        let leaf = &mut self.leaves[leaf_id as usize];
        // Text is mostly appended: a full last leaf stays nearly full.
        let keep = if leaf.next == NO_NODE { LEAF_SPANS - 4 } else { LEAF_SPANS / 2 };
        let mut new = Leaf { parent: leaf.parent, next: leaf.next, count: LEAF_SPANS - keep, spans: [0; LEAF_SPANS] };
        new.spans[..LEAF_SPANS - keep].copy_from_slice(&leaf.spans[keep..]);
        leaf.count = keep;
        leaf.next = new_id;
        let parent = leaf.parent;
        for id in &new.spans[..new.count] {
            self.chars[*id as usize].leaf = new_id;
        }
        self.leaves.push(new);
        let (old_sums, new_sums) = (self.sums(leaf_id), self.sums(new_id));
        let parent = self.adopt(parent, leaf_id, new_id, old_sums, new_sums);
        self.leaves[new_id as usize].parent = parent.1;
        self.leaves[leaf_id as usize].parent = parent.0;
        new_id
    }

    /// Puts `new` behind its sibling `old` in an inner node, which is split when full. Returns the parents of both.
    fn adopt(&mut self, parent: u32, old: u32, new: u32, old_sums: Sums, new_sums: Sums) -> (u32, u32) {
        let mut target = parent;
        if self.inners[parent as usize].count == INNER_KIDS {
            let right = self.split_inner(parent);
            let left = &self.inners[parent as usize];
            if !left.kids[..left.count].contains(&old) {
                target = right;
            }
        }
        let inner = &mut self.inners[target as usize];
        let at = inner.kids[..inner.count].iter().position(|kid| *kid == old).unwrap_or(0);
        let count = inner.count;
        inner.kids.copy_within(at + 1..count, at + 2);
        for shown in &mut inner.shown {
            shown.copy_within(at + 1..count, at + 2);
        }
        inner.kept.copy_within(at + 1..count, at + 2);
        inner.kids[at + 1] = new;
        inner.set(at, old_sums);
        inner.set(at + 1, new_sums);
        inner.count += 1;
        (target, target)
    }

    fn split_inner(&mut self, id: u32) -> u32 {
        let new_id = self.inners.len() as u32;
        let keep = INNER_KIDS / 2;
        let mut new = self.inners[id as usize].clone();
        new.count = INNER_KIDS - keep;
        new.kids.copy_within(keep.., 0);
        for shown in &mut new.shown {
            shown.copy_within(keep.., 0);
        }
        new.kept.copy_within(keep.., 0);
        for kid in &new.kids[..new.count] {
            if new.bottom {
                self.leaves[*kid as usize].parent = new_id;
            } else {
                self.inners[*kid as usize].parent = new_id;
            }
        }
        let old = &mut self.inners[id as usize];
        old.count = keep;
        let (old_sums, new_sums) = (old.sums(), new.sums());
        let parent = old.parent;
        self.inners.push(new);
        if parent == NO_NODE {
            let root = self.inners.len() as u32;
            let mut top =
                Inner { parent: NO_NODE, count: 2, bottom: false, kids: [0; INNER_KIDS], shown: [[0; INNER_KIDS]; PLANES], kept: [0; INNER_KIDS] };
            top.kids[..2].copy_from_slice(&[id, new_id]);
            top.set(0, old_sums);
            top.set(1, new_sums);
            self.inners.push(top);
            self.inners[id as usize].parent = root;
            self.inners[new_id as usize].parent = root;
            self.root = root;
        } else {
            let (old_parent, new_parent) = self.adopt(parent, id, new_id, old_sums, new_sums);
            self.inners[id as usize].parent = old_parent;
            self.inners[new_id as usize].parent = new_parent;
        }
        new_id
    }
}
