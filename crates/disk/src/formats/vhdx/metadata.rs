//! The metadata of a VHDX file: a table of items, of which five say what disk it is and one names the parent.

use uuid::Uuid;

use super::header::Region;
use super::structures::{
    BLOCK_SIZES, DISK_ID, DISK_SIZE, FILE_PARAMETERS, HAS_PARENT, LEAVE_BLOCKS_ALLOCATED, LOGICAL_SECTOR, MAX_ENTRIES,
    MAX_SIZE, MIB, PARENT_LOCATOR, PHYSICAL_SECTOR, TABLE_LENGTH, guid,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{le16, le32, le64, past_end, read_bytes};
use crate::gate::{Gate, ask};
use crate::source::Source;

/// Items of users at most.
const MAX_USER_ITEMS: usize = 1024;
/// What names the parent, in the order in which readers shall try it.
const PARENT_KEYS: [&str; 4] = ["relative_path", "volume_path", "absolute_win32_path", "parent_linkage"];
const IS_USER: u32 = 1;
const IS_REQUIRED: u32 = 4;

/// What the metadata say about the disk.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) block_size: u64,
    /// Bytes of a logical sector.
    pub(super) sector: u64,
    pub(super) is_fixed: bool,
}

impl Metadata {
    /// Reads and checks the items (MS-VHDX 2.6). The parent of a differencing disk is asked of `gate`.
    pub(super) fn read(file: &dyn Source, region: Region, gate: &dyn Gate) -> Result<Self> {
        let items = Items::read(file, region)?;
        let parameters = items.required(FILE_PARAMETERS, 8, "the file parameters")?;
        let flags = le32(&parameters, 4);
        items.refuse_parent(flags & HAS_PARENT != 0, gate)?;
        items.required(DISK_ID, 16, "the disk identifier")?;
        let metadata = Self {
            size: le64(&items.required(DISK_SIZE, 8, "the size of the disk")?, 0),
            block_size: u64::from(le32(&parameters, 0)),
            sector: u64::from(le32(&items.required(LOGICAL_SECTOR, 4, "the logical sector size")?, 0)),
            is_fixed: flags & LEAVE_BLOCKS_ALLOCATED != 0,
        };
        let physical = le32(&items.required(PHYSICAL_SECTOR, 4, "the physical sector size")?, 0);
        metadata.check(physical)?;
        Ok(metadata)
    }

    fn check(&self, physical: u32) -> Result<()> {
        let Self { size, block_size, sector, .. } = *self;
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(Error::corrupt(format!(
                "VHDX blocks of {block_size} bytes; a power of two from 1 MiB to 256 MiB is allowed"
            )));
        }
        if !matches!(sector, 512 | 4096) || !matches!(physical, 512 | 4096) {
            return Err(Error::corrupt(format!(
                "logical sectors of {sector} and physical ones of {physical} bytes; 512 and 4096 are allowed"
            )));
        }
        if size > MAX_SIZE {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a VHDX of {size} bytes, at most {MAX_SIZE} are allowed"),
            ));
        }
        if !size.is_multiple_of(sector) {
            return Err(Error::corrupt(format!(
                "the size of the VHDX, {size} bytes, is not whole sectors of {sector}"
            )));
        }
        Ok(())
    }
}

/// An entry of the metadata table: an item, counted from the beginning of the region.
struct Item {
    id: Uuid,
    is_user: bool,
    offset: u64,
    length: u64,
}

struct Items<'a> {
    file: &'a dyn Source,
    region: Region,
    items: Vec<Item>,
}

impl<'a> Items<'a> {
    fn read(file: &'a dyn Source, region: Region) -> Result<Self> {
        let bytes = read_bytes(file, region.offset, TABLE_LENGTH, "the metadata table")?;
        let count = usize::from(le16(&bytes, 10));
        if !bytes.starts_with(b"metadata") {
            return Err(Error::corrupt(format!("no metadata table at byte {}", region.offset)));
        }
        if count > MAX_ENTRIES {
            return Err(Error::corrupt(format!("the metadata table has {count} entries, at most {MAX_ENTRIES} fit")));
        }
        let entries = bytes[32..].chunks_exact(32).take(count);
        let items = entries.map(|entry| Item::read(entry, &region)).collect::<Result<Vec<_>>>()?;
        let items = Self { file, region, items };
        items.check()?;
        Ok(items)
    }

