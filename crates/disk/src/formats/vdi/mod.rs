//! VDI, the disk of VirtualBox, after `Storage/VDICore.h` of VirtualBox and `block/vdi.c` of QEMU.

mod read;

pub(crate) use read::{SIGNATURE, open};
