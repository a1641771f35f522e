//! Drivers of virtio-win in a Windows: which are taken, what is refused, and what ntfs-3g, hivex and Molde itself see afterwards.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use disk::error::ErrorKind;
use disk::source::Source;
use guest::{
    Action, Browser, Change, Choice, Drivers, Finding, Machine, Plan, PrepareOptions, Prepared, Report, VirtioWin,
    compare, inspect, plan, prepare, prepare_with,
};

use crate::disks::{MIB, Memory, Node, iso, tool};
use crate::hives::{merge, regedit};
use crate::windows::{software, volume};
use crate::windows_check::{DRIVERS, fit, from_vmware, on_disk, windows_10};

const AMD64: u16 = 0x8664;
const X86: u16 = 0x014c;
const FOLDER: &str = "/Windows/Drivers/VirtIO";

/// A program as far as it is looked at: its processor, and certificates that name `signer`.
fn program(machine: u16, signer: &str) -> Vec<u8> {
    let mut file = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &machine.to_le_bytes());
    put(0x98, &(if machine == X86 { 0x10b_u16 } else { 0x20b }).to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    put(0x98 + 112 + 32, &2048_u32.to_le_bytes());
    put(0x98 + 112 + 36, &512_u32.to_le_bytes());
    put(2100, signer.as_bytes());
    file
}

fn signed(machine: u16) -> Vec<u8> {
    program(machine, "Microsoft Code Verification Root")
}

fn inf(name: &str, devices: &[&str], more: &str) -> String {
    let devices: String = devices.iter().map(|id| format!("%x% = install, PCI\\VEN_1AF4&DEV_{id}\r\n")).collect();
    format!(
        "; {name}\r\n[Version]\r\nSignature = \"$Windows NT$\"\r\nCatalogFile={name}.cat\r\n[SourceDisksFiles]\r\n\
         {name}.sys = 1,,\r\n{more}[Models.NTamd64]\r\n{devices}"
    )
}

type Files = Vec<(String, Vec<u8>)>;

/// The files of all three drivers; `place` makes the folder of one.
fn files(place: impl Fn(&str) -> String, machine: u16) -> Files {
    let mut files = Vec::new();
    for (name, devices, more) in [
        ("viostor", ["1001&SUBSYS_00021AF4&REV_00", "1042&SUBSYS_11001AF4&REV_01"], ""),
        ("vioscsi", ["1004&SUBSYS_00081AF4&REV_00", "1048&SUBSYS_11001AF4&REV_01"], ""),
        ("netkvm", ["1000&SUBSYS_00011AF4&REV_00", "1041&SUBSYS_11001AF4&REV_01"], "netkvmp.exe = 1,,\r\n"),
    ] {
        let folder = place(name);
        files.push((format!("{folder}/{name}.sys"), [signed(machine), name.into()].concat()));
        files.push((format!("{folder}/{name}.inf"), inf(name, &devices, more).into_bytes()));
        files.push((format!("{folder}/{name}.cat"), format!("signatures of {name}").into_bytes()));
        files.push((format!("{folder}/{name}.pdb"), b"symbols, which nobody needs".to_vec()));
        if !more.is_empty() {
            files.push((format!("{folder}/netkvmp.exe"), b"a program beside it".to_vec()));
        }
    }
    files
}

fn as_released(version: &str) -> Files {
    files(|name| format!("{}/{version}/amd64", if name == "netkvm" { "NetKVM" } else { name }), AMD64)
}

fn supplied(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// What is taken of `folder` for the Windows on `disk`.
fn taken(folder: &Path, disk: &[u8]) -> disk::error::Result<Drivers> {
    VirtioWin::open(folder)?.drivers_for(&inspect(Arc::new(Memory(disk.to_vec()))).unwrap())
}

fn choice(drivers: Drivers) -> Choice {
    Choice { drivers: Some(drivers), ..Choice::default() }
}

fn options(drivers: &Drivers) -> PrepareOptions {
    PrepareOptions { choice: choice(drivers.clone()), now: 1_790_000_000, record: true }
}

fn planned(disk: &[u8], drivers: Drivers) -> Plan {
    plan(Arc::new(Memory(disk.to_vec())), &choice(drivers)).unwrap()
}

fn finding<'p>(plan: &'p Plan, id: &str) -> &'p Finding {
    plan.findings.iter().find(|found| found.kind.id == id).unwrap_or_else(|| panic!("{id}: {:#?}", plan.findings))
}

