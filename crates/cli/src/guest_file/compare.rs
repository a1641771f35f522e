//! `molde guest diff`: which files differ between two guests.

use std::path::PathBuf;

use clap::Args;
use guest::{Browser, Difference};
use serde_json::{Value, json};

use super::From;
use super::browse::entry_json;
use crate::disk_file::DiskFile;
use crate::error::{Failure, Result};
use crate::output::{Output, line, plain, print_json};

/// Tells which files differ between the guests in two disk files: kind, length, mode, owner, link and content.
///
/// Ends with 1 when any does.
#[derive(Debug, Args)]
pub struct Compare {
    #[command(flatten)]
    from: From,
    /// The other file, in any format
    other: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let before = self.from.look(Browser::open)?;
        let file = DiskFile::find(&self.other)?;
        let after = Browser::open(self.from.input.open_as(&file, None)?.disk)
            .map_err(|error| Failure::new(format!("cannot look inside `{}`", file.name())).caused_by(&error))?;
        let found = guest::compare(&before, &after)?;
        if self.json || output == Output::Json {
            print_json(&found.iter().map(difference_json).collect())?;
        } else {
            for difference in &found {
                let (sign, entry) = match (&difference.before, &difference.after) {
                    (None, Some(entry)) => ('+', entry),
                    (Some(entry), None) => ('-', entry),
                    (Some(_), Some(entry)) => ('*', entry),
                    (None, None) => continue,
                };
                line(&format!("{sign} {}", plain(&entry.path)))?;
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("{} paths differ", found.len())))
    }
}

fn difference_json(difference: &Difference) -> Value {
    json!({"before": difference.before.as_ref().map(entry_json), "after": difference.after.as_ref().map(entry_json)})
}
