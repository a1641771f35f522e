//! VMDK, the disk of VMware, after VMware's "Virtual Disk Format 5.0": one file with a descriptor inside, a set of files
//! with a descriptor beside them, or a compressed stream.

mod chain;
mod describe;
mod descriptor;
mod esx;
mod grains;
mod header;
mod hosted;
mod layout;
mod read;
mod set;
mod stream;
mod write;

pub use describe::flat_descriptor;
pub(crate) use descriptor::is_descriptor;
pub(crate) use esx::{COW_DISK, SE_SPARSE};
pub(crate) use header::MAGIC;
pub(crate) use read::open;
pub(crate) use write::{OPTIONS, write};
