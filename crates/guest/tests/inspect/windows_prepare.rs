//! Prepare on Windows: values of hives are changed in place, as hivex reads them back, and no other byte of the disk is.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::ErrorKind;
use disk::source::Source;
use guest::registry::{Editor, ValueKind};
use guest::{Browser, Change, Choice, Machine, PrepareOptions, Prepared, compare, prepare, prepare_with};

use crate::disks::{MIB, Memory, put, tool};
use crate::hives::{empty, export, merge, regedit, stamp};
use crate::mutation::{Damaged, Random};
use crate::windows::{software, texts, volume};
use crate::windows_check::{DRIVERS, INTERFACES, MOUSE, examined, fit, from_vmware, on_disk, server, windows_10};

const HIVE: &str = "Windows/System32/config/SYSTEM";
const VOLUME: std::ops::Range<usize> = MIB..13 * MIB;

fn options() -> PrepareOptions {
    PrepareOptions { choice: Choice::default(), now: 1_790_000_000, record: true }
}

fn run(disk: &[u8]) -> Prepared {
    let done = prepare(Arc::new(Memory(disk.to_vec())), &options());
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut all, 0).unwrap();
    all
}

/// Calls `look` with the first partition of `disk` in a file.
fn with_volume<T>(disk: &[u8], look: impl FnOnce(&str) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, &disk[VOLUME]).unwrap();
    look(image.to_str().unwrap())
}

/// Returns the hive as the driver of Linux reads it, and asserts that its tools find no fault in the volume.
fn hive(disk: &[u8]) -> Vec<u8> {
    with_volume(disk, |image| {
        let told = tool("ntfs-3g", "ntfsfix", &["-n", image], "");
        assert!(told.contains("was processed successfully"), "{told}");
        tool("ntfs-3g", "ntfsinfo", &["-m", image], "");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("hive");
        let command = format!("ntfscat -f {image} {HIVE} > {}", out.display());
        tool("ntfs-3g", "sh", &["-c", &command], "");
        fs::read(out).unwrap()
    })
}

/// Returns what hivexget tells of one value, and asserts that hivexml can read the whole hive.
fn told(hive: &[u8], key: &str, name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hive");
    fs::write(&path, hive).unwrap();
    let path = path.to_str().unwrap();
    assert!(tool("libhivex-bin", "hivexml", &[path], "").trim_end().ends_with("</hive>"));
    tool("libhivex-bin", "hivexget", &[path, key, name], "").trim().to_owned()
}

/// Prepares a disk, and asserts what always holds: the plan is what differs, and nothing is left for a second run.
fn prepared(disk: &[u8]) -> (Vec<u8>, Prepared) {
    let done = run(disk);
    let after = bytes(&done.overlay);
    let (old, new) = (hive(disk), hive(&after));
    assert_eq!(old.len(), new.len());
    assert!(old.len() > 8192 && stamped(&new));

    // Bytes that differ are bytes of the hive, of which there are as many.
    let differing = |old: &[u8], new: &[u8]| old.iter().zip(new).filter(|(old, new)| old != new).count();
    assert_eq!(differing(disk, &after), differing(&old, &new));
    let [before, now] = [disk, &after].map(|disk| Browser::open(Arc::new(Memory(disk.to_vec()))).unwrap());
    let changed: Vec<String> =
        compare(&before, &now).unwrap().into_iter().map(|found| found.before.unwrap().path).collect();
    assert_eq!(changed, [format!("/{HIVE}")]);

    // Values that differ are those of the plan.
    let values: usize = done.plan.changes.iter().filter_map(Change::values).map(Iterator::count).sum();
    let (old, new) = (export(&old), export(&new));
    let lines = |text: &str| text.replace("\\\n  ", "").lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&old).iter().zip(lines(&new)).filter(|(old, new)| *old != new).count(), values);
    assert_eq!(lines(&old).len(), lines(&new).len());

    let again = run(&after);
    assert!(again.overlay.changes().is_empty() && again.plan.changes.is_empty(), "{:#?}", again.plan.changes);
    (after, done)
}

/// Returns whether both numbers of the base block are the same, and its checksum is right.
fn stamped(hive: &[u8]) -> bool {
    let mut right = hive.to_vec();
    stamp(&mut right);
    right == hive && hive[4..8] == hive[8..12]
}

