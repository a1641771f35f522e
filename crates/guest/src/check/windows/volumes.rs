//! How volumes and hives were left: what keeps anybody but Windows from changing them.

use super::hive::Hive;
use crate::check::doctor::Doctor;
use crate::check::finding::Evidence;
use crate::check::kinds::{HIBERNATED, HIVE_PENDING, VOLUME_DIRTY};

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let volumes = doctor.report.os.iter().filter_map(|os| os.windows.as_ref()).flat_map(|found| &found.volumes);
    let evidence =
        |device: &str, value: &str| Evidence { path: device.to_owned(), line: None, value: Some(value.to_owned()) };
    let asleep: Vec<Evidence> = volumes
        .clone()
        .filter(|volume| volume.hibernated)
        .map(|volume| evidence(&volume.device, "hiberfil.sys holds a sleeping system"))
        .collect();
    let dirty: Vec<Evidence> = volumes
        .filter(|volume| volume.dirty)
        .map(|volume| evidence(&volume.device, "marked dirty, or with an open journal"))
        .collect();
    if !asleep.is_empty() {
        let told = "Windows sleeps on this disk (hibernation, or a shutdown with fast startup). It wakes on the same hardware only, and the disk cannot be changed.";
        doctor.tell(&HIBERNATED, told, asleep);
    }
    if !dirty.is_empty() {
        doctor.tell(&VOLUME_DIRTY, "A volume was not closed cleanly. The disk cannot be changed.", dirty);
    }
}

pub(super) fn check_hive(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    if hive.is_pending() {
        let evidence =
            vec![hive.evidence_of("", "not written to its end, or with newer entries in its logs".to_owned())];
        doctor.tell(&HIVE_PENDING, "What Windows changed last in its registry is in logs only.", evidence);
    }
}
