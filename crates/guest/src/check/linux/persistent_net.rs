//! udev's rules that give adapters their old names by their old addresses.

use crate::check::doctor::{Doctor, at};
use crate::check::kinds::PERSISTENT_NET;

const FOLDER: &str = "/etc/udev/rules.d";

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let is_meant = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.contains("persistent") && name.contains("net") && doctor.draft.text(path).is_some_and(|text| names(&text))
    };
    let rules: Vec<String> = doctor.files(FOLDER, ".rules").into_iter().filter(is_meant).collect();
    let evidence = rules.iter().map(|path| at(path)).collect();
    let told =
        "Rules name network adapters by the addresses of the machine before, so that the new one gets another name.";
    if !rules.is_empty() && doctor.found(&PERSISTENT_NET, told, evidence) {
        rules.iter().for_each(|path| doctor.draft.remove(path));
    }
}

/// Returns whether rules name anything: files that are empty or all comment keep others from being made.
fn names(text: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains("NAME"))
}
