//! Logs of the machine before.

use crate::check::doctor::{Doctor, at};
use crate::check::kinds::LOGS;

/// Where the guest keeps what prepare did to it.
pub(crate) const RECORD: &str = "/var/log/molde-prepare.log";
const FOLDER: &str = "/var/log";
/// Most files that are emptied, and how deep below the folder they are looked for.
const FILES_MAX: usize = 512;
const DEPTH_MAX: usize = 3;

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let mut files = Vec::new();
    collect(doctor, FOLDER, 0, &mut files);
    let evidence = files.iter().map(|path| at(path)).collect();
    let told = format!("Logs of the machine before are handed on with the image: {} files.", files.len());
    if files.is_empty() || !doctor.found(&LOGS, told, evidence) {
        return;
    }
    for path in &files {
        // Journals are no text: an emptied one is damaged, and a missing one is begun anew.
        if path.starts_with("/var/log/journal/") {
            doctor.draft.remove(path);
        } else {
            doctor.draft.write(path, "", None);
        }
    }
}

fn collect(doctor: &Doctor<'_>, folder: &str, depth: usize, files: &mut Vec<String>) {
    for path in doctor.files(folder, "") {
        if files.len() >= FILES_MAX {
            return;
        }
        let Some(node) = doctor.tree.node(&path) else { continue };
        if path == RECORD {
            continue;
        }
        if doctor.tree.is_file(&path) && node.length > 0 {
            files.push(path);
        } else if depth < DEPTH_MAX && doctor.tree.is_folder_itself(&path) {
            collect(doctor, &path, depth + 1, files);
        }
    }
}
