//! A disk that is kept in blocks of one size which a map finds in the file: all of qcow2, VHD, VDI and VMDK.
//!
//! A format brings the [`BlockMap`]; reading, extents, unpacking of parts and the memory of unpacked blocks are here, once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// Unpacked blocks stay in memory up to this many bytes for each open file.
const CACHE_BYTES: u64 = 8 << 20;

/// Compressed blocks that follow one another are unpacked together up to this many bytes of the disk.
const MAX_TOGETHER: u64 = 2 << 20;

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

    /// Returns how many blocks a compressed one unpacks to; it begins at a multiple of that. Most formats have one.
    fn packed_blocks(&self) -> u64 {
        1
    }

    /// Unpacks block `index` into `out`, which is as long as [`BlockMap::packed_blocks`]; at least `needed` bytes must
    /// come out.
    fn unpack(&self, packed: Packed, index: u64, needed: usize, out: &mut [u8]) -> Result<()> {
        let (_, _) = (needed, out);
        Err(Error::unsupported(format!(
            "block {index} at byte {} is compressed in a format that has none",
            packed.offset
        )))
    }

    /// Unpacks compressed blocks that follow one another in the disk from block `index` on, all of them whole, into `out`.
    fn unpack_run(&self, run: &[Packed], index: u64, out: &mut [u8]) -> Result<()> {
        let size = (self.packed_blocks() * self.block_size()) as usize;
        for ((packed, index), out) in
            run.iter().zip((index..).step_by(self.packed_blocks() as usize)).zip(out.chunks_exact_mut(size))
        {
            self.unpack(*packed, index, size, out)?;
        }
        Ok(())
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
        let unpacked = Unpacked::new(map.packed_blocks() * map.block_size());
        Self { file, size, map, unpacked }
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(self.map.block_size())
    }

    /// Fills the beginning of `buf` from `within` bytes after the beginning of block `index`, which is compressed; returns
    /// how many bytes were filled. Blocks that are wanted as a whole are unpacked straight into `buf`, a part of one goes
    /// by way of the memory.
    fn read_packed(&self, packed: Packed, index: u64, within: u64, buf: &mut [u8]) -> Result<usize> {
        let (block_size, parts) = (self.map.block_size(), self.map.packed_blocks());
        let (first, size) = (index - index % parts, parts * block_size);
        let within = within + index % parts * block_size;
        if within == 0 && buf.len() as u64 >= size {
            let run = self.packed_run(packed, first, buf.len() as u64 / size)?;
            let length = run.len() * size as usize;
            self.map.unpack_run(&run, first, &mut buf[..length])?;
            return Ok(length);
        }
        let needed = (self.size - first * block_size).min(size) as usize;
        let unpacked = self.unpacked.get(first, || {
            let mut block = vec![0; size as usize];
            self.map.unpack(packed, first, needed, &mut block)?;
            Ok(block)
        })?;
        let length = (needed - within as usize).min(buf.len());
        buf[..length].copy_from_slice(&unpacked[within as usize..][..length]);
        Ok(length)
    }

    /// Returns the compressed blocks that follow one another in the disk from block `index` on, at most `at_most`.
    fn packed_run(&self, packed: Packed, index: u64, at_most: u64) -> Result<Vec<Packed>> {
        let parts = self.map.packed_blocks();
        let at_most = at_most.min((MAX_TOGETHER / (parts * self.map.block_size())).max(1));
        let mut run = vec![packed];
        while (run.len() as u64) < at_most {
            let Place::Packed(next) = self.map.run_at(index + run.len() as u64 * parts, parts)?.place else { break };
            run.push(next);
        }
        Ok(run)
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
            let mut length = (run.blocks.saturating_mul(block_size) - within).min(buf.len() as u64) as usize;
            match run.place {
                Place::Zero => buf[..length].fill(0),
                Place::Plain(start) => self.file.read_at(&mut buf[..length], start + within)?,
                Place::Packed(packed) => length = self.read_packed(packed, index, within, buf)?,
            }
            offset += length as u64;
            buf = &mut buf[length..];
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
