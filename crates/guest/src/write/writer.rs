//! What prepare asks of a writer, whichever file system it is for.

use std::ops::Range;

use disk::error::{Error, Result};

use super::ext::{Attributes, ExtWriter};
use super::fat::FatWriter;
use super::overlay::Overlay;
use crate::report::FilesystemKind;

/// A file system whose files are changed; each operation is described at [`ExtWriter`].
pub(crate) trait Writer {
    fn exists(&mut self, path: &[u8]) -> Result<bool>;
    fn attributes(&mut self, path: &[u8]) -> Result<Attributes>;
    fn create(&mut self, path: &[u8], content: &[u8], attributes: Attributes, like: Option<&[u8]>) -> Result<()>;
    fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()>;
    fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()>;
    fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<()>;
    fn make_folder(&mut self, path: &[u8], attributes: Attributes) -> Result<()>;
    fn remove(&mut self, path: &[u8]) -> Result<()>;
    fn remove_folder(&mut self, path: &[u8]) -> Result<()>;
}

/// Returns a writer for the file system of `kind` in `range` of the disk, none where there is no writer for its kind.
pub(crate) fn open<'o>(
    overlay: &'o mut Overlay,
    kind: FilesystemKind,
    range: Range<u64>,
    now: u64,
) -> Result<Option<Box<dyn Writer + 'o>>> {
    use FilesystemKind::{Ext2, Ext3, Ext4, Vfat};
    Ok(match kind {
        Ext2 | Ext3 | Ext4 => Some(Box::new(ExtWriter::open(overlay, range, now)?)),
        Vfat => Some(Box::new(FatWriter::open(overlay, range, now)?)),
        _ => None,
    })
}

impl Writer for ExtWriter<'_> {
    fn exists(&mut self, path: &[u8]) -> Result<bool> {
        Self::exists(self, path)
    }

    fn attributes(&mut self, path: &[u8]) -> Result<Attributes> {
        Self::attributes(self, path)
    }

    fn create(&mut self, path: &[u8], content: &[u8], attributes: Attributes, like: Option<&[u8]>) -> Result<()> {
        Self::create(self, path, content, attributes, like)
    }

    fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        Self::replace(self, path, content)
    }

    fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        Self::append(self, path, content)
    }

    fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        Self::symlink(self, path, target)
    }

    fn make_folder(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        Self::make_folder(self, path, attributes, None)
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        Self::remove(self, path)
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        Self::remove_folder(self, path)
    }
}

/// A FAT knows neither owners nor rights; what Linux shows of them is said where it is mounted.
impl Writer for FatWriter<'_> {
    fn exists(&mut self, path: &[u8]) -> Result<bool> {
        Self::exists(self, path)
    }

    fn attributes(&mut self, _: &[u8]) -> Result<Attributes> {
        Ok(Attributes { mode: 0o755, uid: 0, gid: 0 })
    }

    fn create(&mut self, path: &[u8], content: &[u8], _: Attributes, _: Option<&[u8]>) -> Result<()> {
        Self::create(self, path, content)
    }

    fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        Self::replace(self, path, content)
    }

    fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        Self::append(self, path, content)
    }

    fn symlink(&mut self, _: &[u8], _: &[u8]) -> Result<()> {
        Err(Error::unsupported("a FAT has no links"))
    }

    fn make_folder(&mut self, path: &[u8], _: Attributes) -> Result<()> {
        Self::make_folder(self, path)
    }

    fn remove(&mut self, path: &[u8]) -> Result<()> {
        Self::remove(self, path)
    }

    fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        Self::remove_folder(self, path)
    }
}
