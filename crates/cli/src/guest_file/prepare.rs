//! `molde guest prepare`: repairs a guest, into a new file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use disk::{Backing, ConvertOptions, CopyOptions, Deny, ErrorKind, Format, Opened, Origin, Source, WriteOptions};
use guest::{
    Change, Choice, Drivers, Finding, Plan, PrepareOptions, Prepared, Program, Programs, VirtioWin, touched_to_json,
};
use serde_json::json;

use super::{From, look_inside, sandbox};
use crate::disk_file::DiskFile;
use crate::error::{Failure, Result};
use crate::findings::{print_finding, print_notes, print_touched};
use crate::output::{Output, line, plain, print_json};
use crate::progress;

/// What can be done where no overlay can be written.
const WHOLE: &str = "write a whole file instead: leave out --overlay";

/// Makes the guest start elsewhere and fit for a cloud: writes the changed disk to a new file.
///
/// The file that is read is not changed. Without --dry-run a new file has to be named. That is a whole disk, or with --overlay
/// what changed alone: then it can be used only as long as the file that was read stays where it is, as it is.
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
    /// Write only what changed, as a qcow2 that reads all else through the file: that must stay where it is, unchanged
    #[arg(long, conflicts_with = "dry_run")]
    overlay: bool,
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
    /// Put drivers of virtio-win into a Windows that lacks them: the folder or the ISO image that the project releases
    #[arg(long, value_name = "PATH")]
    virtio_win: Option<PathBuf>,
    /// Let programs of the guest itself repair what takes them, in a micro-VM without a network: an initramfs to which nothing
    /// can be appended is made anew by its own tool
    #[arg(long)]
    run_programs: bool,
    /// Let the guest's package manager install the packages in this folder if it lacks cloud-init and that is among them;
    /// includes --run-programs
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
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
        let drivers = self.drivers()?;
        let (only, skip, with) = (self.only.clone(), self.skip.clone(), self.with.clone());
        let choice = Choice { only, skip, with, drivers, programs: self.programs()? };
        choice.check().map_err(Failure::new)?;
        let is_json = self.json || output == Output::Json;
        if !is_json {
            choice.drivers.iter().flat_map(Drivers::missing).try_for_each(|why| line(&format!("note: {why}")))?;
        }
        let Some(target) = self.out.as_ref().filter(|_| !self.dry_run) else {
            let plan = self.from.look(|disk| sandbox().plan(disk, &choice))?;
            return if is_json { print_json(&plan.to_json()) } else { print_plan(&plan) };
        };
        if target.exists() && !self.force {
            return Err(Failure::new(format!("`{}` is there already", target.display()))
                .with_hint("name another file, or give --force to replace it"));
        }
        if self.overlay && self.output_format != Format::Qcow2 {
            return Err(
                Failure::new(format!("an overlay is a qcow2 file, not {}", self.output_format)).with_hint(WHOLE)
            );
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let options = PrepareOptions { choice, now, record: !self.no_record };
        let file = DiskFile::find(&self.from.file)?;
        let opened = self.from.input.open(&file)?;
        let backing = self.overlay.then(|| self.backing(&file, &opened, target)).transpose()?;
        let Prepared { plan, touched, after, overlay } =
            look_inside(&file, opened.disk, |disk| sandbox().prepare(disk, &options))?;
        let (changed, changes) = (overlay.changed_bytes(), overlay.changes());
        self.write(Arc::new(overlay), &changes, backing.clone(), target)?;
        if is_json {
            let mut value = plan.to_json();
            value["file"] = json!(target);
            value["bytes_changed"] = json!(changed);
            value["changed_by_programs"] = touched_to_json(&touched);
            value["findings_after"] = after.iter().map(Finding::to_json).collect();
            if let Some(backing) = &backing {
                value["backing_file"] = json!(String::from_utf8_lossy(backing.name()));
                value["backing_format"] = json!(backing.format());
            }
            return print_json(&value);
        }
        print_plan(&plan)?;
        print_touched(&touched_to_json(&touched))?;
        if !after.is_empty() {
            line("\nwhat is left:")?;
            after.iter().try_for_each(|finding| print_finding(&finding.to_json()))?;
        }
        let target = target.display();
        line(&match &backing {
            None => format!("\n`{target}` holds the prepared disk; {changed} bytes of it were changed"),
            Some(backing) => format!(
                "\n`{target}` holds the {changed} bytes that were changed, and reads all others through `{0}`\n\
                 keep `{0}` where it is, as it is: whatever changes or moves it spoils the prepared disk",
                plain(&String::from_utf8_lossy(backing.name()))
            ),
        })
    }

    /// Says how the overlay `target` names the file that it reads through.
    fn backing(&self, file: &DiskFile, opened: &Opened, target: &Path) -> Result<Backing> {
        let Some(base) = file.path() else {
            let message = format!("an overlay needs a local file that it reads through, and `{}` is none", file.name());
            return Err(Failure::new(message).with_hint(WHOLE));
        };
        Backing::new(base, opened, self.from.input.others(), target).map_err(|error| {
            let is_of_the_file = error.kind() == ErrorKind::Unsupported;
            let failure = Failure::from(error);
            if is_of_the_file { failure.or_hint(WHOLE) } else { failure }
        })
    }

    /// Writes the prepared disk, or of it what lies in `changes` over `backing`.
    fn write(
        &self,
        prepared: Arc<dyn Source>,
        changes: &[Range<u64>],
        backing: Option<Backing>,
        target: &Path,
    ) -> Result<()> {
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
        match backing {
            Some(backing) => disk::write_overlay(prepared, changes, backing, target, &convert).map(drop)?,
            None => {
                let disk = Origin::Source(prepared);
                disk::convert(disk, Some(Format::Raw), target, self.output_format, &convert).map(drop)?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Returns which programs of the guest may be run, and with what.
    fn programs(&self) -> Result<Option<Programs>> {
        match &self.packages {
            Some(folder) => Ok(Some(Programs::with_packages(folder)?)),
            None => Ok(self.run_programs.then(Programs::default)),
        }
    }

    /// Takes the drivers for the guest, where they are to be put in.
    fn drivers(&self) -> Result<Option<Drivers>> {
        let Some(path) = &self.virtio_win else { return Ok(None) };
        let supplied = VirtioWin::open(path)?;
        self.from.look(|disk| supplied.drivers_for(&sandbox().inspect(disk)?)).map(Some)
    }
}

fn print_plan(plan: &Plan) -> Result<()> {
    if plan.changes.is_empty() && plan.programs.is_empty() {
        print_notes(&plan.to_json())?;
        return line("there is nothing to change");
    }
    for step in plan.programs.iter().map(Program::summary).chain(plan.changes.iter().map(Change::summary)) {
        line(&step)?;
    }
    for diff in plan.changes.iter().filter_map(Change::diff) {
        line(&format!("\n{}", diff.trim_end()))?;
    }
    print_notes(&plan.to_json())
}
