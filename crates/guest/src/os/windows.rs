//! Windows: what its registry and its files say, and how its volumes were left.

mod cloudbase;
mod network;
mod programs;
pub(crate) mod registry;
pub(crate) mod services;
mod version;

use std::rc::Rc;

use self::registry::Registry;
use crate::filesystems::fat;
use crate::filesystems::ntfs::{Hibernation, Ntfs};
use crate::registry::{Key, Value};
use crate::report::{FilesystemKind, Os, OsKind, Report, Windows, WindowsVolume};
use crate::text::{clean, hostname};
use crate::tree::Tree;
use crate::window::Window;

/// Most NTFS volumes that are looked into.
const VOLUMES_MAX: usize = 8;
const PAGEFILES_MAX: usize = 16;
const BOOT_DATA: &str = "Boot/BCD";
const BOOT_DATA_EFI: &str = "EFI/Microsoft/Boot/BCD";

/// Looks for a Windows on the NTFS among `volumes` (each with its index in [`Report::filesystems`]) and describes it;
/// returns its root where it is the first system.
pub(crate) fn read<'w>(volumes: impl Iterator<Item = (usize, &'w Window)>, report: &mut Report) -> Option<Tree> {
    let mut windows = Windows::default();
    let mut root = None;
    let mut fats = Vec::new();
    for (index, window) in volumes {
        match report.filesystems[index].kind {
            FilesystemKind::Ntfs if windows.volumes.len() < VOLUMES_MAX => {
                // Why one cannot be read was told where it was opened first.
                let Ok(ntfs) = Ntfs::open(window).map(Rc::new) else { continue };
                tell_state(&ntfs, window, index, report, &mut windows);
                let tree = Tree::new(ntfs, &report.filesystems[index].device, window.budget().clone());
                look_for_boot(&tree, index, report, &mut windows);
                if root.is_none() && tree.exists(&registry::path("SYSTEM")) {
                    root = Some((index, tree));
                }
            }
            FilesystemKind::Vfat => fats.push((index, window)),
            _ => {}
        }
    }
    let (index, tree) = root?;
    let device = report.filesystems[index].device.clone();
    for (index, window) in fats.into_iter().take(VOLUMES_MAX) {
        if fat::has_file(window, BOOT_DATA_EFI) {
            windows.boot_data.push(format!("/{BOOT_DATA_EFI} on {}", report.filesystems[index].device));
        }
    }
    let os = Os { root: Some(device.clone()), ..describe(&tree, windows) };
    if report.os.is_some() {
        tree.note(format!("There is a Windows on {device} as well."));
        report.other_systems.push(os);
        return None;
    }
    report.boot.loader.get_or_insert_with(|| "windows".to_owned());
    report.os = Some(os);
    Some(tree)
}

fn tell_state(ntfs: &Ntfs, window: &Window, index: usize, report: &mut Report, windows: &mut Windows) {
    let filesystem = &mut report.filesystems[index];
    let device = filesystem.device.clone();
    let note = |text: String| window.budget().note(text);
    let state = match ntfs.state() {
        Ok(state) => state,
        Err(why) => return note(format!("How {device} was left cannot be told: {}.", clean(why.as_bytes()))),
    };
    if state.is_dirty {
        note(format!("{device} was not closed cleanly; Windows will check it at its next start."));
    }
    match state.hibernation {
        Hibernation::None => {}
        Hibernation::Asleep => note(format!("A Windows sleeps on {device} (hibernation or fast startup).")),
        Hibernation::Unclear => {
            note(format!("{device} has a hiberfil.sys of an unknown kind; a Windows may sleep there."));
        }
    }
    filesystem.label = state.label;
    windows.volumes.push(WindowsVolume {
        device,
        ntfs: format!("{}.{}", state.version.0, state.version.1),
        dirty: state.is_dirty,
        hibernated: state.hibernation != Hibernation::None,
    });
}

fn look_for_boot(tree: &Tree, index: usize, report: &mut Report, windows: &mut Windows) {
    let device = &report.filesystems[index].device;
    if tree.exists(&format!("/{BOOT_DATA}")) {
        windows.boot_data.push(format!("/{BOOT_DATA} on {device}"));
    }
    if tree.exists("/bootmgr") {
        report.boot.evidence.push(format!("/bootmgr on {device}"));
        report.boot.loader.get_or_insert_with(|| "windows".to_owned());
    }
}

/// Describes the Windows whose root is `tree`.
pub(crate) fn describe(tree: &Tree, windows: Windows) -> Os {
    let mut os = Os { distro: Some("windows".to_owned()), ..Os::new(OsKind::Windows) };
    let mut windows = windows;
    if let Some(bytes) = registry::load(tree, "SYSTEM")
        && let Some(system) = Registry::open(tree, "SYSTEM", &bytes)
    {
        read_system(&system, tree, &mut os, &mut windows);
    }
    if let Some(bytes) = registry::load(tree, "SOFTWARE")
        && let Some(software) = Registry::open(tree, "SOFTWARE", &bytes)
    {
        version::read(&software, &mut os, &mut windows);
        windows.programs = programs::read(&software);
        windows.image_state = software.text(r"Microsoft\Windows\CurrentVersion\Setup\State", "ImageState");
    }
    windows.cloudbase_init = cloudbase::read(tree, &windows.services);
    os.windows = Some(Box::new(windows));
    os
}

fn read_system(system: &Registry<'_>, tree: &Tree, os: &mut Os, windows: &mut Windows) {
    let set = system.control_set();
    let control = |path: &str| format!(r"{set}\Control\{path}");
    let name = system
        .text(&format!(r"{set}\Services\Tcpip\Parameters"), "Hostname")
        .or_else(|| system.text(&control(r"ComputerName\ComputerName"), "ComputerName"));
    os.hostname = name.and_then(|name| hostname(&name).map(str::to_owned));
    let processor = system.text(&control(r"Session Manager\Environment"), "PROCESSOR_ARCHITECTURE");
    os.arch = processor.and_then(|name| version::arch(&name)).map(str::to_owned);
    let is_set = |path: &str, name| system.number(&control(path), name).is_some_and(|number| number != 0);
    windows.clock_is_utc = is_set("TimeZoneInformation", "RealTimeIsUniversal");
    windows.fast_startup = is_set(r"Session Manager\Power", "HiberbootEnabled");
    let memory = system.key(&control(r"Session Manager\Memory Management"));
    let files = memory.and_then(|key| key.value("PagingFiles").ok().flatten()).and_then(|value| value.texts());
    // Each is a path, then the least and the largest size.
    let path = |text: &String| {
        let words: Vec<&str> = text.split(' ').collect();
        let is_size = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        let sizes = words.iter().rev().take_while(|word| is_size(word)).count().min(words.len() - 1);
        clean(words[..words.len() - sizes].join(" ").as_bytes())
    };
    windows.pagefiles = files.unwrap_or_default().iter().take(PAGEFILES_MAX).map(path).collect();
    windows.services = services::read(system, &set, tree);
    windows.adapters = network::read(system, &set);
}

/// Returns a text of `key`, safe to show; an empty one is none.
fn text(key: &Key<'_>, name: &str) -> Option<String> {
    let text = clean(key.value(name).ok()??.text()?.trim().as_bytes());
    (!text.is_empty()).then_some(text)
}

/// Returns a number of `key`.
fn number(key: &Key<'_>, name: &str) -> Option<u32> {
    key.value(name).ok()?.as_ref().and_then(Value::number).and_then(|number| number.try_into().ok())
}
