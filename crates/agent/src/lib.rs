//! What the micro-VM of prepare is told and what it answers; the program that runs in it is `molde-agent`.
//!
//! host: [`Job`] -> bytes in the initramfs -> agent: mounts, checks, changes, unmounts -> [`Answer`] on the second serial port
//!
//! Invariants: the agent is given finished bytes and plain paths; it changes nothing where not all stands as the job says; it runs
//! a guest's programs only where the job has a [`Visit`], in a cage; what it answers is text, for the host to take as the word of
//! a hostile machine.
#![forbid(unsafe_code)]

mod answer;
mod bytes;
mod job;

pub use answer::{ANSWER_MAX, Answer, Touch, Touched};
pub use job::{After, Before, Branch, Job, Mount, Operation, Visit};

/// Where the job lies in the initramfs.
pub const JOB: &str = "job";
/// Folder in the initramfs of the kernel modules, which are called by their number in the order of loading.
pub const MODULES: &str = "modules";
/// A kind of file system that no kernel of Debian knows: the host's program of this name serves it, through FUSE. It lies at
/// the top of the initramfs, and it is all that is ever started there.
pub const NTFS: &str = "ntfs-3g";
/// Folder in the guest's tree of the files that its programs are given, there only while they run.
pub const GIVEN: &str = "/tmp/molde";
/// Folder in the initramfs of the libraries that it needs.
pub const LIBRARIES: &str = "lib";
/// What a drive is called by its serial number, before its number.
pub const DRIVE: &str = "molde-";
