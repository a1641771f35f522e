//! `molde guest prepare`: repairs a guest, into a new file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use disk::{ConvertOptions, CopyOptions, Deny, Format, Origin, WriteOptions};
use guest::{Change, Choice, Finding, Plan, PrepareOptions};
use serde_json::json;

use super::From;
use crate::error::{Failure, Result};
use crate::findings::{print_finding, print_notes};
use crate::output::{Output, line, print_json};
use crate::progress;

/// Makes the guest start elsewhere and fit for a cloud: writes the changed disk to a new file.
///
/// The file that is read is not changed. Without --dry-run a new file has to be named.
#[derive(Debug, Args)]
pub struct Prepare {
    #[command(flatten)]
    from: From,
    /// The file to write
    #[arg(short, long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Format of the file to write
    #[arg(short = 'O', long, default_value = "qcow2")]
    output_format: Format,
    /// Only show what would be changed, file by file
    #[arg(short = 'n', long, conflicts_with = "out")]
    dry_run: bool,
    /// Repair these findings alone (see `molde guest findings`)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these findings
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    skip: Vec<String>,
    /// Repair these too, which are repaired on request because something is lost by it
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    with: Vec<String>,
    /// Leave no record of the changes in the guest
    #[arg(long)]
    no_record: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Prepare {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let choice = Choice { only: self.only.clone(), skip: self.skip.clone(), with: self.with.clone() };
        choice.check().map_err(Failure::new)?;
        let is_json = self.json || output == Output::Json;
        let Some(target) = self.out.as_ref().filter(|_| !self.dry_run) else {
            let plan = self.from.look(|disk| guest::plan(disk, &choice))?;
            return if is_json { print_json(&plan.to_json()) } else { print_plan(&plan) };
        };
        if target.exists() && !self.force {
            return Err(Failure::new(format!("`{}` is there already", target.display()))
                .with_hint("name another file, or give --force to replace it"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let options = PrepareOptions { choice, now, record: !self.no_record };
        let done = self.from.look(|disk| guest::prepare(disk, &options))?;
        let changed = done.overlay.changed_bytes();
        let bar = progress::bytes(&target.display().to_string(), 0);
        let told = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let convert = ConvertOptions {
            copy: CopyOptions { progress: Some(&told), sync: true, ..CopyOptions::default() },
            force: self.force,
            checksum: false,
            write: WriteOptions::default(),
            gate: &Deny,
            temporary: None,
        };
        let disk = Origin::Source(Arc::new(done.overlay));
        disk::convert(disk, Some(Format::Raw), target, self.output_format, &convert)?;
        bar.finish_and_clear();
        if is_json {
            let mut value = done.plan.to_json();
            value["file"] = json!(target);
            value["bytes_changed"] = json!(changed);
            value["findings_after"] = done.after.iter().map(Finding::to_json).collect();
            return print_json(&value);
        }
        print_plan(&done.plan)?;
        if !done.after.is_empty() {
            line("\nwhat is left:")?;
            done.after.iter().try_for_each(|finding| print_finding(&finding.to_json()))?;
        }
        line(&format!("\n`{}` holds the prepared disk; {changed} bytes of it were changed", target.display()))
    }
}

fn print_plan(plan: &Plan) -> Result<()> {
    if plan.changes.is_empty() {
        print_notes(&plan.to_json())?;
        return line("there is nothing to change");
    }
    for change in &plan.changes {
        line(&change.summary())?;
    }
    for diff in plan.changes.iter().filter_map(Change::diff) {
        line(&format!("\n{}", diff.trim_end()))?;
    }
    print_notes(&plan.to_json())
}
