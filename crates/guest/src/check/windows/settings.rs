//! Settings that fit the machine before: clock, page files, drive letters, what follows a crash, remote desktop.

use super::hive::Hive;
use crate::check::doctor::Doctor;
use crate::check::finding::Evidence;
use crate::check::kinds::{CLOCK_LOCAL, CRASH_REBOOT, DRIVE_LETTERS, FAST_STARTUP, PAGEFILE, REMOTE_DESKTOP};
use crate::fields::{le32, le64};
use crate::registry::ValueData;
use crate::report::{Partition, Report};

const POWER: &str = r"Control\Session Manager\Power";
const MEMORY: &str = r"Control\Session Manager\Memory Management";
const CLOCK: &str = r"Control\TimeZoneInformation";
const CRASH: &str = r"Control\CrashControl";
const DESKTOP: &str = r"Control\Terminal Server";
const VALUES_MAX: usize = 256;

pub(super) fn check(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let fast: Vec<_> = hive.wanted(POWER, "HiberbootEnabled", ValueData::dword(0)).into_iter().collect();
    let told = "Fast startup is on: each shutdown leaves a sleeping kernel, which fits no other machine.";
    if !fast.is_empty() && doctor.found(&FAST_STARTUP, told, hive.evidence_for(&fast)) {
        hive.set(doctor, fast);
    }
    let reboot: Vec<_> = hive.wanted(CRASH, "AutoReboot", ValueData::dword(0)).into_iter().collect();
    let told = "After a crash Windows starts again at once, so that its reason cannot be read.";
    if !reboot.is_empty() && doctor.found(&CRASH_REBOOT, told, hive.evidence_for(&reboot)) {
        hive.set(doctor, reboot);
    }
    let is_utc = hive.number(CLOCK, "RealTimeIsUniversal").is_some_and(|number| number != 0);
    if !is_utc && hive.key(CLOCK).is_some() {
        let told = "Windows takes the clock of the machine for local time; most clouds give universal time.";
        doctor.tell(&CLOCK_LOCAL, told, vec![hive.evidence(CLOCK, "RealTimeIsUniversal")]);
    }
    if hive.number(DESKTOP, "fDenyTSConnections").is_some_and(|number| number != 0) {
        let told = "Remote desktop is off, so that a server can be reached on its console only.";
        doctor.tell(&REMOTE_DESKTOP, told, vec![hive.evidence(DESKTOP, "fDenyTSConnections")]);
    }
    check_pagefiles(doctor, hive);
    check_letters(doctor, hive);
}

fn check_pagefiles(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let files = hive.texts(MEMORY, "PagingFiles");
    // `?:` lets Windows choose; the system is C:.
    let is_elsewhere = |file: &&String| !file.is_empty() && !file.starts_with(['C', 'c', '?']);
    if files.iter().any(|file| is_elsewhere(&file)) {
        let told = "Virtual memory lies on a drive that may not be there on another machine.";
        doctor.tell(&PAGEFILE, told, vec![hive.evidence(MEMORY, "PagingFiles")]);
    }
}

/// Drive letters are bound to the signature or the id of a disk that may not be part of the image.
fn check_letters(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    const KEY: &str = "MountedDevices";
    let values = hive.top(KEY).and_then(|key| key.values(VALUES_MAX).ok()).unwrap_or_default();
    let letters = values.iter().filter_map(|value| {
        let name = value.name();
        let letter = name.strip_prefix("\\DosDevices\\").filter(|rest| rest.len() == 2 && rest.ends_with(':'))?;
        let place = place(&value.data().ok()?)?;
        let is_here = doctor.report.partitions.iter().any(|partition| place.means(partition));
        (!is_here).then(|| Evidence {
            path: format!("HKLM\\SYSTEM\\{KEY}"),
            line: None,
            value: Some(format!("{} {place}", crate::text::clean(letter.as_bytes()))),
        })
    });
    let evidence: Vec<Evidence> = letters.collect();
    if !evidence.is_empty() && has_ids(doctor.report) {
        let told = "Drive letters belong to partitions that are not on this disk.";
        doctor.tell(&DRIVE_LETTERS, told, evidence);
    }
}

fn has_ids(report: &Report) -> bool {
    report.partitions.iter().any(|partition| partition.uuid.is_some())
}

/// What a drive letter is bound to.
enum Place {
    /// A disk with a table of the DOS kind, by its signature, and the first byte of the partition.
    Offset(u32, u64),
    /// A partition of a GPT, by its id.
    Id(uuid::Uuid),
}

fn place(data: &[u8]) -> Option<Place> {
    match data.len() {
        12 => Some(Place::Offset(le32(data, 0), le64(data, 4))),
        24 => data
            .strip_prefix(b"DMIO:ID:")
            .and_then(|id| id.try_into().ok())
            .map(uuid::Uuid::from_bytes_le)
            .map(Place::Id),
        // Of drives that are taken out it is their name.
        _ => None,
    }
}

impl Place {
    fn means(&self, partition: &Partition) -> bool {
        let uuid = partition.uuid.as_deref().unwrap_or_default();
        match self {
            Self::Offset(signature, offset) => {
                partition.offset == *offset && uuid.starts_with(&format!("{signature:08x}-"))
            }
            Self::Id(id) => uuid.eq_ignore_ascii_case(&id.to_string()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offset(signature, offset) => write!(f, "disk {signature:08x}, byte {offset}"),
            Self::Id(id) => write!(f, "partition {id}"),
        }
    }
}
