//! `molde guest check` and `findings`: what is the matter with a guest.

use clap::Args;
use guest::{Choice, KINDS};
use serde_json::{Value, json};

use super::{From, sandbox};
use crate::error::Result;
use crate::findings;
use crate::output::Output;

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
        let plan = self.from.look(|disk| sandbox().plan(disk, &Choice::default()))?;
        findings::print_checked(if self.json { Output::Json } else { output }, &plan.to_json())
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
