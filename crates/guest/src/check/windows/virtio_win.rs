//! Drivers of virtio-win that were supplied are put in, so that the next start finds them.
//!
//! A driver of disks: its program -> `System32\drivers`, a service that starts at boot, and an entry that binds it to its
//! devices; else the kernel could not read the disk that all others lie on. Every driver: its files -> a folder in which
//! Windows looks for drivers of new devices ([`PATH`]), from where it installs them as if a person had.
//!
//! Both databases are internal to Windows. What is written is what virt-v2v writes, which has started such guests for years:
//! `CriticalDeviceDatabase` until Windows 7, `DriverDatabase` since Windows 8.

use super::hive::{Hive, Wanted};
use super::storage::VIRTIO;
use crate::check::doctor::{Doctor, at};
use crate::check::finding::Evidence;
use crate::registry::{ValueData, ValueKind};
use crate::virtio_win::Package;

const FOLDER: &str = "/Windows/Drivers/VirtIO";
const IN_PATH: &str = r"%SystemRoot%\Drivers\VirtIO";
/// Where Windows is told in which folders drivers are, and what stands there after its setup.
const SETUP: &str = r"Microsoft\Windows\CurrentVersion";
const PATH: &str = "DevicePath";
const PATH_OF_SETUP: &str = r"%SystemRoot%\inf";
/// The class of drivers for disk controllers, as text and as it lies in memory.
const CLASS: &str = "{4D36E97B-E325-11CE-BFC1-08002BE10318}";
const CLASS_BYTES: [u8; 16] =
    [0x7b, 0xe9, 0x36, 0x4d, 0x25, 0xe3, 0xce, 0x11, 0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1, 0x03, 0x18];
/// The first build of Windows 8.
const BUILD_8: u32 = 9200;
/// Largest file that is compared with what is there.
const FILE_MAX: u64 = 24 << 20;

/// Says where the drivers called `names` would come from, or why they do not; nothing where none were supplied.
pub(super) fn supplied(doctor: &Doctor<'_>, names: &[&str]) -> String {
    let Some(drivers) = doctor.drivers() else { return String::new() };
    let mut told = String::new();
    for name in names {
        if let Some(package) = drivers.package(name) {
            told.push_str(&format!("; {name} is put in from {}", package.from));
        } else {
            // Those behind the first go in with it, or not at all.
            return drivers.why_not(name).map_or(told.clone(), |why| format!("{told}; {why}"));
        }
    }
    told
}

/// Puts in the drivers of disks, those that were supplied: that of virtio disks has to be among them.
pub(super) fn add_disk_drivers(doctor: &mut Doctor<'_>, hive: &Hive<'_>, software: Option<&Hive<'_>>) {
    let Some(drivers) = doctor.drivers().filter(|drivers| drivers.package(VIRTIO[0]).is_some()) else {
        return doctor.leave();
    };
    for package in VIRTIO.iter().filter_map(|name| drivers.package(name)) {
        let Some(program) = package.program() else { continue };
        put(doctor, &format!("/Windows/System32/drivers/{}.sys", package.name), program);
        hive.set(doctor, service(hive, package));
        if has_driver_database(doctor) {
            let top = hive.outside();
            top.set(doctor, in_driver_database(&top, package));
        } else {
            hive.set(doctor, in_critical_devices(hive, package));
        }
        add_for_new_devices(doctor, software, &package.name);
    }
}

/// Puts the driver called `name` where Windows looks for drivers of new devices.
pub(super) fn add_for_new_devices(doctor: &mut Doctor<'_>, software: Option<&Hive<'_>>, name: &str) {
    let Some(package) = doctor.drivers().and_then(|drivers| drivers.package(name)) else { return doctor.leave() };
    let Some(software) = software else { return };
    for (name, bytes) in &package.files {
        put(doctor, &format!("{FOLDER}/{name}"), bytes);
    }
    if !is_in_path(software) {
        let path = device_path(software).filter(|path| !path.is_empty()).unwrap_or_else(|| PATH_OF_SETUP.to_owned());
        let path = format!("{};{IN_PATH}", path.trim_end_matches(';'));
        let wanted = software.required(SETUP, PATH, ValueData::text(ValueKind::ExpandText, &path));
        software.set(doctor, wanted.into_iter().collect());
    }
}

/// Returns evidence that a driver waits for its device there; none where it does not.
pub(super) fn waiting(doctor: &Doctor<'_>, software: Option<&Hive<'_>>, name: &str) -> Option<Vec<Evidence>> {
    let software = software.filter(|software| is_in_path(software))?;
    let path = |end: &str| format!("{FOLDER}/{name}.{end}");
    let is_there = ["inf", "sys"].iter().all(|end| doctor.tree.exists(&path(end)));
    // Of what is supplied all has to be there.
    let supplied = doctor.drivers().and_then(|drivers| drivers.package(name)).map_or(&[][..], |package| &package.files);
    let is_whole = supplied.iter().all(|(file, bytes)| is_held(doctor, &format!("{FOLDER}/{file}"), bytes));
    (is_there && is_whole).then(|| vec![at(&path("inf")), software.evidence(SETUP, PATH)])
}

