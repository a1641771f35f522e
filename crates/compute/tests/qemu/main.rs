//! The QEMU driver against real QEMU processes whose guest is a boot sector.
//!
//! Their bases are served over NBD. Needs `qemu-system-x86`, `qemu-utils`, `ovmf`, `mtools`, `dosfstools` and `blkid`. All guests run under TCG, which
//! every host has.

mod bases;
mod bench;
mod config_drive;
mod contract;
mod faults;
mod guest;
mod isolation;
mod survival;
