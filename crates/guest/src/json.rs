//! Reports, findings and plans as JSON, in the one shape that the command line and the API print.
//!
//! Fields are only ever added. They are described in `docs/guests.md`.

use agent::{Touch, Touched};
use serde_json::{Value, json};

use crate::check::{Finding, Severity};
use crate::plan::{Change, Plan, State};
use crate::programs::Program;
use crate::registry::{ValueChange, ValueData};
use crate::report::{Filesystem, Network, Os, Partition, PartitionTable, Report, Windows};

impl Report {
    /// Returns the report as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "os": self.os.as_ref().map(os),
            "other_systems": self.other_systems.iter().map(os).collect::<Vec<_>>(),
            "partition_table": self.partition_table.map(PartitionTable::as_str),
            "partitions": self.partitions.iter().map(partition).collect::<Vec<_>>(),
            "filesystems": self.filesystems.iter().map(filesystem).collect::<Vec<_>>(),
            "boot": {
                "bios": self.boot.bios,
                "uefi": self.boot.uefi,
                "loader": self.boot.loader,
                "evidence": self.boot.evidence,
                "command_line": self.boot.command_line,
                "command_line_from": self.boot.command_line_from,
            },
            "notes": self.notes,
        })
    }
}

impl Plan {
    /// Returns findings, changes and notes as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let is_blocking = |finding: &&Finding| finding.kind.severity <= Severity::BlocksCloud;
        json!({
            "blocking": self.findings.iter().filter(is_blocking).count(),
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "programs": self.programs.iter().map(Program::to_json).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(Change::to_json).collect::<Vec<_>>(),
            "notes": self.report.notes,
        })
    }
}

impl Finding {
    /// Returns the finding as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let evidence = self.evidence.iter().map(|at| json!({"path": at.path, "line": at.line, "value": at.value}));
        json!({
            "id": self.kind.id,
            "severity": self.kind.severity.as_str(),
            "action": self.action.as_str(),
            "text": self.text,
            "remedy": self.kind.remedy,
            "evidence": evidence.collect::<Vec<_>>(),
        })
    }
}

impl Program {
    fn to_json(&self) -> Value {
        json!({
            "finding": self.finding,
            "summary": self.summary(),
            "arguments": self.arguments,
            "packages": self.packages,
        })
    }
}

/// Returns what programs of the guest changed as JSON.
#[must_use]
pub fn touched_to_json(touched: &Touched) -> Value {
    let what = |touch: Touch| match touch {
        Touch::Created => "created",
        Touch::Changed => "changed",
        Touch::Deleted => "deleted",
    };
    let paths = touched.paths.iter().map(|(touch, path)| json!({"path": path, "what": what(*touch)}));
    json!({"paths": paths.collect::<Vec<_>>(), "more": touched.more})
}

impl Change {
    /// Returns the change as JSON, with its diff where there is one.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let values = self.values().map(|values| {
            let shown = |(key, value): (String, &ValueChange)| {
                json!({
                    "key": key,
                    "name": value.name,
                    "type": value.after.kind.as_str(),
                    "before": value.before.as_ref().map(ValueData::to_string),
                    "after": value.after.to_string(),
                })
            };
            values.map(shown).collect::<Vec<_>>()
        });
        json!({
            "path": self.path,
            "device": self.device,
            "summary": self.summary(),
            "before": state(&self.before),
            "after": state(&self.after),
            "diff": self.diff(),
            "values": values,
        })
    }
}

fn state(state: &State) -> Value {
    let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({"kind": state.as_str(), "sha256": state.sha256().map(hex)})
}

fn os(os: &Os) -> Value {
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
        "network_stacks": os.network_stacks.iter().map(|stack| stack.as_str()).collect::<Vec<_>>(),
        "networks": os.networks.iter().map(network).collect::<Vec<_>>(),
        "cloud_init": os.cloud_init.as_ref().map(|found| json!({
            "version": found.version,
            "disabled": found.disabled,
            "datasources": found.datasources,
        })),
        "windows": os.windows.as_deref().map(windows),
    })
}

fn network(found: &Network) -> Value {
    json!({
        "stack": found.stack.as_str(),
        "file": found.file,
        "name": found.name,
        "mac": found.mac,
        "automatic": found.is_automatic,
        "addresses": found.addresses,
        "gateway": found.gateway,
    })
}

fn windows(found: &Windows) -> Value {
    let services = found.services.iter().map(|service| {
        json!({
            "name": service.name, "start": service.start, "start_override": service.start_override,
            "file_there": service.is_file_there,
        })
    });
    let adapters = found.adapters.iter().map(|adapter| {
        json!({
            "id": adapter.id, "name": adapter.name, "dhcp": adapter.dhcp, "addresses": adapter.addresses,
            "gateways": adapter.gateways, "name_servers": adapter.name_servers,
        })
    });
    let programs = found
        .programs
        .iter()
        .map(|program| json!({"name": program.name, "version": program.version, "publisher": program.publisher}));
    let volumes = found.volumes.iter().map(|volume| {
        json!({"device": volume.device, "ntfs": volume.ntfs, "dirty": volume.dirty, "hibernated": volume.hibernated})
    });
    json!({
        "edition": found.edition,
        "build": found.build,
        "release": found.release,
        "image_state": found.image_state,
        "clock_is_utc": found.clock_is_utc,
        "fast_startup": found.fast_startup,
        "pagefiles": found.pagefiles,
        "services": services.collect::<Vec<_>>(),
        "adapters": adapters.collect::<Vec<_>>(),
        "programs": programs.collect::<Vec<_>>(),
        "cloudbase_init": found.cloudbase_init.as_ref().map(|init| json!({
            "start": init.start, "folder": init.folder, "metadata_services": init.metadata_services,
        })),
        "volumes": volumes.collect::<Vec<_>>(),
        "boot_data": found.boot_data,
    })
}

fn partition(partition: &Partition) -> Value {
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
}

fn filesystem(found: &Filesystem) -> Value {
    json!({
        "device": found.device,
        "partition": found.partition,
        "type": found.kind.as_str(),
        "uuid": found.uuid,
        "label": found.label,
        "size": found.size,
        "used": found.used,
        "mounted_at": found.mounted_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_disk() {
        let expect = json!({
            "os": null, "other_systems": [], "partition_table": null, "partitions": [], "filesystems": [],
            "boot": {
                "bios": false, "uefi": false, "loader": null, "evidence": [], "command_line": null, "command_line_from": null,
            },
            "notes": ["nothing is there"],
        });
        let report = Report { notes: vec!["nothing is there".into()], ..Report::default() };
        assert_eq!(report.to_json(), expect);
    }
}
