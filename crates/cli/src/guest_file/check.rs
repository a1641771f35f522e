//! `molde guest check` and `findings`: what is the matter with a guest.

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

/// Lists all kinds of findings, and what prepare does about each.
#[derive(Debug, Args)]
pub struct Findings {
    /// Print JSON
    #[arg(long)]
    json: bool,
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
            .with_hint("`molde guest prepare --dry-run FILE` shows what prepare would change"))
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

pub(super) fn print_notes(notes: &[String]) -> Result<()> {
    notes.iter().try_for_each(|note| line(&format!("note: {note}")))
}

pub(super) fn print_finding(finding: &Finding) -> Result<()> {
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

pub(super) fn finding_json(finding: &Finding) -> Value {
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
