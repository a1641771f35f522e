//! Where the blocks of a file lie: read as runs, and written anew as a tree of extents or as block maps.
//!
//! A change reads all runs, adds or drops some, and writes the whole map again: maps are small, and there is one way
//! to write each kind instead of one for each case.

use std::ops::Range;

use disk::error::{Error, ErrorKind, Result};

use super::change::{Change, damaged};
use super::inode::{FLAG_EXTENTS, Inode};

/// Most runs of one file: more has only a file that is large and scattered at once.
pub(super) const RUNS_MAX: usize = 16 << 10;
/// Most blocks that the map of one file takes.
pub(super) const NODES_MAX: usize = 8 << 10;

/// Neighbouring blocks of a file that are neighbours on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first block, counted in the file.
    pub(super) logical: u32,
    /// The first block, counted in the file system.
    pub(super) start: u64,
    pub(super) length: u32,
    /// Whether it was set aside and reads as zeros.
    pub(super) is_unwritten: bool,
}

impl Run {
    pub(super) fn blocks(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.length)
    }

    pub(super) fn end(&self) -> u64 {
        u64::from(self.logical) + u64::from(self.length)
    }
}

/// The runs of a file in order, and the blocks that its map takes.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) runs: Vec<Run>,
    pub(super) nodes: Vec<u64>,
}

impl Map {
    /// Adds a run behind the others; it is joined with the last one where it goes on from there.
    pub(super) fn push(&mut self, run: Run) -> Result<()> {
        if let Some(last) = self.runs.last_mut() {
            if u64::from(run.logical) < last.end() {
                return Err(damaged("the map of a file is out of order"));
            }
            let is_next = last.end() == u64::from(run.logical) && last.blocks().end == run.start;
            if is_next && last.is_unwritten == run.is_unwritten {
                let length = last.length.checked_add(run.length);
                last.length = length.ok_or_else(|| damaged("the map of a file is too long"))?;
                return Ok(());
            }
        }
        if self.runs.len() == RUNS_MAX {
            let told = format!("the file lies in more than {RUNS_MAX} pieces");
            return Err(Error::new(ErrorKind::TooLarge, told));
        }
        self.runs.push(run);
        Ok(())
    }

    pub(super) fn add_node(&mut self, block: u64) -> Result<()> {
        if self.nodes.len() == NODES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the map of the file takes more than {NODES_MAX} blocks"),
            ));
        }
        self.nodes.push(block);
        Ok(())
    }

    /// Returns the block of the file system that holds block `logical` of the file; none in a hole.
    pub(super) fn find(&self, logical: u32) -> Option<u64> {
        let next = self.runs.partition_point(|run| run.end() <= u64::from(logical));
        let run = self.runs.get(next).filter(|run| run.logical <= logical && !run.is_unwritten)?;
        Some(run.start + u64::from(logical - run.logical))
    }

    /// Takes the last block away.
    pub(super) fn drop_last(&mut self) {
        match self.runs.last_mut() {
            Some(run) if run.length > 1 => run.length -= 1,
            _ => drop(self.runs.pop()),
        }
    }

    /// Returns the block after the last one.
    pub(super) fn end(&self) -> u64 {
        self.runs.last().map_or(0, Run::end)
    }

    /// Returns the block of the file system that a longer file would like to go on with.
    pub(super) fn next_block(&self) -> Option<u64> {
        self.runs.last().map(|run| run.blocks().end)
    }

    /// Returns how many blocks the file takes, with those of its map.
    pub(super) fn count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.length)).sum::<u64>() + self.nodes.len() as u64
    }
}

impl Change<'_> {
    /// Reads the map of a file or folder.
    pub(super) fn map(&mut self, inode: &Inode) -> Result<Map> {
        let map = if inode.has(FLAG_EXTENTS) { self.extents(inode)? } else { self.block_map(inode)? };
        for run in &map.runs {
            self.check_data(run.start, run.length.into())?;
        }
        Ok(map)
    }

    /// Takes `count` blocks for the end of a file, at `goal` if possible, and adds them to its map.
    pub(super) fn extend(&mut self, map: &mut Map, goal: u64, first: u32, count: u64) -> Result<()> {
        let mut logical = first;
        for run in self.take_blocks(goal, count)? {
            let length = (run.end - run.start) as u32;
            map.push(Run { logical, start: run.start, length, is_unwritten: false })?;
            logical = logical.checked_add(length).ok_or_else(|| damaged("the file is too long"))?;
        }
        Ok(())
    }

    /// Returns whether the block behind the last one of a file is free.
    pub(super) fn can_go_on(&mut self, map: &Map) -> Result<bool> {
        let next = map.next_block().filter(|next| self.layout.holds(*next, 1));
        next.map_or(Ok(false), |next| self.run_at(next, 1).map(|run| run.is_some()))
    }

    /// Writes the map of a file anew: the blocks of the old one are freed, and as many taken as the new one needs.
    ///
    /// `old` is how many blocks the file had before, with those of its map.
    pub(super) fn write_map(&mut self, inode: &mut Inode, map: &mut Map, old: u64) -> Result<()> {
        for node in std::mem::take(&mut map.nodes) {
            self.free_blocks(node..node + 1)?;
        }
        if inode.has(FLAG_EXTENTS) {
            self.write_extents(inode, map)?;
        } else {
            self.write_block_map(inode, map)?;
        }
        inode.add_blocks(self.layout.block_size, map.count() as i64 - old as i64)
    }

    /// Frees all blocks of a file; returns how many there were.
    pub(super) fn free_map(&mut self, map: &Map) -> Result<u64> {
        for run in &map.runs {
            self.free_blocks(run.blocks())?;
        }
        for node in &map.nodes {
            self.free_blocks(*node..node + 1)?;
        }
        Ok(map.count())
    }

    /// Takes blocks for the nodes of a map, behind what the file has.
    pub(super) fn take_nodes(&mut self, map: &mut Map, count: usize) -> Result<Vec<u64>> {
        let goal = map.next_block().unwrap_or(0);
        let nodes: Vec<u64> = self.take_blocks(goal, count as u64)?.into_iter().flatten().collect();
        for node in &nodes {
            map.add_node(*node)?;
        }
        Ok(nodes)
    }
}
