//! The descriptor (OVF): which files of the archive are disks, and which machine they want.
//!
//! After DMTF DSP0243 (OVF 1.1 and 2.1); what VMware and VirtualBox add is taken from descriptors that they write.

use std::collections::{HashMap, HashSet};

use super::hardware;
use super::tar::{Member, is_bare};
use super::units::bytes_of;
use super::xml::{self, Element, shown};
use crate::appliance::{Appliance, ApplianceDisk, Firmware, GuestOs};
use crate::error::{Error, Result};

/// Reads the descriptor of an archive that holds `members`; every file that it names must be one of them.
pub(super) fn parse(text: &[u8], members: &[Member]) -> Result<Appliance> {
    let envelope = xml::parse(text)?;
    if envelope.name != "Envelope" {
        return Err(Error::corrupt(format!("the descriptor is no OVF: its root is {:?}", shown(&envelope.name))));
    }
    let mut appliance = Appliance::default();
    let files = files(&envelope, members, &mut appliance.notes)?;
    appliance.disks = disks(&envelope, &files)?;
    let mut systems = Vec::new();
    find_systems(&envelope, &mut systems)?;
    if systems.len() > 1 {
        let others = systems.len() - 1;
        appliance.notes.push(format!("the appliance has {others} more virtual machines than the first, shown here"));
    }
    if let Some(system) = systems.first() {
        machine(system, &mut appliance)?;
        hardware::read(&envelope, system, &mut appliance)?;
    }
    Ok(appliance)
}

/// Returns the members that the descriptor refers to, by the names that it gives them.
fn files<'a>(
    envelope: &Element,
    members: &'a [Member],
    notes: &mut Vec<String>,
) -> Result<HashMap<String, &'a Member>> {
    let by_name: HashMap<_, _> = members.iter().map(|member| (member.name.as_str(), member)).collect();
    let (mut files, mut used) = (HashMap::new(), HashSet::new());
    for file in envelope.all("References").flat_map(|references| references.all("File")) {
        let id = required(file, "id")?;
        let member = referred(required(file, "href")?, &by_name)?;
        if file.attribute("chunkSize")?.is_some() {
            return Err(Error::unsupported(format!("{:?} of the appliance is cut in chunks", member.name))
                .with_hint("export it again without chunks (ovftool: leave out --chunkSize)"));
        }
        let compression = file.attribute("compression")?.unwrap_or_default();
        if !matches!(compression, "" | "identity") {
            return Err(Error::unsupported(format!(
                "{:?} of the appliance is compressed as a whole ({})",
                member.name,
                shown(compression)
            ))
            .with_hint("export it again without: VMDK compresses itself (ovftool: leave out --compress)"));
        }
        if let Some(size) = file.attribute("size")?.and_then(|size| size.parse::<u64>().ok())
            && size != member.length
        {
            notes.push(format!("{:?} has {} bytes, and the descriptor says {size}", member.name, member.length));
        }
        if files.insert(id.to_owned(), member).is_some() || !used.insert(&member.name) {
            return Err(Error::corrupt(format!(
                "the descriptor refers twice to the file {:?} or by the name {:?}",
                member.name,
                shown(id)
            )));
        }
    }
    Ok(files)
}

/// Returns the member that `href` means: its bare name, as it is or with `%20` and the like.
fn referred<'a>(href: &str, members: &HashMap<&str, &'a Member>) -> Result<&'a Member> {
    if let Some(member) = members.get(href) {
        return Ok(member);
    }
    match percent_decoded(href).filter(|name| is_bare(name)) {
        None => Err(Error::refused(format!("the descriptor refers to {:?}, which is no bare file name", shown(href)))
            .with_hint("an appliance must hold all its files itself: pack them beside the descriptor")),
        Some(name) => members.get(name.as_str()).copied().ok_or_else(|| {
            Error::corrupt(format!("the descriptor refers to {:?}, which is not in the archive", shown(&name)))
        }),
    }
}

fn percent_decoded(href: &str) -> Option<String> {
    let mut parts = href.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok()
}

