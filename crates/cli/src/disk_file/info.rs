//! `molde disk info`: what is known of a disk file without reading its data.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::input::Input;
use crate::error::Result;
use crate::output::{Output, print_json};

/// Shows the format and the size of a disk file.
#[derive(Debug, Args)]
pub struct Info {
    /// The file
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let source = std::sync::Arc::new(disk::FileSource::open(&self.file)?);
        let info = disk::info(source, self.input.format, &self.input.gate()?)?;
        let value = json!({
            "file": self.file,
            "format": info.format.as_str(),
            "variant": info.variant,
            "virtual_size": info.virtual_size,
            "file_size": info.file_size,
            "allocated": info.allocated,
            "block_size": info.block_size,
            "notes": info.notes,
        });
        if self.json { print_json(&value) } else { output.show(&value) }
    }
}
