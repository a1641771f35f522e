//! Whole disks of Windows: what is told of a server, of a sleeping Windows 10, and of one that was pulled out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::{CloudbaseInit, Os, OsKind, Report, WindowsAdapter, inspect};

use crate::disks::{Memory, assert_note, fat, put, report, table};
use crate::hives::{empty, merge, regedit, stamp};
use crate::mutation::{Damaged, Random};
use crate::volume;

/// Text as hivexregedit takes a list of texts.
pub(crate) fn texts(list: &[&str]) -> String {
    let units = list.iter().flat_map(|text| text.encode_utf16().chain([0])).chain([0]);
    let bytes: Vec<String> = units.flat_map(u16::to_le_bytes).map(|byte| format!("{byte:02x}")).collect();
    format!("hex(7):{}", bytes.join(","))
}

fn system(set: u32) -> Vec<u8> {
    let mut text = format!("[Select]\n\"Current\"=dword:{set:08x}\n");
    let control = format!("ControlSet{set:03}\\Control");
    let services = format!("ControlSet{set:03}\\Services");
    write!(
        text,
        r#"
        [{control}\ComputerName\ComputerName]
        "ComputerName"="WIN-SERVER"
        [{control}\Session Manager\Environment]
        "PROCESSOR_ARCHITECTURE"="AMD64"
        [{control}\Session Manager\Memory Management]
        "PagingFiles"={}
        [{control}\Session Manager\Power]
        "HiberbootEnabled"=dword:00000001
        [{control}\TimeZoneInformation]
        "RealTimeIsUniversal"=dword:00000001
        [{control}\Network\{{4D36E972-E325-11CE-BFC1-08002BE10318}}\{{B}}\Connection]
        "Name"="Ethernet 2"
        [{services}\viostor]
        "Start"=dword:00000000
        "ImagePath"="\\SystemRoot\\System32\\drivers\\viostor.sys"
        [{services}\storahci]
        "Start"=dword:00000003
        "ImagePath"="System32\\drivers\\storahci.sys"
        [{services}\storahci\StartOverride]
        "0"=dword:00000003
        [{services}\VMTools]
        "Start"=dword:00000002
        "ImagePath"="\"C:\\Program Files\\VMware\\VMware Tools\\vmtoolsd.exe\" -n"
        [{services}\Dhcp]
        "Start"=dword:00000002
        [{services}\cloudbase-init]
        "Start"=dword:00000002
        [{services}\Tcpip\Parameters\Interfaces\{{A}}]
        "EnableDHCP"=dword:00000001
        [{services}\Tcpip\Parameters\Interfaces\{{B}}]
        "EnableDHCP"=dword:00000000
        "IPAddress"={}
        "SubnetMask"={}
        "DefaultGateway"={}
        "NameServer"="10.0.0.2,10.0.0.3"
        [{services}\Tcpip\Parameters\Interfaces\{{C}}]
        "EnableDHCP"=dword:00000000
        "#,
        texts(&["c:\\pagefile.sys 1024 2048", "D:\\page file.sys 0 0", "?:\\pagefile.sys"]),
        texts(&["10.0.0.5", "10.0.0.6"]),
        texts(&["255.255.255.0"]),
        texts(&["10.0.0.1"]),
    )
    .unwrap();
    merge(&empty(5), &regedit(&text))
}

pub(crate) fn software(product: &str, build: &str, edition: &str) -> Vec<u8> {
    let text = format!(
        r#"
        [Microsoft\Windows NT\CurrentVersion]
        "ProductName"="{product}"
        "EditionID"="{edition}"
        "CurrentVersion"="6.3"
        "CurrentMajorVersionNumber"=dword:0000000a
        "CurrentMinorVersionNumber"=dword:00000000
        "CurrentBuildNumber"="{build}"
        "UBR"=dword:00000faa
        "ReleaseId"="1809"
        [Microsoft\Windows\CurrentVersion\Setup\State]
        "ImageState"="IMAGE_STATE_COMPLETE"
        [Microsoft\Windows\CurrentVersion\Uninstall\one]
        "DisplayName"="VMware Tools"
        "DisplayVersion"="12.1"
        "Publisher"="VMware, Inc."
        [Microsoft\Windows\CurrentVersion\Uninstall\nameless]
        "DisplayVersion"="1"
        [WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\two]
        "DisplayName"="7-Zip"
        "#
    );
    merge(&empty(5), &regedit(&text))
}

