//! What a new network adapter needs: its driver, and leave to install it.

use super::hive::Hive;
use super::virtio_win;
use crate::check::doctor::Doctor;
use crate::check::finding::Evidence;
use crate::check::kinds::{DRIVER_POLICY, DRIVERS_WAIT, SCANNERS, VIRTIO_NET};

const RESTRICTIONS: &str = r"Policies\Microsoft\Windows\DeviceInstall\Restrictions";
/// Rules that keep devices from getting a driver.
const DENIALS: [&str; 4] = ["DenyUnspecified", "DenyDeviceClasses", "DenyDeviceIDs", "DenyInstanceIDs"];
/// Services of programs that look for malware and are known to fight changes of drivers.
const KNOWN_SCANNERS: [(&str, &str); 12] = [
    ("SepMasterService", "Symantec Endpoint Protection"),
    ("mfemms", "McAfee / Trellix"),
    ("mfefire", "McAfee / Trellix"),
    ("ekrn", "ESET"),
    ("ntrtscan", "Trend Micro"),
    ("ds_agent", "Trend Micro Deep Security"),
    ("CSFalconService", "CrowdStrike Falcon"),
    ("SentinelAgent", "SentinelOne"),
    ("SAVService", "Sophos"),
    ("EPSecurityService", "Bitdefender"),
    ("klnagent", "Kaspersky"),
    ("360rp", "360 Total Security"),
];

pub(super) fn check_network(doctor: &mut Doctor<'_>, hive: &Hive<'_>, software: Option<&Hive<'_>>) {
    const NAME: &str = "netkvm";
    let service = hive.service(NAME);
    if service.as_ref().is_some_and(|service| service.is_file_there == Some(true) && service.start != Some(4)) {
        return;
    }
    let is_on = service.as_ref().is_none_or(|service| service.start != Some(4));
    if is_on && let Some(evidence) = virtio_win::waiting(doctor, software, NAME) {
        let told = "The driver for virtio network adapters lies where Windows looks for drivers of new devices.";
        return doctor.tell(&DRIVERS_WAIT, told, evidence);
    }
    let evidence = match service {
        Some(_) => vec![hive.evidence(r"Services\netkvm", "ImagePath"), hive.evidence(r"Services\netkvm", "Start")],
        None => vec![hive.evidence_of("Services", "netkvm: (no such key)".to_owned())],
    };
    let told = "There is no driver for virtio network adapters that can start";
    let told = format!("{told}{}.", virtio_win::supplied(doctor, &[NAME]));
    if doctor.found(&VIRTIO_NET, told, evidence) {
        virtio_win::add_for_new_devices(doctor, software, NAME);
    }
}

pub(super) fn check_scanners(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let is_on = |name: &str| hive.service(name).is_some_and(|service| matches!(service.start, Some(0..=2)));
    let found = KNOWN_SCANNERS.iter().filter(|(name, _)| is_on(name));
    let evidence: Vec<Evidence> = found
        .map(|(name, program)| {
            let start = hive.number(&format!(r"Services\{name}"), "Start").unwrap_or_default();
            hive.evidence_of(&format!(r"Services\{name}"), format!("Start: {start} ({program})"))
        })
        .collect();
    if !evidence.is_empty() {
        doctor.tell(&SCANNERS, "A program that looks for malware may hinder drivers that are installed.", evidence);
    }
}

pub(super) fn check_policy(doctor: &mut Doctor<'_>, software: &Hive<'_>) {
    let denies = |name: &&&str| software.number(RESTRICTIONS, name).is_some_and(|number| number != 0);
    let evidence: Vec<Evidence> =
        DENIALS.iter().filter(denies).map(|name| software.evidence(RESTRICTIONS, name)).collect();
    if !evidence.is_empty() {
        doctor.tell(&DRIVER_POLICY, "A policy keeps new devices from getting their drivers.", evidence);
    }
}
