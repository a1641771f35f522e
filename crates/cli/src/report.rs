//! What is inside a disk, as JSON and for people; the same shape as the server's answer.

use guest::{PartitionTable, Report};
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::{Output, line, plain, print_json};

/// Renders a local inspection as the API renders a remote one.
pub(crate) fn to_json(report: &Report) -> Value {
    let os = report.os.as_ref().map(|os| {
        let cloud_init = os.cloud_init.as_ref().map(
            |found| json!({"version": found.version, "disabled": found.disabled, "datasources": found.datasources}),
        );
        json!({
            "type": os.kind.as_str(), "root": os.root, "distro": os.distro, "version": os.version, "name": os.name,
            "arch": os.arch, "hostname": os.hostname, "package_manager": os.package_manager, "kernels": os.kernels,
            "cloud_init": cloud_init,
        })
    });
    let partitions = report.partitions.iter().map(|partition| {
        json!({
            "number": partition.number, "offset": partition.offset, "length": partition.length, "type": partition.kind,
            "type_id": partition.type_id, "bootable": partition.bootable, "esp": partition.esp, "name": partition.name,
            "uuid": partition.uuid,
        })
    });
    let partitions: Value = partitions.collect();
    let filesystems: Value = report
        .filesystems
        .iter()
        .map(|found| {
            json!({
                "device": found.device, "partition": found.partition, "type": found.kind.as_str(), "uuid": found.uuid,
                "label": found.label, "size": found.size, "used": found.used, "mounted_at": found.mounted_at,
            })
        })
        .collect();
    let boot = &report.boot;
    json!({
        "os": os,
        "partition_table": report.partition_table.map(PartitionTable::as_str),
        "partitions": partitions,
        "filesystems": filesystems,
        "boot": {
            "bios": boot.bios, "uefi": boot.uefi, "loader": boot.loader, "evidence": boot.evidence,
            "command_line": boot.command_line, "command_line_from": boot.command_line_from,
        },
        "notes": report.notes,
    })
}

/// Prints an inspection.
pub(crate) fn print(output: Output, found: &Value) -> Result<()> {
    if output == Output::Json {
        return print_json(found);
    }
    let text = |value: &Value| plain(value.as_str().unwrap_or("unknown"));
    match &found["os"] {
        Value::Null => line("no operating system was found")?,
        os => {
            line(&format!("{} ({}, {})", text(&os["name"]), text(&os["type"]), text(&os["arch"])))?;
            line(&format!("  host name     {}", text(&os["hostname"])))?;
            line(&format!("  packages      {}", text(&os["package_manager"])))?;
            for kernel in os["kernels"].as_array().into_iter().flatten() {
                line(&format!("  kernel        {}", text(kernel)))?;
            }
            let cloud = match &os["cloud_init"] {
                Value::Null => "absent".to_owned(),
                found if found["disabled"] == true => format!("{}, disabled", text(&found["version"])),
                found => text(&found["version"]),
            };
            line(&format!("  cloud-init    {cloud}"))?;
        }
    }
    let boot = &found["boot"];
    let firmware: Vec<_> = ["bios", "uefi"].into_iter().filter(|name| boot[*name] == true).collect();
    let loader = plain(boot["loader"].as_str().unwrap_or_default());
    line(format!("boot            {} {loader}", firmware.join(" and ")).trim_end())?;
    if let Some(command_line) = boot["command_line"].as_str() {
        line(&format!("command line    {}", plain(command_line)))?;
    }
    line(&format!("partition table {}", plain(found["partition_table"].as_str().unwrap_or("none"))))?;
    Output::Table.list(
        &found["filesystems"],
        &[
            ("DEVICE", "/device"),
            ("TYPE", "/type"),
            ("BYTES", "/size"),
            ("LABEL", "/label"),
            ("UUID", "/uuid"),
            ("MOUNTED AT", "/mounted_at"),
        ],
    )?;
    for note in found["notes"].as_array().into_iter().flatten() {
        line(&format!("note: {}", text(note)))?;
    }
    Ok(())
}
