//! Parallels expandable disks, after `docs/interop/parallels.rst` of QEMU.

mod extension;
mod header;
mod read;

pub(crate) use read::open;
