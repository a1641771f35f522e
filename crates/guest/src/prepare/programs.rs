//! Programs of the guest: they run in the micro-VM, on the disk as it is, before the files are planned that are changed.

use std::sync::Arc;

use agent::{After, Before, Operation, Touched};
use disk::error::{Error, Result};
use disk::source::Source;

use super::engines::{refuse_damage, refuse_snapshots};
use super::own::cannot;
use crate::place::{self, Place};
use crate::plan::{Branch, Plan};
use crate::programs::{Program, Programs};
use crate::report::FilesystemKind;
use crate::vm::{self, Machine};
use crate::write::Overlay;

/// Has SELinux label all files at the next start of the guest: its policy is not in force where the programs run.
const RELABEL: &str = "/.autorelabel";

/// What is to be run, and how.
pub(super) struct Run<'a> {
    pub(super) machine: &'a Machine,
    pub(super) disk: &'a Arc<dyn Source>,
    pub(super) plan: &'a Plan,
    pub(super) programs: &'a Programs,
    /// What is left in the guest to tell of it.
    pub(super) record: Option<&'a str>,
    pub(super) now: u64,
}

/// Runs the programs of the plan; returns the disk with what they changed, and the paths.
pub(super) fn run(run: &Run<'_>) -> Result<(Overlay, Touched)> {
    let names: Vec<String> = run.plan.programs.iter().map(Program::summary).collect();
    try_to_run(run).map_err(|error| cannot(&names.join(", "), &error))
}

fn try_to_run(run: &Run<'_>) -> Result<(Overlay, Touched)> {
    let plan = run.plan;
    let mut devices: Vec<&str> = Vec::new();
    for branch in &plan.branches {
        if !devices.contains(&branch.device.as_str()) {
            devices.push(&branch.device);
        }
    }
    let places = place::find(run.disk, &devices)?;
    let mut branches: Vec<(&Branch, usize)> = Vec::new();
    for branch in &plan.branches {
        let number = devices.iter().position(|device| *device == branch.device);
        let Some((number, place)) = number.map(|number| (number, &places[number])) else { continue };
        // What neither the guest nor the machine writes is not missed.
        if is_linux(place.kind) || place.kind == FilesystemKind::Vfat {
            refuse(run.disk, place).map_err(|error| cannot(&format!("change {}", branch.device), &error))?;
            branches.push((branch, number));
        }
    }
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for program in &plan.programs {
        files.extend(run.programs.read(program)?);
    }
    let commands = plan.programs.iter().map(|program| program.arguments.clone()).collect();
    let visit = vm::visit(&branches, &places, files, commands);
    let root = visit.tree.first().filter(|branch| branch.at == "/").cloned();
    let root = root.ok_or_else(|| Error::unsupported("the root of the guest is on no file system of Linux"))?;
    let mut mounts = Vec::new();
    if let Some((file, text)) = plan.record.as_ref().zip(run.record)
        && let Some(number) = devices.iter().position(|device| *device == file.device)
    {
        mounts.extend(vm::mounts(number, places[number].kind, &[], Some((file, text)))?);
    }
    if plan.has_labels {
        let operation =
            Operation { path: RELABEL.as_bytes().to_vec(), before: Before::Log, after: After::Appended(Vec::new()) };
        let agent::Branch { drive, kind, options, .. } = root;
        mounts.push(agent::Mount { drive, kind, options, operations: vec![operation] });
    }
    let mut overlay = Overlay::new(Arc::clone(run.disk));
    let work = vm::Work { places, visit: Some(visit), mounts, now: run.now };
    let touched = vm::run(run.machine, run.disk, work, &mut overlay)?;
    Ok((overlay, touched))
}

fn is_linux(kind: FilesystemKind) -> bool {
    use FilesystemKind::{Btrfs, Ext2, Ext3, Ext4, Xfs};
    matches!(kind, Ext2 | Ext3 | Ext4 | Xfs | Btrfs)
}

fn refuse(disk: &Arc<dyn Source>, place: &Place) -> Result<()> {
    use FilesystemKind::{Ext2, Ext3, Ext4};
    refuse_snapshots(place)?;
    if matches!(place.kind, Ext2 | Ext3 | Ext4) { refuse_damage(&**disk, place) } else { Ok(()) }
}
