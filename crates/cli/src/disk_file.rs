//! `molde disk`: work on a local disk file, without a server.

use std::path::PathBuf;

use clap::Subcommand;
use disk::{ConvertOptions, FileSource, Format};
use serde_json::json;

use crate::error::{Failure, Result};
use crate::output::{Output, print_json};
use crate::progress;

/// What can be done with a local disk file.
#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Show the format and the size of a disk file
    Info {
        /// The file
        file: PathBuf,
        /// The file's format; found out where it is not told
        #[arg(short, long)]
        format: Option<Format>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the disk in one file to another in another format
    Convert {
        /// The file to read
        source: PathBuf,
        /// The file to write
        target: PathBuf,
        /// Format of the file to read; found out where it is not told
        #[arg(short, long)]
        format: Option<Format>,
        /// Format of the file to write: raw or qcow2
        #[arg(short = 'O', long)]
        output_format: Format,
        /// How the new file is laid out, such as cluster_size=65536; may be repeated, or separated by commas
        #[arg(short = 'o', long = "option", value_name = "KEY=VALUE", value_delimiter = ',')]
        options: Vec<String>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
}

impl Disk {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Info { file, format, json } => {
                let source = FileSource::open(&file)?;
                let info = disk::info(std::sync::Arc::new(source), format)?;
                let value = json!({
                    "file": file,
                    "format": info.format.as_str(),
                    "variant": info.variant,
                    "virtual_size": info.virtual_size,
                    "file_size": info.file_size,
                    "allocated": info.allocated,
                    "block_size": info.block_size,
                    "notes": info.notes,
                });
                if json { print_json(&value) } else { output.show(&value) }
            }
            Self::Convert { source, target, format, output_format, options, force } => {
                let mut convert = ConvertOptions { force, ..ConvertOptions::default() };
                for option in options {
                    let (name, value) = option.split_once('=').ok_or_else(|| {
                        Failure::new(format!("`{option}` is no option"))
                            .with_hint("write KEY=VALUE, such as `-o cluster_size=65536`")
                    })?;
                    convert.write.set(name, value);
                }
                let bar = progress::bytes(&target.display().to_string(), 0);
                let told = |done: u64, total: u64| {
                    bar.set_length(total);
                    bar.set_position(done);
                };
                convert.progress = Some(&told);
                let copied = disk::convert(&source, format, &target, output_format, &convert)?;
                bar.finish_and_clear();
                let text = format!(
                    "`{}` has {} bytes, {} of them data",
                    target.display(),
                    copied.bytes_total,
                    copied.bytes_data
                );
                output.done(
                    &text,
                    &json!({"file": target, "bytes_total": copied.bytes_total, "bytes_data": copied.bytes_data}),
                )
            }
        }
    }
}
