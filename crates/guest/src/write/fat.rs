//! Changing files of FAT12, FAT16 and FAT32 in a partition of an [`Overlay`].
//!
//! boot sector -> may it be written? -> every folder and chain is looked at -> one operation -> all its writes, or none
//!
//! Own code, because `fatfs` 0.3 gives the two first entries of a new folder long names, lets the second one of a folder at the
//! top of a FAT32 name a cluster where zero is meant, and can undo nothing. Both copies of the table are kept equal, and the
//! count of free clusters is written with each change. Data goes to free clusters, or behind what a file has.

mod folder;
mod layout;
mod names;
mod table;
mod volume;

use std::fmt;
use std::ops::Range;

use disk::error::{Error, Result};
use disk::source::Source;

use self::layout::{BOOT_SIZE, CHUNK, Layout};
use self::table::Table;
use self::volume::Volume;
use super::overlay::Overlay;

/// A FAT file system whose files are changed.
///
/// Paths are absolute bytes (`/EFI/BOOT/BOOTX64.EFI`) without `.` and `..`; capitals and small letters are the same. Each
/// operation is done as a whole or, where it fails, not at all.
pub struct FatWriter<'a> {
    overlay: &'a mut Overlay,
    offset: u64,
    layout: Layout,
    /// None after an operation that failed half way; it is read again.
    table: Option<Table>,
    now: u64,
}

impl fmt::Debug for FatWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FatWriter").field("offset", &self.offset).field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<'a> FatWriter<'a> {
    /// Opens the file system that lies in `range` of the disk; what is changed gets the time `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Tells why it may not be written, with a hint: it was not unmounted cleanly, its tables differ, or it is damaged.
    pub fn open(overlay: &'a mut Overlay, range: Range<u64>, now: u64) -> Result<Self> {
        let length = range.end.min(overlay.len()).saturating_sub(range.start);
        if length < BOOT_SIZE as u64 {
            return Err(Error::corrupt("the place is too short for a file system"));
        }
        let mut boot = vec![0; BOOT_SIZE];
        overlay.read_at(&mut boot, range.start)?;
        let layout = Layout::parse(&boot, length)?;
        let mut writer = Self { overlay, offset: range.start, layout, table: None, now };
        let mut table = writer.take_table()?;
        writer.volume(&mut table).examine()?;
        writer.table = Some(table);
        Ok(writer)
    }

    /// Gives a file other content.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such file, or the file system is full.
    pub fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        self.run(|volume| volume.replace(path, content))
    }

    /// Writes `content` behind what a file has.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such file, or the file system is full.
    pub fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        self.run(|volume| volume.append(path, content))
    }

    /// Makes a file that is not there.
    ///
    /// # Errors
    ///
    /// Nothing is changed where something is there, its folder is not, or the file system is full.
    pub fn create(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        self.run(|volume| volume.create(path, content))
    }

    /// Makes an empty folder in a folder that is there.
    ///
    /// # Errors
    ///
    /// Nothing is changed where something is there, its parent is not, or the file system is full.
    pub fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        self.run(|volume| volume.make_folder(path))
    }

    /// Removes a file; its clusters are not overwritten.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such file.
    pub fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.run(|volume| volume.remove(path, false))
    }

    /// Removes a folder that has nothing in it.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such folder, or something is in it.
    pub fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.run(|volume| volume.remove(path, true))
    }

    /// Returns whether something stands at `path`.
    ///
    /// # Errors
    ///
    /// Where a folder on the way cannot be read.
    pub fn exists(&mut self, path: &[u8]) -> Result<bool> {
        let mut table = self.take_table()?;
        let answer = self.volume(&mut table).exists(path);
        self.table = Some(table);
        answer
    }

    fn run(&mut self, work: impl FnOnce(&mut Volume<'_>) -> Result<()>) -> Result<()> {
        let mut table = self.take_table()?;
        let mut volume = self.volume(&mut table);
        work(&mut volume)?;
        let writes = volume.finish()?;
        let writes: Vec<(u64, &[u8])> = writes.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        self.overlay.write_all(&writes)?;
        self.table = Some(table);
        Ok(())
    }

    fn take_table(&mut self) -> Result<Table> {
        if let Some(table) = self.table.take() {
            return Ok(table);
        }
        let mut table = Table::load(&*self.overlay, self.offset, &self.layout)?;
        // What is new lies together where nothing else does: a store keeps anew each chunk in which a byte changes.
        let (step, size) = (self.layout.clusters_of_chunk(), self.layout.cluster_size as u64);
        let behind = (self.offset + self.layout.place(2)) % CHUNK;
        let first = 2 + (CHUNK - behind).div_ceil(size) as u32 % step;
        table.begin_at((first..self.layout.clusters + 2).step_by(step as usize), step as usize);
        Ok(table)
    }

    fn volume<'v>(&'v self, table: &'v mut Table) -> Volume<'v> {
        let (disk, layout) = (&*self.overlay, &self.layout);
        Volume { disk, offset: self.offset, layout, table, now: self.now, writes: Vec::new() }
    }
}
