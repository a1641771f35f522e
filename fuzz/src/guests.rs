//! What targets do with damaged guests: read them, examine them, repair them.

use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use disk::source::Source;
use guest::fuzzing::{self, MemoryFiles};
use guest::registry::{Editor, Hive, Key, ValueKind};
use guest::{Attributes, ExtWriter, Extras, FatWriter, Machine, Overlay, PrepareOptions};

use crate::damaged::{Damaged, Sound};

/// 2026-11-27.
const NOW: u64 = 1_795_737_600;

/// The files `fuzz/sound/NAME.zst`, unpacked once.
#[macro_export]
macro_rules! sound {
    ($($name:literal),+) => {{
        static SOUND: std::sync::LazyLock<Vec<$crate::damaged::Sound>> = std::sync::LazyLock::new(|| {
            vec![$($crate::damaged::Sound::unpack(include_bytes!(concat!("../sound/", $name, ".zst")))),+]
        });
        &SOUND
    }};
}

/// Lets panics pass that are caught: those of readers of other crates, as the inspection contains them.
fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let end = panic::take_hook();
        panic::set_hook(Box::new(move |told| {
            if !fuzzing::is_contained() {
                end(told);
            }
        }));
    });
}

/// Reads the files of a damaged file system.
pub fn read(sounds: &'static [Sound], seal: fn(&mut Damaged), data: &[u8]) {
    begin();
    let Some(mut disk) = Damaged::decode(sounds, data) else { return };
    seal(&mut disk);
    fuzzing::read_filesystem(Arc::new(disk));
}

/// Inspects a damaged disk and prepares the guest on it, without a micro-VM.
pub fn prepare(sounds: &'static [Sound], data: &[u8]) {
    begin();
    let Some(disk) = Damaged::decode(sounds, data) else { return };
    let disk: Arc<dyn Source> = Arc::new(disk);
    let inspected = guest::inspect_with(Arc::clone(&disk), Extras { boot_kernels: true, packages: true });
    assert!(inspected.is_ok(), "damage is a note");
    let nowhere = PathBuf::from("/nowhere");
    let machine = Machine {
        qemu: nowhere.clone(),
        kernels: nowhere.clone(),
        modules: nowhere,
        time_limit: Duration::from_secs(1),
        ..Machine::default()
    };
    let options = PrepareOptions { choice: fuzzing::everything(), now: NOW, record: true };
    if let Ok(prepared) = guest::prepare_with(disk, &options, &machine) {
        let again = guest::plan(Arc::new(prepared.overlay), &options.choice);
        assert!(again.is_ok_and(|plan| plan.changes.is_empty()), "what was prepared is prepared again");
    }
}

const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };

