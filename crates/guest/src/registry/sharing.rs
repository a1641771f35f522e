//! Cells that are named twice, as in no hive that a Windows made: who changes one thing there changes another.

use std::collections::BTreeSet;

use disk::error::Result;

use super::change::ValueChange;
use super::hive::Hive;
use super::space::Space;
use super::{NOTHING, SEGMENT, key_field, value_field};
use crate::fields::{le16, le32};

/// What a cell is for whoever names it.
#[derive(Clone, Copy)]
enum Role {
    Key,
    Keys,
    /// A list of so many values.
    Values(u32),
    Value,
    /// What a value of so many bytes holds.
    Data(u32),
    /// A list of so many parts.
    Parts(u16),
    Part,
}

/// Returns the cells that `changes` may write to or give away.
pub(super) fn touched(hive: Hive<'_>, changes: &[ValueChange]) -> Result<BTreeSet<u32>> {
    let mut cells = BTreeSet::new();
    for change in changes {
        let mut key = hive.root()?;
        cells.insert(key.at());
        let mut names = change.key.split('\\').filter(|name| !name.is_empty());
        let is_there = names.try_fold((), |(), name| {
            key = key.subkey(name).transpose()?.ok()?;
            cells.insert(key.at());
            Some(())
        });
        cells.extend(key.lists());
        if let Some(value) = key.value(&change.name)?.filter(|_| is_there.is_some()) {
            cells.insert(value.offset());
            cells.extend(value.data_cells()?);
        }
    }
    Ok(cells)
}

/// Returns whether one of `cells` is named twice below the key at `root`, or so much is that it cannot be told.
pub(super) fn is_any_shared(space: &Space, root: u32, cells: &BTreeSet<u32>) -> bool {
    let mut named = BTreeSet::new();
    let mut pending = vec![(root, Role::Key)];
    let mut left = space.count();
    while let Some((at, role)) = pending.pop() {
        if cells.contains(&at) && !named.insert(at) {
            return true;
        }
        // What leads nowhere is no matter here.
        let Ok(cell) = space.cell(at) else { continue };
        left = left.saturating_sub(1);
        let mut name = |at: u32, role| {
            if at != NOTHING {
                pending.push((at, role));
            }
        };
        let entries = |step: usize, skip: usize, count: usize| {
            let cell = cell.get(skip..).unwrap_or_default();
            cell.chunks_exact(step).take(count).map(|entry| le32(entry, 0))
        };
        match role {
            Role::Key => {
                let (keys, values) = (le32(cell, key_field::SUBKEYS), le32(cell, key_field::VALUES));
                if keys > 0 {
                    name(le32(cell, key_field::SUBKEY_LIST), Role::Keys);
                }
                if values > 0 {
                    name(le32(cell, key_field::VALUE_LIST), Role::Values(values));
                }
            }
            Role::Keys => {
                let count = usize::from(le16(cell, 2));
                match cell.get(..2) {
                    Some(b"lf" | b"lh") => entries(8, 4, count).for_each(|at| name(at, Role::Key)),
                    Some(b"li") => entries(4, 4, count).for_each(|at| name(at, Role::Key)),
                    Some(b"ri") => entries(4, 4, count).for_each(|at| name(at, Role::Keys)),
                    _ => {}
                }
            }
            Role::Values(count) => entries(4, 0, count as usize).for_each(|at| name(at, Role::Value)),
            Role::Value => {
                let size = le32(cell, value_field::SIZE);
                if size & value_field::INLINE == 0 && size > 0 {
                    name(le32(cell, value_field::DATA), Role::Data(size));
                }
            }
            Role::Data(size) if size as usize > SEGMENT && cell.starts_with(b"db") => {
                name(le32(cell, 4), Role::Parts(le16(cell, 2)));
            }
            Role::Parts(count) => entries(4, 0, count.into()).for_each(|at| name(at, Role::Part)),
            Role::Data(_) | Role::Part => {}
        }
        // Each of them needs a cell of its own.
        if pending.len() > left {
            return true;
        }
    }
    false
}
