//! NTFS, read by own code: paths without regard to case, links, holes and compressed files.
//!
//! boot sector -> $MFT -> records -> attributes -> streams of bytes; a folder is a B+ tree of names in `$I30`.
//! Layout: "NTFS Documentation" of the Linux-NTFS project and [MS-FSCC]. Invariants: each structure is checked
//! against the block that holds it, each walk has a limit, and nothing is taken from memory that the volume could
//! not fill. Not here: changes, encryption, and files packed by the Windows overlay filter (WOF).

mod attribute;
mod compressed;
mod geometry;
mod index;
mod journal;
mod mft;
mod record;
mod reparse;
mod runs;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod upcase;

use self::index::Index;
use self::mft::{File, Mft};
use self::reparse::{Meaning, Reparse};
pub(crate) use self::state::{Hibernation, State};
use self::stream::Stream;
use self::upcase::Upcase;
use super::files::{Files, Node, NodeKind};
use crate::window::Window;

/// Well-known records.
const RECORD_JOURNAL: u64 = 2;
const RECORD_VOLUME: u64 = 3;
const RECORD_ROOT: u64 = 5;
const RECORD_UPCASE: u64 = 10;

/// Types of attributes.
const ATTRIBUTE_LIST: u32 = 0x20;
const VOLUME_NAME: u32 = 0x60;
const VOLUME_INFORMATION: u32 = 0x70;
const DATA: u32 = 0x80;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xa0;
const REPARSE_POINT: u32 = 0xc0;

/// Largest folder that is looked into: some 100,000 names.
const FOLDER_MAX: u64 = 16 << 20;

/// An open file system.
pub(crate) struct Ntfs {
    mft: Mft,
    upcase: Upcase,
    /// Whether Windows calls this volume `C:`, which is where absolute links lead.
    is_system: bool,
}

/// What a path leads to.
struct Found {
    file: File,
    reparse: Option<Reparse>,
}

impl Ntfs {
    /// Opens the file system in `window`; an error says why it cannot be read.
    pub(crate) fn open(window: &Window) -> Result<Self, String> {
        let mft = Mft::open(window)?;
        let upcase = Upcase::read(&mft);
        let mut ntfs = Self { mft, upcase, is_system: false };
        // No volume says by which letter it is called; the one that Windows runs from is C:.
        ntfs.is_system = matches!(ntfs.walk(b"/Windows/System32"), Ok(Some(file)) if file.is_folder());
        Ok(ntfs)
    }

    /// Tells how the volume was left.
    pub(crate) fn state(&self) -> Result<State, String> {
        let volume = self.mft.file(RECORD_VOLUME)?.ok_or("it has no $Volume")?;
        let head = match self.find(b"/hiberfil.sys")? {
            Some(found) => Some(self.data(&found)?.read(&self.mft, 0, 4096)?),
            None => None,
        };
        let log = self.mft.file(RECORD_JOURNAL)?.ok_or("it has no $LogFile")?;
        let log = self.mft.stream(&log, DATA, "")?.unwrap_or_else(Stream::empty);
        State::parse(&self.mft, &volume, &log, head.as_deref())
    }

    /// Returns where the bytes of the file at `path` lie in the window, in order, as offsets and lengths.
    ///
    /// An error says why nothing can be written there: the file is inside its record, has holes, or is compressed.
    pub(crate) fn extents(&self, path: &[u8]) -> Result<Vec<(u64, u64)>, String> {
        let found = self.must_find(path)?;
        match self.meaning(&found) {
            Meaning::Plain if !found.file.is_folder() => self.data(&found)?.extents(&self.mft).map_err(str::to_owned),
            Meaning::Refused(why) => Err(why),
            _ => Err("it is no regular file".to_owned()),
        }
    }