fn text_of<'p>(plan: &'p Plan, id: &str) -> &'p str {
    &finding(plan, id).text
}

fn paths(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.path.as_str()).collect()
}

/// A Windows from another hypervisor, on which all three drivers are missing; `more` is a script that adds to it.
fn foreign(system: &[u8], name: &str, build: &str, edition: &str, more: &str) -> Vec<u8> {
    let processor = "[ControlSet001\\Control\\Session Manager\\Environment]\n\"PROCESSOR_ARCHITECTURE\"=\"AMD64\"\n";
    let path = "[Microsoft\\Windows\\CurrentVersion]\n\"DevicePath\"=hex(2):25,00,53,00,79,00,73,00,74,00,65,00,6d,00,52,00,\
                6f,00,6f,00,74,00,25,00,5c,00,69,00,6e,00,66,00,00,00\n";
    let (system, software) =
        (merge(system, &regedit(processor)), merge(&software(name, build, edition), &regedit(path)));
    let gone =
        "for name in ['viostor', 'vioscsi', 'netkvm']:\n    os.remove('Windows/System32/drivers/' + name + '.sys')\n";
    on_disk(&volume(&system, &software, &format!("{DRIVERS}{gone}{more}")))
}

fn server_2019(more: &str) -> Vec<u8> {
    foreign(&from_vmware(), "Windows Server 2019 Standard", "17763", "ServerStandard", more)
}

#[test]
fn drivers_are_chosen_by_version_and_processor() {
    let disk = server_2019("");
    for (files, from) in [
        (as_released("2k19"), "viostor/2k19/amd64"),
        ([as_released("w10"), as_released("2k16"), as_released("2k22")].concat(), "viostor/w10/amd64"),
        (files(|_| "drivers/amd64/Win2019".to_owned(), AMD64), "drivers/amd64/Win2019"),
        ([files(|_| "amd64/2k19".to_owned(), AMD64), as_released("2k19")].concat(), "viostor/2k19/amd64"),
    ] {
        let plan = planned(&disk, taken(supplied(&files).path(), &disk).unwrap());
        let told = text_of(&plan, "windows-lacks-viostor");
        assert!(told.contains(&format!("viostor is put in from {from};")), "{told}");
        assert_eq!(plan.changes.len(), 14, "{:#?}", paths(&plan.changes));
    }
    // Neither a newer one nor one for another processor.
    let others = [as_released("2k22"), as_released("w7"), files(|name| format!("{name}/2k19/x86"), X86)].concat();
    let drivers = taken(supplied(&others).path(), &disk).unwrap();
    let reasons: Vec<&str> = drivers.missing().collect();
    assert_eq!(
        reasons[0], "virtio-win has no viostor for this Windows: looked for amd64 below 2k19, w10, 2k16",
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), 3);
    let plan = planned(&disk, drivers);
    assert!(text_of(&plan, "windows-lacks-viostor").contains("virtio-win has no viostor for this Windows"));
    assert!(!paths(&plan.changes).iter().any(|path| path.contains("VirtIO")), "{:#?}", paths(&plan.changes));
}

/// What is only a companion does not go in alone, and is not told to.
#[test]
fn no_driver_of_scsi_without_that_of_disks() {
    let disk = server_2019("");
    let mut files = as_released("2k19");
    files.retain(|(path, _)| !path.starts_with("viostor"));
    let plan = planned(&disk, taken(supplied(&files).path(), &disk).unwrap());
    let told = text_of(&plan, "windows-lacks-viostor");
    assert!(told.contains("virtio-win has no viostor") && !told.contains("is put in"), "{told}");
    assert!(text_of(&plan, "windows-lacks-netkvm").contains("netkvm is put in from NetKVM/2k19/amd64"));
    // Whoever reads it is told who acts.
    let actions = ["windows-lacks-viostor", "windows-lacks-netkvm"].map(|id| finding(&plan, id).action);
    assert_eq!(actions, [Action::Manual, Action::Automatic]);
    assert!(!paths(&plan.changes).iter().any(|path| path.contains("vioscsi")), "{:#?}", paths(&plan.changes));
}

