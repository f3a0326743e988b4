//! Tables in memory, for simulations: no files, no threads, the same every time.
//!
//! Every row keeps its values of the last few commits, so that a snapshot is a number, a commit costs what it
//! writes, and a simulated crash can take the last commits away.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fjall::Slice;

use super::{Scan, Staged, Table};

/// Commits that a crash can take away; what they replaced is kept until then. The tables on a disk lose more only
/// when they are lost as a whole.
pub const COMMITS_LOST_MAX: u64 = 16;
/// Rows that a scan reads at once.
const SCAN_ROWS: usize = 64;

/// The values that a row had, each with the number of the commit that wrote it, ascending. `None` deletes.
type Values = Vec<(u64, Option<Slice>)>;

#[derive(Clone, Debug, Default)]
struct Versions {
    rows: [BTreeMap<Slice, Values>; Table::ALL.len()],
    /// Number of the latest commit.
    latest: u64,
    /// How many snapshots there are of a commit.
    held: BTreeMap<u64, usize>,
}

/// The tables. Clones are the same tables.
#[derive(Clone, Debug, Default)]
pub struct MemoryTables(Arc<Mutex<Versions>>);

impl MemoryTables {
    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a crash leaves of these tables: all but the last `commits_lost` commits, of which it takes at most
    /// [`COMMITS_LOST_MAX`].
    #[must_use]
    pub fn surviving(&self, commits_lost: u64) -> Self {
        let mut versions = self.lock().clone();
        versions.held.clear();
        versions.latest = versions.latest.saturating_sub(commits_lost.min(COMMITS_LOST_MAX));
        let latest = versions.latest;
        for rows in &mut versions.rows {
            rows.retain(|_, values| {
                values.retain(|(commit, _)| *commit <= latest);
                !values.is_empty()
            });
        }
        Self(Arc::new(Mutex::new(versions)))
    }

    /// How many commits there were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().latest
    }

    /// Bytes of keys and values that are there now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let versions = self.lock();
        let rows = versions.rows.iter().flatten();
        rows.filter_map(|(key, values)| Some(key.len() + values.last()?.1.as_ref()?.len())).map(|bytes| bytes as u64).sum()
    }

    pub(super) fn commit(&self, staged: &Staged, mark: &[u8], applied: Option<&Slice>) {
        let mut versions = self.lock();
        let versions = &mut *versions;
        versions.latest += 1;
        let latest = versions.latest;
        let newest_lost = latest.saturating_sub(COMMITS_LOST_MAX);
        let floor = versions.held.keys().next().map_or(newest_lost, |held| newest_lost.min(*held));
        for table in Table::ALL {
            let into = &mut versions.rows[table as usize];
            let marked = applied.map(|applied| (Slice::from(mark), Some(applied.clone())));
            for (key, value) in staged.rows(table).map(|(key, value)| (key.clone(), value.clone())).chain(marked) {
                let values = into.entry(key).or_default();
                values.push((latest, value));
                // Nobody reads what was replaced before every snapshot and every crash that may come.
                let oldest = values.iter().rposition(|(commit, _)| *commit <= floor).unwrap_or(0);
                values.drain(..oldest);
            }
        }
    }

    pub(super) fn snapshot(&self) -> MemorySnapshot {
        let mut versions = self.lock();
        let commit = versions.latest;
        *versions.held.entry(commit).or_default() += 1;
        MemorySnapshot { tables: self.clone(), commit }
    }
}

/// The tables as of one commit.
#[derive(Debug)]
pub(super) struct MemorySnapshot {
    tables: MemoryTables,
    commit: u64,
}

impl Clone for MemorySnapshot {
    fn clone(&self) -> Self {
        *self.tables.lock().held.entry(self.commit).or_default() += 1;
        Self { tables: self.tables.clone(), commit: self.commit }
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut versions = self.tables.lock();
        if let Some(count) = versions.held.get_mut(&self.commit) {
            *count -= 1;
            if *count == 0 {
                versions.held.remove(&self.commit);
            }
        }
    }
}

fn value_at(values: &Values, commit: u64) -> Option<&Slice> {
    values.iter().rev().find(|(written, _)| *written <= commit).and_then(|(_, value)| value.as_ref())
}

impl MemorySnapshot {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Slice> {
        self.tables.lock().rows[table as usize].get(key).and_then(|values| value_at(values, self.commit)).cloned()
    }