#[test]
fn a_server_from_vmware_gets_its_drivers_and_asks_for_its_address() {
    let disk = server(&from_vmware(), "");
    let (after, done) = prepared(&disk);
    let hive = hive(&after);
    let services = r"ControlSet001\Services";
    for (key, name, expected) in [
        (format!(r"{services}\atapi"), "Start", "0"),
        (format!(r"{services}\intelide\StartOverride"), "0", "0"),
        (format!(r"{services}\storahci"), "Start", "0"),
        (format!(r"{services}\storahci\StartOverride"), "0", "0"),
        (format!(r"{services}\msahci"), "Start", "3"),
        (format!(r"{services}\i8042prt"), "Start", "3"),
        (format!(r"{services}\VMTools"), "Start", "4"),
        (format!(r"{services}\vmci"), "Start", "0"),
        (format!(r"ControlSet001\Control\Class\{MOUSE}"), "UpperFilters", "mouclass"),
        (format!(r"{INTERFACES}\{{A}}"), "EnableDHCP", "1"),
        (format!(r"{INTERFACES}\{{A}}"), "IPAddress", ""),
        (format!(r"{INTERFACES}\{{A}}"), "DefaultGateway", ""),
        (format!(r"{INTERFACES}\{{A}}"), "NameServer", ""),
        (format!(r"{INTERFACES}\{{B}}"), "IPAddress", "0.0.0.0"),
        (format!(r"{INTERFACES}\{{C}}"), "NameServer", ""),
        (r"ControlSet001\Control\CrashControl".to_owned(), "AutoReboot", "1"),
    ] {
        assert_eq!(told(&hive, &key, name), expected, "{key} {name}");
    }
    let left: Vec<_> = done.after.iter().filter(|found| found.kind.action == guest::Action::Automatic).collect();
    assert!(left.is_empty(), "{left:#?}");

    let [change] = &done.plan.changes[..] else { panic!("{:#?}", done.plan.changes) };
    assert_eq!(change.summary(), format!("set 15 values in /{HIVE}"));
    let diff = change.diff().unwrap();
    let key = r"HKLM\SYSTEM\ControlSet001\Services\atapi";
    assert!(diff.starts_with(&format!("--- a/{HIVE}\n+++ b/{HIVE}\n")), "{diff}");
    assert!(diff.contains(&format!("-{key} Start: 3 (dword)\n+{key} Start: 0 (dword)\n")), "{diff}");
    let json = change.to_json();
    let values = json["values"].as_array().unwrap();
    assert_eq!(values.len(), 15);
    let start = values.iter().find(|value| value["key"] == key).unwrap();
    assert_eq!((&start["name"], &start["type"]), (&"Start".into(), &"dword".into()));
    assert_eq!((&start["before"], &start["after"]), (&"3".into(), &"0".into()));
}

#[test]
fn windows_10_that_was_shut_down() {
    let software = software("Windows 10 Pro", "19045", "Professional");
    let (after, _) = prepared(&on_disk(&volume(&windows_10(), &software, DRIVERS)));
    let hive = hive(&after);
    assert_eq!(told(&hive, r"ControlSet001\Control\Session Manager\Power", "HiberbootEnabled"), "0");
    assert_eq!(told(&hive, r"ControlSet001\Services\viostor\StartOverride", "0"), "0");
    assert_eq!(told(&hive, r"ControlSet001\Services\cloudbase-init", "Start"), "2");
}

#[test]
fn a_hive_in_pieces() {
    // Another file grows between its clusters.
    let more = format!(
        r"{DRIVERS}
hive = open('{HIVE}', 'rb').read(); os.remove('{HIVE}')
one, other = os.open('{HIVE}', os.O_CREAT | os.O_WRONLY), os.open('other', os.O_CREAT | os.O_WRONLY)
for at in range(0, len(hive), 4096):
    for file in [one, other]: os.write(file, hive[at:at + 4096]); os.fsync(file)
os.close(one); os.close(other)
"
    );
    let disk = server(&from_vmware(), &more);
    let told = with_volume(&disk, |image| tool("ntfs-3g", "ntfsinfo", &["-v", "-F", HIVE, image], ""));
    let runs = told.lines().find_map(|line| line.strip_prefix("Total runs: ")).unwrap();
    assert!(!runs.starts_with("1 "), "{runs}");
    prepared(&disk);
}