    /// Walks `path` from the root; none where a name is missing.
    fn walk(&self, path: &[u8]) -> Result<Option<File>, String> {
        let mut file = self.mft.file(RECORD_ROOT)?.ok_or("it has no root folder")?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
            if !file.is_folder() {
                return Ok(None);
            }
            let units: Vec<u16> = name.encode_utf16().collect();
            let Some((reference, _)) = Index::open(&self.mft, &file)?.find(&self.mft, &self.upcase, &units)? else {
                return Ok(None);
            };
            file = self.mft.referred(reference)?;
        }
        Ok(Some(file))
    }

    /// Returns `path` with its names as they are written on the volume, as far as they are there: a driver of Linux does not
    /// find them by others.
    pub(crate) fn written(&self, path: &[u8]) -> Result<Vec<u8>, String> {
        let mut written = Vec::new();
        let mut folder = self.mft.file(RECORD_ROOT)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let units: Vec<u16> = String::from_utf8_lossy(name).encode_utf16().collect();
            let found = match folder.take().filter(File::is_folder) {
                Some(folder) => Index::open(&self.mft, &folder)?.find(&self.mft, &self.upcase, &units)?,
                None => None,
            };
            written.push(b'/');
            if let Some((reference, units)) = found {
                let name = String::from_utf16(&units).map_err(|_| "a name on the way to it is no Unicode")?;
                written.extend(name.into_bytes());
                folder = Some(self.mft.referred(reference)?);
            } else {
                written.extend(name);
            }
        }
        Ok(written)
    }

    fn find(&self, path: &[u8]) -> Result<Option<Found>, String> {
        let Some(file) = self.walk(path)? else { return Ok(None) };
        let reparse = match self.mft.stream(&file, REPARSE_POINT, "")? {
            Some(stream) => Some(Reparse::parse(&stream.read(&self.mft, 0, reparse::LENGTH_MAX)?)),
            None => None,
        };
        Ok(Some(Found { file, reparse }))
    }

    fn must_find(&self, path: &[u8]) -> Result<Found, String> {
        self.find(path)?.ok_or_else(|| "it does not exist".to_owned())
    }

    fn meaning(&self, found: &Found) -> Meaning {
        found.reparse.as_ref().map_or(Meaning::Plain, |reparse| reparse.meaning(self.is_system))
    }

    fn data(&self, found: &Found) -> Result<Stream, String> {
        Ok(self.mft.stream(&found.file, DATA, "")?.unwrap_or_else(Stream::empty))
    }
}

impl Files for Ntfs {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, String> {
        let Some(found) = self.find(path)? else { return Ok(None) };
        let (kind, length) = match self.meaning(&found) {
            Meaning::Link(target) => (NodeKind::Link, target.len() as u64),
            Meaning::Elsewhere => (NodeKind::Special, 0),
            Meaning::Plain | Meaning::Refused(_) if found.file.is_folder() => {
                (NodeKind::Folder, Index::open(&self.mft, &found.file)?.len())
            }
            Meaning::Plain | Meaning::Refused(_) => (NodeKind::File, self.data(&found)?.len()),
        };
        Ok(Some(Node { kind, length, mode: 0, uid: 0, gid: 0 }))
    }

    fn link(&self, path: &[u8], _: u64) -> Result<Vec<u8>, String> {
        match self.meaning(&self.must_find(path)?) {
            Meaning::Link(target) => Ok(target),
            _ => Err("it is no link".to_owned()),
        }
    }

    fn is_folder_small(&self, length: u64) -> bool {
        length <= FOLDER_MAX
    }

    fn names(&self, path: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
        let names = Index::open(&self.mft, &self.must_find(path)?.file)?.names(&self.mft, most)?;
        Ok(names.into_iter().map(String::into_bytes).collect())
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> Result<Vec<u8>, String> {
        let found = self.must_find(path)?;
        match self.meaning(&found) {
            Meaning::Plain if !found.file.is_folder() => self.data(&found)?.read(&self.mft, offset, most),
            Meaning::Refused(why) => Err(why),
            _ => Err("it is no regular file".to_owned()),
        }
    }
}
