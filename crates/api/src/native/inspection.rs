//! What an inspection found, as JSON.

use serde_json::{Value, json};
use service::GuestReport;

/// Renders a report.
pub(super) fn render(report: &GuestReport) -> Value {
    let os = report.os.as_ref().map(|os| {
        json!({
            "type": os.kind.as_str(),
            "root": os.root,
            "distro": os.distro,
            "version": os.version,
            "name": os.name,
            "arch": os.arch,
            "hostname": os.hostname,
            "package_manager": os.package_manager,
            "kernels": os.kernels,
            "cloud_init": os.cloud_init.as_ref().map(|found| json!({
                "version": found.version,
                "disabled": found.disabled,
                "datasources": found.datasources,
            })),
        })
    });
    let partitions: Vec<Value> = report
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "number": partition.number,
                "offset": partition.offset,
                "length": partition.length,
                "type": partition.kind,
                "type_id": partition.type_id,
                "bootable": partition.bootable,
                "esp": partition.esp,
                "name": partition.name,
                "uuid": partition.uuid,
            })
        })
        .collect();
    let filesystems: Vec<Value> = report
        .filesystems
        .iter()
        .map(|filesystem| {
            json!({
                "device": filesystem.device,
                "partition": filesystem.partition,
                "type": filesystem.kind.as_str(),
                "uuid": filesystem.uuid,
                "label": filesystem.label,
                "size": filesystem.size,
                "used": filesystem.used,
                "mounted_at": filesystem.mounted_at,
            })
        })
        .collect();
    json!({
        "os": os,
        "partition_table": report.partition_table.map(|table| json!(table.as_str())),
        "partitions": partitions,
        "filesystems": filesystems,
        "boot": {
            "bios": report.boot.bios,
            "uefi": report.boot.uefi,
            "loader": report.boot.loader,
            "evidence": report.boot.evidence,
            "command_line": report.boot.command_line,
            "command_line_from": report.boot.command_line_from,
        },
        "notes": report.notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_disk() {
        let expect = json!({
            "os": null, "partition_table": null, "partitions": [], "filesystems": [],
            "boot": {
                "bios": false, "uefi": false, "loader": null, "evidence": [], "command_line": null, "command_line_from": null,
            },
            "notes": ["nothing is there"],
        });
        let report = GuestReport { notes: vec!["nothing is there".into()], ..GuestReport::default() };
        assert_eq!(render(&report), expect);
    }
}