fn device_path(software: &Hive<'_>) -> Option<String> {
    software.text(SETUP, PATH)
}

fn is_in_path(software: &Hive<'_>) -> bool {
    let is_it = |folder: &str| folder.trim().trim_end_matches('\\').eq_ignore_ascii_case(IN_PATH);
    device_path(software).is_some_and(|path| path.split(';').any(is_it))
}

fn is_held(doctor: &Doctor<'_>, path: &str, bytes: &[u8]) -> bool {
    let is_as_long = |path: &str| doctor.tree.node(path).is_some_and(|node| node.length == bytes.len() as u64);
    is_as_long(path) && doctor.tree.bytes(path, FILE_MAX).as_deref() == Some(bytes)
}

/// Puts a file there, unless it is.
fn put(doctor: &mut Doctor<'_>, path: &str, bytes: &[u8]) {
    if !is_held(doctor, path, bytes) {
        doctor.draft.write(path, bytes, None);
    }
}

/// The service of a driver that starts at boot.
fn service(hive: &Hive<'_>, package: &Package) -> Vec<Wanted> {
    const KERNEL_DRIVER: u32 = 1;
    const AT_BOOT: u32 = 0;
    const NORMAL: u32 = 1;
    let key = format!(r"Services\{}", package.name);
    let file = format!(r"system32\drivers\{}.sys", package.name);
    [
        hive.required(&key, "Type", ValueData::dword(KERNEL_DRIVER)),
        hive.required(&key, "Start", ValueData::dword(AT_BOOT)),
        hive.required(&key, "Group", ValueData::text(ValueKind::Text, "SCSI miniport")),
        hive.required(&key, "ErrorControl", ValueData::dword(NORMAL)),
        hive.required(&key, "ImagePath", ValueData::text(ValueKind::ExpandText, &file)),
        hive.wanted(&format!(r"{key}\StartOverride"), "0", ValueData::dword(AT_BOOT)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn has_driver_database(doctor: &Doctor<'_>) -> bool {
    let windows = doctor.report.os.as_ref().and_then(|os| os.windows.as_ref());
    let build = windows.and_then(|windows| windows.build.as_ref()?.split('.').next()?.parse::<u32>().ok());
    build.is_some_and(|build| build >= BUILD_8)
}

/// What binds a driver to its devices before they were ever seen, until Windows 7.
fn in_critical_devices(hive: &Hive<'_>, package: &Package) -> Vec<Wanted> {
    let of_device = |device: &String| {
        let key = format!(r"Control\CriticalDeviceDatabase\PCI#{device}");
        [
            hive.required(&key, "Service", ValueData::text(ValueKind::Text, &package.name)),
            hive.required(&key, "ClassGUID", ValueData::text(ValueKind::Text, CLASS)),
        ]
    };
    package.devices.iter().flat_map(of_device).flatten().collect()
}

/// The same since Windows 8: an INF, the package that it belongs to, and the devices of both. The names are ours, so that
/// they stand for nothing else.
fn in_driver_database(top: &Hive<'_>, package: &Package) -> Vec<Wanted> {
    let inf = format!("molde_{}.inf", package.name);
    let (label, settings) = (format!("{inf}_tmp"), format!("molde_{}", package.name));
    let text = |text: &str| ValueData::text(ValueKind::Text, text);
    let binary = |bytes: Vec<u8>| ValueData { kind: ValueKind::Binary, bytes };
    // The signature of a version, and its class; date and number are none.
    let version = [&[0x00, 0xff, 0x09, 0, 0, 0, 0, 0][..], &CLASS_BYTES, &[0; 24]].concat();
    let (files, of_label) =
        (format!(r"DriverDatabase\DriverInfFiles\{inf}"), format!(r"DriverDatabase\DriverPackages\{label}"));
    let of_settings = format!(r"{of_label}\Configurations\{settings}");
    let mut wanted = vec![
        top.required(&files, "", ValueData::texts(std::slice::from_ref(&label))),
        top.required(&files, "Active", text(&label)),
        top.required(&files, "Configurations", ValueData::texts(std::slice::from_ref(&settings))),
        top.required(&of_label, "Version", binary(version)),
        top.required(&of_settings, "ConfigFlags", ValueData::dword(0)),
        top.required(&of_settings, "Service", text(&package.name)),
    ];
    for device in &package.devices {
        let key = format!(r"DriverDatabase\DeviceIds\PCI\{device}");
        wanted.push(top.required(&key, &inf, binary(vec![0x01, 0xff, 0x00, 0x00])));
        wanted.push(top.required(&format!(r"{of_label}\Descriptors\PCI\{device}"), "Configuration", text(&settings)));
    }
    wanted.into_iter().flatten().collect()
}