#[test]
fn a_disc_serves_as_well_as_a_folder() {
    let disk = server_2019("");
    let files = as_released("2k19");
    let nodes: Vec<(&str, Node<'_>)> = files.iter().map(|(path, bytes)| (path.as_str(), Node::File(bytes))).collect();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("virtio-win.iso");
    fs::write(&image, iso(&["-r"], &nodes)).unwrap();
    assert_eq!(taken(&image, &disk).unwrap(), taken(supplied(&files).path(), &disk).unwrap());
    fs::write(&image, vec![0; 4 * MIB]).unwrap();
    assert!(VirtioWin::open(&image).unwrap_err().to_string().contains("no ISO 9660 disc"));
}

#[test]
fn a_windows_that_has_drivers_keeps_them_and_others_get_none() {
    let tree = supplied(&as_released("2k19"));
    let disk = on_disk(&volume(&fit(), &software("Windows 10 Pro", "19045", "Professional"), DRIVERS));
    let drivers = taken(tree.path(), &disk).unwrap();
    assert_eq!(drivers, Drivers::default());
    assert!(planned(&disk, drivers).changes.is_empty());
    assert_eq!(taken(tree.path(), &vec![0; MIB]).unwrap(), Drivers::default());
}

/// What is on the disk of a server, looked at once.
fn report() -> &'static Report {
    static REPORT: std::sync::OnceLock<Report> = std::sync::OnceLock::new();
    REPORT.get_or_init(|| inspect(Arc::new(Memory(server_2019("")))).unwrap())
}

/// Asserts that what `spoil` makes of a folder of drivers is refused with these words.
fn refused(why: &str, spoil: impl FnOnce(&Path)) {
    let tree = supplied(&as_released("2k19"));
    spoil(&tree.path().join("viostor/2k19/amd64"));
    let error = VirtioWin::open(tree.path()).and_then(|found| found.drivers_for(report())).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.hint().is_some(), "{error}");
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[test]
fn hostile_and_broken_trees_are_refused() {
    use std::os::unix::fs::symlink;
    let write = |name: &'static str, bytes: Vec<u8>| move |folder: &Path| fs::write(folder.join(name), bytes).unwrap();
    refused("leads out of it", |folder| {
        fs::remove_file(folder.join("viostor.cat")).unwrap();
        symlink("/etc/shadow", folder.join("viostor.cat")).unwrap();
    });
    refused("leads out of it", |folder| symlink("../../../..", folder.join("more")).unwrap());
    refused("more than 8 levels", |folder| symlink(".", folder.join("again")).unwrap());
    refused("is too large", |folder| {
        fs::File::create(folder.join("viostor.sys")).unwrap().set_len(1 << 40).unwrap();
    });
    refused("is too large", |folder| {
        fs::File::create(folder.join("viostor.inf")).unwrap().set_len(2 << 20).unwrap();
    });
    refused("has no viostor.sys", |folder| fs::remove_file(folder.join("viostor.sys")).unwrap());
    refused("has no viostor.cat", |folder| {
        fs::remove_file(folder.join("viostor.cat")).unwrap();
        tool("coreutils", "mkfifo", &[folder.join("viostor.cat").to_str().unwrap()], "");
    });
    refused("is no INF", write("viostor.inf", b"\x1b[31m".to_vec()));
    refused("names no device of viostor", write("viostor.inf", inf("viostor", &["1000"], "").into_bytes()));
    let elsewhere = inf("viostor", &["1001"], "..\\..\\evil.dll = 1\r\n");
    refused("no plain name", write("viostor.inf", elsewhere.into_bytes()));
    refused("has no more.dll", write("viostor.inf", inf("viostor", &["1001"], "more.dll = 1\r\n").into_bytes()));
    refused("is no program of Windows", write("viostor.sys", b"\x7fELF".to_vec()));
    refused("its machine is 0x014c, and not 0x8664", write("viostor.sys", signed(X86)));
    refused("0xc0000428", write("viostor.sys", program(AMD64, "Red Hat, Inc.")));
    // What is cut or altered is refused or taken, and never a panic.
    let (whole, tree) = (signed(AMD64), supplied(&as_released("2k19")));
    for at in (0..0x160).chain([2048, 2559, 2560]) {
        fs::write(tree.path().join("viostor/2k19/amd64/viostor.sys"), &whole[..at]).unwrap();
        let taken = VirtioWin::open(tree.path()).unwrap().drivers_for(report());
        assert!(taken.is_err() || at == 2560, "the first {at} bytes");
    }
}

