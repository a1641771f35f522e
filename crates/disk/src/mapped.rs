//! A disk that is kept in blocks of one size which a map finds in the file: all of qcow2, VHD, VDI and VMDK.
//!
//! A format brings the [`BlockMap`]; reading, extents, unpacking of parts and the memory of unpacked blocks are here, once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// Unpacked blocks stay in memory up to this many bytes for each open file.
const CACHE_BYTES: u64 = 8 << 20;

/// One extent is put together from at most this many runs, so that asking for one stays cheap.
const MAX_RUNS: usize = 256;

/// A compressed block in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) offset: u64,
    pub(crate) length: usize,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it reads as zeros.
    Zero,
    /// At this byte of the file.
    Plain(u64),
    /// Compressed.
    Packed(Packed),
}

/// Neighbouring blocks of one kind; plain ones lie one after the other in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) blocks: u64,
}

/// Finds the blocks of a disk in its file.
pub(crate) trait BlockMap: Send + Sync {
    /// Returns the bytes of a block.
    fn block_size(&self) -> u64;

    /// Returns the run that begins at block `index` and has 1 to `at_most` blocks. Every byte that it names and that lies
    /// inside the disk is inside the file.
    fn run_at(&self, index: u64, at_most: u64) -> Result<Run>;

    /// Unpacks block `index` into `out`, which is one block long; at least `needed` bytes must come out.
    fn unpack(&self, packed: Packed, index: u64, needed: usize, out: &mut [u8]) -> Result<()> {
        let (_, _) = (needed, out);
        Err(Error::unsupported(format!(
            "block {index} at byte {} is compressed in a format that has none",
            packed.offset
        )))
    }
}

/// The disk that a map describes.
pub(crate) struct MappedDisk<M> {
    file: Arc<dyn Source>,
    size: u64,
    map: M,
    unpacked: Unpacked,
}

impl<M: BlockMap> MappedDisk<M> {
    /// Makes the disk of `size` bytes whose blocks `map` finds in `file`.
    pub(crate) fn new(file: Arc<dyn Source>, size: u64, map: M) -> Self {
        let unpacked = Unpacked::new(map.block_size());
        Self { file, size, map, unpacked }
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(self.map.block_size())
    }

    /// Reads from one compressed block: straight into `buf` if all of the block is wanted, else by way of the memory.
    fn read_packed(&self, packed: Packed, index: u64, within: u64, buf: &mut [u8]) -> Result<()> {
        let block_size = self.map.block_size();
        if buf.len() as u64 == block_size {
            return self.map.unpack(packed, index, buf.len(), buf);
        }
        let needed = (self.size - index * block_size).min(block_size) as usize;
        let block = self.unpacked.get(index, || {
            let mut block = vec![0; block_size as usize];
            self.map.unpack(packed, index, needed, &mut block)?;
            Ok(block)
        })?;
        let within = within as usize;
        buf.copy_from_slice(&block[within..within + buf.len()]);
        Ok(())
    }
}

impl<M: BlockMap> Source for MappedDisk<M> {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(self.size, offset, buf.len())?;
        let block_size = self.map.block_size();
        while !buf.is_empty() {
            let (index, within) = (offset / block_size, offset % block_size);
            let run = self.map.run_at(index, (within + buf.len() as u64).div_ceil(block_size))?;
            let length = (run.blocks.saturating_mul(block_size) - within).min(buf.len() as u64) as usize;
            let (part, rest) = buf.split_at_mut(length);
            match run.place {
                Place::Zero => part.fill(0),
                Place::Plain(start) => self.file.read_at(part, start + within)?,
                Place::Packed(packed) => self.read_packed(packed, index, within, part)?,
            }
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size, offset)?;
        let block_size = self.map.block_size();
        let kind = |run: &Run| if run.place == Place::Zero { ExtentKind::Zero } else { ExtentKind::Data };
        let blocks = self.blocks();
        let mut index = offset / block_size;
        let first = self.map.run_at(index, blocks - index)?;
        index += first.blocks;
        for _ in 1..MAX_RUNS {
            if index >= blocks {
                break;
            }
            let run = self.map.run_at(index, blocks - index)?;
            if kind(&run) != kind(&first) {
                break;
            }
            index += run.blocks;
        }
        let end = index.saturating_mul(block_size).min(self.size);
        Ok(Extent { offset, length: end - offset, kind: kind(&first) })
    }
}

/// The blocks that were unpacked last, so that small reads in order unpack each block once.
///
/// The lock of the list is held for the look-up only. A slot is locked while its block is unpacked, which stops only
/// those who want the same block and would otherwise unpack it a second time.
struct Unpacked {
    capacity: usize,
    slots: Mutex<VecDeque<(u64, Arc<Slot>)>>,
}

type Slot = Mutex<Option<Arc<[u8]>>>;

impl Unpacked {
    fn new(block_size: u64) -> Self {
        let capacity = (CACHE_BYTES / block_size).clamp(2, 64) as usize;
        Self { capacity, slots: Mutex::new(VecDeque::new()) }
    }

    fn get(&self, index: u64, unpack: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<[u8]>> {
        let slot = self.slot(index);
        let mut block = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = &*block {
            return Ok(Arc::clone(block));
        }
        Ok(Arc::clone(block.insert(unpack()?.into())))
    }

    fn slot(&self, index: u64) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().position(|(number, _)| *number == index);
        let entry = known.and_then(|at| slots.remove(at)).unwrap_or_else(|| (index, Arc::default()));
        let slot = Arc::clone(&entry.1);
        slots.push_back(entry);
        if slots.len() > self.capacity {
            slots.pop_front();
        }
        slot
    }
}
