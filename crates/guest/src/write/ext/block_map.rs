//! Maps of files as ext2 and ext3 have them: twelve blocks in the inode, then blocks of numbers of blocks.
//!
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Direct/Indirect Block Addressing.

use disk::error::{Error, ErrorKind, Result};

use super::change::{Change, damaged};
use super::inode::Inode;
use super::map::{Map, Run};
use crate::fields::{le32, put_le32};

/// Blocks that the inode names itself.
const DIRECT: usize = 12;
/// Levels of blocks of numbers below the three numbers after those.
const LEVELS: usize = 3;

impl Change<'_> {
    fn numbers_per_block(&self) -> u64 {
        self.layout.block_size as u64 / 4
    }

    pub(super) fn block_map(&mut self, inode: &Inode) -> Result<Map> {
        let mut map = Map::default();
        let numbers = inode.map().to_vec();
        for (logical, number) in numbers.chunks_exact(4).take(DIRECT).enumerate() {
            push(&mut map, logical as u64, le32(number, 0))?;
        }
        let mut logical = DIRECT as u64;
        for level in 1..=LEVELS {
            let number = le32(&numbers, (DIRECT + level - 1) * 4);
            self.walk_numbers(number, level, logical, &mut map)?;
            logical += self.numbers_per_block().pow(level as u32);
        }
        Ok(map)
    }

    fn walk_numbers(&mut self, node: u32, level: usize, logical: u64, map: &mut Map) -> Result<()> {
        if level == 0 || node == 0 {
            return push(map, logical, node);
        }
        self.check_data(node.into(), 1)?;
        map.add_node(node.into())?;
        let block = self.read(node.into())?;
        let step = self.numbers_per_block().pow(level as u32 - 1);
        for (index, number) in block.chunks_exact(4).enumerate() {
            let number = le32(number, 0);
            if number != 0 {
                self.walk_numbers(number, level - 1, logical + index as u64 * step, map)?;
            }
        }
        Ok(())
    }

    /// Writes the runs of `map` into the inode and as many blocks of numbers as they need.
    pub(super) fn write_block_map(&mut self, inode: &mut Inode, map: &mut Map) -> Result<()> {
        let blocks = map.runs.iter().flat_map(|run| (u64::from(run.logical)..run.end()).zip(run.blocks()));
        let mut entries: Vec<(u64, u32)> = Vec::new();
        for (logical, block) in blocks {
            // A file system with block maps alone cannot use blocks past these 32 bits.
            let block = u32::try_from(block).map_err(|_| damaged("a block of a map is too far away"))?;
            entries.push((logical, block));
        }
        let mut numbers = [0; 60];
        let direct = entries.partition_point(|(logical, _)| *logical < DIRECT as u64);
        for (logical, block) in &entries[..direct] {
            put_le32(&mut numbers, *logical as usize * 4, *block);
        }
        let mut rest = &entries[direct..];
        let mut first = DIRECT as u64;
        for level in 1..=LEVELS {
            let end = first + self.numbers_per_block().pow(level as u32);
            let count = rest.partition_point(|(logical, _)| *logical < end);
            if count > 0 {
                let number = self.write_numbers(&rest[..count], level, first, map)?;
                put_le32(&mut numbers, (DIRECT + level - 1) * 4, number);
            }
            rest = &rest[count..];
            first = end;
        }
        if !rest.is_empty() {
            return Err(Error::new(ErrorKind::TooLarge, "the file is longer than its map can tell"));
        }
        inode.set_map(&numbers);
        Ok(())
    }

    /// Writes one block of numbers and those below it; returns where it lies.
    fn write_numbers(&mut self, entries: &[(u64, u32)], level: usize, first: u64, map: &mut Map) -> Result<u32> {
        let place = self.take_nodes(map, 1)?.first().copied().ok_or_else(|| damaged("no block was taken"))?;
        let number = u32::try_from(place).map_err(|_| damaged("a block of a map is too far away"))?;
        let step = self.numbers_per_block().pow(level as u32 - 1);
        let mut block = vec![0; self.layout.block_size];
        let mut rest = entries;
        while let Some((logical, target)) = rest.first() {
            let index = (logical - first) / step;
            let count = rest.partition_point(|(logical, _)| (logical - first) / step == index);
            let below = match level {
                1 => *target,
                _ => self.write_numbers(&rest[..count], level - 1, first + index * step, map)?,
            };
            put_le32(&mut block, index as usize * 4, below);
            rest = &rest[count..];
        }
        self.write(place, block)?;
        Ok(number)
    }
}

fn push(map: &mut Map, logical: u64, block: u32) -> Result<()> {
    if block == 0 {
        return Ok(());
    }
    let logical = u32::try_from(logical).map_err(|_| damaged("the map of a file is too long"))?;
    map.push(Run { logical, start: block.into(), length: 1, is_unwritten: false })
}