fn run(disk: &[u8], drivers: &Drivers) -> Prepared {
    let done = prepare(Arc::new(Memory(disk.to_vec())), &options(drivers));
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut all, 0).unwrap();
    all
}

/// The first partition in a file.
struct Volume(tempfile::TempDir);

impl Volume {
    fn of(disk: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("image"), &disk[MIB..13 * MIB]).unwrap();
        let volume = Self(folder);
        let told = tool("ntfs-3g", "ntfsfix", &["-n", &volume.image()], "");
        assert!(told.contains("was processed successfully"), "{told}");
        volume
    }

    fn image(&self) -> String {
        self.0.path().join("image").to_str().unwrap().to_owned()
    }

    /// Reads a file as ntfs-3g does.
    fn file(&self, path: &str) -> Vec<u8> {
        let out = self.0.path().join("out");
        let command = format!("ntfscat -f {} '{}' > {}", self.image(), path.trim_start_matches('/'), out.display());
        tool("ntfs-3g", "sh", &["-c", &command], "");
        fs::read(out).unwrap()
    }

    /// Returns what hivexget tells of a value of a hive, after hivexml could read all of it.
    fn value(&self, hive: &str, key: &str, name: &str) -> String {
        let path = self.0.path().join(hive);
        if !path.exists() {
            fs::write(&path, self.file(&format!("Windows/System32/config/{hive}"))).unwrap();
            let told = tool("libhivex-bin", "hivexml", &[path.to_str().unwrap()], "");
            assert!(told.trim_end().ends_with("</hive>"));
        }
        tool("libhivex-bin", "hivexget", &[path.to_str().unwrap(), key, name], "").trim().to_owned()
    }

    /// Returns the security descriptor of a file, as ntfssecaudit tells it.
    fn rights(&self, path: &str) -> String {
        tool("ntfs-3g", "ntfssecaudit", &["-v", &self.image(), path.trim_start_matches('/')], "")
    }
}

/// Prepares a disk, and asserts what always holds: what differs is what is planned, and nothing is left for a second run.
fn prepared(disk: &[u8], drivers: &Drivers) -> (Vec<u8>, Prepared) {
    let done = run(disk, drivers);
    let after = bytes(&done.overlay);
    let [before, now] = [disk, &after].map(|disk| Browser::open(Arc::new(Memory(disk.to_vec()))).unwrap());
    let mut changed: Vec<String> = compare(&before, &now)
        .unwrap()
        .into_iter()
        .filter_map(|found| found.after.or(found.before))
        .filter(|entry| entry.kind == guest::EntryKind::File)
        .map(|entry| entry.path.to_lowercase())
        .collect();
    // Where ntfs-3g keeps records and what is in use.
    changed.retain(|path| !["/$bitmap", "/$mft", "/$mftmirr"].contains(&path.as_str()));
    changed.sort();
    let mut named: Vec<String> = paths(&done.plan.changes).iter().map(|path| path.to_lowercase()).collect();
    named.sort();
    assert_eq!(changed, named);
    let again = run(&after, drivers);
    assert!(again.overlay.changes().is_empty() && again.plan.changes.is_empty(), "{:#?}", again.plan.changes);
    for id in ["windows-lacks-viostor", "windows-lacks-netkvm"] {
        assert!(done.after.iter().all(|found| found.kind.id != id), "{:#?}", done.after);
    }
    (after, done)
}

/// Rights as Windows has them on its folders: the system and administrators do all, users read, and files get the same.
const RIGHTS: &str = r"
import struct
def sid(*parts): return struct.pack('<BB', 1, len(parts)) + bytes([0, 0, 0, 0, 0, 5]) + struct.pack('<%dI' % len(parts), *parts)
def entry(mask, who): return struct.pack('<BBHI', 0, 3, 8 + len(who), mask) + who
entries = entry(0x1f01ff, sid(18)) + entry(0x1f01ff, sid(32, 544)) + entry(0x1200a9, sid(32, 545))
who, all = sid(18), struct.pack('<BBHHH', 2, 0, 8 + len(entries), 3, 0) + entries
rights = struct.pack('<BBHIIII', 1, 0, 0x8004, 20, 20 + len(who), 0, 20 + 2 * len(who)) + who + who + all
for path in ['Windows', 'Windows/System32', 'Windows/System32/drivers']: os.setxattr(path, 'system.ntfs_acl', rights)
";