fn disks(envelope: &Element, files: &HashMap<String, &Member>) -> Result<Vec<ApplianceDisk>> {
    let (mut disks, mut ids) = (Vec::new(), HashSet::new());
    for disk in envelope.section("DiskSection")?.iter().flat_map(|section| section.all("Disk")) {
        let id = required(disk, "diskId")?;
        if !ids.insert(id) {
            return Err(Error::corrupt(format!("the descriptor has two disks called {:?}", shown(id))));
        }
        let file = match disk.attribute("fileRef")?.filter(|file| !file.is_empty()) {
            None => None,
            Some(file) => Some(*files.get(file).ok_or_else(|| {
                Error::corrupt(format!("disk {:?} lies in file {:?}, to which nothing refers", shown(id), shown(file)))
            })?),
        };
        if file.is_some() && disk.attribute("parentRef")?.is_some_and(|parent| !parent.is_empty()) {
            return Err(Error::refused(format!("disk {:?} is only the difference to another disk", shown(id)))
                .with_hint("merge its snapshots and export the appliance again"));
        }
        disks.push(ApplianceDisk {
            id: shown(id),
            file: file.map(|file| file.name.clone()),
            file_size: file.map_or(0, |file| file.length),
            capacity_bytes: capacity(disk)?,
            format: shown(disk.attribute("format")?.unwrap_or_default()),
            bus: None,
        });
    }
    Ok(disks)
}

/// Returns the capacity in bytes; it may be left to a property (`${...}`), and is then not known.
fn capacity(disk: &Element) -> Result<Option<u64>> {
    let capacity = disk.attribute("capacity")?.unwrap_or_default();
    let unit = disk.attribute("capacityAllocationUnits")?.filter(|unit| !unit.is_empty()).unwrap_or("byte");
    if capacity.is_empty() || capacity.starts_with("${") {
        return Ok(None);
    }
    let bytes = capacity.parse::<u64>().ok().and_then(|count| count.checked_mul(bytes_of(unit)?));
    bytes.map(Some).ok_or_else(|| {
        Error::corrupt(format!("a disk has the capacity {:?} in units of {:?}", shown(capacity), shown(unit)))
    })
}

fn required<'a>(element: &'a Element, name: &str) -> Result<&'a str> {
    element
        .attribute(name)?
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Error::corrupt(format!("{:?} in the descriptor has no {name:?}", shown(&element.name))))
}

/// Collects the virtual machines, also those in collections; the depth is bounded by that of the document.
fn find_systems<'a>(parent: &'a Element, systems: &mut Vec<&'a Element>) -> Result<()> {
    for child in &parent.children {
        match child.name.as_str() {
            "VirtualSystem" => systems.push(child),
            // OVF 0.9, which oVirt still writes.
            "Content" if child.attribute("type")?.is_some_and(|kind| kind.ends_with("VirtualSystem_Type")) => {
                systems.push(child);
            }
            "VirtualSystemCollection" | "Content" => find_systems(child, systems)?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads what the descriptor says of the machine, but for its hardware.
fn machine(system: &Element, appliance: &mut Appliance) -> Result<()> {
    appliance.name = match system.text_of("Name") {
        "" => shown(system.attribute("id")?.unwrap_or_default()),
        name => shown(name),
    };
    if let Some(product) = system.section("ProductSection")? {
        let parts = ["Product", "Version", "Vendor"].map(|name| shown(product.text_of(name)));
        let line = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        appliance.product = Some(line).filter(|line| !line.is_empty());
    }
    if let Some(os) = system.section("OperatingSystemSection")? {
        let kind = match os.attribute("osType")? {
            Some(kind) => kind,
            None => os.text_of("OSType"),
        };
        let cim_id = os.attribute("id")?.and_then(|id| id.parse().ok());
        let description = shown(os.text_of("Description"));
        appliance.os = Some(GuestOs { cim_id, kind: shown(kind), description });
    }
    // VirtualBox keeps its own description of the machine beside that of the standard.
    let firmware = system.child("Machine").and_then(|machine| machine.child("Hardware")?.child("Firmware"));
    if let Some(kind) = firmware.map(|firmware| firmware.attribute("type")).transpose()?.flatten() {
        appliance.firmware = Some(if kind.starts_with("EFI") { Firmware::Efi } else { Firmware::Bios });
    }
    Ok(())
}