type ExtOperation = fn(&mut ExtWriter<'_>) -> disk::Result<()>;

const EXT_OPERATIONS: [ExtOperation; 12] = [
    |writer| writer.replace(b"/etc/hostname", b"new"),
    |writer| writer.replace(b"/boot/initrd", b"short"),
    |writer| writer.append(b"/boot/initrd", &[7; 30_000]),
    |writer| writer.create(b"/many/a new name in a folder with an index", b"x", ROOT, Some(b"/etc/hostname")),
    |writer| writer.create(b"/etc/new", &[1; 5000], ROOT, None),
    |writer| writer.symlink(b"/etc/link", &[b'l'; 100]),
    |writer| writer.make_folder(b"/etc/made", ROOT, None),
    |writer| writer.remove(b"/etc/long"),
    |writer| writer.remove(b"/many/a-name-with-some-length-00007"),
    |writer| writer.rename(b"/etc/fstab", b"/etc/fstab.saved"),
    |writer| writer.remove_folder(b"/empty"),
    |writer| writer.chmod(b"/etc/fstab", 0o600),
];

type FatOperation = fn(&mut FatWriter<'_>) -> disk::Result<()>;

const FAT_OPERATIONS: [FatOperation; 7] = [
    |writer| writer.replace(b"/EFI/debian/grub.cfg", b"new"),
    |writer| writer.append(b"/EFI/debian/grub.cfg", &[7; 9000]),
    |writer| writer.create(b"/EFI/BOOT/A new long name.efi", &[1; 5000]),
    |writer| writer.create(b"/NEW.TXT", b""),
    |writer| writer.make_folder(b"/EFI/made here"),
    |writer| writer.remove(b"/EFI/debian/grubx64.efi"),
    |writer| writer.remove_folder(b"/EFI/empty"),
];

/// Changes a damaged ext by one or two operations that the second byte names.
pub fn write_ext(sounds: &'static [Sound], data: &[u8]) {
    let open_and_run = |overlay: &mut Overlay, length, operation: usize| {
        let operation = EXT_OPERATIONS[operation % EXT_OPERATIONS.len()];
        ExtWriter::open(overlay, 0..length, NOW).and_then(|mut writer| operation(&mut writer)).is_ok()
    };
    write(sounds, data, EXT_OPERATIONS.len(), open_and_run);
}

/// Does the same with a damaged FAT.
pub fn write_fat(sounds: &'static [Sound], data: &[u8]) {
    let open_and_run = |overlay: &mut Overlay, length, operation: usize| {
        let operation = FAT_OPERATIONS[operation % FAT_OPERATIONS.len()];
        FatWriter::open(overlay, 0..length, NOW).and_then(|mut writer| operation(&mut writer)).is_ok()
    };
    write(sounds, data, FAT_OPERATIONS.len(), open_and_run);
}

/// What is refused has changed nothing, and what was changed can be read.
fn write(sounds: &'static [Sound], data: &[u8], count: usize, run: impl Fn(&mut Overlay, u64, usize) -> bool) {
    begin();
    let Some((which, rest)) = data.split_first() else { return };
    let Some(disk) = Damaged::decode(sounds, rest) else { return };
    let disk: Arc<dyn Source> = Arc::new(disk);
    let mut overlay = Overlay::new(disk);
    let length = overlay.len();
    let content = |overlay: &Overlay| {
        let read = |range: std::ops::Range<u64>| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            overlay.read_at(&mut bytes, range.start).map(|()| (range.start, bytes))
        };
        overlay.changes().into_iter().map(read).collect::<disk::Result<Vec<_>>>().ok()
    };
    let mut is_changed = false;
    for operation in [usize::from(*which) % count, usize::from(*which) / count] {
        let before = content(&overlay);
        let is_done = run(&mut overlay, length, operation);
        assert!(is_done || before == content(&overlay), "a refused change was made in part");
        is_changed |= is_done;
    }
    if is_changed {
        fuzzing::read_filesystem(Arc::new(overlay));
    }
}

/// Reads a damaged hive, changes it, and repairs the Windows that has it.
pub fn hive(sounds: &'static [Sound], data: &[u8]) {
    begin();
    let Some(damaged) = Damaged::decode(sounds, data) else { return };
    let bytes = damaged.part(0, damaged.sound.length());
    if let Ok(root) = Hive::open(&bytes).and_then(|hive| hive.root()) {
        read_keys(root);
    }
    if let Ok(mut editor) = Editor::open(bytes.clone(), "HIVE", 0) {
        let service = r"ControlSet001\Services\atapi";
        let _ = editor.set_dword(service, "Start", 0);
        let _ = editor.create_key(r"ControlSet001\Services\viostor\Parameters\PnpInterface");
        let _ = editor.set_value(service, "Group", ValueKind::Text, b"S\0C\0S\0I\0\0\0");
        let _ = editor.set_value(service, "ImagePath", ValueKind::Text, &[b'x'; 4000]);
        let _ = editor.delete_value(service, "Type");
        let changed = editor.finish();
        assert!(changed.bytes.len() >= bytes.len() && Hive::open(&changed.bytes).is_ok(), "a changed hive is one");
    }
    let mut files = MemoryFiles::default();
    for name in ["SYSTEM", "SOFTWARE"] {
        files.put(&format!("/Windows/System32/config/{name}"), &bytes);
    }
    for driver in ["atapi", "intelide", "pciide", "storahci", "vioscsi", "netkvm", "i8042prt"] {
        files.put(&format!("/Windows/System32/drivers/{driver}.sys"), b"MZ");
    }
    fuzzing::repair_windows(&files);
}

fn read_keys(root: Key<'_>) {
    let mut pending = vec![root];
    for _ in 0..100 {
        let Some(key) = pending.pop() else { return };
        let _ = (key.name(), key.time(), key.class().is_ok());
        for value in key.values(16).unwrap_or_default() {
            let _ = (value.name(), value.kind(), value.data().is_ok(), value.number(), value.text(), value.texts());
        }
        pending.extend(key.subkeys(16).unwrap_or_default());
    }
}

/// Reads `data` as the initramfs of a kernel.
pub fn initramfs(data: &[u8]) {
    begin();
    const VERSION: &str = "6.1.0-18-amd64";
    let mut files = MemoryFiles::default();
    files.put(&format!("/boot/initrd.img-{VERSION}"), data);
    fuzzing::read_kernels(&files, &[VERSION.to_owned()]);
}

/// Reads `data`, behind a byte that says which of them it is, as a database of rpm; sqlite has a log behind its last 2 KiB.
pub fn rpm(data: &[u8]) {
    begin();
    let Some((which, file)) = data.split_first() else { return };
    let mut files = MemoryFiles::default();
    let folder = "/var/lib/rpm";
    match which % 4 {
        0 => files.put(&format!("{folder}/rpmdb.sqlite"), file),
        1 => {
            let (file, log) = file.split_at(file.len().min(2048));
            files.put(&format!("{folder}/rpmdb.sqlite"), file);
            files.put(&format!("{folder}/rpmdb.sqlite-wal"), log);
        }
        2 => files.put(&format!("{folder}/Packages.db"), file),
        _ => files.put(&format!("{folder}/Packages"), file),
    }
    fuzzing::read_packages(&files);
}

/// Examines and repairs a Linux whose files are texts: each begins with a zero byte and the line of its path, or
/// `path -> target` of a link.
pub fn texts(data: &[u8]) {
    begin();
    let mut files = MemoryFiles::default();
    for part in data.split(|byte| *byte == 0) {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (line, content) = (String::from_utf8_lossy(&part[..end]), part.get(end + 1..).unwrap_or_default());
        match line.split_once(" -> ") {
            Some((path, target)) => files.link(path, target),
            None => files.put(&line, content),
        }
    }
    fuzzing::repair_linux(&files);
}