#[test]
fn micro_vm_puts_drivers_into_a_server_2019() {
    let disk = server_2019(RIGHTS);
    let tree = supplied(&as_released("2k19"));
    let drivers = taken(tree.path(), &disk).unwrap();
    let (after, done) = prepared(&disk, &drivers);
    let volume = Volume::of(&after);
    for (name, folder) in [("viostor", "viostor"), ("vioscsi", "vioscsi"), ("netkvm", "NetKVM")] {
        for end in ["sys", "inf", "cat"] {
            let original = fs::read(tree.path().join(format!("{folder}/2k19/amd64/{name}.{end}"))).unwrap();
            assert_eq!(volume.file(&format!("{FOLDER}/{name}.{end}")), original, "{name}.{end}");
        }
    }
    assert_eq!(volume.file(&format!("{FOLDER}/netkvmp.exe")), b"a program beside it");
    for (name, devices) in [
        ("viostor", ["VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"]),
        ("vioscsi", ["VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00", "VEN_1AF4&DEV_1048&SUBSYS_11001AF4&REV_01"]),
    ] {
        let file = format!("Windows/System32/drivers/{name}.sys");
        assert_eq!(volume.file(&file), volume.file(&format!("{FOLDER}/{name}.sys")));
        let is = |key: &str, value: &str, expected: &str| {
            assert_eq!(volume.value("SYSTEM", key, value), expected, "{key} {value}");
        };
        let service = format!(r"ControlSet001\Services\{name}");
        is(&service, "Type", "1");
        is(&service, "Start", "0");
        is(&service, "ErrorControl", "1");
        is(&service, "Group", "SCSI miniport");
        is(&service, "ImagePath", &format!(r"system32\drivers\{name}.sys"));
        let (inf, label) = (format!("molde_{name}.inf"), format!("molde_{name}.inf_tmp"));
        is(&format!(r"DriverDatabase\DriverInfFiles\{inf}"), "Active", &label);
        is(&format!(r"DriverDatabase\DriverInfFiles\{inf}"), "Configurations", &format!("molde_{name}"));
        let package = format!(r"DriverDatabase\DriverPackages\{label}");
        is(&format!(r"{package}\Configurations\molde_{name}"), "Service", name);
        for device in devices {
            is(&format!(r"{package}\Descriptors\PCI\{device}"), "Configuration", &format!("molde_{name}"));
            is(&format!(r"DriverDatabase\DeviceIds\PCI\{device}"), &inf, "\u{1}\u{fffd}\0\0");
        }
        // The rights of the folder were handed down: SYSTEM, administrators, users; everybody has none.
        let rights = volume.rights(&file);
        assert!(rights.contains("Windows owner S-1-5-32-544"), "{rights}");
        let words = rights.split_whitespace().filter(|word| word.len() == 8).collect::<Vec<_>>().join(" ");
        for part in ["ff011f00 01010000 00000005 12000000", "ff011f00 01020000 00000005 20000000 20020000", "a9001200"]
        {
            assert!(words.contains(part), "{part}: {rights}");
        }
        assert!(!words.contains("01010000 00000001 00000000"), "{rights}");
    }
    let path = volume.value("SOFTWARE", r"Microsoft\Windows\CurrentVersion", "DevicePath");
    assert_eq!(path, r"%SystemRoot%\inf;%SystemRoot%\Drivers\VirtIO");
    assert_eq!(
        volume.value("SYSTEM", r"ControlSet001\Services\atapi", "Start"),
        "0",
        "other repairs are done with them"
    );
    assert!(done.after.iter().any(|found| found.kind.id == "windows-drivers-wait"), "{:#?}", done.after);

    let system = done.plan.changes.iter().find(|change| change.path.ends_with("/SYSTEM")).unwrap();
    let diff = system.diff().unwrap();
    for line in [
        r#"+HKLM\SYSTEM\ControlSet001\Services\viostor Group: "SCSI miniport" (sz)"#,
        r"+HKLM\SYSTEM\DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01 molde_viostor.inf: 01 ff 00 00 (binary)",
        r#"+HKLM\SYSTEM\DriverDatabase\DriverInfFiles\molde_viostor.inf (default): ["molde_viostor.inf_tmp"] (multi_sz)"#,
    ] {
        assert!(diff.contains(&format!("{line}\n")), "{line}\n{diff}");
    }
}

