//! Rows that are written but not committed.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use fjall::Slice;

use super::Table;

/// Rows that are written but not committed. `None` deletes.
#[derive(Debug, Default)]
pub struct Staged {
    tables: [Rows; Table::ALL.len()],
    bytes: usize,
}

/// Rows of one table. While changes are decided on, single rows are read and written all the time, and an order is
/// rarely asked for: so it is only kept from then on.
#[derive(Debug, Default)]
struct Rows {
    by_key: HashMap<Slice, Option<Slice>>,
    order: OnceLock<BTreeSet<Slice>>,
}

impl Staged {
    /// Writes a row.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len() + 64;
        self.set(table, key.into(), Some(value.into()));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.bytes += key.len() + 64;
        self.set(table, key.into(), None);
    }

    fn set(&mut self, table: Table, key: Slice, value: Option<Slice>) {
        let rows = &mut self.tables[table as usize];
        if let Some(order) = rows.order.get_mut() {
            order.insert(key.clone());
        }
        rows.by_key.insert(key, value);
    }

    /// What is staged for a row, if anything is.
    #[must_use]
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Slice>> {
        self.tables[table as usize].by_key.get(key)
    }

    /// The rows of a table, in no order.
    pub(super) fn rows(&self, table: Table) -> impl Iterator<Item = (&Slice, &Option<Slice>)> {
        self.tables[table as usize].by_key.iter()
    }

    /// Whether nothing is staged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|rows| rows.by_key.is_empty())
    }

    /// Whether nothing is staged for a table.
    #[must_use]
    pub fn is_untouched(&self, table: Table) -> bool {
        self.tables[table as usize].by_key.is_empty()
    }

    /// Memory taken, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows whose key begins with `prefix` and is at least `from`, in order.
    pub(super) fn range<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
        from: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Slice, &'a Option<Slice>)> + use<'a> {
        let Rows { by_key, order } = &self.tables[table as usize];
        let start: Slice = from.filter(|from| *from > prefix).unwrap_or(prefix).into();
        let prefix = prefix.to_vec();
        let keys = order.get_or_init(|| by_key.keys().cloned().collect()).range(start..);
        keys.take_while(move |key| key.starts_with(&prefix)).filter_map(|key| by_key.get_key_value(key))
    }
}
