//! `molde disk compare`: whether two files hold the same disk, whatever their formats.

use std::path::PathBuf;

use clap::Args;
use disk::{COMPARED_BLOCK, CompareOptions, Format};
use serde_json::json;

use super::input::{DiskFile, Input};
use crate::error::{Failure, Result};
use crate::output::{Output, line, print_json};
use crate::progress;

/// Finds out whether two files hold the same disk; fails if they do not.
#[derive(Debug, Args)]
pub struct Compare {
    /// One file, or its address (http, https)
    first: PathBuf,
    /// The other file, or its address
    second: PathBuf,
    #[command(flatten)]
    input: Input,
    /// The second file's format; found out where it is not told
    #[arg(short = 'F', long, value_name = "FORMAT")]
    second_format: Option<Format>,
    /// Takes disks of different sizes for different even if what the longer one has more is zero
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let first = self.input.open(&DiskFile::find(&self.first)?)?.disk;
        let second = self.input.open_as(&DiskFile::find(&self.second)?, self.second_format)?.disk;
        let bar = progress::bytes("compare", 0);
        let told = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let options = CompareOptions { progress: Some(&told), ..CompareOptions::default() };
        let found = disk::compare(&*first, &*second, &options)?;
        bar.finish_and_clear();
        let same = if self.strict { found.identical() } else { found.same_content() };
        if self.json || output == Output::Json {
            print_json(&json!({
                "same": same,
                "same_content": found.same_content(),
                "virtual_sizes": found.sizes,
                "first_difference": found.first_difference,
                "differing_blocks": found.differing_blocks,
                "block_size": COMPARED_BLOCK,
            }))?;
        } else if same && !found.identical() {
            line(&format!(
                "the disks hold the same; one has {} bytes and the other {}, and what is more is zero",
                found.sizes[0], found.sizes[1]
            ))?;
        } else if same {
            line("the disks are identical")?;
        }
        match found.first_difference {
            _ if same => Ok(()),
            Some(offset) => Err(Failure::new(format!(
                "the disks differ, first at byte {offset}, in {} blocks of {COMPARED_BLOCK} bytes or more",
                found.differing_blocks
            ))),
            None => Err(Failure::new(format!(
                "the disks differ in size: {} and {} bytes; what is more is zero",
                found.sizes[0], found.sizes[1]
            ))),
        }
    }
}
