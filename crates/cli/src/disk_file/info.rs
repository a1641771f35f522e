//! `molde disk info`: what is known of a disk file without reading its data.

use std::path::PathBuf;

use clap::Args;
use disk::appliance::{Bus, Firmware};
use disk::{Appliance, Format};
use serde_json::{Value, json};

use super::input::{DiskFile, Input};
use crate::error::Result;
use crate::output::{Output, print_json};

/// Shows the format and the size of a disk file.
#[derive(Debug, Args)]
pub struct Info {
    /// The file, its address (http, https), or - for standard input
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let file = DiskFile::find(&self.file)?;
        let source = file.source()?;
        if !self.input.has_passphrase() && disk::probe(&*source)? == Format::Luks {
            return self.show(
                output,
                &json!({
                    "file": file.name(),
                    "format": Format::Luks.as_str(),
                    "file_size": source.len(),
                    "notes": ["the disk is encrypted: --passphrase-file FILE shows more"],
                }),
            );
        }
        let opened = self.input.open(&file)?;
        let info = disk::info_of(&opened, source.len())?;
        let mut value = json!({
            "file": file.name(),
            "format": info.format.as_str(),
            "variant": info.variant,
            "virtual_size": info.virtual_size,
            "file_size": info.file_size,
            "allocated": info.allocated,
            "block_size": info.block_size,
            "notes": info.notes,
        });
        if info.format == Format::Ova {
            value["appliance"] = appliance(&disk::appliance(source)?);
        }
        self.show(output, &value)
    }

    fn show(&self, output: Output, value: &Value) -> Result<()> {
        if self.json { print_json(value) } else { output.show(value) }
    }
}

/// What an appliance asks for, as JSON.
fn appliance(appliance: &Appliance) -> Value {
    let disks: Vec<_> = appliance
        .disks
        .iter()
        .map(|disk| {
            json!({
                "id": disk.id,
                "file": disk.file,
                "file_size": disk.file_size,
                "capacity": disk.capacity_bytes,
                "format": disk.format,
                "bus": disk.bus.map(Bus::as_str),
            })
        })
        .collect();
    json!({
        "name": appliance.name,
        "product": appliance.product,
        "firmware": appliance.firmware.map(Firmware::as_str),
        "vcpus": appliance.vcpus,
        "memory": appliance.memory_bytes,
        "nics": appliance.nics,
        "os": appliance.os.as_ref().map(|os| os.kind.clone()),
        "disks": disks,
        "notes": appliance.notes,
    })
}
