//! VHDX, fixed and dynamic, after Microsoft's MS-VHDX, "Virtual Hard Disk v2 (VHDX) File Format".

mod bat;
mod header;
mod log;
mod metadata;
mod overlay;
mod read;
mod structures;
mod write;

pub(crate) use read::{not_for_qemu, open};
pub(crate) use write::{OPTIONS, write};
