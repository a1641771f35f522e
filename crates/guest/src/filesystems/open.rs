//! Which reader opens which file system.

use std::rc::Rc;

use super::ext::Ext;
use super::files::Files;
use super::ntfs::Ntfs;
use crate::report::FilesystemKind;
use crate::window::Window;

/// Returns whether there is a reader for the files of `kind`.
pub(crate) fn is_readable(kind: FilesystemKind) -> bool {
    matches!(kind, FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4 | FilesystemKind::Ntfs)
}

/// Opens the file system of `kind` in `window`; an error says why it cannot be read. `device` is for notes.
pub(crate) fn open(window: &Window, kind: FilesystemKind, device: &str) -> Result<Rc<dyn Files>, String> {
    match kind {
        FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4 => Ok(Rc::new(Ext::open(window, device)?)),
        FilesystemKind::Ntfs => Ok(Rc::new(Ntfs::open(window)?)),
        _ => Err(format!("there is no reader for {kind}")),
    }
}
