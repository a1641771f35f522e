//! FAT12, FAT16 and FAT32: recognised by their parameter block, opened read-only by `fatfs`.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::files::{Files, Node, NodeKind};
use super::recognised::Recognised;
use crate::budget::contain;
use crate::fields::{le16, le32, stands_at};
use crate::report::FilesystemKind;
use crate::text::clean_padded;
use crate::window::Window;

/// Most folders looked into and most entries listed, in each.
const ENTRIES_MAX: usize = 512;
/// Most entries of one folder in which a name is looked for.
const NAMES_MAX: usize = 16 << 10;

/// Recognises the parameter block in the first sector.
pub(super) fn recognise(bytes: &[u8]) -> Option<Recognised> {
    let sector = u64::from(le16(bytes, 11));
    let cluster = u64::from(bytes[13]);
    let (reserved, fats) = (u64::from(le16(bytes, 14)), u64::from(bytes[16]));
    let sound = stands_at(bytes, 510, &[0x55, 0xaa])
        && matches!(bytes[0], 0xeb | 0xe9)
        && (512..=4096).contains(&sector)
        && sector.is_power_of_two()
        && cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (bytes[21] == 0xf0 || bytes[21] >= 0xf8);
    if !sound {
        return None;
    }
    let or_wide = |narrow: u16, wide: u32| if narrow == 0 { u64::from(wide) } else { u64::from(narrow) };
    let sectors = or_wide(le16(bytes, 19), le32(bytes, 32));
    let fat_sectors = or_wide(le16(bytes, 22), le32(bytes, 36));
    let root_sectors = (u64::from(le16(bytes, 17)) * 32).div_ceil(sector);
    // FAT32 has no root folder of fixed size; its tail of the parameter block is longer.
    let tail = if le16(bytes, 22) == 0 { 67 } else { 39 };
    // No overflow: the widest product is of 32 and 2 bits.
    sectors.checked_sub(reserved + fats * fat_sectors + root_sectors).filter(|data| *data >= cluster)?;
    let serial = le32(bytes, tail);
    Some(Recognised {
        uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        label: clean_padded(&bytes[tail + 4..tail + 15]).filter(|label| label != "NO NAME"),
        size: Some(sectors * sector),
        ..Recognised::new(FilesystemKind::Vfat)
    })
}

/// What is of interest in a FAT file system.
#[derive(Debug, Default)]
pub(crate) struct Efi {
    /// Label in the root folder, which is the one that tools change.
    pub(crate) label: Option<String>,
    /// Loaders as `EFI/<FOLDER>/<NAME>`, in capitals.
    pub(crate) loaders: Vec<String>,
}

/// Looks for EFI loaders; an error says why the file system cannot be read.
pub(crate) fn read_efi(window: &Window) -> Result<Efi, String> {
    let read = || -> io::Result<Efi> {
        let filesystem =
            fatfs::FileSystem::new(Reader { window: window.clone(), position: 0 }, fatfs::FsOptions::new())?;
        let label = filesystem.read_volume_label_from_root_dir_as_bytes()?.and_then(|label| clean_padded(&label));
        Ok(Efi { label, loaders: loaders(&filesystem.root_dir())? })
    };
    call(read)
}

/// Returns whether there is a file at `path`; in a file system that cannot be read there is none.
pub(crate) fn has_file(window: &Window, path: &str) -> bool {
    let find = || -> io::Result<bool> {
        let filesystem =
            fatfs::FileSystem::new(Reader { window: window.clone(), position: 0 }, fatfs::FsOptions::new())?;
        let mut folder = filesystem.root_dir();
        let mut is_file = false;
        for name in path.split('/') {
            let mut entries = folder.iter().take(ENTRIES_MAX).filter_map(Result::ok);
            let Some(entry) = entries.find(|entry| entry.file_name().eq_ignore_ascii_case(name)) else {
                return Ok(false);
            };
            is_file = !entry.is_dir();
            if !is_file {
                folder = entry.to_dir();
            }
        }
        Ok(is_file)
    };
    matches!(contain(find), Some(Ok(true)))
}

