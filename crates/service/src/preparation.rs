//! Preparing the disk of an image: what is found and done, and the report of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use disk::source::Source;
use guest::{Change, Choice, Finding, Overlay, Plan, PrepareOptions, Sandbox, Severity};
use model::Timestamp;
use model::images::Image;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::inspection::{self, declared_otherwise};

/// What an image's properties that only Molde sets begin with.
pub(crate) const RESERVED: &str = "molde:";
/// Whether prepare changed the image: `prepared`, `nothing-to-do`, `not-asked`, `refused` or `undone`.
pub(crate) const PREPARE: &str = "molde:prepare";
/// How many findings keep the image from starting or from being a cloud's server.
pub(crate) const BLOCKING: &str = "molde:blocking";
/// Huawei's word for having been prepared.
const IS_CONFIGURED: &str = "__is_config_init";
/// Largest report that is kept with its diffs, in bytes of JSON.
const REPORT_MAX: usize = 4 << 20;
const OWN_FAULT: &str = "Molde came upon a fault of its own; please report it";

/// What became of a disk that was to be prepared.
pub(crate) struct Preparation {
    /// The changed disk, where anything was changed.
    pub(crate) overlay: Option<Overlay>,
    /// One of the words of [`PREPARE`].
    pub(crate) state: &'static str,
    /// Findings that keep the image from starting or from being a cloud's server, now.
    pub(crate) blocking: usize,
    /// The report that is kept.
    pub(crate) report: Value,
    /// What was found, as properties of an image.
    pub(crate) found: BTreeMap<String, String>,
    /// What was done, in sentences for the job's log.
    pub(crate) lines: Vec<String>,
}

/// Prepares the guest on `disk` as `choice` says, or only looks at it where there is none. What is found is what counts;
/// where the image's properties declare another system, the report says so.
///
/// A guest that cannot be prepared stays as it is, with the reason in its report; only reads that fail are errors.
pub(crate) fn prepare(
    sandbox: &Sandbox,
    disk: Arc<dyn Source>,
    choice: Option<Choice>,
    declared: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Preparation> {
    let (plan, outcome) = match choice {
        None => (look(sandbox, disk)?, Outcome::Left("not-asked", "it was not asked for".to_owned())),
        Some(choice) => try_to_prepare(sandbox, disk, choice, now)?,
    };
    let mut report = plan.to_json();
    report["inspected"] = plan.report.to_json();
    let found = inspection::properties(&plan.report);
    report["at"] = json!(now.to_string());
    let mut lines: Vec<String> = plan.report.os.iter().filter_map(|os| declared_otherwise(declared, os)).collect();
    if let Some(notes) = report["notes"].as_array_mut() {
        notes.extend(lines.iter().map(|line| json!(line)));
    }
    match outcome {
        Outcome::Left(state, reason) => {
            lines.push(format!("nothing was changed: {reason}"));
            report["state"] = json!(state);
            report["reason"] = json!(reason);
            Ok(Preparation { overlay: None, state, blocking: blocking(&plan.findings), report, found, lines })
        }
        Outcome::Done { after, overlay } => {
            lines.extend(plan.changes.iter().map(Change::summary));
            let overlay = (!plan.changes.is_empty()).then_some(overlay);
            let state = if overlay.is_some() { "prepared" } else { "nothing-to-do" };
            let changed = overlay.as_ref().map(Overlay::changes).unwrap_or_default();
            report["state"] = json!(state);
            report["findings_after"] = after.iter().map(Finding::to_json).collect();
            report["blocking_after"] = json!(blocking(&after));
            report["changed_bytes"] = json!(overlay.as_ref().map_or(0, Overlay::changed_bytes));
            report["changed_ranges"] = changed.iter().map(|range| json!([range.start, range.end])).collect();
            Ok(Preparation { overlay, state, blocking: blocking(&after), report, found, lines })
        }
    }
}

/// How it went.
enum Outcome {
    /// The disk is as it was, in one of the words of [`PREPARE`], and why.
    Left(&'static str, String),
    /// All was changed that the plan names.
    Done { after: Vec<Finding>, overlay: Overlay },
}

fn try_to_prepare(sandbox: &Sandbox, disk: Arc<dyn Source>, choice: Choice, now: Timestamp) -> Result<(Plan, Outcome)> {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let options = PrepareOptions { choice, now: seconds, record: true };
    // A fault of Molde in what it does to a strange disk must not cost the image.
    let done = catch_unwind(AssertUnwindSafe(|| sandbox.prepare(Arc::clone(&disk), &options)));
    let why = match done {
        Ok(Ok(done)) => return Ok((done.plan, Outcome::Done { after: done.after, overlay: done.overlay })),
        Ok(Err(error)) if error.kind() == disk::ErrorKind::Io => return Err(error.into()),
        Ok(Err(error)) => Error::from(error).sentence(),
        Err(_) => OWN_FAULT.to_owned(),
    };
    Ok((look(sandbox, disk)?, Outcome::Left("refused", why)))
}

/// Finds out what there is to be found; nothing but the reason, on a disk that cannot be looked into.
fn look(sandbox: &Sandbox, disk: Arc<dyn Source>) -> Result<Plan> {
    let mut nothing = Plan::default();
    match catch_unwind(AssertUnwindSafe(|| sandbox.plan(disk, &Choice::default()))) {
        Ok(Ok(plan)) => return Ok(plan),
        Ok(Err(error)) if error.kind() == disk::ErrorKind::Io => return Err(error.into()),
        Ok(Err(error)) => nothing.report.notes.push(Error::from(error).sentence()),
        Err(_) => nothing.report.notes.push(OWN_FAULT.to_owned()),
    }
    Ok(nothing)
}

fn blocking(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.kind.severity <= Severity::BlocksCloud).count()
}

/// Returns the text of a report as it is kept: without diffs where it would be too large with them.
pub(crate) fn text_of(mut report: Value) -> String {
    let text = report.to_string();
    if text.len() <= REPORT_MAX {
        return text;
    }
    without_diffs(&mut report);
    report.get_mut("earlier").and_then(Value::as_array_mut).into_iter().flatten().for_each(without_diffs);
    if let Some(notes) = report["notes"].as_array_mut() {
        notes.push(json!("The diffs were too large to be kept."));
    }
    report.to_string()
}

fn without_diffs(report: &mut Value) {
    for change in report["changes"].as_array_mut().into_iter().flatten() {
        change["diff"] = Value::Null;
    }
}

/// Writes into the properties of an image what became of its preparation.
pub(crate) fn describe(image: &mut Image, state: &str, blocking: usize) {
    image.properties.insert(PREPARE.to_owned(), state.to_owned());
    image.properties.insert(BLOCKING.to_owned(), blocking.to_string());
    let is_fit = matches!(state, "prepared" | "nothing-to-do");
    image.properties.insert(IS_CONFIGURED.to_owned(), is_fit.to_string());
}
