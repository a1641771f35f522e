//! Prepare: makes the changes of a plan on an overlay, and looks again whether they hold.
//!
//! disk -> journals that cannot be read are replayed -> programs of the guest, where they may run -> plan -> overlay + engines (own writers of ext, FAT and the registry on NTFS, micro-VM)
//! -> examined again: nothing is left to change -> overlay to be stored
//!
//! Invariants: the disk itself is never written; whatever fails, there is no overlay, so that nothing is half done; a guest
//! that needs nothing has an overlay without changes, so that preparing twice is preparing once.

mod engines;
mod ntfs;
mod own;
mod programs;

use std::ops::Range;
use std::sync::Arc;

use agent::Touched;
use disk::error::{Error, Result};
use disk::source::Source;

use self::engines::Work;
use self::programs::Run;
use crate::check::{Choice, Finding};
use crate::plan::{self, Change, Plan};
use crate::programs::Program;
use crate::vm::Machine;
use crate::write::Overlay;

/// Bytes that are moved at once from one overlay to another.
const PIECE: u64 = 1 << 20;

/// How prepare runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareOptions {
    /// What is repaired.
    pub choice: Choice,
    /// The time that changed files get, in seconds since 1970.
    pub now: u64,
    /// Whether a record of what was done is left in the guest, in `/var/log/molde-prepare.log`.
    pub record: bool,
}

/// What prepare did.
#[derive(Debug)]
pub struct Prepared {
    /// What was found before, the programs that ran, and each change of a file that came after them.
    pub plan: Plan,
    /// What these programs changed.
    pub touched: Touched,
    /// What is found now, the worst first.
    pub after: Vec<Finding>,
    /// The disk with the changes.
    pub overlay: Overlay,
}

/// Repairs the guest on `disk`; nothing is written to it.
///
/// # Errors
/// As [`crate::plan()`]; `Refused` or `Unsupported` with the reason and a way out when a file system cannot be written here.
pub fn prepare(disk: Arc<dyn Source>, options: &PrepareOptions) -> Result<Prepared> {
    prepare_with(disk, options, &Machine::default())
}

/// Does the same with another micro-VM.
///
/// # Errors
/// As [`prepare()`].
pub fn prepare_with(disk: Arc<dyn Source>, options: &PrepareOptions, machine: &Machine) -> Result<Prepared> {
    prepare_by(&plan::plan, disk, options, machine)
}

/// Examines a disk and plans its repair, as [`plan::plan`] does.
pub(crate) type Planner<'a> = &'a dyn Fn(Arc<dyn Source>, &Choice) -> Result<Plan>;

/// Does the same with another way of planning.
pub(crate) fn prepare_by(
    planner: Planner<'_>,
    disk: Arc<dyn Source>,
    options: &PrepareOptions,
    machine: &Machine,
) -> Result<Prepared> {
    let choice = &options.choice;
    let mut plan = planner(Arc::clone(&disk), choice)?;
    // Each on the one before it.
    let mut layers: Vec<Arc<Overlay>> = Vec::new();
    if let Some(overlay) = engines::replay(&disk, &plan.report, options.now, machine)? {
        layers.push(Arc::new(overlay));
        plan = planner(top(&disk, &layers), choice)?;
    }
    let (mut touched, mut after) = (Touched::default(), plan.findings.clone());
    if let Some(programs) = choice.programs.as_ref().filter(|_| !plan.programs.is_empty()) {
        let base = top(&disk, &layers);
        let record = options.record.then(|| record(plan.programs.iter().map(Program::summary), options.now));
        let run = Run { machine, disk: &base, plan: &plan, programs, record: record.as_deref(), now: options.now };
        let (overlay, changed) = programs::run(&run)?;
        touched = changed;
        layers.push(Arc::new(overlay));
        let then = planner(top(&disk, &layers), choice)?;
        if let Some(program) = then.programs.first() {
            let told =
                format!("{} ended well, and there is still {}; nothing was kept", program.summary(), program.finding);
            return Err(
                Error::refused(told).with_hint("repair it in the running guest, and leave out the guest's programs")
            );
        }
        after = then.findings;
        plan = Plan { changes: then.changes, record: then.record, ..plan };
    }
    if plan.changes.is_empty() && plan.programs.is_empty() {
        return Ok(Prepared { plan, touched, after, overlay: Overlay::new(disk) });
    }
    if !plan.changes.is_empty() {
        let base = top(&disk, &layers);
        let mut overlay = Overlay::new(Arc::clone(&base));
        let record = options.record.then(|| record(plan.changes.iter().map(Change::summary), options.now));
        let work = Work { disk: &base, plan: &plan, record: record.as_deref(), now: options.now, machine };
        engines::apply(&work, &mut overlay)?;
        layers.push(Arc::new(overlay));
        let again = planner(top(&disk, &layers), choice)?;
        if let Some(change) = again.changes.first() {
            let told = format!(
                "the guest was prepared, and afterwards there is still to {}; nothing was kept",
                change.summary()
            );
            return Err(Error::refused(told).with_hint(
                "this is a fault of Molde: please report it with the output of `molde guest prepare --dry-run`",
            ));
        }
        after = again.findings;
    }
    if layers.len() > 1 {
        layers = vec![Arc::new(flattened(&disk, &layers)?)];
    }
    let overlay = layers.pop().and_then(Arc::into_inner);
    let overlay = overlay.ok_or_else(|| Error::refused("the overlay is still being read"))?;
    Ok(Prepared { plan, touched, after, overlay })
}

/// Returns the disk with all layers.
fn top(disk: &Arc<dyn Source>, layers: &[Arc<Overlay>]) -> Arc<dyn Source> {
    layers.last().map_or_else(|| Arc::clone(disk), |top| Arc::clone(top) as Arc<dyn Source>)
}

/// Returns one overlay on `disk` with what `layers` hold.
fn flattened(disk: &Arc<dyn Source>, layers: &[Arc<Overlay>]) -> Result<Overlay> {
    let mut flat = Overlay::new(Arc::clone(disk));
    let top = top(disk, layers);
    for Range { start, end } in layers.iter().flat_map(|layer| layer.changes()) {
        let mut at = start;
        while at < end {
            let mut bytes = vec![0; (end - at).min(PIECE) as usize];
            top.read_at(&mut bytes, at)?;
            flat.write_at(&bytes, at)?;
            at += bytes.len() as u64;
        }
    }
    Ok(flat)
}

/// Describes what is done, for whoever looks into the guest later.
fn record(steps: impl Iterator<Item = String>, now: u64) -> String {
    let mut text = format!("Molde prepared this disk at {now} (seconds since 1970):\n");
    steps.for_each(|step| text.push_str(&format!("  {step}\n")));
    text
}
