//! Preparing the disk of an image: what is found and done, and the report of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use disk::source::Source;
use guest::{
    Change, Choice, Finding, Overlay, Plan, PrepareOptions, Prepared, Program, Sandbox, Severity, Touched,
    touched_to_json,
};
use model::Timestamp;
use model::images::Image;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::inspection::{self, declared_otherwise};
use crate::original::{EARLIER, ORIGINAL};

/// What an image's properties that only Molde sets begin with.
pub(crate) const RESERVED: &str = "molde:";
/// Whether prepare changed the image: `prepared`, `nothing-to-do`, `not-asked`, `refused` or `undone`.
pub(crate) const PREPARE: &str = "molde:prepare";
/// How many findings keep the image from starting or from being a cloud's server.
pub(crate) const BLOCKING: &str = "molde:blocking";
/// Huawei's word for having been prepared.
const IS_CONFIGURED: &str = "__is_config_init";
/// What programs of the guest changed, in its report.
const TOUCHED: &str = "changed_by_programs";
/// Largest report that is kept, in bytes of JSON.
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
    lines.iter().for_each(|line| note(&mut report, line));
    match outcome {
        Outcome::Left(state, reason) => {
            lines.push(format!("nothing was changed: {reason}"));
            report["state"] = json!(state);
            report["reason"] = json!(reason);
            Ok(Preparation { overlay: None, state, blocking: blocking(&plan.findings), report, found, lines })
        }
        Outcome::Done { after, overlay, touched } => {
            lines.extend(plan.programs.iter().map(Program::summary));
            lines.extend(plan.changes.iter().map(Change::summary));
            let is_changed = !plan.changes.is_empty() || !plan.programs.is_empty();
            let overlay = is_changed.then_some(overlay);
            let state = if overlay.is_some() { "prepared" } else { "nothing-to-do" };
            let changed = overlay.as_ref().map(Overlay::changes).unwrap_or_default();
            report["state"] = json!(state);
            report["findings_after"] = after.iter().map(Finding::to_json).collect();
            report[TOUCHED] = touched_to_json(&touched);
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
    Done { after: Vec<Finding>, overlay: Overlay, touched: Touched },
}

fn try_to_prepare(sandbox: &Sandbox, disk: Arc<dyn Source>, choice: Choice, now: Timestamp) -> Result<(Plan, Outcome)> {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let options = PrepareOptions { choice, now: seconds, record: true };
    // A fault of Molde in what it does to a strange disk must not cost the image.
    let done = catch_unwind(AssertUnwindSafe(|| sandbox.prepare(Arc::clone(&disk), &options)));
    let why = match done {
        Ok(Ok(Prepared { plan, touched, after, overlay })) => {
            return Ok((plan, Outcome::Done { after, overlay, touched }));
        }
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

/// Makes a report small enough to be kept: the diffs go first, then all lists.
pub(crate) fn fit(mut report: Value) -> Value {
    for (cut, what) in [(without_diffs as fn(&mut Value), "The diffs"), (without_lists, "The lists of this report")] {
        if report.to_string().len() <= REPORT_MAX {
            break;
        }
        // Of what the image was before, the rest stays: it is needed to give that back.
        report.get_mut(EARLIER).and_then(Value::as_array_mut).into_iter().flatten().for_each(cut);
        cut(&mut report);
        note(&mut report, &format!("{what} were too large to be kept."));
    }
    report
}

fn without_diffs(report: &mut Value) {
    for change in report["changes"].as_array_mut().into_iter().flatten() {
        change["diff"] = Value::Null;
        change["values"] = Value::Null;
    }
}

fn without_lists(report: &mut Value) {
    if let Some(fields) = report.as_object_mut() {
        fields.retain(|name, value| name == EARLIER || !value.is_array());
        fields.remove("inspected");
        fields.remove(TOUCHED);
    }
}

fn note(report: &mut Value, text: &str) {
    match report["notes"].as_array_mut() {
        Some(notes) => notes.push(json!(text)),
        None => report["notes"] = json!([text]),
    }
}

/// Takes out of the report of a prepared image what only the disk before it had: those who may read the image may not
/// read that.
pub(crate) fn without_the_disk_before(report: &mut Value) {
    if report["state"] != "prepared" {
        return;
    }
    let Some(fields) = report.as_object_mut() else { return };
    for own in ["inspected", ORIGINAL, EARLIER, TOUCHED] {
        fields.remove(own);
    }
    let mut keep = |list: &str, names: &[&str]| {
        for entry in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.retain(|name, _| names.contains(&name.as_str()));
            }
        }
    };
    keep("findings", &["id", "severity", "action", "remedy"]);
    keep("programs", &["finding", "summary"]);
    keep("changes", &["path", "device", "summary"]);
    note(report, "What the disk was before it was prepared is shown to the image's owner.");
}

/// Writes into the properties of an image what became of its preparation.
pub(crate) fn describe(image: &mut Image, state: &str, blocking: usize) {
    image.properties.insert(PREPARE.to_owned(), state.to_owned());
    image.properties.insert(BLOCKING.to_owned(), blocking.to_string());
    let is_fit = matches!(state, "prepared" | "nothing-to-do");
    image.properties.insert(IS_CONFIGURED.to_owned(), is_fit.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_too_large_keeps_what_undoing_needs() {
        let half = "x".repeat(REPORT_MAX / 2);
        let change = json!({"path": "/etc/fstab", "diff": half, "values": null});
        let before = json!({"state": "prepared", "changes": [change], "original": {"size_virtual": 1}});
        let report = |ranges: Value| json!({"changes": [change], "changed_ranges": ranges, EARLIER: [before]});
        let small = json!({"changes": [change], "notes": []});
        assert_eq!(fit(small.clone()), small, "what is small stays as it is");

        let cut = fit(report(json!([[0, 4096]])));
        assert_eq!((&cut["changes"][0]["path"], &cut["changes"][0]["diff"]), (&json!("/etc/fstab"), &Value::Null));
        assert_eq!(cut["changed_ranges"], json!([[0, 4096]]));
        assert_eq!(cut[EARLIER][0]["changes"][0]["diff"], Value::Null);
        assert_eq!(cut["notes"], json!(["The diffs were too large to be kept."]));

        let cut = fit(report(vec![json!([u64::MAX, u64::MAX]); REPORT_MAX / 40].into()));
        assert!(cut.to_string().len() < 1000, "{cut}");
        assert_eq!(cut[EARLIER], json!([{"state": "prepared", "original": {"size_virtual": 1}}]));
    }
}
