//! Which reader opens which file system.

use std::rc::Rc;

use super::btrfs::{Btrfs, Subvolume};
use super::ext::Ext;
use super::fat::Fat;
use super::files::Files;
use super::iso9660::Iso9660;
use super::ntfs::Ntfs;
use super::xfs::Xfs;
use crate::report::FilesystemKind;
use crate::window::Window;

/// An open file system.
pub(crate) struct Opened {
    pub(crate) files: Rc<dyn Files>,
    /// Number of the subvolume, where the file system has subvolumes.
    pub(crate) subvolume: Option<u64>,
}

/// Returns whether there is a reader for the files of `kind`.
pub(crate) fn is_readable(kind: FilesystemKind) -> bool {
    can_be_root(kind) || matches!(kind, FilesystemKind::Vfat | FilesystemKind::Iso9660 | FilesystemKind::Ntfs)
}

/// Returns whether Linux is installed on file systems of `kind`, and there is a reader for them.
pub(crate) fn can_be_root(kind: FilesystemKind) -> bool {
    use FilesystemKind::{Btrfs, Ext2, Ext3, Ext4, Xfs};
    matches!(kind, Ext2 | Ext3 | Ext4 | Xfs | Btrfs)
}

/// Opens the file system of `kind` in `window`; an error says why it cannot be read. `device` is for notes, and only
/// btrfs has a `subvolume`.
pub(crate) fn open(
    window: &Window,
    kind: FilesystemKind,
    device: &str,
    subvolume: &Subvolume,
) -> Result<Opened, String> {
    let files: Rc<dyn Files> = match kind {
        FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4 => Rc::new(Ext::open(window, device)?),
        FilesystemKind::Xfs => Rc::new(Xfs::open(window, device)?),
        FilesystemKind::Vfat => Rc::new(Fat::open(window)?),
        FilesystemKind::Iso9660 => Rc::new(Iso9660::open(window)?),
        FilesystemKind::Ntfs => Rc::new(Ntfs::open(window)?),
        FilesystemKind::Btrfs => {
            let files = Btrfs::open(window, device, subvolume)?;
            return Ok(Opened { subvolume: Some(files.number()), files: Rc::new(files) });
        }
        _ => return Err(format!("there is no reader for {kind}")),
    };
    Ok(Opened { files, subvolume: None })
}

/// Returns the subvolumes at the top of a file system; none where it has none, or cannot be read.
pub(crate) fn subvolumes(window: &Window, kind: FilesystemKind) -> Vec<Subvolume> {
    if kind != FilesystemKind::Btrfs {
        return Vec::new();
    }
    Btrfs::at_top(window).unwrap_or_default().into_iter().map(Subvolume::Number).collect()
}
