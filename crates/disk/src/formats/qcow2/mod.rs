//! qcow2, versions 2 and 3, after `docs/interop/qcow2.rst` of QEMU.

mod append;
#[cfg_attr(not(test), expect(dead_code, reason = "the command that asks for it comes next"))]
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

pub(crate) use read::open;
pub(crate) use write::{OPTIONS, write};