/// Makes the system volume of a Windows with these hives; `more` is a script that adds to it.
pub(crate) fn volume(system: &[u8], software: &[u8], more: &str) -> Vec<u8> {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let script = format!(
        r"
import os
def write(path, data=b''):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as file: file.write(data)
write('Windows/System32/config/SYSTEM', bytes.fromhex('{}'))
write('Windows/System32/config/SOFTWARE', bytes.fromhex('{}'))
write('Windows/System32/drivers/viostor.sys', b'MZ')
{more}",
        hex(system),
        hex(software)
    );
    volume::ntfs(12, &["-L", "Windows"], &script).0
}

fn server() -> Vec<u8> {
    let more = r"
write('bootmgr'); write('Boot/BCD', b'regf')
conf = 'Program Files/Cloudbase Solutions/Cloudbase-Init/conf/'
write(conf + 'cloudbase-init.conf', b'[DEFAULT]\r\nmetadata_services=a.HttpService,b.ConfigDriveService\r\n')";
    let mut disk = table(16, "label: dos\nstart=2048, size=24576, type=7, bootable\n");
    disk[..3].copy_from_slice(b"\x33\xc0\x8e");
    put(&mut disk, 1, &volume(&system(1), &software("Windows Server 2019 Standard", "17763", "ServerStandard"), more));
    disk
}

fn os(report: &Report) -> (&Os, &guest::Windows) {
    let os = report.os.as_ref().unwrap();
    (os, os.windows.as_ref().unwrap())
}

#[test]
fn server_2019_on_bios() {
    let report = report(server());
    assert_eq!(report.notes, [] as [String; 0]);
    let (os, windows) = os(&report);
    assert_eq!((os.kind, os.root.as_deref()), (OsKind::Windows, Some("/dev/sda1")));
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("windows"), Some("10.0")));
    assert_eq!(os.name.as_deref(), Some("Windows Server 2019 Standard"));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("WIN-SERVER")));
    assert_eq!((windows.edition.as_deref(), windows.build.as_deref()), (Some("ServerStandard"), Some("17763.4010")));
    assert_eq!(
        (windows.release.as_deref(), windows.image_state.as_deref()),
        (Some("1809"), Some("IMAGE_STATE_COMPLETE"))
    );
    assert!(windows.clock_is_utc && windows.fast_startup);
    assert_eq!(windows.pagefiles, [r"c:\pagefile.sys", r"D:\page file.sys", r"?:\pagefile.sys"]);
    let services: Vec<_> = windows
        .services
        .iter()
        .map(|found| (found.name.as_str(), found.start, found.start_override, found.is_file_there))
        .collect();
    let expected = [
        ("VMTools", Some(2), None, Some(false)),
        ("cloudbase-init", Some(2), None, Some(false)),
        ("storahci", Some(3), Some(3), Some(false)),
        ("viostor", Some(0), None, Some(true)),
    ];
    assert_eq!(services, expected);
    let adapters = [
        WindowsAdapter { id: "{A}".into(), dhcp: true, ..WindowsAdapter::default() },
        WindowsAdapter {
            id: "{B}".into(),
            name: Some("Ethernet 2".into()),
            dhcp: false,
            addresses: vec!["10.0.0.5/255.255.255.0".into(), "10.0.0.6".into()],
            gateways: vec!["10.0.0.1".into()],
            name_servers: vec!["10.0.0.2".into(), "10.0.0.3".into()],
        },
    ];
    assert_eq!(windows.adapters, adapters);
    let programs: Vec<_> =
        windows.programs.iter().map(|found| (found.name.as_str(), found.version.as_deref())).collect();
    assert_eq!(programs, [("7-Zip", None), ("VMware Tools", Some("12.1"))]);
    let cloudbase = CloudbaseInit {
        start: Some(2),
        folder: Some("/Program Files/Cloudbase Solutions/Cloudbase-Init/conf".into()),
        metadata_services: vec!["a.HttpService".into(), "b.ConfigDriveService".into()],
    };
    assert_eq!(windows.cloudbase_init, Some(cloudbase));
    let [volume] = &windows.volumes[..] else { panic!("{windows:?}") };
    assert_eq!(
        (volume.device.as_str(), volume.ntfs.as_str(), volume.dirty, volume.hibernated),
        ("/dev/sda1", "3.1", false, false)
    );
    assert_eq!(windows.boot_data, ["/Boot/BCD on /dev/sda1"]);
    assert_eq!(report.filesystems[0].label.as_deref(), Some("Windows"));
    assert!(report.boot.bios && report.boot.loader.as_deref() == Some("windows"), "{:?}", report.boot);
    assert!(report.boot.evidence.contains(&"/bootmgr on /dev/sda1".to_owned()), "{:?}", report.boot);
}

