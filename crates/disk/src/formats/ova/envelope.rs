//! The descriptor that is written: an OVF 1.1 envelope of one machine with one disk, for VMware and VirtualBox.

use crate::error::{Error, Result};
use crate::options::WriteOptions;

/// The machine that a new appliance asks for.
pub(super) struct Machine {
    /// Also the beginning of the names of its files.
    pub(super) name: String,
    firmware: &'static str,
    vcpus: u32,
    memory_mib: u32,
    nics: u32,
    controller: &'static Controller,
    os: &'static Os,
}

/// An operating system by the names that others have for it.
struct Os {
    name: &'static str,
    /// `CIM_OperatingSystem.OSType`, by which VirtualBox goes.
    cim_id: u16,
    /// By which VMware goes.
    vmware: &'static str,
    description: &'static str,
}

const fn os(name: &'static str, cim_id: u16, vmware: &'static str, description: &'static str) -> Os {
    Os { name, cim_id, vmware, description }
}

const SYSTEMS: &[Os] = &[
    os("other", 102, "otherGuest64", "Other (64-bit)"),
    os("linux", 101, "otherLinux64Guest", "Linux (64-bit)"),
    os("debian", 96, "debian8_64Guest", "Debian (64-bit)"),
    os("ubuntu", 94, "ubuntu64Guest", "Ubuntu (64-bit)"),
    os("rhel", 80, "rhel7_64Guest", "Red Hat Enterprise Linux (64-bit)"),
    os("centos", 107, "centos64Guest", "CentOS (64-bit)"),
    os("sles", 85, "sles12_64Guest", "SUSE Linux Enterprise (64-bit)"),
    os("freebsd", 78, "freebsd64Guest", "FreeBSD (64-bit)"),
    os("windows-server", 112, "windows8Server64Guest", "Microsoft Windows Server (64-bit)"),
];

/// A disk controller as `ResourceType`, model and name.
struct Controller {
    name: &'static str,
    resource: u32,
    model: &'static str,
    description: &'static str,
}

const CONTROLLERS: &[Controller] = &[
    Controller { name: "scsi", resource: 6, model: "lsilogic", description: "SCSI controller" },
    Controller { name: "pvscsi", resource: 6, model: "VirtualSCSI", description: "SCSI controller" },
    Controller { name: "sata", resource: 20, model: "vmware.sata.ahci", description: "SATA controller" },
];

impl Machine {
    pub(super) fn new(options: &WriteOptions) -> Result<Self> {
        let name = options.text("name").unwrap_or("appliance");
        // Also a file name and a part of XML, so that nothing needs to be escaped anywhere.
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !name.bytes().all(letters)
            || !name.starts_with(|first: char| first.is_ascii_alphanumeric())
            || name.len() > 80
        {
            return Err(Error::unsupported(format!("name={name}"))
                .with_hint("up to 80 letters, digits and . _ - are allowed, the first a letter or digit"));
        }
        Ok(Self {
            name: name.to_owned(),
            firmware: options.choice("firmware", &["bios", "efi"])?,
            vcpus: options.number("vcpus", 1, 1..=768)?,
            memory_mib: options.number("memory", 1024, 4..=25_165_824)?,
            nics: options.number("nics", 1, 0..=10)?,
            controller: chosen(options, "controller", CONTROLLERS, |controller| controller.name)?,
            os: chosen(options, "os", SYSTEMS, |os| os.name)?,
        })
    }

    /// Returns the descriptor for a disk of `capacity` bytes in `disk`, a file of `length` bytes.
    pub(super) fn envelope(&self, disk: &str, length: u64, capacity: u64) -> String {
        let Self { name, .. } = self;
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="{disk}" ovf:id="file1" ovf:size="{length}"/>
  </References>
  <DiskSection>
    <Info>The disks of the appliance</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
{network}  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="{cim_id}" vmw:osType="{os}">
      <Info>The operating system of the guest</Info>
      <Description>{description}</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>The hardware that the machine needs</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
{items}      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{firmware}"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#,
            network = if self.nics > 0 { NETWORK } else { "" },
            cim_id = self.os.cim_id,
            os = self.os.vmware,
            description = self.os.description,
            items = self.items(),
            firmware = self.firmware,
        )
    }

    /// The items of the hardware; the elements of each are in the order of their schema, which is that of their names.
    fn items(&self) -> String {
        let Controller { resource, model, description, .. } = self.controller;
        let vcpus = item(&[
            ("AllocationUnits", "hertz * 10^6"),
            ("Description", "Number of virtual CPUs"),
            ("ElementName", &format!("{} virtual CPU(s)", self.vcpus)),
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", &self.vcpus.to_string()),
        ]);
        let memory = item(&[
            ("AllocationUnits", "byte * 2^20"),
            ("Description", "Memory size"),
            ("ElementName", &format!("{} MiB of memory", self.memory_mib)),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", &self.memory_mib.to_string()),
        ]);
        let controller = item(&[
            ("Address", "0"),
            ("Description", description),
            ("ElementName", "Disk controller 0"),
            ("InstanceID", "3"),
            ("ResourceSubType", model),
            ("ResourceType", &resource.to_string()),
        ]);
        let disk = item(&[
            ("AddressOnParent", "0"),
            ("ElementName", "Hard disk 1"),
            ("HostResource", "ovf:/disk/vmdisk1"),
            ("InstanceID", "4"),
            ("Parent", "3"),
            ("ResourceType", "17"),
        ]);
        [vcpus, memory, controller, disk].into_iter().chain((0..self.nics).map(nic)).collect()
    }
}

const NETWORK: &str = r#"  <NetworkSection>
    <Info>The networks of the appliance</Info>
    <Network ovf:name="VM Network">
      <Description>Where the machine is attached</Description>
    </Network>
  </NetworkSection>
"#;

fn nic(number: u32) -> String {
    item(&[
        ("AddressOnParent", &(7 + number).to_string()),
        ("AutomaticAllocation", "true"),
        ("Connection", "VM Network"),
        ("ElementName", &format!("Network adapter {}", number + 1)),
        ("InstanceID", &(5 + number).to_string()),
        ("ResourceSubType", "E1000"),
        ("ResourceType", "10"),
    ])
}

fn item(elements: &[(&str, &str)]) -> String {
    let elements: String =
        elements.iter().map(|(name, value)| format!("        <rasd:{name}>{value}</rasd:{name}>\n")).collect();
    format!("      <Item>\n{elements}      </Item>\n")
}

/// Returns the row of `table` that the option `key` names; the first of them if it was not set.
fn chosen<T>(
    options: &WriteOptions,
    key: &str,
    table: &'static [T],
    name: fn(&T) -> &'static str,
) -> Result<&'static T> {
    let names: Vec<_> = table.iter().map(name).collect();
    let chosen = options.choice(key, &names)?;
    table.iter().find(|row| name(row) == chosen).ok_or_else(|| Error::unsupported(format!("{key}={chosen}")))
}