#[test]
fn what_needs_nothing_stays() {
    assert!(run(&server(&fit(), "")).overlay.changes().is_empty());
}

/// Asserts that prepare refuses, with these words in the reason, and a way out.
fn refused(disk: &[u8], why: &str, way_out: &str) {
    assert!(!examined(disk).changes.is_empty(), "there is something to change");
    let error = prepare(Arc::new(Memory(disk.to_vec())), &options()).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.hint().unwrap_or_default().contains(way_out), "{error}: {:?}", error.hint());
}

#[test]
fn volumes_that_only_windows_may_change() {
    let asleep = server(&windows_10(), "write('hiberfil.sys', b'hibr' + bytes(8192))");
    refused(&asleep, "sleeps", "shutdown /s /t 0");
    refused(&server(&windows_10(), "write('hiberfil.sys', b'what' + bytes(8192))"), "unknown kind", "powercfg /h off");

    let sound = server(&windows_10(), "");
    let mut dirty = sound.clone();
    let record = MIB + volume_record(&dirty[VOLUME], 3);
    let attribute =
        (record + 56..record + 1024).step_by(8).find(|at| dirty[*at..].starts_with(&[0x70, 0, 0, 0])).unwrap();
    dirty[attribute + 24 + 10] |= 1;
    refused(&dirty, "not closed cleanly", "shutdown /s /t 0");
    assert!(examined(&dirty).findings.iter().any(|found| found.kind.id == "windows-volume-dirty"));

    // A journal that somebody had open: the first page of the restarts of a driver that did not end.
    let mut open = sound;
    let start = MIB + journal(&open[VOLUME]);
    let mut page = vec![0; 4096];
    page[..8].copy_from_slice(b"RSTR\x1e\0\x09\0");
    (page[17], page[21], page[24], page[0x40]) = (0x10, 0x10, 0x40, 9);
    for at in (0..8).map(|stride| stride * 512 + 510).chain([0x1e]) {
        page[at..at + 2].copy_from_slice(&[7, 0]);
    }
    open[start..start + 4096].copy_from_slice(&page);
    refused(&open, "not closed cleanly", "shutdown /s /t 0");
}

/// Returns where the record `number` of the table of files lies.
fn volume_record(volume: &[u8], number: u8) -> usize {
    volume.chunks(1024).position(|block| block.starts_with(b"FILE") && block[44] == number).unwrap() * 1024
}

/// Returns where the journal lies: the one run of its attribute of data.
fn journal(volume: &[u8]) -> usize {
    let record = volume_record(volume, 2);
    let attribute =
        (record + 56..record + 1024).step_by(8).find(|at| volume[*at..].starts_with(&[0x80, 0, 0, 0])).unwrap();
    let run = attribute + usize::from(volume[attribute + 32]);
    let (length, place) = (usize::from(volume[run] & 15), usize::from(volume[run] >> 4));
    let place = &volume[run + 1 + length..run + 1 + length + place];
    place.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)) * 4096
}

#[test]
fn hives_that_only_windows_may_change() {
    let mut hive = windows_10();
    hive[4] = hive[4].wrapping_add(1);
    stamp(&mut hive);
    refused(&server(&hive, ""), "was not written to its end", "start and shut down the guest");

    let sequence = windows_10()[8];
    let log = format!(
        "log = bytearray(8192); log[:4] = b'regf'; log[28] = 6; log[512:516] = b'HvLE'; log[517] = 2; log[524] = {}\n\
         write('{HIVE}.LOG1', bytes(log))",
        sequence + 1
    );
    let disk = server(&windows_10(), &log);
    refused(&disk, "LOG1", "shutdown /s /t 0");
    assert!(examined(&disk).findings.iter().any(|found| found.kind.id == "windows-registry-pending"));

    let mut broken = windows_10();
    broken[4096 + 8] = 1;
    refused(&server(&broken, ""), "is broken", "");
}

#[test]
fn files_that_cannot_be_written_in_place() {
    let packed = format!(
        "hive = open('{HIVE}', 'rb').read(); os.remove('{HIVE}')\n\
         os.setxattr('Windows/System32/config', 'system.ntfs_attrib', (0x800).to_bytes(4, 'little'))\n\
         write('{HIVE}', hive)\n"
    );
    refused(&server(&windows_10(), &packed), "it is compressed", "");
    // Holes: what is zero at the end of the last bin is not there.
    let holes = format!(
        "hive = open('{HIVE}', 'rb').read()\n\
         with open('{HIVE}', 'wb') as file:\n    file.write(hive); file.truncate(len(hive) + (1 << 20))\n"
    );
    refused(&server(&windows_10(), &holes), "cannot be changed in place", "");
}

