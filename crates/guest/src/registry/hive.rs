//! Reading keys of a hive, one level at a time.

use disk::error::{Error, Result};

use super::base::Base;
use super::value::Value;
use super::{BASE, NOTHING, key_field, names};
use crate::fields::{le16, le32, le64, stands_at};

/// Longest list of subkeys in cells that name lists of cells.
const SUBKEYS_MAX: usize = 1 << 18;
/// Most values of one key.
const VALUES_MAX: usize = 1 << 16;

/// A hive in memory.
#[derive(Clone, Copy)]
pub struct Hive<'h> {
    bytes: &'h [u8],
    base: Base,
}

/// A key of a hive.
#[derive(Clone, Copy)]
pub struct Key<'h> {
    hive: Hive<'h>,
    at: u32,
    cell: &'h [u8],
}

impl<'h> Hive<'h> {
    /// Opens the hive in `bytes`, sound or not; an error says why it is none.
    pub fn open(bytes: &'h [u8]) -> Result<Self> {
        Ok(Self { bytes, base: Base::parse(bytes)? })
    }

    /// Returns whether Windows had not finished writing it, so that its newest values are in its logs.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.base.is_dirty()
    }

    /// Returns whether its end is missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.base.is_cut
    }

    pub(crate) fn bytes(&self) -> &'h [u8] {
        self.bytes
    }

    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// Returns the key that all others are below.
    pub fn root(&self) -> Result<Key<'h>> {
        self.key_at(self.base.root)
    }

    /// Looks up the key at `path`, whose names are parted by `\`; none where it does not exist.
    pub fn key(&self, path: &str) -> Result<Option<Key<'h>>> {
        let mut key = self.root()?;
        for name in path.split('\\').filter(|name| !name.is_empty()) {
            match key.subkey(name)? {
                Some(next) => key = next,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    fn key_at(&self, at: u32) -> Result<Key<'h>> {
        let cell = self.cell(at)?;
        if cell.len() < key_field::NAME || !stands_at(cell, 0, b"nk") {
            return Err(Error::corrupt(format!("the cell at {at:#x} is no key")));
        }
        Ok(Key { hive: *self, at, cell })
    }

    /// Returns the content of the cell at `at`, which must be in use.
    pub(super) fn cell(&self, at: u32) -> Result<&'h [u8]> {
        let wrong = || Error::corrupt(format!("there is no cell at {at:#x}"));
        let bins = &self.bytes[BASE..BASE + self.base.bins];
        let start = usize::try_from(at).map_err(|_| wrong())?;
        // A cell in use has its size as a negative number.
        let size = le32(bytes_from(bins, start), 0).cast_signed();
        let size = usize::try_from(size.unsigned_abs()).ok().filter(|found| size < 0 && *found >= 8);
        let end = size.and_then(|size| start.checked_add(size));
        end.and_then(|end| bins.get(start + 4..end)).ok_or_else(wrong)
    }
}

fn bytes_from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// Returns the cells that a list of subkeys names: those of its own kinds, or of the lists that an `ri` names.
fn listed<'h>(hive: Hive<'h>, list: u32) -> Result<impl Iterator<Item = u32> + use<'h>> {
    let cell = hive.cell(list)?;
    let leaves: Vec<&[u8]> = if stands_at(cell, 0, b"ri") {
        entries(cell, 4).map(|at| hive.cell(at)).collect::<Result<_>>()?
    } else {
        vec![cell]
    };
    let step = |leaf: &[u8]| match leaf.get(..2) {
        Some(b"lf" | b"lh") => Some(8),
        Some(b"li") => Some(4),
        _ => None,
    };
    if leaves.iter().any(|leaf| step(leaf).is_none()) {
        return Err(Error::corrupt(format!("the cell at {list:#x} is no list of keys")));
    }
    Ok(leaves.into_iter().flat_map(move |leaf| entries(leaf, step(leaf).unwrap_or(8))))
}

/// Iterates over the offsets of a list whose entries have `step` bytes.
fn entries(list: &[u8], step: usize) -> impl Iterator<Item = u32> {
    bytes_from(list, 4).chunks_exact(step).take(le16(list, 2).into()).map(|entry| le32(entry, 0))
}

