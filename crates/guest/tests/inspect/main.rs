//! Inspection of disks that real tools made: e2fsprogs, dosfstools, mtools, fdisk and others.
//!
//! A missing tool fails its test with the name of the Debian package that has it.

mod disks;
mod hives;
mod hostile;
mod mutation;
mod recognised;
mod systems;
mod tables;
mod volume;
mod windows;
mod windows_registry;
