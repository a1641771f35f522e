//! VDI, the disk of VirtualBox, after `Storage/VDICore.h` of VirtualBox and `block/vdi.c` of QEMU.

mod read;
mod write;

pub(crate) use read::{SIGNATURE, open};
pub(crate) use write::{OPTIONS, write};