impl<'h> Key<'h> {
    pub(super) fn at(&self) -> u32 {
        self.at
    }

    pub(super) fn units(&self) -> impl Iterator<Item = u16> + Clone + use<'h> {
        let length = usize::from(le16(self.cell, key_field::NAME_LENGTH));
        let name = bytes_from(self.cell, key_field::NAME);
        names::units(&name[..length.min(name.len())], le16(self.cell, key_field::FLAGS) & key_field::NARROW != 0)
    }

    /// Returns its name, as the guest wrote it.
    #[must_use]
    pub fn name(&self) -> String {
        names::text(self.units())
    }

    /// Returns when it was last changed, in units of 100 ns since 1601.
    #[must_use]
    pub fn time(&self) -> u64 {
        le64(self.cell, key_field::TIME)
    }

    /// Returns the name of its class; few keys have one.
    pub fn class(&self) -> Result<Option<String>> {
        let (at, length) = (le32(self.cell, key_field::CLASS), le16(self.cell, key_field::CLASS_LENGTH).into());
        if at == NOTHING || length == 0 {
            return Ok(None);
        }
        let class = self.hive.cell(at)?.get(..length);
        let class = class.ok_or_else(|| Error::corrupt(format!("the class at {at:#x} is longer than its cell")))?;
        Ok(Some(names::text(names::units(class, false))))
    }

    /// Returns the subkeys that can be read, at most `most`.
    pub fn subkeys(&self, most: usize) -> Result<Vec<Self>> {
        let Some(list) = self.subkey_list() else { return Ok(Vec::new()) };
        let found = listed(self.hive, list)?.take(SUBKEYS_MAX);
        Ok(found.filter_map(|at| self.hive.key_at(at).ok()).take(most).collect())
    }

    /// Looks up one subkey; none where it does not exist.
    pub fn subkey(&self, name: &str) -> Result<Option<Self>> {
        let Some(list) = self.subkey_list() else { return Ok(None) };
        let mut found = listed(self.hive, list)?.take(SUBKEYS_MAX).filter_map(|at| self.hive.key_at(at).ok());
        Ok(found.find(|key| names::compare(key.units(), name.encode_utf16()).is_eq()))
    }

    /// Returns the cells that list what is below it and in it.
    pub(super) fn lists(&self) -> Vec<u32> {
        let keys = self.subkey_list();
        let head = keys.and_then(|list| self.hive.cell(list).ok()).filter(|cell| cell.starts_with(b"ri"));
        let below = head.into_iter().flat_map(|cell| entries(cell, 4));
        keys.into_iter().chain(below).chain(self.value_list()).collect()
    }

    pub(super) fn subkey_list(&self) -> Option<u32> {
        let list = le32(self.cell, key_field::SUBKEY_LIST);
        (le32(self.cell, key_field::SUBKEYS) != 0 && list != NOTHING).then_some(list)
    }

    /// Returns the values that can be read, at most `most`.
    pub fn values(&self, most: usize) -> Result<Vec<Value<'h>>> {
        Ok(self.value_cells()?.filter_map(|at| Value::at(self.hive, at).ok()).take(most).collect())
    }

    /// Looks up one value, of which the one without a name is the default; none where it does not exist.
    pub fn value(&self, name: &str) -> Result<Option<Value<'h>>> {
        let mut found = self.value_cells()?.filter_map(|at| Value::at(self.hive, at).ok());
        Ok(found.find(|value| names::compare(value.units(), name.encode_utf16()).is_eq()))
    }

    fn value_cells(&self) -> Result<impl Iterator<Item = u32> + use<'h>> {
        let count = le32(self.cell, key_field::VALUES) as usize;
        let list = self.value_list().map_or(Ok(&[][..]), |at| self.hive.cell(at))?;
        // The list ends with its cell, whatever the count says.
        Ok(list.chunks_exact(4).take(VALUES_MAX.min(count)).map(|entry| le32(entry, 0)))
    }

    fn value_list(&self) -> Option<u32> {
        let list = le32(self.cell, key_field::VALUE_LIST);
        (le32(self.cell, key_field::VALUES) != 0 && list != NOTHING).then_some(list)
    }
}
