//! One operation in progress: the volume as it is, and what will be written.

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use super::folder::{self, Content, Entry, FOLDER_MAX, SLOT};
use super::layout::{CHUNK, Layout, Top, Width};
use super::names;
use super::table::Table;
use crate::fields::{put_le32, stands_at};
use crate::write::overlay::Overlay;

/// Most bytes of a file that is written.
const FILE_MAX: usize = 256 << 20;
/// Most files that a new one is compared with.
const COMPARED_MAX: usize = 8;
/// Most folders and entries that are looked at before anything is written, and most bytes of folders.
const ENTRIES_MAX: usize = 200_000;
const FOLDERS_MAX: usize = 64 << 20;
/// Where the counts of free clusters are in their sector, and its marks (fatgen103, "FAT32 FSInfo Sector Structure").
const INFO_FREE: usize = 488;
const INFO_LAST: usize = 492;

/// A volume, its table, and bytes to be written by their place on the disk.
pub(super) struct Volume<'v> {
    pub(super) disk: &'v Overlay,
    pub(super) offset: u64,
    pub(super) layout: &'v Layout,
    pub(super) table: &'v mut Table,
    pub(super) now: u64,
    pub(super) writes: Vec<(u64, Vec<u8>)>,
}

/// A folder that is looked at and changed.
pub(super) struct Folder {
    /// None of the top folder that lies before the clusters.
    clusters: Option<Vec<u32>>,
    /// What the entry of a folder inside says of this one: zero for the top.
    first: u32,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Folder {
    fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.has_name(name))
    }
}

