//! QED, after `docs/interop/qed_spec.rst` of QEMU.

mod header;
mod read;

pub(crate) use read::open;
