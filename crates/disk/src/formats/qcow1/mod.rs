//! qcow version 1, after `block/qcow.c` of QEMU; there is no other specification.

mod header;
mod read;

pub(crate) use read::open;
