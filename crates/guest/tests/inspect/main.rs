//! Inspection of disks that real tools made: e2fsprogs, dosfstools, mtools, fdisk and others.
//!
//! A missing tool fails its test with the name of the Debian package that has it.

mod btrfs;
mod check;
mod command_lines;
mod disks;
mod efi;
mod families;
mod hives;
mod hostile;
mod kernels;
mod lvm;
mod micro_vm;
mod mutation;
mod packages;
mod phony;
mod prepare;
mod programs;
mod recognised;
mod systems;
mod tables;
mod trees;
mod volume;
mod volumes;
mod windows;
mod windows_check;
mod windows_drivers;
mod windows_prepare;
mod windows_registry;
