//! What UEFI firmware starts where it knows of no entry: `\EFI\BOOT\BOOTX64.EFI` of the EFI system partition.
//!
//! Entries are in the memory of the machine before, and do not travel with its disk (UEFI specification, section 3.5.1.1,
//! "Removable Media Boot Behavior"). A loader in that folder finds what it needs as follows:
//! - shim starts the grub beside it, or `fbx64.efi` where that is beside it. The latter writes entries into the memory of the
//!   firmware and may start the machine anew, at each start of a server whose firmware forgets; so it is not copied.
//! - grub of a distribution has the path of its own folder inside (`/EFI/debian`), or looks beside itself first: a file of
//!   three lines there leads to the settings of the distribution, which stay where its updates write them.
//! - systemd-boot looks for entries from the top of its partition on, wherever it lies itself.

use crate::check::doctor::{Doctor, NAMES_MAX, at};
use crate::check::kinds::{UEFI_FALLBACK, UEFI_FALLBACK_UNKNOWN};
use crate::report::FilesystemKind;
use crate::text::word;

/// Where EFI system partitions are mounted.
const MOUNTS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];
/// What the names of loaders end with on each architecture.
const SUFFIXES: [(&str, &str); 2] = [("x86_64", "x64"), ("aarch64", "aa64")];
/// Largest loader that is copied: grub with all its modules has some 4 MiB.
const LOADER_MAX: u64 = 16 << 20;

/// What is copied to make a folder start without entries: paths, and the names of the copies.
struct Copies {
    folder: String,
    files: Vec<(String, String)>,
}

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let arch = doctor.report.os.as_ref().and_then(|os| os.arch.as_deref());
    let Some((_, suffix)) = SUFFIXES.into_iter().find(|(name, _)| arch == Some(*name)) else { return };
    let Some(mount) = MOUNTS.into_iter().find(|mount| is_efi(doctor, mount)) else { return };
    let fallback = format!("BOOT{}.EFI", suffix.to_ascii_uppercase());
    let target = format!("{mount}/EFI/BOOT");
    if !doctor.report.boot.uefi || doctor.draft.exists(&format!("{target}/{fallback}")) {
        return;
    }
    let Some(copies) = choose(doctor, mount, suffix, &fallback) else {
        let told =
            format!("A server whose firmware knows of no entry finds no {target}/{fallback}, and nothing starts.");
        doctor.tell(&UEFI_FALLBACK_UNKNOWN, told, vec![at(&format!("{mount}/EFI"))]);
        return;
    };
    let told = format!("A server whose firmware knows of no entry looks for {target}/{fallback}, which is not there.");
    let evidence = copies.files.iter().map(|(path, _)| at(path)).collect();
    if doctor.found(&UEFI_FALLBACK, told, evidence) {
        copy(doctor, mount, &target, &copies);
    }
}

fn is_efi(doctor: &Doctor<'_>, mount: &str) -> bool {
    let (device, inner) = doctor.tree.place(mount);
    let is_there = |found: &crate::Filesystem| found.device == device && found.kind == FilesystemKind::Vfat;
    inner == "/" && doctor.report.filesystems.iter().any(is_there) && doctor.tree.is_folder(&format!("{mount}/EFI"))
}

/// Chooses a loader: shim with its grub, systemd-boot, or grub alone; that of the distribution before others.
fn choose(doctor: &Doctor<'_>, mount: &str, suffix: &str, fallback: &str) -> Option<Copies> {
    let distro = doctor.report.os.as_ref().and_then(|os| os.distro.clone()).unwrap_or_default();
    let is_own = |folder: &str| {
        let folder = folder.to_ascii_lowercase();
        (distro == "rhel" && folder == "redhat") || (!folder.is_empty() && distro.starts_with(&folder))
    };
    let mut folders = doctor.tree.names(&format!("{mount}/EFI"), NAMES_MAX);
    folders.retain(|folder| word(folder).is_some() && !folder.eq_ignore_ascii_case("BOOT"));
    folders.sort_by_key(|folder| !is_own(folder));
    let there = |folder: &str, names: [String; 2]| -> Vec<(String, String)> {
        let paths = names.into_iter().map(|name| (format!("{mount}/EFI/{folder}/{name}"), name));
        paths.filter(|(path, _)| is_loader(doctor, path)).collect()
    };
    let shims = |folder: &str| there(folder, [format!("shim{suffix}.efi"), "shim.efi".to_owned()]);
    let grubs = |folder: &str| there(folder, [format!("grub{suffix}.efi"), "grub.efi".to_owned()]);
    let copies = |folder: &String, mut first: Vec<(String, String)>, others: Vec<(String, String)>| {
        first.truncate(1);
        first[0].1 = fallback.to_owned();
        Copies { folder: folder.clone(), files: [first, others].concat() }
    };
    for folder in &folders {
        let (shims, grubs) = (shims(folder), grubs(folder));
        // Only shim itself knows which of the two names it asks for.
        if !shims.is_empty() && !grubs.is_empty() {
            return Some(copies(folder, shims, grubs));
        }
    }
    let systemd = [format!("systemd-boot{suffix}.efi"), format!("systemd-boot{}.efi", suffix.to_ascii_uppercase())];
    let systemd = there("systemd", systemd);
    if !systemd.is_empty() {
        return Some(copies(&"systemd".to_owned(), systemd, Vec::new()));
    }
    let with_grub = |folder: &&String| shims(folder).is_empty() && !grubs(folder).is_empty();
    folders.iter().find(with_grub).map(|folder| copies(folder, grubs(folder), Vec::new()))
}

fn is_loader(doctor: &Doctor<'_>, path: &str) -> bool {
    let is_small = doctor.tree.node(path).is_some_and(|node| node.length <= LOADER_MAX);
    is_small && doctor.tree.head(path, 2).is_some_and(|head| head == b"MZ")
}

fn copy(doctor: &mut Doctor<'_>, mount: &str, target: &str, copies: &Copies) {
    let read =
        |(path, name): &(String, String)| Some((format!("{target}/{name}"), doctor.tree.bytes(path, LOADER_MAX)?));
    // All of them or none: shim without its grub stops with a message.
    let Some(files) = copies.files.iter().map(read).collect::<Option<Vec<_>>>() else { return };
    for (path, bytes) in files {
        if !doctor.draft.exists(&path) {
            doctor.draft.write(&path, bytes, None);
        }
    }
    let device = doctor.tree.place(mount).0;
    let uuid =
        doctor.report.filesystems.iter().find(|found| found.device == device).and_then(|found| found.uuid.clone());
    let (settings, folder) = (format!("{target}/grub.cfg"), &copies.folder);
    let has_settings = doctor.draft.exists(&format!("{mount}/EFI/{folder}/grub.cfg"));
    if let Some(uuid) = uuid.filter(|_| has_settings && !doctor.draft.exists(&settings)) {
        let text = format!(
            "search --no-floppy --fs-uuid --set=root {uuid}\nset prefix=($root)/EFI/{folder}\nconfigfile $prefix/grub.cfg\n"
        );
        doctor.draft.write(&settings, text, None);
    }
}
