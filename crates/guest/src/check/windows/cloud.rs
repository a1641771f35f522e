//! cloudbase-init, and whether the image was made general by sysprep.

use super::hive::Hive;
use crate::check::doctor::{Doctor, at};
use crate::check::finding::Evidence;
use crate::check::kinds::{CLOUDBASE_DISABLED, CLOUDBASE_METADATA, CLOUDBASE_MISSING, NOT_GENERAL};
use crate::registry::ValueData;

const SERVICE: &str = r"Services\cloudbase-init";
/// What Windows runs at the end of its setup; the installer of cloudbase-init lets it start the service.
const SETUP_END: &str = "/Windows/Setup/Scripts/SetupComplete.cmd";
/// Classes, in small letters, that read what a cloud of the kind of OpenStack gives.
const METADATA: [&str; 2] = ["configdrive", "httpservice"];
const AUTOMATIC: u32 = 2;

pub(super) fn check_cloudbase(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let report = doctor.report;
    let found = report.os.as_ref().and_then(|os| os.windows.as_ref()?.cloudbase_init.as_ref());
    let Some(found) = found.filter(|found| found.start.is_some()) else {
        let told = "cloudbase-init is not installed, so that a new server gets no password, keys or host name.";
        let evidence = vec![hive.evidence_of("Services", "cloudbase-init: (no such key)".to_owned())];
        return doctor.tell(&CLOUDBASE_MISSING, told, evidence);
    };
    let is_started_by_setup =
        || doctor.tree.config(SETUP_END).is_some_and(|text| text.to_ascii_lowercase().contains("cloudbase-init"));
    if found.start > Some(AUTOMATIC) && !is_started_by_setup() {
        let wanted: Vec<_> = hive.wanted(SERVICE, "Start", ValueData::dword(AUTOMATIC)).into_iter().collect();
        let told = "cloudbase-init is installed and does not start by itself.";
        if doctor.found(&CLOUDBASE_DISABLED, told, hive.evidence_for(&wanted)) {
            hive.set(doctor, wanted);
        }
    }
    let reads = |class: &String| METADATA.iter().any(|known| class.to_ascii_lowercase().contains(known));
    // Where nothing is configured, all of them are asked.
    if !found.metadata_services.is_empty() && !found.metadata_services.iter().any(reads) {
        let path = format!("{}/cloudbase-init.conf", found.folder.as_deref().unwrap_or_default());
        let value = format!("metadata_services={}", found.metadata_services.join(","));
        let evidence = Evidence { value: Some(crate::text::clean(value.as_bytes())), ..at(&path) };
        let told = "cloudbase-init asks neither a config drive nor the metadata service of OpenStack.";
        doctor.tell(&CLOUDBASE_METADATA, told, vec![evidence]);
    }
}

pub(super) fn check_image_state(doctor: &mut Doctor<'_>, software: &Hive<'_>) {
    const KEY: &str = r"Microsoft\Windows\CurrentVersion\Setup\State";
    const LICENCE: &str = r"Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform";
    let state = doctor.report.os.as_ref().and_then(|os| os.windows.as_ref()?.image_state.as_deref());
    if state != Some("IMAGE_STATE_COMPLETE") {
        return;
    }
    let mut evidence = vec![software.evidence(KEY, "ImageState")];
    if software.number(LICENCE, "SkipRearm") == Some(1) {
        evidence.push(software.evidence(LICENCE, "SkipRearm"));
    }
    let told =
        "It was not made general by sysprep, so that all servers have one security identifier (SID) and one name.";
    doctor.tell(&NOT_GENERAL, told, evidence);
}
