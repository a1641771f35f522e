//! VMDK, the disk of VMware, after VMware's "Virtual Disk Format 5.0": one file with an embedded descriptor.

mod descriptor;
mod header;
mod read;

pub(crate) use descriptor::is_descriptor;
pub(crate) use header::{COW_DISK, MAGIC};
pub(crate) use read::open;
