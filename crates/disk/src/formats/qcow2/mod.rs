//! qcow2, versions 2 and 3, after `docs/interop/qcow2.rst` of QEMU.

mod append;
mod backing;
mod check;
mod clusters;
mod compress;
mod encryption;
mod header;
mod read;
mod stream;
mod uses;
mod verify;
mod write;

pub(crate) use check::check;
pub(crate) use read::open;
pub(crate) use write::{OPTIONS, overlay, write};
