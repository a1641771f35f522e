//! What files of btrfs hold.

use std::cell::RefCell;
use std::rc::Rc;

use disk::error::{Error, Result};

use super::node::{Item, Key, Root};
use super::trees::Trees;
use super::unpack::{Packing, unpack};
use crate::fields::{le16, le64};

const EXTENT: u8 = 108;
/// Where the content of an extent begins that lies in its item.
const INLINE_AT: usize = 21;
const LENGTH: usize = 53;
/// Largest extent that is compressed, packed or not: the kernel makes none of more than 128 KiB.
const PACKED_MAX: u64 = 1 << 20;

/// The extent that was unpacked last, by its address: files are read in order.
#[derive(Default)]
pub(super) struct LastUnpacked(RefCell<Option<(u64, Rc<Vec<u8>>)>>);

/// A stretch of a file.
struct Extent {
    item: Item,
    packing: Packing,
    /// In bytes of the file.
    length: u64,
    /// Bytes of it all when unpacked.
    unpacked: u64,
    place: Place,
}

enum Place {
    /// In the item.
    Inline,
    /// Nowhere: zeros.
    Hole,
    /// `length` bytes at address `at`, from which the stretch takes what begins at `skip` when unpacked.
    At { at: u64, length: u64, skip: u64 },
}

impl Extent {
    fn parse(item: Item) -> Result<Self> {
        let broken = || Error::corrupt("an extent of the file is broken");
        let bytes = item.bytes();
        let [packing, encryption, .., kind] = bytes.get(16..INLINE_AT).ok_or_else(broken)? else {
            return Err(broken());
        };
        if *encryption != 0 || le16(bytes, 18) != 0 {
            return Err(Error::corrupt("the file is encrypted"));
        }
        let packing =
            Packing::of(*packing).ok_or_else(|| Error::corrupt("the file is compressed in an unknown way"))?;
        let unpacked = le64(bytes, 8);
        let (length, place) = match kind {
            0 if packing == Packing::None => ((bytes.len() - INLINE_AT) as u64, Place::Inline),
            0 => (unpacked, Place::Inline),
            1 | 2 if bytes.len() >= LENGTH => {
                let (at, length, skip) = (le64(bytes, 21), le64(bytes, 29), le64(bytes, 37));
                // What is only reserved is zero.
                let place = if *kind == 2 || at == 0 { Place::Hole } else { Place::At { at, length, skip } };
                (le64(bytes, 45), place)
            }
            _ => return Err(broken()),
        };
        if packing != Packing::None && unpacked > PACKED_MAX {
            return Err(Error::corrupt(format!("an extent of the file unpacks to {unpacked} bytes")));
        }
        Ok(Self { item, packing, length, unpacked, place })
    }

    /// Fills the head of `buf`, which is zero, with what begins `at` bytes into the stretch; returns how many bytes that are.
    fn read(&self, trees: &Trees, last: &LastUnpacked, at: u64, buf: &mut [u8]) -> Result<usize> {
        let count = usize::try_from(self.length - at).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..count];
        let copy = |content: &[u8], from: u64, buf: &mut [u8]| {
            // What it lacks is zero.
            let content = usize::try_from(from).ok().and_then(|from| content.get(from..)).unwrap_or_default();
            let count = content.len().min(buf.len());
            buf[..count].copy_from_slice(&content[..count]);
        };
        match self.place {
            Place::Hole => {}
            Place::Inline => {
                let content = &self.item.bytes()[INLINE_AT..];
                if self.packing == Packing::None {
                    copy(content, at, buf);
                } else {
                    copy(&self.unpack(trees, content)?, at, buf);
                }
            }
            Place::At { at: place, skip, .. } if self.packing == Packing::None => {
                let from = place.checked_add(skip).and_then(|from| from.checked_add(at));
                trees.read_at(buf, from.ok_or_else(|| Error::corrupt("an extent of the file is broken"))?)?;
            }
            Place::At { at: place, length, skip } => {
                if length > PACKED_MAX {
                    return Err(Error::corrupt(format!("an extent of the file is packed into {length} bytes")));
                }
                let known =
                    last.0.borrow().as_ref().filter(|(of, _)| *of == place).map(|(_, content)| Rc::clone(content));
                let content = match known {
                    Some(content) => content,
                    None => {
                        let mut packed = vec![0; length as usize];
                        trees.read_at(&mut packed, place)?;
                        let content = Rc::new(self.unpack(trees, &packed)?);
                        *last.0.borrow_mut() = Some((place, Rc::clone(&content)));
                        content
                    }
                };
                copy(&content, skip.saturating_add(at), buf);
            }
        }
        Ok(count)
    }

    fn unpack(&self, trees: &Trees, packed: &[u8]) -> Result<Vec<u8>> {
        // It takes time without a read.
        trees.window().budget().check_time()?;
        unpack(self.packing, packed, self.unpacked as usize, trees.superblock.sector_size)
    }
}

/// Fills `buf`, which is zero, with what the file `inode` of the subvolume at `root` holds from `offset` on.
///
/// The sums of contents are not compared: a disk tells of its own damage when it is read.
pub(super) fn read(
    trees: &Trees,
    last: &LastUnpacked,
    root: Root,
    inode: u64,
    offset: u64,
    buf: &mut [u8],
) -> Result<()> {
    let mut filled = 0;
    while filled < buf.len() {
        let at = Key::new(inode, EXTENT, offset.saturating_add(filled as u64));
        let found = trees.last(root, at)?.filter(|item| item.key.is_like(&at));
        let extent = found.map(Extent::parse).transpose()?;
        let left = &mut buf[filled..];
        filled += match extent {
            Some(extent) if at.offset - extent.item.key.offset < extent.length => {
                extent.read(trees, last, at.offset - extent.item.key.offset, left)?
            }
            _ => {
                let next = Key { offset: at.offset.saturating_add(1), ..at };
                let next = trees.first(root, next)?.filter(|item| item.key.is_like(&at));
                let hole = next.map_or(u64::MAX, |item| (item.key.offset - at.offset).max(1));
                usize::try_from(hole).unwrap_or(usize::MAX).min(left.len())
            }
        };
    }
    Ok(())
}
