//! What is inside a disk: partitions, file systems and the operating system.
//!
//! disk -> partitions -> logical volumes -> file systems (recognised by superblock) -> trees -> OS and boot
//! -> findings -> plan -> [`Overlay`], in which [`ExtWriter`], [`FatWriter`] or a micro-VM ([`Machine`]) changes files, after programs
//! of the guest where they may run ([`Programs`]) -> changed ranges
//! only when asked for: the drivers of each kernel, what its initramfs holds, installed packages
//!
//! Every byte of the disk is an attacker's. Invariants: nothing is followed out of the guest's own root, every
//! file and directory that is read has a size limit, one [`inspect()`] has a limit of reads, bytes and seconds,
//! and what is broken in a guest becomes a note of the [`Report`].
//! Not here: formats of disk files (`disk`), and how a report is shown.
#![forbid(unsafe_code)]

mod boot;
mod browse;
mod budget;
mod check;
#[cfg(fuzzing)]
mod contained;
mod contents;
mod fields;
mod filesystems;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod initramfs;
mod inspect;
mod json;
mod os;
mod partitions;
mod pieces;
mod place;
mod plan;
mod prepare;
mod programs;
pub mod registry;
mod report;
mod systems;
mod text;
mod tree;
mod virtio_win;
mod vm;
mod volumes;
mod window;
mod worker;
mod write;

pub use agent::{Touch, Touched};
pub use browse::{Browser, Difference, Entry, EntryKind, compare};
pub use check::{Action, Choice, Evidence, Finding, KINDS, Kind, Severity};
pub use initramfs::write::{InitramfsEntry, initramfs_segment};
pub use inspect::{inspect, inspect_with};
pub use json::touched_to_json;
pub use plan::{Change, Plan, State, plan};
pub use prepare::{PrepareOptions, Prepared, prepare, prepare_with};
pub use programs::{Program, Programs};
pub use report::{
    Boot, CloudInit, CloudbaseInit, Driver, DriverState, Filesystem, FilesystemKind, Initramfs, Kernel, Network,
    NetworkStack, Os, OsKind, Package, Partition, PartitionTable, Report, Windows, WindowsAdapter, WindowsProgram,
    WindowsService, WindowsVolume,
};
pub use systems::Extras;
pub use virtio_win::{Drivers, VirtioWin};
pub use vm::Machine;
pub use worker::{Sandbox, WORKER, run_worker, run_worker_after};
pub use write::{Attributes, ExtWriter, FatWriter, Overlay};
