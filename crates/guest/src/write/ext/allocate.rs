//! Taking and freeing blocks and inodes.

use std::ops::Range;

use disk::error::{Error, ErrorKind, Result};

use super::change::{Change, damaged};
use super::groups::{Count, Which};

/// Blocks that always stay free, so that the guest can start.
const BLOCKS_KEPT: u64 = 16;
/// Groups that are searched for one run before scattered blocks are taken.
const GROUPS_FOR_ONE_RUN: u32 = 64;

impl Change<'_> {
    /// Takes `count` blocks, the first of them at `goal` or after it if they can be had there.
    pub(super) fn take_blocks(&mut self, goal: u64, count: u64) -> Result<Vec<Range<u64>>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let free = self.count_free_blocks()?;
        if free < count.saturating_add(BLOCKS_KEPT) {
            return Err(full(format!(
                "the file system is full: {count} blocks are needed, {free} are free, and {BLOCKS_KEPT} of them are kept"
            )));
        }
        let goal = if self.layout.holds(goal, 1) { goal } else { self.layout.first_block + 1 };
        let mut taken = Vec::new();
        let mut left = count;
        if let Some(run) = self.run_at(goal, left)? {
            left -= self.take(run, &mut taken)?;
        }
        if left > 0
            && let Some(run) = self.one_run(goal, left)?
        {
            left -= self.take(run, &mut taken)?;
        }
        let first = self.layout.group_of(goal);
        for group in (first..self.layout.groups).chain(0..first) {
            while left > 0
                && let Some(run) = self.run_in(group, 0, left)?
            {
                left -= self.take(run, &mut taken)?;
            }
            if left == 0 {
                return Ok(taken);
            }
        }
        Err(damaged("fewer blocks are free than the superblock counts"))
    }

    /// Returns the free run that begins at `goal` itself.
    pub(super) fn run_at(&mut self, goal: u64, most: u64) -> Result<Option<Range<u64>>> {
        let group = self.layout.group_of(goal);
        let from = (goal - self.layout.group_start(group)) as u32;
        Ok(self.run_in(group, from, most)?.filter(|run| run.start == goal))
    }

    /// Returns a run of `count` free blocks in the groups from that of `goal` on.
    fn one_run(&mut self, goal: u64, count: u64) -> Result<Option<Range<u64>>> {
        let groups = self.layout.groups;
        let first = self.layout.group_of(goal);
        for step in 0..groups.min(GROUPS_FOR_ONE_RUN) {
            let group = (first + step) % groups;
            if u64::from(self.group_count(group, Count::FreeBlocks)?) < count {
                continue;
            }
            let mut from = 0;
            while let Some(run) = self.run_in(group, from, count)? {
                if run.end - run.start == count {
                    return Ok(Some(run));
                }
                from = (run.end - self.layout.group_start(group)) as u32;
            }
        }
        Ok(None)
    }

    /// Returns the first free run of `group` from its block `from` on, cut to `most`.
    fn run_in(&mut self, group: u32, from: u32, most: u64) -> Result<Option<Range<u64>>> {
        if self.group_count(group, Count::FreeBlocks)? == 0 {
            return Ok(None);
        }
        let start = self.layout.group_start(group);
        let length = self.layout.group_length(group);
        let run = self.bitmap(group, Which::Blocks)?.free_run(from..length);
        Ok(run.map(|run| {
            start + u64::from(run.start)..(start + u64::from(run.end)).min(start + u64::from(run.start) + most)
        }))
    }

    /// Takes a run that is free in its bitmap; returns its length.
    fn take(&mut self, run: Range<u64>, taken: &mut Vec<Range<u64>>) -> Result<u64> {
        let length = run.end - run.start;
        self.check_data(run.start, length)?;
        self.mark_blocks(run.clone(), true)?;
        match taken.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => taken.push(run),
        }
        Ok(length)
    }

    /// Frees blocks; what is in them stays there until others use them.
    pub(super) fn free_blocks(&mut self, run: Range<u64>) -> Result<()> {
        self.check_data(run.start, run.end - run.start)?;
        let mut start = run.start;
        while start < run.end {
            let group = self.layout.group_of(start);
            let end = run.end.min(self.layout.group_start(group) + u64::from(self.layout.blocks_per_group));
            self.mark_blocks(start..end, false)?;
            start = end;
        }
        self.forget(run);
        Ok(())
    }

    /// Marks blocks of one group and counts them.
    fn mark_blocks(&mut self, run: Range<u64>, is_used: bool) -> Result<()> {
        let group = self.layout.group_of(run.start);
        let start = self.layout.group_start(group);
        let count = (run.end - run.start) as i64;
        let change = if is_used { -count } else { count };
        self.mark(group, Which::Blocks, (run.start - start) as u32..(run.end - start) as u32, is_used)?;
        self.add_to_group(group, Count::FreeBlocks, change)?;
        self.free_blocks += change;
        Ok(())
    }

    /// Takes an inode, if possible in the group of `near`; returns its number.
    pub(super) fn take_inode(&mut self, near: u32, is_folder: bool) -> Result<u32> {
        let layout = self.layout;
        let first = (near - 1) / layout.inodes_per_group;
        for group in (first..layout.groups).chain(0..first) {
            if self.group_count(group, Count::FreeInodes)? == 0 {
                continue;
            }
            let from = if group == 0 { layout.first_inode - 1 } else { 0 };
            let bitmap = self.bitmap(group, Which::Inodes)?;
            let Some(run) = bitmap.free_run(from..layout.inodes_per_group) else { continue };
            let index = run.start;
            if self.is_group_lazy(group, Which::Blocks)? {
                // A group that is in use at all has both bitmaps, as the kernel keeps it.
                self.mark(group, Which::Blocks, 0..0, true)?;
            }
            self.mark(group, Which::Inodes, index..index + 1, true)?;
            self.add_to_group(group, Count::FreeInodes, -1)?;
            if is_folder {
                self.add_to_group(group, Count::Folders, 1)?;
            }
            if layout.has_lazy_groups() {
                let unused = i64::from(self.group_count(group, Count::UnusedInodes)?);
                let above = i64::from(layout.inodes_per_group - index - 1);
                self.add_to_group(group, Count::UnusedInodes, above.min(unused) - unused)?;
            }
            self.free_inodes -= 1;
            return Ok(group * layout.inodes_per_group + index + 1);
        }
        Err(full("the file system is full: no inode is free".to_owned()))
    }

    /// Frees the inode `number` of a file or link.
    pub(super) fn free_inode(&mut self, number: u32) -> Result<()> {
        let group = (number - 1) / self.layout.inodes_per_group;
        let index = (number - 1) % self.layout.inodes_per_group;
        self.mark(group, Which::Inodes, index..index + 1, false)?;
        self.add_to_group(group, Count::FreeInodes, 1)?;
        self.free_inodes += 1;
        Ok(())
    }
}

fn full(message: String) -> Error {
    Error::new(ErrorKind::TooLarge, message)
        .with_hint("free some room in the running system, or enlarge the disk first")
}
