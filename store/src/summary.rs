//! What is kept at hand about every change, so that questions about the DAG do not read the log.

use timebus_identity::PublicKey;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{ChangeId, GrantId};
use crate::keyspace::{Rows, Table};
use crate::log::Place;
use crate::store::StorageError;

/// Most stretches of changes that [`Summary::except`] names: what its row can hold.
pub const EXCEPT_MAX: usize = 32;
/// Most changes that one row names in one list: as many as a body can, each with some runs that it is a part of.
const REFS_MAX: usize = 4 * crate::change::REFERENCES_MAX;

/// A change, as the table [`Table::Change`] holds it. Other changes are named by arrival number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: ChangeId,
    /// Where its record is.
    pub place: Place,
    /// Who wrote it.
    pub author: PublicKey,
    /// The grant in whose name it was written; `None` for a root key.
    pub cap: Option<GrantId>,
    /// Its place in the author's chain.
    pub seq: u64,
    /// Its Lamport clock.
    pub lamport: u64,
    /// Unix milliseconds, as the author said.
    pub time_ms: u64,
    /// Bytes of the author's chain up to here.
    pub cum: u64,
    /// `prev` and `parents`.
    pub deps: Vec<u64>,
    /// Changes in its past, beside its deps, that its body names: last parts where they are parts of runs.
    pub refs: Vec<u64>,
    /// What its writer had seen, if not everything before it.
    pub base: Option<Vec<u64>>,
    /// Whether its past is every change of the timeline that arrived here before it.
    pub total: bool,
    /// If there are any, its past is every change that arrived here before it but these: first and last of each stretch
    /// of arrival numbers. So it is where hidden changes lie about that nobody builds on.
    pub except: Vec<(u64, u64)>,
    /// In the parts of a run: number, count.
    pub part: Option<(u64, u64)>,
    /// For a part of a run, whether its ops have had their effect.
    pub folded: bool,
    /// Its public name.
    pub label: Option<Box<str>>,
    /// Who asked its author for it, as that says: see [`crate::behalf`].
    pub behalf: Option<PublicKey>,
}

impl Summary {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(self.id.as_bytes());
        out.var(u64::from(self.place.segment));
        out.var(self.place.offset);
        out.raw(self.author.as_bytes());
        for n in [self.seq, self.lamport, self.time_ms, self.cum] {
            out.var(n);
        }
        let list = |list: &[u64], out: &mut Writer| {
            out.var(list.len() as u64);
            list.iter().for_each(|a| out.var(*a));
        };
        list(&self.deps, &mut out);
        out.u8(u8::from(self.base.is_some())
            | u8::from(self.total) << 1
            | u8::from(self.part.is_some()) << 2
            | u8::from(self.label.is_some()) << 3
            | u8::from(self.folded) << 4
            | u8::from(self.cap.is_some()) << 5
            | u8::from(!self.except.is_empty()) << 6
            | u8::from(!self.refs.is_empty()) << 7);
        if let Some(cap) = &self.cap {
            out.raw(cap.as_bytes());
        }
        if let Some(base) = &self.base {
            list(base, &mut out);
        }
        if let Some((number, count)) = self.part {
            out.var(number);
            out.var(count);
        }
        if let Some(label) = &self.label {
            out.bytes(label.as_bytes());
        }
        if !self.except.is_empty() {
            let ends: Vec<u64> = self.except.iter().flat_map(|(first, last)| [*first, *last]).collect();
            list(&ends, &mut out);
        }
        if !self.refs.is_empty() {
            list(&self.refs, &mut out);
        }
        self.behalf.iter().for_each(|key| out.raw(key.as_bytes()));
        out.into_bytes()
    }

    /// Reads a row's value.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met: the row is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let id = ChangeId(input.array("id")?);
        let place = Place { segment: input.var(u64::from(u32::MAX), "segment")? as u32, offset: input.var(u64::MAX, "offset")? };
        let author = PublicKey::from_bytes(input.array("author")?);
        let mut number = || input.var(u64::MAX, "number");
        let (seq, lamport, time_ms, cum) = (number()?, number()?, number()?, number()?);
        let list = |input: &mut Reader<'_>| -> Result<Vec<u64>, DecodeError> {
            (0..input.count(REFS_MAX, "list")?).map(|_| input.var(u64::MAX, "arrival")).collect()
        };
        let deps = list(&mut input)?;
        let flags = input.u8("flags")?;
        let cap = if flags & 32 != 0 { Some(GrantId(input.array("cap")?)) } else { None };
        let base = if flags & 1 != 0 { Some(list(&mut input)?) } else { None };
        let part = if flags & 4 != 0 { Some((input.var(u64::MAX, "part")?, input.var(u64::MAX, "parts")?)) } else { None };
        let label = if flags & 8 != 0 { Some(input.text(255, "label")?.into()) } else { None };
        let except = if flags & 64 != 0 { list(&mut input)? } else { Vec::new() };
        if flags & 64 != 0 && (except.is_empty() || !except.len().is_multiple_of(2)) {
            return Err(DecodeError::Invalid { field: "except" });
        }
        let except = except.chunks_exact(2).map(|ends| (ends[0], ends[1])).collect();
        let refs = if flags & 128 != 0 { list(&mut input)? } else { Vec::new() };
        if flags & 128 != 0 && refs.is_empty() {
            return Err(DecodeError::Invalid { field: "flags" });
        }
        // Rows of before end here.
        let behalf = if input.rest().is_empty() { None } else { Some(PublicKey::from_bytes(input.array("asked by")?)) };
        input.finish()?;
        let (total, folded) = (flags & 2 != 0, flags & 16 != 0);
        Ok(Self { id, place, author, cap, seq, lamport, time_ms, cum, deps, refs, base, total, except, part, folded, label, behalf })
    }

    /// The changes that it vouches for directly: those that it is made on top of, and those that it names.
    pub fn vouched(&self) -> impl Iterator<Item = u64> + '_ {
        self.deps.iter().chain(&self.refs).copied()
    }

    /// The name that clients see: the label, else the id.
    #[must_use]
    pub fn name(&self) -> String {
        self.label.as_ref().map_or_else(|| self.id.to_string(), ToString::to_string)
    }
}

/// `t ‖ a`.
#[must_use]
pub fn change_key(t: u32, a: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&t.to_be_bytes());
    key[4..].copy_from_slice(&a.to_be_bytes());
    key
}

/// Looks a change up by arrival number.
///
/// # Errors
///
/// [`StorageError`]; a missing row is [`StorageError::Damaged`].
pub fn summary(rows: &impl Rows, t: u32, a: u64) -> Result<Summary, StorageError> {
    let row = rows.get(Table::Change, &change_key(t, a))?.ok_or(StorageError::Damaged { table: Table::Change.name() })?;
    Ok(Summary::decode(&row)?)
}

/// Looks a change's timeline and arrival number up by its id.
///
/// # Errors
///
/// [`StorageError`].
pub fn find(rows: &impl Rows, id: &ChangeId) -> Result<Option<(u32, u64)>, StorageError> {
    let Some(row) = rows.get(Table::Index, id.as_bytes())? else { return Ok(None) };
    let damaged = || StorageError::Damaged { table: Table::Index.name() };
    let (t, a) = row.split_first_chunk::<4>().ok_or_else(damaged)?;
    Ok(Some((u32::from_be_bytes(*t), u64::from_be_bytes(a.try_into().map_err(|_| damaged())?))))
}
