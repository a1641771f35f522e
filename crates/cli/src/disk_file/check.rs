//! `molde disk check`: reads a whole disk file and reports what is damaged.

use std::path::PathBuf;

use clap::Args;
use disk::CheckOptions;
use serde_json::json;

use super::input::{DiskFile, Input};
use crate::error::{Failure, Result};
use crate::output::{Output, line, print_json};
use crate::progress;

/// Reads a whole disk file and reports what is damaged, by its position in the disk.
#[derive(Debug, Args)]
pub struct Check {
    /// The file, its address (http, https), or - for standard input
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let file = DiskFile::find(&self.file)?;
        let source = file.source()?;
        let format = match self.input.format {
            Some(format) => format,
            None => disk::probe(&*source)?,
        };
        let bar = progress::bytes(&file.name(), 0);
        let told = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let options = CheckOptions { progress: Some(&told), ..CheckOptions::default() };
        let report = disk::check(source, format, &self.input.gate()?, &options)?;
        bar.finish_and_clear();
        let damaged: Vec<_> = report
            .damaged
            .iter()
            .map(|damage| json!({"start": damage.offset, "length": damage.length, "message": damage.message}))
            .collect();
        if self.json || output == Output::Json {
            print_json(&json!({
                "format": report.format.as_str(),
                "variant": report.variant,
                "virtual_size": report.size,
                "sound": report.is_sound(),
                "bytes_read": report.bytes_read,
                "bytes_damaged": report.bytes_damaged,
                "damaged_ranges": report.damaged_ranges,
                "damaged": damaged,
                "faults": report.faults,
                "fault_count": report.fault_count,
                "leaks": report.leaks,
                "leak_count": report.leak_count,
                "notes": report.notes,
            }))?;
        } else {
            for damage in &report.damaged {
                line(&format!("{} bytes at byte {}: {}", damage.length, damage.offset, damage.message))?;
            }
            for fault in &report.faults {
                line(&format!("fault: {fault}"))?;
            }
            for leak in &report.leaks {
                line(&format!("leak: {leak}"))?;
            }
            for note in &report.notes {
                line(&format!("note: {note}"))?;
            }
            line(&format!("{} bytes of a disk of {} were read", report.bytes_read, report.size))?;
        }
        if report.is_sound() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the file is damaged: {} bytes in {} places cannot be read",
            report.bytes_damaged, report.damaged_ranges
        ))
        .with_hint("copy the file again from where it was made and compare checksums"))
    }
}
