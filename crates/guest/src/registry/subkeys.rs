//! Lists of subkeys: a new key is put where the order of names wants it.

use disk::error::{Error, ErrorKind, Result};

use super::hive::Hive;
use super::space::Space;
use super::{NOTHING, key_field, names};
use crate::fields::{le16, le32};

/// Most keys in a list, so that it stays in one page, as Windows keeps them.
const LEAF_MAX: usize = 507;
/// Most lists in a list of lists: more than the keys that are read can fill.
const LEAVES_MAX: usize = 4096;
/// Longest stored name: 255 letters of two bytes.
const NAME_MAX: usize = 510;

/// One list, of kind `lf`, `lh` or `li`.
struct Leaf {
    at: u32,
    kind: [u8; 2],
    keys: Vec<u32>,
}

impl Leaf {
    fn read(space: &Space, at: u32) -> Result<Self> {
        let cell = space.cell(at)?;
        let kind = [cell[0], cell[1]];
        let step = match &kind {
            b"lf" | b"lh" => 8,
            b"li" => 4,
            _ => return Err(Error::corrupt(format!("the cell at {at:#x} is no list of keys"))),
        };
        let keys: Vec<u32> = cell[4..].chunks_exact(step).map(|entry| le32(entry, 0)).collect();
        let count = usize::from(le16(cell, 2));
        if count > keys.len() {
            return Err(Error::corrupt(format!("the list at {at:#x} is longer than its cell")));
        }
        Ok(Self { at, kind, keys: keys[..count].to_vec() })
    }

    fn pack(&self, space: &Space) -> Result<Vec<u8>> {
        let mut packed = head(self.kind, self.keys.len());
        for key in &self.keys {
            packed.extend_from_slice(&key.to_le_bytes());
            let name = name_of(space, *key)?;
            match &self.kind {
                b"lf" => packed.extend_from_slice(&names::hint(&name).to_le_bytes()),
                b"lh" => packed.extend_from_slice(&names::hash(&name).to_le_bytes()),
                _ => {}
            }
        }
        Ok(packed)
    }
}

fn head(kind: [u8; 2], count: usize) -> Vec<u8> {
    // No loss: a list is split long before.
    [&kind[..], &(count as u16).to_le_bytes()].concat()
}

fn name_of(space: &Space, key: u32) -> Result<String> {
    let cell = space.cell(key)?;
    let length = usize::from(le16(cell, key_field::NAME_LENGTH));
    let name =
        cell.get(key_field::NAME..key_field::NAME + length).filter(|_| cell.starts_with(b"nk") && length <= NAME_MAX);
    let name = name.ok_or_else(|| Error::corrupt(format!("the cell at {key:#x} is no sound key")))?;
    Ok(names::text(names::units(name, le16(cell, key_field::FLAGS) & key_field::NARROW != 0)))
}

/// Puts `key`, called `name`, into the list of the subkeys of `parent`.
pub(super) fn insert(space: &mut Space, parent: u32, key: u32, name: &str) -> Result<()> {
    let count = space.get32(parent, key_field::SUBKEYS)?;
    let list = space.get32(parent, key_field::SUBKEY_LIST)?;
    let list = if count == 0 || list == NOTHING {
        // The hash came with version 1.5.
        let kind = if Hive::open(space.bytes())?.base().minor >= 5 { *b"lh" } else { *b"lf" };
        let leaf = Leaf { at: NOTHING, kind, keys: vec![key] };
        let packed = leaf.pack(space)?;
        space.allocate(&packed)?
    } else {
        insert_into(space, list, key, name)?
    };
    space.put32(parent, key_field::SUBKEY_LIST, list)?;
    space.put32(parent, key_field::SUBKEYS, count.saturating_add(1))
}

/// Returns the list that takes the place of `list`.
fn insert_into(space: &mut Space, list: u32, key: u32, name: &str) -> Result<u32> {
    let cell = space.cell(list)?;
    let is_index = cell.starts_with(b"ri");
    let mut leaves: Vec<u32> = if is_index {
        cell[4..].chunks_exact(4).take(le16(cell, 2).into()).map(|entry| le32(entry, 0)).collect()
    } else {
        vec![list]
    };
    if leaves.len() > LEAVES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, format!("the list of keys at {list:#x} is too long")));
    }
    // The last leaf that begins before the name; names before all others go into the first.
    let mut place = 0;
    for (at, leaf) in leaves.iter().enumerate().skip(1) {
        let first = name_of(space, space.get32(*leaf, 4)?)?;
        if names::compare(first.encode_utf16(), name.encode_utf16()).is_lt() {
            place = at;
        }
    }
    let at = *leaves.get(place).ok_or_else(|| Error::corrupt("a list of keys is empty"))?;
    let mut leaf = Leaf::read(space, at)?;
    let mut index = leaf.keys.len();
    for (at, other) in leaf.keys.iter().enumerate() {
        if names::compare(name_of(space, *other)?.encode_utf16(), name.encode_utf16()).is_gt() {
            index = at;
            break;
        }
    }
    leaf.keys.insert(index, key);
    let second = (leaf.keys.len() > LEAF_MAX).then(|| leaf.keys.split_off(leaf.keys.len() / 2));
    leaves[place] = rewrite(space, leaf.at, &leaf.pack(space)?)?;
    if let Some(keys) = second {
        let packed = Leaf { at: NOTHING, kind: leaf.kind, keys }.pack(space)?;
        leaves.insert(place + 1, space.allocate(&packed)?);
    }
    let packed = || {
        let entries = leaves.iter().flat_map(|leaf| leaf.to_le_bytes());
        head(*b"ri", leaves.len()).into_iter().chain(entries).collect::<Vec<u8>>()
    };
    match (is_index, leaves.len()) {
        (false, 1) => Ok(leaves[0]),
        (false, _) => space.allocate(&packed()),
        (true, _) => rewrite(space, list, &packed()),
    }
}

/// Puts `content` in the cell `at` if it fits, or else in a new one.
pub(super) fn rewrite(space: &mut Space, at: u32, content: &[u8]) -> Result<u32> {
    if space.cell(at)?.len() >= content.len() {
        space.fill(at, content)?;
        return Ok(at);
    }
    let new = space.allocate(content)?;
    space.release(at)?;
    Ok(new)
}
