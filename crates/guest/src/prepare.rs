//! Prepare: makes the changes of a plan on an overlay, and looks again whether they hold.
//!
//! disk -> journals that cannot be read are replayed -> plan -> overlay + engines (own writers of ext, FAT and the registry on NTFS, micro-VM)
//! -> examined again: nothing is left to change -> overlay to be stored
//!
//! Invariants: the disk itself is never written; whatever fails, there is no overlay, so that nothing is half done; a guest
//! that needs nothing has an overlay without changes, so that preparing twice is preparing once.

mod engines;
mod ntfs;
mod own;

use std::ops::Range;
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;

use self::engines::Work;
use crate::check::{Choice, Finding};
use crate::plan::Plan;
use crate::vm::Machine;
use crate::worker::Sandbox;
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
    /// What was found before, and each change.
    pub plan: Plan,
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
    prepare_by(&Sandbox::none(), disk, options, machine)
}

/// Does the same where disks are looked into in `sandbox`.
pub(crate) fn prepare_by(
    sandbox: &Sandbox,
    disk: Arc<dyn Source>,
    options: &PrepareOptions,
    machine: &Machine,
) -> Result<Prepared> {
    let mut plan = sandbox.plan(Arc::clone(&disk), &options.choice)?;
    let mut replayed = None;
    if let Some(overlay) = engines::replay(&disk, &plan.report, options.now, machine)? {
        let overlay = Arc::new(overlay);
        plan = sandbox.plan(overlay.clone(), &options.choice)?;
        replayed = Some(overlay);
    }
    if plan.changes.is_empty() {
        return Ok(Prepared { after: plan.findings.clone(), plan, overlay: Overlay::new(disk) });
    }
    let base: Arc<dyn Source> = match &replayed {
        Some(overlay) => overlay.clone(),
        None => Arc::clone(&disk),
    };
    let mut overlay = Overlay::new(Arc::clone(&base));
    let record = options.record.then(|| record(&plan, options.now));
    engines::apply(
        &Work { disk: &base, plan: &plan, record: record.as_deref(), now: options.now, machine },
        &mut overlay,
    )?;
    if let Some(replayed) = replayed {
        overlay = flattened(disk, &overlay, &replayed)?;
    }
    let overlay = Arc::new(overlay);
    let again = sandbox.plan(overlay.clone(), &options.choice)?;
    if let Some(change) = again.changes.first() {
        let told =
            format!("the guest was prepared, and afterwards there is still to {}; nothing was kept", change.summary());
        return Err(Error::refused(told).with_hint(
            "this is a fault of Molde: please report it with the output of `molde guest prepare --dry-run`",
        ));
    }
    let overlay = Arc::into_inner(overlay).ok_or_else(|| Error::refused("the overlay is still being read"))?;
    Ok(Prepared { plan, after: again.findings, overlay })
}

/// Returns one overlay on `disk` with what `top` holds, which lies on `below`.
fn flattened(disk: Arc<dyn Source>, top: &Overlay, below: &Overlay) -> Result<Overlay> {
    let mut flat = Overlay::new(disk);
    for Range { start, end } in below.changes().into_iter().chain(top.changes()) {
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
fn record(plan: &Plan, now: u64) -> String {
    let mut text = format!("Molde prepared this disk at {now} (seconds since 1970):\n");
    plan.changes.iter().for_each(|change| text.push_str(&format!("  {}\n", change.summary())));
    text
}
