//! The ends of a timeline: what nothing builds on, and how far each author's chain has come.

use std::collections::{HashMap, HashSet};

use timebus_identity::PublicKey;

use crate::ids::ChangeId;
use crate::keyspace::{Rows, Table};
use crate::pipeline::{author_prefix, chain_prefix, forked, heads_prefix, tip_prefix};
use crate::store::StorageError;
use crate::summary::{Summary, summary};

/// Ends of one author's chain that are told; he has more only if he signed many changes at one place of it.
pub const TIPS_OF_AUTHOR_MAX: usize = 16;

/// A change that no other change of its author follows. Ordered by author, `seq`, id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tip {
    /// Who wrote it.
    pub author: PublicKey,
    /// Its place in the author's chain.
    pub seq: u64,
    /// The change.
    pub id: ChangeId,
    /// Its arrival number.
    pub a: u64,
    /// Bytes of the author's chain up to it.
    pub cum: u64,
}

/// The arrival numbers of the changes that nothing builds on.
///
/// # Errors
///
/// [`StorageError`].
pub fn heads(rows: &impl Rows, t: u32) -> Result<Vec<u64>, StorageError> {
    let mut heads = Vec::new();
    for row in rows.scan(Table::Meta, &heads_prefix(t), None) {
        heads.extend(row?.1.chunks_exact(8).map(|a| u64::from_be_bytes(a.try_into().unwrap_or_default())));
    }
    Ok(heads)
}

/// The ends of one author's chain, ascending; several if he forked it.
///
/// # Errors
///
/// [`StorageError`].
pub fn tips_of(rows: &impl Rows, t: u32, author: &PublicKey) -> Result<Vec<Tip>, StorageError> {
    let Some(fork) = forked(rows, t, author)? else {
        let row = rows.get(Table::Meta, &[tip_prefix(t), author.as_bytes().to_vec()].concat())?;
        return row.map(|row| tip(rows, t, &row)).transpose().map(|tip| tip.into_iter().collect());
    };
    let mut found: Vec<(u64, Summary)> = Vec::new();
    let mut followed: HashSet<u64> = HashSet::new();
    let prefix = author_prefix(t, author);
    for row in rows.scan(Table::Chain, &prefix, Some(&[&prefix[..], &fork.to_be_bytes()].concat())) {
        let a = row?.0.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
        let own = summary(rows, t, a)?;
        followed.extend(own.deps.first().filter(|_| own.seq > 1));
        found.push((a, own));
    }
    let ends = found.iter().filter(|(a, _)| !followed.contains(a));
    let mut tips: Vec<Tip> = ends.map(|(a, own)| Tip { author: *author, seq: own.seq, id: own.id, a: *a, cum: own.cum }).collect();
    tips.sort_unstable();
    tips.truncate(TIPS_OF_AUTHOR_MAX);
    Ok(tips)
}

/// Bytes and changes of one author in a timeline. A chain counts its own; of one that was forked every change is counted, as
/// each branch of it begins to count anew.
///
/// # Errors
///
/// [`StorageError`].
pub fn size_of(rows: &impl Rows, t: u32, author: &PublicKey) -> Result<(u64, u64), StorageError> {
    if forked(rows, t, author)?.is_none() {
        let tip = tips_of(rows, t, author)?.into_iter().next();
        return Ok(tip.map_or((0, 0), |tip| (tip.cum, tip.seq)));
    }
    let (mut bytes, mut cums) = (0, HashMap::new());
    // What a change stands on comes before it.
    for row in rows.scan(Table::Chain, &author_prefix(t, author), None) {
        let a = row?.0.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
        let own = summary(rows, t, a)?;
        let before = own.deps.first().filter(|_| own.seq > 1).and_then(|prev| cums.get(prev)).copied().unwrap_or(0);
        bytes += own.cum.saturating_sub(before);
        cums.insert(a, own.cum);
    }
    Ok((bytes, cums.len() as u64))
}

/// The ends of the chains of the authors behind `after`, in ascending order; at least `max` if there are as many.
///
/// # Errors
///
/// [`StorageError`].
pub fn tips(rows: &impl Rows, t: u32, after: Option<&PublicKey>, max: usize) -> Result<Vec<Tip>, StorageError> {
    let prefix = tip_prefix(t);
    let from = after.map(|author| [&prefix[..], author.as_bytes(), &[0]].concat());
    let mut found = Vec::new();
    for row in rows.scan(Table::Meta, &prefix, from.as_deref()) {
        if found.len() >= max {
            break;
        }
        let (key, _) = row?;
        let author = key.last_chunk::<32>().ok_or(StorageError::Damaged { table: Table::Meta.name() })?;
        found.extend(tips_of(rows, t, &PublicKey::from_bytes(*author))?);
    }
    Ok(found)
}

/// The arrival number of a change at a place in an author's chain; the first that arrived if he forked it.
///
/// # Errors
///
/// [`StorageError`].
pub fn at(rows: &impl Rows, t: u32, author: &PublicKey, seq: u64) -> Result<Option<u64>, StorageError> {
    let row = rows.scan(Table::Chain, &chain_prefix(t, author, seq), None).next().transpose()?;
    Ok(row.and_then(|(key, _)| key.last_chunk::<8>().map(|a| u64::from_be_bytes(*a))))
}

fn tip(rows: &impl Rows, t: u32, row: &[u8]) -> Result<Tip, StorageError> {
    let a = u64::from_be_bytes(row.try_into().map_err(|_| StorageError::Damaged { table: Table::Meta.name() })?);
    let own = summary(rows, t, a)?;
    Ok(Tip { author: own.author, seq: own.seq, id: own.id, a, cum: own.cum })
}
