//! What files and links hold.

use disk::error::{Error, ErrorKind, Result};

use super::change::{Change, damaged};
use super::inode::{FLAG_BLOCKS_BEHIND, Inode, Kind};
use super::layout::RO_COMPAT_LARGE_FILE;
use super::map::Map;

/// Longest file that is written again as a whole, where it has blocks in an order that cannot be gone on with.
const REWRITTEN_MAX: u64 = 64 << 20;
/// Blocks that stay free where a file is written beside its old blocks, and not into them.
const ROOM: u64 = 1024;
/// Longest target of a link that its inode holds.
const SHORT_LINK: usize = 59;

impl Change<'_> {
    pub(super) fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        let mut inode = self.file_at(path)?;
        let map = self.map(&inode)?;
        self.rewrite(&mut inode, &map, content)
    }

    fn rewrite(&mut self, inode: &mut Inode, old: &Map, content: &[u8]) -> Result<()> {
        let goal = old.runs.first().map_or_else(|| self.goal(inode), |run| run.start);
        let blocks = content.len().div_ceil(self.layout.block_size) as u64;
        if self.count_free_blocks()? > blocks.saturating_add(ROOM) {
            // Not into its old blocks, but beside what else was written.
            self.fill_from(inode, content, goal, old.count())?;
            self.free_map(old)?;
        } else {
            let count = self.free_map(old)?;
            self.fill_from(inode, content, goal, count)?;
        }
        inode.touch(self.now, true);
        self.write_inode(inode)
    }

    /// Fills a new file.
    pub(super) fn fill(&mut self, inode: &mut Inode, content: &[u8]) -> Result<()> {
        let goal = self.goal(inode);
        self.fill_from(inode, content, goal, 0)
    }

    /// Writes the content of a file that has no blocks now, and counted `old` before.
    fn fill_from(&mut self, inode: &mut Inode, content: &[u8], goal: u64, old: u64) -> Result<()> {
        self.check_length(content.len() as u64)?;
        let mut map = Map::default();
        let blocks = content.len().div_ceil(self.layout.block_size) as u64;
        self.extend(&mut map, self.beside.unwrap_or(goal), 0, blocks)?;
        self.write_content(&map, 0, content)?;
        self.write_map(inode, &mut map, old)?;
        inode.set_flags(inode.flags() & !FLAG_BLOCKS_BEHIND);
        inode.set_size(content.len() as u64);
        Ok(())
    }

    fn check_length(&self, length: u64) -> Result<()> {
        let has_large = self.layout.ro_compat & RO_COMPAT_LARGE_FILE != 0;
        let most = if has_large { u64::from(u32::MAX) * 1024 } else { 0x7fff_ffff };
        if length > most {
            return Err(Error::new(ErrorKind::TooLarge, format!("a file of {length} bytes is too long here")));
        }
        Ok(())
    }

    /// Writes whole blocks of a file from its block `first` on; the last one is filled up with zeros.
    fn write_content(&mut self, map: &Map, first: u32, content: &[u8]) -> Result<()> {
        self.beside = map.next_block().or(self.beside);
        for (logical, part) in (first..).zip(content.chunks(self.layout.block_size)) {
            let place = map.find(logical).ok_or_else(|| damaged("a block of a file is missing"))?;
            let mut block = part.to_vec();
            block.resize(self.layout.block_size, 0);
            self.write(place, block)?;
        }
        Ok(())
    }

    pub(super) fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        let mut inode = self.file_at(path)?;
        let mut map = self.map(&inode)?;
        let size = inode.size();
        let block_size = self.layout.block_size as u64;
        let length = size.saturating_add(content.len() as u64);
        self.check_length(length)?;
        let last = size / block_size;
        let has_partial = !size.is_multiple_of(block_size);
        let partial = if has_partial { map.find(last as u32) } else { None };
        let blocks = size.div_ceil(block_size);
        if map.end() > blocks || has_partial != partial.is_some() {
            // Blocks were set aside behind the end, or the last one was never written.
            let whole = [&self.content(&inode, &map)?, content].concat();
            return self.rewrite(&mut inode, &map, &whole);
        }
        let (old, goes_on) = (map.count(), self.can_go_on(&map)?);
        let (mut first, mut rest, mut left_behind) = (blocks as u32, content.to_vec(), None);
        if let Some(place) = partial {
            let mut block = self.read(place)?;
            block.truncate((size % block_size) as usize);
            block.extend_from_slice(content);
            if block.len() <= self.layout.block_size || goes_on {
                rest = block.split_off(block.len().min(self.layout.block_size));
                block.resize(self.layout.block_size, 0);
                self.write(place, block)?;
            } else {
                // It goes to where the rest is.
                map.drop_last();
                (first, rest, left_behind) = (last as u32, block, Some(place));
            }
        }
        if !rest.is_empty() {
            let next = map.next_block();
            let goal = if goes_on { next } else { self.beside.or(next) }.unwrap_or_else(|| self.goal(&inode));
            self.extend(&mut map, goal, first, (rest.len() as u64).div_ceil(block_size))?;
            self.write_content(&map, first, &rest)?;
            if let Some(place) = left_behind {
                self.free_blocks(place..place + 1)?;
            }
            self.write_map(&mut inode, &mut map, old)?;
        }
        inode.set_size(length);
        inode.touch(self.now, true);
        self.write_inode(&inode)
    }

    /// Reads a whole file.
    fn content(&mut self, inode: &Inode, map: &Map) -> Result<Vec<u8>> {
        let size = inode.size();
        if size > REWRITTEN_MAX {
            let told = format!("the file of {size} bytes has blocks set aside, and is too long to be written anew");
            return Err(Error::new(ErrorKind::TooLarge, told));
        }
        let mut content = Vec::new();
        for logical in 0..size.div_ceil(self.layout.block_size as u64) as u32 {
            match map.find(logical) {
                Some(place) => content.extend(self.read(place)?),
                None => content.resize(content.len() + self.layout.block_size, 0),
            }
        }
        content.truncate(size as usize);
        Ok(content)
    }

    /// Gives a new link its target.
    pub(super) fn fill_link(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) || target.len() >= self.layout.block_size.min(4096) {
            return Err(Error::refused("the target of the link is empty, has a zero byte, or is too long"));
        }
        if target.len() <= SHORT_LINK {
            inode.set_map(target);
            inode.set_size(target.len() as u64);
            return Ok(());
        }
        self.use_extents(inode);
        self.fill(inode, target)
    }

    /// Frees the blocks of a file or link that goes; its attributes are gone already.
    pub(super) fn empty(&mut self, inode: &mut Inode) -> Result<()> {
        // A short link has its target where others have their map.
        if inode.kind() == Some(Kind::Link) && !inode.has_blocks() {
            return Ok(());
        }
        let map = self.map(inode)?;
        let count = self.free_map(&map)?;
        inode.add_blocks(self.layout.block_size, -(count as i64))?;
        self.write_map(inode, &mut Map::default(), 0)
    }
}