    pub(super) fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
        let start = from.filter(|from| *from > prefix).unwrap_or(prefix);
        let mut next = Some(Bound::Included(Slice::from(start)));
        let prefix = prefix.to_vec();
        let mut ready: VecDeque<(Slice, Slice)> = VecDeque::new();
        Box::new(std::iter::from_fn(move || {
            while ready.is_empty() {
                let from = next.take()?;
                let versions = self.tables.lock();
                let rows = versions.rows[table as usize].range((from, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(&prefix));
                for (key, values) in rows {
                    if ready.len() == SCAN_ROWS {
                        next = Some(Bound::Included(key.clone()));
                        break;
                    }
                    ready.extend(value_at(values, self.commit).map(|value| (key.clone(), value.clone())));
                }
            }
            ready.pop_front().map(Ok)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rows as _, Tables};
    use super::*;

    fn write(tables: &Tables, key: &str, value: Option<&str>) {
        let mut staged = Staged::default();
        match value {
            Some(value) => staged.put(Table::Node, key.into(), value.into()),
            None => staged.delete(Table::Node, key.into()),
        }
        tables.commit(&staged).expect("in memory");
    }

    fn keys(rows: &super::super::Committed, prefix: &str, from: Option<&str>) -> Vec<String> {
        let rows = rows.scan(Table::Node, prefix.as_bytes(), from.map(str::as_bytes));
        rows.map(|row| String::from_utf8(row.expect("in memory").0.to_vec()).expect("text")).collect()
    }

    #[test]
    fn a_snapshot_stays_what_it_was() {
        let tables = Tables::in_memory(MemoryTables::default());
        write(&tables, "a1", Some("old"));
        let old = tables.snapshot();
        for _ in 0..40 {
            write(&tables, "a1", Some("new"));
        }
        write(&tables, "a2", Some("more"));
        let between = tables.snapshot();
        write(&tables, "a1", None);
        assert_eq!(old.get(Table::Node, b"a1").expect("in memory").as_deref(), Some(b"old".as_slice()));
        assert_eq!(keys(&old, "a", None), ["a1"]);
        assert_eq!(keys(&between.clone(), "a", None), ["a1", "a2"]);
        assert_eq!(keys(&tables.snapshot(), "a", None), ["a2"]);
        assert_eq!(keys(&between, "a", Some("a1x")), ["a2"]);
    }

    #[test]
    fn a_scan_goes_on_over_many_rows_and_past_those_that_are_gone() {
        let memory = MemoryTables::default();
        let tables = Tables::in_memory(memory.clone());
        for number in 0..500 {
            write(&tables, &format!("k{number:03}"), Some("v"));
        }
        for number in (0..500).filter(|number| number % 3 > 0) {
            write(&tables, &format!("k{number:03}"), None);
        }
        let expected: Vec<String> = (0..500).filter(|number| number % 3 == 0).map(|number| format!("k{number:03}")).collect();
        assert_eq!(keys(&tables.snapshot(), "k", None), expected);
        assert_eq!(keys(&tables.snapshot(), "k49", None), ["k492", "k495", "k498"]);
    }

    #[test]
    fn a_crash_takes_the_last_commits_and_leaves_the_tables_before() {
        let memory = MemoryTables::default();
        let tables = Tables::in_memory(memory.clone());
        for number in 0..20 {
            write(&tables, "a", Some(&number.to_string()));
        }
        let after = Tables::in_memory(memory.surviving(3));
        assert_eq!(after.snapshot().get(Table::Node, b"a").expect("in memory").as_deref(), Some(b"16".as_slice()));
        write(&after, "a", Some("again"));
        assert_eq!(tables.snapshot().get(Table::Node, b"a").expect("in memory").as_deref(), Some(b"19".as_slice()));
        assert_eq!(after.snapshot().get(Table::Node, b"a").expect("in memory").as_deref(), Some(b"again".as_slice()));
    }

    #[test]
    fn values_that_nobody_can_read_any_more_are_forgotten() {
        let memory = MemoryTables::default();
        let tables = Tables::in_memory(memory.clone());
        for number in 0..1000 {
            write(&tables, "a", Some(&number.to_string()));
        }
        let kept = memory.lock().rows[Table::Node as usize].values().map(Vec::len).sum::<usize>();
        assert!(kept <= COMMITS_LOST_MAX as usize + 2, "{kept} values of one row");
    }
}