/// Another database, and names that are not written as everywhere else, which ntfs-3g would not find.
#[test]
fn micro_vm_puts_drivers_into_a_windows_7() {
    let renamed = "os.rename('Windows', 'x'); os.rename('x', 'WINDOWS')\n\
                   os.rename('WINDOWS/System32', 'WINDOWS/x'); os.rename('WINDOWS/x', 'WINDOWS/system32')\n";
    let disk = foreign(&from_vmware(), "Windows 7 Professional", "7601", "Professional", renamed);
    let drivers = taken(supplied(&as_released("w7")).path(), &disk).unwrap();
    let (after, _) = prepared(&disk, &drivers);
    let volume = Volume::of(&after);
    assert!(volume.file("WINDOWS/system32/drivers/viostor.sys").starts_with(b"MZ"));
    let hive = volume.0.path().join("SYSTEM");
    fs::write(&hive, volume.file("WINDOWS/system32/config/SYSTEM")).unwrap();
    for device in ["VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"] {
        let key = format!(r"ControlSet001\Control\CriticalDeviceDatabase\PCI#{device}");
        assert_eq!(volume.value("SYSTEM", &key, "Service"), "viostor");
        assert_eq!(volume.value("SYSTEM", &key, "ClassGUID"), "{4D36E97B-E325-11CE-BFC1-08002BE10318}");
    }
    let keys = tool("libhivex-bin", "hivexml", &[hive.to_str().unwrap()], "");
    assert!(!keys.contains("DriverDatabase"));
}

#[test]
fn micro_vm_keeps_nothing_of_a_volume_that_is_full() {
    let fill = "data = os.statvfs('.'); free = data.f_bavail * data.f_frsize\n\
                with open('fill', 'wb') as file:\n    file.write(bytes([1]) * (free - 16384))\n";
    let disk = server_2019(fill);
    let drivers = taken(supplied(&as_released("2k19")).path(), &disk).unwrap();
    let error = prepare(Arc::new(Memory(disk)), &options(&drivers)).unwrap_err();
    assert!(error.to_string().contains("the file system is full"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[test]
fn a_volume_that_only_windows_may_change_gets_no_drivers() {
    let disk = server_2019("write('hiberfil.sys', b'hibr' + bytes(8192))");
    let drivers = taken(supplied(&as_released("2k19")).path(), &disk).unwrap();
    let error = prepare(Arc::new(Memory(disk)), &options(&drivers)).unwrap_err();
    assert!(error.to_string().contains("sleeps") && error.hint().unwrap_or_default().contains("powercfg"), "{error}");
}

#[test]
fn without_a_driver_of_ntfs_it_is_refused() {
    let disk = server_2019("");
    let drivers = taken(supplied(&as_released("2k19")).path(), &disk).unwrap();
    for (ntfs_driver, why) in [("/nowhere/ntfs-3g", "there is no ntfs-3g"), ("/etc/hostname", "no program or library")]
    {
        let machine = Machine { ntfs_driver: ntfs_driver.into(), ..Machine::default() };
        let error = prepare_with(Arc::new(Memory(disk.clone())), &options(&drivers), &machine).unwrap_err();
        assert!(error.to_string().contains(why) && error.hint().is_some(), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

/// Windows 10 with a service whose file is gone: what it says is set right, and what stands in for its start too.
#[test]
fn a_service_without_its_file_is_set_right() {
    let disk = foreign(&windows_10(), "Windows 10 Pro", "19045", "Professional", "");
    let plan = planned(&disk, taken(supplied(&as_released("w10")).path(), &disk).unwrap());
    let system = plan.changes.iter().find(|change| change.path.ends_with("/SYSTEM")).unwrap();
    let values: Vec<String> = system.values().unwrap().map(|(key, value)| format!("{key} {}", value.name)).collect();
    let service = r"HKLM\SYSTEM\ControlSet001\Services\viostor";
    assert!(values.contains(&format!(r"{service}\StartOverride 0")), "{values:#?}");
    assert!(
        values.contains(&format!("{service} ImagePath")) && !values.contains(&format!("{service} Start")),
        "{values:#?}"
    );
}
