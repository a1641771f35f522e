//! The doctor: what keeps a guest from starting elsewhere and from being an image, and what prepare would do about it.
//!
//! ```text
//!   tree -> checks, each: look -> finding -> (chosen?) edit the draft -> findings + plan
//! ```
//! One piece of code finds a fault and repairs it, so that the two cannot differ. Invariants: nothing is written to the disk;
//! a repaired draft has none of the faults that were repaired, so that a second plan is empty; nothing in a plan depends on
//! time or chance; no secret is shown.

mod choice;
mod doctor;
mod draft;
mod finding;
mod kinds;
mod lines;
mod linux;
mod windows;

pub use choice::Choice;
pub(crate) use draft::After;
pub use finding::{Action, Evidence, Finding, Kind, Severity};
pub use kinds::KINDS;
pub(crate) use linux::RECORD;

use std::collections::BTreeMap;

use self::doctor::{Doctor, Examined};
use self::kinds::{NO_SYSTEM, UNCLEAN};
use crate::programs::Program;
use crate::report::{OsKind, Report};
use crate::tree::Tree;

/// What was found in a guest, and what repairs it.
pub(crate) struct Examination {
    /// What was found, the worst first.
    pub(crate) findings: Vec<Finding>,
    /// What is to stand at which path.
    pub(crate) drafted: BTreeMap<String, After>,
    /// Programs of the guest that run before.
    pub(crate) programs: Vec<Program>,
}

/// Examines an opened guest, and finds out what repairs what `choice` takes.
pub(crate) fn examine(report: &Report, tree: Option<&Tree>, choice: &Choice) -> Examination {
    let kind = report.os.as_ref().map(|os| os.kind);
    let is_known = matches!(kind, Some(OsKind::Linux | OsKind::Windows));
    let Some(tree) = tree.filter(|_| is_known) else {
        let text = "No system that can be examined was found on this disk.".to_owned();
        let findings = vec![Finding { kind: &NO_SYSTEM, action: NO_SYSTEM.action, text, evidence: Vec::new() }];
        return Examination { findings, drafted: BTreeMap::new(), programs: Vec::new() };
    };
    let mut doctor = Doctor::new(tree, report, choice);
    match kind {
        Some(OsKind::Windows) => windows::run(&mut doctor),
        _ => linux::run(&mut doctor),
    }
    for note in report.notes.iter().filter(|note| note.contains("was not shut down cleanly")) {
        doctor.tell(&UNCLEAN, note.clone(), Vec::new());
    }
    let Examined { findings, draft, programs } = doctor.finish();
    Examination { findings, drafted: draft.into_changes(), programs }
}