/// A value that is not there yet takes a free cell; where there is none, the file becomes longer, which takes ntfs-3g.
#[test]
fn micro_vm_makes_a_hive_longer_only_where_it_has_no_room() {
    let text = format!(
        "[Select]\n\"Current\"=dword:00000001\n[{INTERFACES}\\{{A}}]\n\"IPAddress\"={}\n[Fill]\n",
        texts(&["10.0.0.5"])
    );
    let mut hive = merge(&empty(5), &regedit(&text));
    let key = format!(r"{INTERFACES}\{{A}}");
    let after = bytes(&run(&server(&hive, "")).overlay);
    assert_eq!(told(&self::hive(&after), &key, "EnableDHCP"), "1");

    // All free cells are taken by values of their size.
    for length in (0..4000).step_by(8).rev() {
        let mut editor = Editor::open(hive.clone(), "SYSTEM", 0).unwrap();
        editor.set_value("Fill", &length.to_string(), ValueKind::Binary, &vec![1; length]).unwrap();
        let changed = editor.finish();
        if changed.bytes.len() == hive.len() {
            hive = changed.bytes;
        }
    }
    let disk = server(&hive, "");
    let machine = Machine { ntfs_driver: "/nowhere/ntfs-3g".into(), ..Machine::default() };
    let error = prepare_with(Arc::new(Memory(disk.clone())), &options(), &machine).unwrap_err();
    assert!(error.to_string().contains("has no room left for the new values; a micro-VM is needed"), "{error}");
    assert!(error.hint().unwrap_or_default().contains("ntfs-3g"), "{error}: {:?}", error.hint());

    let after = bytes(&run(&disk).overlay);
    let longer = self::hive(&after);
    assert_eq!(longer.len(), hive.len() + 4096);
    assert_eq!(told(&longer, &key, "EnableDHCP"), "1");
    assert!(stamped(&longer) && run(&after).overlay.changes().is_empty());
}

/// Damage of all structures: prepare refuses or does what it says, and never panics.
#[test]
fn damaged_windows_are_prepared_or_refused() {
    const ROUNDS: usize = 120;
    let disk = server(&from_vmware(), "");
    let sectors: Vec<usize> =
        (0..disk.len() / 512).filter(|at| disk[at * 512..(at + 1) * 512].iter().any(|byte| *byte != 0)).collect();
    let old = hive(&disk);
    let of_hive: Vec<usize> = sectors
        .iter()
        .copied()
        .filter(|at| old.chunks(512).any(|chunk| chunk == &disk[at * 512..(at + 1) * 512]))
        .collect();
    let sound = Arc::new(Memory(disk));
    let mut random = Random(0x6d6f_6c64_6500_0009);
    let (mut changed, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let (places, rarity) = [(&sectors, 30), (&sectors, 300), (&of_hive, 20), (&of_hive, 100)][round % 4];
        let mut bytes = Vec::new();
        for sector in places {
            if random.next(rarity) == 0 {
                let value = [0, 0xff, 0x80, random.next(256) as u8][random.next(4)];
                bytes.push(((sector * 512 + random.next(512)) as u64, value));
            }
        }
        let start = Instant::now();
        match prepare(Arc::new(Damaged { sound: sound.clone(), bytes }), &options()) {
            Ok(done) => changed += usize::from(!done.overlay.changes().is_empty()),
            Err(error) => {
                assert!(error.kind() != ErrorKind::Io, "{error}");
                refused += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(30), "round {round}: {:?}", start.elapsed());
    }
    assert!(changed > 0 && refused > 0, "{changed} changed, {refused} refused");
}

/// Where the whole disk is the volume.
#[test]
fn without_a_partition_table_too() {
    let software = software("Windows 10 Pro", "19045", "Professional");
    let volume = volume(&windows_10(), &software, DRIVERS);
    let after = bytes(&run(&volume).overlay);
    let mut disk = vec![0; 16 * MIB];
    put(&mut disk, 1, &after);
    assert_eq!(told(&hive(&disk), r"ControlSet001\Services\atapi\StartOverride", "0"), "0");
}