#[test]
fn windows_10_asleep_on_uefi() {
    let mut disk = table(
        20,
        "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=24576, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
    );
    let loaders = [("EFI/Microsoft/Boot/bootmgfw.efi", "x"), ("EFI/Microsoft/Boot/BCD", "regf")];
    put(&mut disk, 1, &fat(4, &[], &loaders));
    let hives = (system(2), software("Windows 10 Pro", "22621", "Professional"));
    put(&mut disk, 5, &volume(&hives.0, &hives.1, "write('hiberfil.sys', b'hibr' + bytes(8192))"));
    let report = report(disk);
    let (os, windows) = os(&report);
    assert_eq!(os.name.as_deref(), Some("Windows 11 Pro"), "the registry of Windows 11 says 10");
    assert_eq!((os.root.as_deref(), os.hostname.as_deref()), (Some("/dev/sda2"), Some("WIN-SERVER")));
    assert_eq!(windows.boot_data, ["/EFI/Microsoft/Boot/BCD on /dev/sda1"]);
    assert!(windows.volumes[0].hibernated && !windows.volumes[0].dirty && windows.fast_startup);
    let cloudbase = windows.cloudbase_init.as_ref().unwrap();
    assert!(report.boot.uefi && cloudbase.folder.is_none() && cloudbase.metadata_services.is_empty());
    assert_note(&report, "A Windows sleeps on /dev/sda2 (hibernation or fast startup)");
}

#[test]
fn dirty_volume_and_dirty_hive() {
    let mut hive = system(1);
    hive[4] ^= 1;
    stamp(&mut hive);
    let log = r"
log = bytearray(4096); log[:4] = b'regf'; log[28] = 6; log[512:516] = b'HvLE'; log[524:528] = b'\xff\xff\xff\x00'
write('Windows/System32/config/SYSTEM.LOG2', bytes(log))";
    let mut disk = volume(&hive, b"no hive", log);
    // The flags of $VOLUME_INFORMATION in record 3: behind its header of 24 bytes, at 10.
    let record = disk.chunks(1024).position(|block| block.starts_with(b"FILE") && block[44] == 3).unwrap() * 1024;
    let attribute =
        (record + 56..record + 1024).step_by(8).find(|at| disk[*at..].starts_with(&[0x70, 0, 0, 0])).unwrap();
    disk[attribute + 24 + 10] |= 1;
    let report = report(disk);
    assert_note(&report, "/dev/sda was not closed cleanly");
    assert_note(
        &report,
        "The registry hive SYSTEM was not written to its end, and its logs hold what was changed last",
    );
    assert_note(&report, "The registry hive SOFTWARE cannot be read: it is no registry hive");
    let (os, windows) = os(&report);
    assert!(windows.volumes[0].dirty && os.name.is_none());
    assert_eq!(os.hostname.as_deref(), Some("WIN-SERVER"));
}

#[test]
fn texts_of_a_hive_cannot_reach_the_terminal() {
    let hive = merge(
        &empty(5),
        &regedit(
            "[Microsoft\\Windows NT\\CurrentVersion]\n\"ProductName\"=hex(1):1b,00,5b,00,33,00,31,00,6d,00\n\"EditionID\"=\"a b\"\n",
        ),
    );
    let report = report(volume(&system(1), &hive, ""));
    let (os, windows) = os(&report);
    assert_eq!((os.name.as_deref(), windows.edition.as_deref()), (Some("\\u{1b}[31m"), None));
}

/// Damage of all structures of a whole Windows: never a panic, always an end.
#[test]
fn damaged_windows() {
    const ROUNDS: usize = 500;
    let disk = server();
    let sectors: Vec<usize> =
        (0..disk.len() / 512).filter(|at| disk[at * 512..(at + 1) * 512].iter().any(|byte| *byte != 0)).collect();
    let sound = Arc::new(Memory(disk));
    let mut random = Random(0x6d6f_6c64_6500_0004);
    let mut described = 0;
    for round in 0..ROUNDS {
        let rarity = [30, 200, 1000][round % 3];
        let mut bytes = Vec::new();
        for sector in &sectors {
            if random.next(rarity) == 0 {
                bytes.push((
                    (sector * 512 + random.next(512)) as u64,
                    [0, 0xff, random.next(256) as u8][random.next(3)],
                ));
            }
        }
        let start = Instant::now();
        let report = inspect(Arc::new(Damaged { sound: sound.clone(), bytes })).unwrap();
        assert!(start.elapsed() < Duration::from_secs(12), "round {round}: {:?}", start.elapsed());
        described += usize::from(report.os.is_some_and(|os| os.name.is_some()));
    }
    assert!(described > 0 && described < ROUNDS, "{described} of {ROUNDS}");
}