fn loaders(root: &fatfs::Dir<'_, Reader>) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let Some(efi) = root.iter().take(ENTRIES_MAX).find_map(|entry| match entry {
        Ok(entry) if entry.is_dir() && entry.file_name().eq_ignore_ascii_case("EFI") => Some(Ok(entry.to_dir())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }) else {
        return Ok(found);
    };
    for vendor in efi?.iter().take(ENTRIES_MAX) {
        let vendor = vendor?;
        let folder = vendor.file_name().to_ascii_uppercase();
        if !vendor.is_dir() || folder.starts_with('.') {
            continue;
        }
        // Windows keeps its loader one folder deeper: EFI/Microsoft/Boot/bootmgfw.efi.
        list(&vendor.to_dir(), &format!("EFI/{folder}"), folder == "MICROSOFT", &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn list(folder: &fatfs::Dir<'_, Reader>, path: &str, is_deep: bool, found: &mut Vec<String>) -> io::Result<()> {
    for entry in folder.iter().take(ENTRIES_MAX) {
        let entry = entry?;
        let name = entry.file_name().to_ascii_uppercase();
        if entry.is_dir() && is_deep && name == "BOOT" {
            list(&entry.to_dir(), &format!("{path}/{name}"), false, found)?;
        } else if !entry.is_dir() && name.ends_with(".EFI") && found.len() < ENTRIES_MAX {
            found.push(format!("{path}/{name}"));
        }
    }
    Ok(())
}

/// An open file system; capitals and small letters are the same to it.
pub(super) struct Fat {
    inner: fatfs::FileSystem<Reader>,
}

type Entry<'a> = fatfs::DirEntry<'a, Reader>;

impl Fat {
    /// Opens the file system in `window`; an error says why it cannot be read.
    pub(super) fn open(window: &Window) -> Result<Self, String> {
        let reader = Reader { window: window.clone(), position: 0 };
        call(|| fatfs::FileSystem::new(reader, fatfs::FsOptions::new())).map(|inner| Self { inner })
    }

    /// Returns the entry at `path`; none where there is none, and for the top.
    fn find(&self, path: &[u8]) -> io::Result<Option<Entry<'_>>> {
        let Ok(path) = std::str::from_utf8(path) else { return Ok(None) };
        let mut folder = self.inner.root_dir();
        let mut found = None;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if let Some(entry) = found.take() {
                if !Entry::is_dir(&entry) {
                    return Ok(None);
                }
                folder = entry.to_dir();
            }
            let is_it = |entry: &Entry<'_>| {
                let has =
                    |own: &str| own.chars().flat_map(char::to_lowercase).eq(name.chars().flat_map(char::to_lowercase));
                has(&entry.file_name()) || has(&entry.short_file_name())
            };
            found = folder.iter().take(NAMES_MAX).find(|entry| entry.as_ref().map_or(true, &is_it)).transpose()?;
            if found.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

impl Files for Fat {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, String> {
        let node = |kind, length| Node { kind, length, mode: 0, uid: 0, gid: 0 };
        if path == b"/" {
            return Ok(Some(node(NodeKind::Folder, 0)));
        }
        let found = call(|| self.find(path))?;
        Ok(found
            .map(|entry| if entry.is_dir() { node(NodeKind::Folder, 0) } else { node(NodeKind::File, entry.len()) }))
    }

    fn link(&self, _: &[u8], _: u64) -> Result<Vec<u8>, String> {
        Err("FAT has no links".to_owned())
    }

    fn is_folder_small(&self, _: u64) -> bool {
        // No length is stored; the walk over its entries has a limit.
        true
    }

    fn names(&self, path: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String> {
        call(|| {
            let folder = if path == b"/" {
                self.inner.root_dir()
            } else {
                self.find(path)?.filter(Entry::is_dir).ok_or(io::ErrorKind::NotFound)?.to_dir()
            };
            let mut names = Vec::new();
            for entry in folder.iter().take(NAMES_MAX) {
                let name = entry?.file_name();
                if names.len() < most && name != "." && name != ".." {
                    names.push(name.into_bytes());
                }
            }
            Ok(names)
        })
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> Result<Vec<u8>, String> {
        call(|| {
            let entry = self.find(path)?.filter(Entry::is_file).ok_or(io::ErrorKind::NotFound)?;
            let left = usize::try_from(entry.len().saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; left.min(most)];
            let mut file = entry.to_file();
            file.seek(SeekFrom::Start(offset))?;
            let mut filled = 0;
            while filled < bytes.len() {
                match file.read(&mut bytes[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        })
    }
}

fn call<T>(run: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
    match contain(run) {
        Some(answer) => answer.map_err(|error| error.to_string()),
        None => Err("its structure is broken".to_owned()),
    }
}

/// The window as `fatfs` wants it; it is never written.
struct Reader {
    window: Window,
    position: u64,
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.window.len().saturating_sub(self.position);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.window.read_at(&mut buf[..count], self.position).map_err(io::Error::other)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Reader {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "an inspected disk is never written"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Reader {
    fn seek(&mut self, from: SeekFrom) -> io::Result<u64> {
        let target = match from {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.window.len().checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
