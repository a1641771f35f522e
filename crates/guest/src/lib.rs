//! What is inside a disk: partitions, file systems and the operating system.
//!
//! disk -> partitions -> file systems (recognised by superblock) -> trees (ext, NTFS and FAT are opened) -> OS and boot
//!
//! Every byte of the disk is an attacker's. Invariants: nothing is followed out of the guest's own root, every
//! file and directory that is read has a size limit, one [`inspect()`] has a limit of reads, bytes and seconds,
//! and what is broken in a guest becomes a note of the [`Report`].
//! Not here: formats of disk files (`disk`), and how a report is shown.
#![forbid(unsafe_code)]

mod boot;
mod budget;
mod fields;
mod filesystems;
mod inspect;
mod os;
mod partitions;
pub mod registry;
mod report;
mod text;
mod tree;
mod window;

pub use inspect::inspect;
pub use report::{
    Boot, CloudInit, CloudbaseInit, Filesystem, FilesystemKind, Os, OsKind, Partition, PartitionTable, Report, Windows,
    WindowsAdapter, WindowsProgram, WindowsService, WindowsVolume,
};
