//! `molde guest check`, `plan` and `findings`: what is the matter with a guest, and what prepare would do.

use clap::Args;
use guest::{Action, Choice, Finding, KINDS, Severity};
use serde_json::{Value, json};

use super::From;
use crate::error::{Failure, Result};
use crate::output::{Output, line, print_json};

/// Tells what keeps the guest from starting elsewhere, from being a cloud's server, or from being shared.
///
/// Ends with 1 when something blocks the start or the cloud.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    from: From,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows what prepare would change in the guest, file by file.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    chosen: Chosen,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which findings are repaired.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Repair these findings alone (see `molde guest findings`)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these findings
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    skip: Vec<String>,
    /// Repair these too, which are repaired on request because something is lost by it
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    with: Vec<String>,
}

/// Lists all kinds of findings, and what prepare does about each.
#[derive(Debug, Args)]
pub struct Findings {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Chosen {
    pub(super) fn choice(&self) -> Result<Choice> {
        let choice = Choice { only: self.only.clone(), skip: self.skip.clone(), with: self.with.clone() };
        choice.check().map_err(Failure::new)?;
        Ok(choice)
    }
}

impl Check {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let plan = self.from.look(|disk| guest::plan(disk, &Choice::default()))?;
        let blocking = plan.findings.iter().filter(|finding| finding.kind.severity <= Severity::BlocksCloud).count();
        if self.json || output == Output::Json {
            print_json(&json!({
                "findings": plan.findings.iter().map(finding_json).collect::<Vec<_>>(),
                "blocking": blocking,
                "notes": plan.report.notes,
            }))?;
        } else {
            plan.findings.iter().try_for_each(print_finding)?;
            print_notes(&plan.report.notes)?;
            line(&match plan.findings.len() {
                0 => "nothing was found: this guest is fit to be an image".to_owned(),
                count => format!(
                    "{count} findings, {blocking} of which keep it from starting or from being a cloud's server"
                ),
            })?;
        }
        if blocking == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("the guest is not fit to be an image: {blocking} findings block it"))
            .with_hint("`molde guest plan FILE` shows what prepare would change"))
    }
}

impl Plan {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let choice = self.chosen.choice()?;
        let plan = self.from.look(|disk| guest::plan(disk, &choice))?;
        if self.json || output == Output::Json {
            return print_json(&json!({
                "findings": plan.findings.iter().map(finding_json).collect::<Vec<_>>(),
                "changes": plan.changes.iter().map(change_json).collect::<Vec<_>>(),
                "notes": plan.report.notes,
            }));
        }
        for change in &plan.changes {
            line(&change.summary())?;
        }
        for diff in plan.changes.iter().filter_map(guest::Change::diff) {
            line(&format!("\n{}", diff.trim_end()))?;
        }
        print_notes(&plan.report.notes)?;
        if plan.changes.is_empty() {
            line("nothing would be changed")?;
        }
        Ok(())
    }
}

impl Findings {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let rows: Value = KINDS
            .iter()
            .map(|kind| {
                json!({
                    "id": kind.id, "severity": kind.severity.as_str(), "action": kind.action.as_str(), "remedy": kind.remedy,
                })
            })
            .collect();
        let output = if self.json { Output::Json } else { output };
        output.list(&rows, &[("ID", "/id"), ("SEVERITY", "/severity"), ("ACTION", "/action"), ("REMEDY", "/remedy")])
    }
}

fn print_notes(notes: &[String]) -> Result<()> {
    notes.iter().try_for_each(|note| line(&format!("note: {note}")))
}

fn print_finding(finding: &Finding) -> Result<()> {
    line(&format!("{}: {} ({})", finding.kind.severity, finding.text, finding.kind.id))?;
    for at in &finding.evidence {
        let place = at.line.map_or_else(|| at.path.clone(), |line| format!("{}:{line}", at.path));
        line(&match &at.value {
            Some(value) => format!("    {place}: {value}"),
            None => format!("    {place}"),
        })?;
    }
    let who = match finding.kind.action {
        Action::Automatic => "prepare",
        Action::OnRequest => "prepare, on request",
        Action::Manual => "you",
    };
    line(&format!("    {who}: {}", finding.kind.remedy))
}

fn finding_json(finding: &Finding) -> Value {
    let evidence = finding.evidence.iter().map(|at| json!({"path": at.path, "line": at.line, "value": at.value}));
    json!({
        "id": finding.kind.id,
        "severity": finding.kind.severity.as_str(),
        "action": finding.kind.action.as_str(),
        "text": finding.text,
        "remedy": finding.kind.remedy,
        "evidence": evidence.collect::<Vec<_>>(),
    })
}

fn change_json(change: &guest::Change) -> Value {
    let hash = |state: &guest::State| {
        state.sha256().map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    json!({
        "path": change.path,
        "device": change.device,
        "summary": change.summary(),
        "before": {"kind": change.before.as_str(), "sha256": hash(&change.before)},
        "after": {"kind": change.after.as_str(), "sha256": hash(&change.after)},
        "diff": change.diff(),
    })
}
