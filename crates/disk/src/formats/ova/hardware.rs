//! The hardware section of a descriptor: processors, memory, network cards, and the controllers that disks hang on.

use std::collections::HashMap;

use super::units::bytes_of;
use super::xml::{Element, shown};
use crate::appliance::{Appliance, Bus, Controller, Firmware};
use crate::error::Result;

/// Numbers of `CIM_ResourceAllocationSettingData.ResourceType`.
mod resource {
    pub(super) const PROCESSOR: &str = "3";
    pub(super) const MEMORY: &str = "4";
    pub(super) const IDE: &str = "5";
    pub(super) const SCSI: &str = "6";
    pub(super) const ETHERNET: &str = "10";
    pub(super) const DISK: &str = "17";
    pub(super) const OTHER_STORAGE: &str = "20";
}

/// Reads the hardware that `system` wants in the default configuration of `envelope`.
pub(super) fn read(envelope: &Element, system: &Element, appliance: &mut Appliance) -> Result<()> {
    let Some(hardware) = system.section("VirtualHardwareSection")? else { return Ok(()) };
    let items = items(hardware, default_configuration(envelope)?)?;
    let mut buses = HashMap::new();
    for item in &items {
        let model = item.text_of("ResourceSubType");
        match item.text_of("ResourceType") {
            resource::PROCESSOR if appliance.vcpus.is_none() => {
                appliance.vcpus = item.text_of("VirtualQuantity").parse().ok();
            }
            resource::MEMORY if appliance.memory_bytes.is_none() => appliance.memory_bytes = memory(item),
            resource::ETHERNET => appliance.nics.push(shown(model)),
            kind @ (resource::IDE | resource::SCSI | resource::OTHER_STORAGE) => {
                let controller = Controller { bus: bus(kind, model), model: shown(model) };
                buses.insert(instance(item), controller.bus);
                appliance.controllers.push(controller);
            }
            _ => {}
        }
    }
    attach(&items, &buses, appliance);
    for config in hardware.all("Config") {
        if config.attribute("key")? == Some("firmware") {
            match config.attribute("value")? {
                Some("efi") => appliance.firmware = Some(Firmware::Efi),
                Some("bios") => appliance.firmware = Some(Firmware::Bios),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Returns the name of the configuration that is meant if none is chosen.
fn default_configuration(envelope: &Element) -> Result<Option<&str>> {
    let Some(options) = envelope.section("DeploymentOptionSection")? else { return Ok(None) };
    for configuration in options.all("Configuration") {
        if matches!(configuration.attribute("default")?, Some("true" | "1")) {
            return configuration.attribute("id");
        }
    }
    options.child("Configuration").map_or(Ok(None), |first| first.attribute("id"))
}

/// Returns the items that count in `configuration`, of which a later one replaces an earlier one of the same name.
fn items<'a>(hardware: &'a Element, configuration: Option<&str>) -> Result<Vec<&'a Element>> {
    let mut items: Vec<&Element> = Vec::new();
    let mut places = HashMap::new();
    for item in &hardware.children {
        let counts = matches!(item.name.as_str(), "Item" | "StorageItem" | "EthernetPortItem")
            && item.attribute("bound")?.is_none()
            && item
                .attribute("configuration")?
                .is_none_or(|names| names.split_whitespace().any(|name| Some(name) == configuration));
        match places.get(instance(item)) {
            _ if !counts => {}
            Some(place) => items[*place] = item,
            None => {
                if !instance(item).is_empty() {
                    places.insert(instance(item), items.len());
                }
                items.push(item);
            }
        }
    }
    Ok(items)
}

fn instance(item: &Element) -> &str {
    match item.text_of("InstanceID") {
        // OVF 0.9.
        "" => item.text_of("InstanceId"),
        id => id,
    }
}

/// Memory without a unit is in MiB, as VirtualBox and VMware take it.
fn memory(item: &Element) -> Option<u64> {
    let unit = match item.text_of("AllocationUnits") {
        "" => 1 << 20,
        unit => bytes_of(unit)?,
    };
    item.text_of("VirtualQuantity").parse::<u64>().ok()?.checked_mul(unit)
}

fn bus(kind: &str, model: &str) -> Bus {
    let model = model.to_ascii_lowercase();
    match kind {
        resource::IDE => Bus::Ide,
        resource::SCSI => Bus::Scsi,
        _ if model.contains("ahci") || model.contains("sata") => Bus::Sata,
        _ if model.contains("nvme") => Bus::Nvme,
        _ if model.contains("scsi") => Bus::Scsi,
        _ => Bus::Other,
    }
}

/// Notes for each disk which kind of controller it hangs on.
fn attach(items: &[&Element], buses: &HashMap<&str, Bus>, appliance: &mut Appliance) {
    let mut attached = HashMap::new();
    for item in items.iter().filter(|item| item.text_of("ResourceType") == resource::DISK) {
        let host = item.text_of("HostResource");
        // `ovf:/disk/ID` by the standard; `/disk/ID` and `ovf://disk/ID` are seen too.
        if let Some(disk) = host.trim_start_matches("ovf:").trim_start_matches('/').strip_prefix("disk/") {
            attached.insert(shown(disk), buses.get(item.text_of("Parent")).copied());
        }
    }
    for disk in &mut appliance.disks {
        disk.bus = attached.get(&disk.id).copied().flatten();
    }
}