    /// Checks that no two items are the same or overlap.
    fn check(&self) -> Result<()> {
        let mut ids: Vec<_> = self.items.iter().map(|item| (item.id, item.is_user)).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::corrupt(format!("the metadata table names the item {} twice", pair[0].0)));
        }
        if ids.iter().filter(|(_, is_user)| *is_user).count() > MAX_USER_ITEMS {
            return Err(Error::corrupt(format!("the metadata table has more than {MAX_USER_ITEMS} items of users")));
        }
        let mut ranges: Vec<_> = self.items.iter().map(|item| (item.offset, item.offset + item.length)).collect();
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            let offset = self.region.offset + pair[1].0;
            return Err(Error::corrupt(format!("two items of the metadata overlap at byte {offset} of the file")));
        }
        Ok(())
    }

    fn get(&self, id: Uuid) -> Option<&Item> {
        self.items.iter().find(|item| item.id == id && !item.is_user)
    }

    fn bytes(&self, item: &Item, what: &str) -> Result<Vec<u8>> {
        // An item is inside its region and at most 1 MiB long.
        read_bytes(self.file, self.region.offset + item.offset, item.length as usize, what)
    }

    /// Returns an item that every file has, at least `length` bytes long.
    fn required(&self, id: Uuid, length: u64, what: &str) -> Result<Vec<u8>> {
        match self.get(id) {
            Some(item) if item.length >= length => self.bytes(item, what),
            Some(item) => Err(Error::corrupt(format!("{what} in the metadata has {} of {length} bytes", item.length))),
            None => Err(Error::corrupt(format!("{what} is missing in the metadata"))),
        }
    }

    /// Refuses a differencing disk, by the name of its parent.
    fn refuse_parent(&self, has_parent: bool, gate: &dyn Gate) -> Result<()> {
        let locator = self.get(PARENT_LOCATOR);
        match (has_parent, locator) {
            (false, None) => Ok(()),
            (false, Some(_)) => Err(Error::corrupt("the metadata name a parent for a disk that says it has none")),
            (true, None) => Err(Error::corrupt("the disk says that it has a parent, and the metadata name none")),
            (true, Some(item)) => {
                let name = parent_name(&self.bytes(item, "the parent locator")?)?;
                ask(gate, "its parent", &name)?;
                Err(Error::unsupported(format!("reading through the parent {name:?} is not supported"))
                    .with_hint("merge the disk with its parent where both are"))
            }
        }
    }
}

impl Item {
    fn read(entry: &[u8], region: &Region) -> Result<Self> {
        let (id, flags) = (guid(entry, 0), le32(entry, 24));
        let is_user = flags & IS_USER != 0;
        let known = [FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR];
        if flags & IS_REQUIRED != 0 && (is_user || !known.contains(&id)) {
            return Err(Error::unsupported(format!("the VHDX requires the metadata item {id}, which is not known")));
        }
        let item = Self { id, is_user, offset: u64::from(le32(entry, 16)), length: u64::from(le32(entry, 20)) };
        let Self { offset, length, .. } = item;
        if length > MIB || (length == 0 && offset != 0) || (length > 0 && offset < TABLE_LENGTH as u64) {
            return Err(Error::corrupt(format!(
                "the metadata item {id} has {length} bytes at byte {offset} of its region; up to 1 MiB behind the table \
                 is allowed"
            )));
        }
        if offset + length > region.length {
            return Err(past_end(format_args!("the metadata item {id}"), offset, length, region.length));
        }
        Ok(item)
    }
}

/// Returns the name of the parent: a path if there is one, or else its identity.
fn parent_name(locator: &[u8]) -> Result<String> {
    let corrupt = || Error::corrupt("the parent locator of the VHDX is cut");
    let count = usize::from(le16(locator.get(..20).ok_or_else(corrupt)?, 18));
    let table = locator.get(20..20 + count * 12).ok_or_else(corrupt)?;
    let mut best: Option<(usize, &[u8])> = None;
    for entry in table.chunks_exact(12) {
        let part = |at: usize, length: u16| {
            let start = le32(entry, at) as usize;
            locator.get(start..start + usize::from(length)).ok_or_else(corrupt)
        };
        let (key, value) = (part(0, le16(entry, 8))?, part(4, le16(entry, 10))?);
        // Thousands of long keys that lie over one another are not decoded.
        let order = PARENT_KEYS.iter().position(|known| known.len() * 2 == key.len() && *known == utf16(key));
        if let Some(order) = order
            && best.is_none_or(|(least, _)| order < least)
        {
            best = Some((order, value));
        }
    }
    let (_, name) = best.ok_or_else(|| Error::corrupt("the parent locator of the VHDX names no parent"))?;
    Ok(utf16(name))
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
