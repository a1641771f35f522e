//! The micro-VM: a Linux kernel of the host's distribution changes file systems that no writer here can change.
//!
//! volumes (file systems as they lie on the disk) --NBD--> QEMU: qcow2 of what is written <- kernel <- agent <- job
//! the qcow2 is read afterwards, and what differs goes to the [`Overlay`], at its places on the disk
//!
//! The disk is never written. The machine sees volumes only: no partition table, no LVM, no network, nothing of the host. Programs of
//! the guest run in it only where a plan has some, which takes the caller's leave ([`crate::Programs`]).
//! Invariants: it has a limit of time, of memory and of what it writes; one that says nothing is started once more; nothing of
//! what it wrote is taken unless its agent said that all was done and QEMU ended well.

mod driver;
mod elf;
mod initramfs;
mod job;
mod kernel;
mod machine;
mod module;
mod qcow2;
mod qemu;
mod vmlinux;
mod volume;

use std::sync::Arc;

use agent::{Job, Touched, Visit};
use disk::error::{Error, Result};
use disk::source::Source;

pub(crate) use self::job::{mounts, ntfs_mount, operation, visit};
pub use self::machine::Machine;
use self::machine::missing;
use self::volume::Volume;
use crate::place::Place;
use crate::write::Overlay;

/// Most file systems of one run.
const VOLUMES_MAX: usize = 16;
/// Longest job: file contents that are written. The machine holds it four times.
const JOB_MAX: usize = 64 << 20;

/// What is done in the machine.
pub(crate) struct Work {
    /// The file systems, which are the drives of the machine in this order.
    pub(crate) places: Vec<Place>,
    /// Programs of the guest that run first.
    pub(crate) visit: Option<Visit>,
    /// What is changed then.
    pub(crate) mounts: Vec<agent::Mount>,
    /// The time that changed files get, in seconds since 1970.
    pub(crate) now: u64,
}

/// Does `work` on file systems of `disk`; writes to `overlay` what has changed, and returns what programs of the guest changed.
///
/// # Errors
///
/// Nothing is written to `overlay` by the machine itself; when this fails, `overlay` is to be thrown away.
pub(crate) fn run(machine: &Machine, disk: &Arc<dyn Source>, work: Work, overlay: &mut Overlay) -> Result<Touched> {
    let Work { places, visit, mounts, now } = work;
    if places.len() > VOLUMES_MAX {
        let told = format!("{} file systems would have to be changed at once; {VOLUMES_MAX} can be", places.len());
        return Err(Error::unsupported(told));
    }
    let kernel = kernel::newest(machine).ok_or_else(|| missing("kernel"))?;
    let branches = visit.iter().flat_map(|visit| visit.tree.iter().map(|branch| branch.kind.as_str()));
    let kinds: Vec<&str> = mounts.iter().map(|mount| mount.kind.as_str()).chain(branches).collect();
    let (image, modules) = (kernel.image()?, kernel.modules(&kinds)?);
    let parts = if kinds.contains(&agent::NTFS) { driver::parts(machine)? } else { Vec::new() };
    let runs_programs = visit.is_some();
    let job = Job { now, modules: modules.len() as u64, visit, mounts }.to_bytes();
    if job.len() > JOB_MAX {
        return Err(Error::unsupported(format!("more than {} MiB would be written", JOB_MAX >> 20)));
    }
    let initramfs = initramfs::pack(&modules, &job, &parts)?;
    let volumes: Vec<Arc<Volume>> =
        places.into_iter().map(|place| Arc::new(Volume::new(Arc::clone(disk), place))).collect();
    let start = qemu::Start { machine, initramfs: &initramfs, runs_programs };
    let written = match start.run(image.unpacked.as_ref().unwrap_or(&image.packed), &volumes) {
        // A program that hung once would do so again. What else says nothing may be a kernel that only its own unpacker can start.
        Err(qemu::Fault::Hung | qemu::Fault::Silent(_)) if !runs_programs => start.run(&image.packed, &volumes),
        ended => ended,
    };
    // What could not be read is the cause of all that followed.
    if let Some(failure) = volumes.iter().find_map(|volume| volume.take_failure()) {
        return Err(failure);
    }
    let written = written.map_err(|fault| fault.into_error(&start))?;
    for (volume, file) in volumes.iter().zip(&written.files) {
        qcow2::read_back(volume, file, overlay)?;
    }
    Ok(written.touched)
}