impl Volume<'_> {
    /// Looks at every folder and every chain.
    ///
    /// # Errors
    ///
    /// Where two files share a cluster, a chain does not fit its file, or the volume is larger than what is looked at.
    pub(super) fn examine(&self) -> Result<()> {
        let mut used = vec![false; self.layout.clusters as usize + 2];
        let mut claim = |chain: &[u32]| {
            let is_new = |cluster: &u32| !std::mem::replace(&mut used[*cluster as usize], true);
            if chain.iter().all(is_new) { Ok(()) } else { Err(damaged("two files share a cluster")) }
        };
        let (mut seen, mut bytes) = (0, 0);
        let mut pending = vec![self.top()?];
        claim(pending[0].clusters.as_deref().unwrap_or_default())?;
        while let Some(folder) = pending.pop() {
            seen += folder.entries.len();
            for entry in folder.entries.iter().filter(|entry| !entry.is_label && !entry.is_dots()) {
                let chain = self.table.chain(entry.first)?;
                claim(&chain)?;
                if entry.is_folder {
                    let inner = self.open(chain, entry.first)?;
                    bytes += inner.bytes.len();
                    pending.push(inner);
                } else if (entry.size as usize).div_ceil(self.layout.cluster_size) != chain.len() {
                    return Err(damaged("a file has other clusters than its length says"));
                }
            }
            if seen + pending.len() > ENTRIES_MAX || bytes > FOLDERS_MAX {
                return Err(Error::unsupported("the FAT has too many files to be changed here"));
            }
        }
        Ok(())
    }

    pub(super) fn exists(&self, path: &[u8]) -> Result<bool> {
        let (folder, name) = match self.parent(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Refused => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(folder.find(name).is_some())
    }

    pub(super) fn create(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        let (mut folder, name) = self.parent(path)?;
        if content.len() as u64 >= CHUNK {
            self.lie_like_original(content)?;
        }
        let taken = self.store(content, None)?;
        let first = taken.first().copied().unwrap_or(0);
        self.add(&mut folder, name, Content { is_folder: false, first, size: content.len() as u32 })
    }

    pub(super) fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        let (mut folder, name) = self.parent(path)?;
        let first = self.table.take(1, None)?[0];
        let mut bytes = vec![0; self.layout.cluster_size];
        // The folder itself and the one above come first, and have no long names.
        for (at, (short, first)) in [(b".          ", first), (b"..         ", folder.first)].into_iter().enumerate() {
            let content = Content { is_folder: true, first, size: 0 };
            bytes[at * SLOT..][..SLOT].copy_from_slice(&folder::slot(short, content, self.now));
        }
        self.writes.push((self.offset + self.layout.place(first), bytes));
        self.add(&mut folder, name, Content { is_folder: true, first, size: 0 })
    }

    pub(super) fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        let (mut folder, entry) = self.file(path)?;
        let old = self.table.chain(entry.first)?;
        self.table.free(&old);
        let first = self.store(content, None)?.first().copied().unwrap_or(0);
        folder::change(&mut folder.bytes, &entry, first, content.len() as u32, self.now);
        self.put(&folder);
        Ok(())
    }

    pub(super) fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        let (mut folder, entry) = self.file(path)?;
        let size = u64::from(entry.size) + content.len() as u64;
        let Ok(size) = u32::try_from(size) else {
            return Err(Error::new(ErrorKind::TooLarge, "a file of a FAT has at most 4 GiB"));
        };
        let chain = self.table.chain(entry.first)?;
        // The last cluster may have some room.
        let filled = entry.size as usize % self.layout.cluster_size;
        let room = if filled == 0 { 0 } else { (self.layout.cluster_size - filled).min(content.len()) };
        if let Some(last) = chain.last().filter(|_| room > 0) {
            self.writes.push((self.offset + self.layout.place(*last) + filled as u64, content[..room].to_vec()));
        }
        let taken = self.store(&content[room..], chain.last().copied())?;
        let first = chain.first().or(taken.first()).copied().unwrap_or(0);
        folder::change(&mut folder.bytes, &entry, first, size, self.now);
        self.put(&folder);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[u8], is_folder: bool) -> Result<()> {
        let (mut folder, name) = self.parent(path)?;
        let Some(entry) = folder.find(name).cloned() else { return Err(absent()) };
        if entry.is_folder != is_folder {
            return Err(Error::refused(if is_folder { "it is not a folder" } else { "it is a folder" }));
        }
        let chain = self.table.chain(entry.first)?;
        if is_folder && self.open(chain.clone(), entry.first)?.entries.iter().any(|entry| !entry.is_dots()) {
            return Err(Error::refused("the folder is not empty"));
        }
        self.table.free(&chain);
        folder::remove(&mut folder.bytes, &entry);
        self.put(&folder);
        Ok(())
    }

    /// Ends the operation: what is to be written, with all copies of the table and the counts of free clusters.
    pub(super) fn finish(mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        for (at, sector) in self.table.take_changes() {
            let copies = self.layout.tables.iter().map(|table| (self.offset + table + at as u64, sector.clone()));
            self.writes.extend(copies);
        }
        if let Some(at) = self.layout.info_at {
            let mut info = vec![0; 512];
            self.disk.read_at(&mut info, self.offset + at)?;
            if stands_at(&info, 0, b"RRaA") && stands_at(&info, 484, b"rrAa") {
                let (free, last) = self.table.counts();
                put_le32(&mut info, INFO_FREE, free);
                if last >= 2 {
                    put_le32(&mut info, INFO_LAST, last);
                }
                self.writes.push((self.offset + at, info));
            }
        }
        Ok(self.writes)
    }

    fn top(&self) -> Result<Folder> {
        match self.layout.top {
            Top::Cluster(first) => {
                let top = self.open(self.table.chain(first)?, 0)?;
                if top.bytes.is_empty() { Err(damaged("it has no top folder")) } else { Ok(top) }
            }
            Top::Fixed { at, length } => {
                let mut bytes = vec![0; length];
                self.disk.read_at(&mut bytes, self.offset + at)?;
                Ok(Folder { clusters: None, first: 0, entries: folder::entries(&bytes, false), bytes })
            }
        }
    }

    fn open(&self, clusters: Vec<u32>, first: u32) -> Result<Folder> {
        let size = self.layout.cluster_size;
        if clusters.len() * size > FOLDER_MAX {
            return Err(damaged("a folder is longer than folders can be"));
        }
        let mut bytes = vec![0; clusters.len() * size];
        for (part, cluster) in bytes.chunks_exact_mut(size).zip(&clusters) {
            self.disk.read_at(part, self.offset + self.layout.place(*cluster))?;
        }
        let entries = folder::entries(&bytes, self.layout.width == Width::ThirtyTwo);
        Ok(Folder { clusters: Some(clusters), first, bytes, entries })
    }

    /// Returns the folder that `path` is in, and its name there.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Folder, &'p str)> {
        let text = std::str::from_utf8(path).map_err(|_| Error::refused("the name is not UTF-8"))?;
        let mut names = text.split('/').filter(|name| !name.is_empty());
        let Some(last) = names.next_back() else { return Err(Error::refused("the path names nothing")) };
        names::check(last)?;
        let mut folder = self.top()?;
        for name in names {
            let Some(entry) = folder.find(name).filter(|entry| entry.is_folder).cloned() else {
                return Err(Error::refused(format!("there is no folder {name}")));
            };
            folder = self.open(self.table.chain(entry.first)?, entry.first)?;
        }
        Ok((folder, last))
    }

    fn file(&self, path: &[u8]) -> Result<(Folder, Entry)> {
        let (folder, name) = self.parent(path)?;
        match folder.find(name).cloned() {
            Some(entry) if entry.is_folder => Err(Error::refused("it is a folder")),
            Some(entry) => Ok((folder, entry)),
            None => Err(absent()),
        }
    }

    /// Lets a copy of a file begin where it lies within chunks as the original does: a store has such chunks already.
    fn lie_like_original(&mut self, content: &[u8]) -> Result<()> {
        let Some(original) = self.file_of(content)? else { return Ok(()) };
        let step = self.layout.clusters_of_chunk();
        let places = (2 + (original - 2) % step..self.layout.clusters + 2).step_by(step as usize);
        self.table.begin_at(places, content.len().div_ceil(self.layout.cluster_size));
        Ok(())
    }

    /// Returns the first cluster of a file that has `content`, which is not empty. Of files that are as long, few are compared.
    fn file_of(&self, content: &[u8]) -> Result<Option<u32>> {
        let (mut pending, mut compared) = (vec![self.top()?], 0);
        while let Some(folder) = pending.pop() {
            for entry in folder.entries.iter().filter(|entry| !entry.is_label && !entry.is_dots()) {
                if entry.is_folder {
                    pending.push(self.open(self.table.chain(entry.first)?, entry.first)?);
                } else if entry.size as usize == content.len() && compared < COMPARED_MAX {
                    compared += 1;
                    if self.has(&self.table.chain(entry.first)?, content)? {
                        return Ok(Some(entry.first));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns whether the clusters of `chain` hold `content`.
    fn has(&self, chain: &[u32], content: &[u8]) -> Result<bool> {
        let mut bytes = vec![0; self.layout.cluster_size];
        if chain.len() != content.len().div_ceil(bytes.len()) {
            return Ok(false);
        }
        for (part, cluster) in content.chunks(bytes.len()).zip(chain) {
            self.disk.read_at(&mut bytes, self.offset + self.layout.place(*cluster))?;
            if bytes[..part.len()] != *part {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts `content` into clusters that are taken for it, behind `last` if there is one.
    fn store(&mut self, content: &[u8], last: Option<u32>) -> Result<Vec<u32>> {
        if content.len() > FILE_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "more than 256 MiB would be written to one file"));
        }
        let size = self.layout.cluster_size;
        let taken = self.table.take(content.len().div_ceil(size), last)?;
        for (part, cluster) in content.chunks(size).zip(&taken) {
            let mut bytes = part.to_vec();
            bytes.resize(size, 0);
            self.writes.push((self.offset + self.layout.place(*cluster), bytes));
        }
        Ok(taken)
    }

    fn add(&mut self, folder: &mut Folder, name: &str, content: Content) -> Result<()> {
        if folder.find(name).is_some() {
            return Err(Error::refused("something is there"));
        }
        while !folder::add(&mut folder.bytes, &folder.entries, name, content, self.now) {
            let Some(clusters) = folder.clusters.as_mut().filter(|_| folder.bytes.len() < FOLDER_MAX) else {
                return Err(Error::new(ErrorKind::TooLarge, "the folder is full"));
            };
            clusters.extend(self.table.take(1, clusters.last().copied())?);
            folder.bytes.resize(clusters.len() * self.layout.cluster_size, 0);
        }
        self.put(folder);
        Ok(())
    }

    /// Writes a folder back.
    fn put(&mut self, folder: &Folder) {
        match (&folder.clusters, self.layout.top) {
            (Some(clusters), _) => {
                for (part, cluster) in folder.bytes.chunks_exact(self.layout.cluster_size).zip(clusters) {
                    self.writes.push((self.offset + self.layout.place(*cluster), part.to_vec()));
                }
            }
            (None, Top::Fixed { at, .. }) => self.writes.push((self.offset + at, folder.bytes.clone())),
            (None, Top::Cluster(_)) => {}
        }
    }
}

fn absent() -> Error {
    Error::refused("nothing is there")
}

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("the FAT is damaged: {what}"))
        .with_hint("repair it with fsck.fat in the running guest, and shut that down")
}
