//! `molde disk map`: which parts of a disk hold data and which are zero.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use disk::ExtentKind;
use serde_json::json;

use super::input::{DiskFile, Input};
use crate::error::Result;
use crate::output::Output;

/// Lists which parts of a disk hold data and which are zero, without reading its data.
#[derive(Debug, Args)]
pub struct Map {
    /// The file, its address (http, https), or - for standard input
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Map {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let file = DiskFile::find(&self.file)?;
        let opened = self.input.open(&file)?;
        let json = self.json || output == Output::Json;
        // The list can be long, so each line goes out as it is known.
        let mut out = BufWriter::new(io::stdout().lock());
        if json {
            write!(out, "[")?;
        } else {
            writeln!(out, "{:>20} {:>20}  kind", "start", "length")?;
        }
        for (number, extent) in disk::map::map(&*opened.disk, 0..u64::MAX).enumerate() {
            let extent = extent?;
            let data = extent.kind == ExtentKind::Data;
            if json {
                let separator = if number == 0 { "\n" } else { ",\n" };
                let value = json!({"start": extent.offset, "length": extent.length, "data": data, "zero": !data});
                write!(out, "{separator}{value}")?;
            } else {
                let kind = if data { "data" } else { "zero" };
                writeln!(out, "{:>20} {:>20}  {kind}", extent.offset, extent.length)?;
            }
        }
        if json {
            writeln!(out, "\n]")?;
        }
        out.flush()?;
        Ok(())
    }
}
