//! `molde disk convert`: writes the disk in one file to another in another format.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use disk::{ConvertOptions, CopyOptions, Format, WriteOptions};
use serde_json::json;

use super::input::{DiskFile, Input};
use super::options_help;
use super::remote::address;
use crate::error::{Failure, Result};
use crate::output::{Output, print_json};
use crate::{passphrase, progress};

/// Writes the disk in one file to another in another format.
#[derive(Debug, Args)]
#[command(after_long_help = options_help())]
pub struct Convert {
    /// The file to read, its address (http, https), or - for standard input
    source: PathBuf,
    /// The file to write, or - for standard output where the format can be written from its beginning to its end
    target: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Format of the file to write
    #[arg(short = 'O', long)]
    output_format: Format,
    /// What is chosen about the new file, such as cluster_size=65536; may be repeated, or separated by commas
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE", value_delimiter = ',')]
    options: Vec<String>,
    /// A file that holds the passphrase of the new file, where that is encrypted
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Whether zeros become holes in the new file
    #[arg(long, value_enum, default_value_t = Sparse::Yes)]
    sparse: Sparse,
    /// Print the SHA-256 of the disk as the guest sees it
    #[arg(long)]
    checksum: bool,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Do not wait until the new file is on the disk; a crash soon after may lose it
    #[arg(long)]
    no_sync: bool,
    /// Threads that work, 1 to 16; 0 takes as many as there are processors
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=16))]
    threads: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sparse {
    /// Zeros are not written
    Yes,
    /// Zeros are written
    No,
}

impl Convert {
    pub(super) fn run(self, output: Output) -> Result<()> {
        if address(&self.target).is_some() {
            return Err(Failure::new("a disk is written to a local file, not to an address")
                .with_hint("write it to a file or to standard output, and send that with another program"));
        }
        let write = self.write_options()?;
        let gate = self.input.gate()?;
        let source = DiskFile::find(&self.source)?;
        let bar = progress::bytes(&self.target.display().to_string(), 0);
        let told = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let temporary = std::env::temp_dir();
        let options = ConvertOptions {
            copy: CopyOptions {
                threads: usize::from(self.threads),
                sparse: self.sparse == Sparse::Yes,
                sync: !self.no_sync,
                progress: Some(&told),
            },
            force: self.force,
            checksum: self.checksum,
            write,
            gate: &gate,
            temporary: Some(&temporary),
        };
        let to_stdout = self.target == Path::new("-");
        let converted = if to_stdout {
            if io::stdout().is_terminal() {
                return Err(Failure::new("a disk is not written to a terminal")
                    .with_hint("send standard output to a file or another program"));
            }
            let mut stdout = io::stdout();
            disk::convert_to_stream(source.origin(), self.input.format, &mut stdout, self.output_format, &options)?
        } else {
            disk::convert(source.origin(), self.input.format, &self.target, self.output_format, &options)?
        };
        bar.finish_and_clear();
        let sha256 = converted.sha256.map(hex::encode);
        let value = json!({
            "file": self.target,
            "virtual_size": converted.virtual_size,
            "bytes_total": converted.copied.bytes_total,
            "bytes_data": converted.copied.bytes_data,
            "sha256": sha256,
        });
        if to_stdout {
            // Standard output is the file, so what is told goes the other way.
            return match sha256 {
                Some(sha256) => Ok(writeln!(io::stderr(), "sha256 of the disk: {sha256}")?),
                None => Ok(()),
            };
        }
        if self.json {
            return print_json(&value);
        }
        let mut text = format!(
            "`{}` has {} bytes, {} of them data",
            self.target.display(),
            converted.copied.bytes_total,
            converted.copied.bytes_data
        );
        if let Some(sha256) = sha256 {
            text.push_str(&format!("\nsha256 of the disk: {sha256}"));
        }
        output.done(&text, &value)
    }

    fn write_options(&self) -> Result<WriteOptions> {
        let mut write = WriteOptions::default();
        for option in &self.options {
            let (name, value) = option.split_once('=').ok_or_else(|| {
                Failure::new(format!("`{option}` is no option"))
                    .with_hint("write KEY=VALUE, such as `-o cluster_size=65536`")
            })?;
            write.set(name, value);
        }
        if let Some(path) = &self.new_passphrase_file {
            write.set_passphrase(passphrase::read(path)?);
        }
        Ok(write)
    }
}
