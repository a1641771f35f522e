//! The doctor on Windows: what is found on a server from VMware, on a fast-startup Windows 10, and on one that is fit.

use std::fmt::Write as _;
use std::sync::Arc;

use guest::{Choice, Finding, Plan, Severity, plan};

use crate::check::ids;
use crate::disks::{Memory, put, table};
use crate::hives::{empty, merge, regedit};
use crate::windows::{software, texts, volume};

pub(crate) const KEYBOARD: &str = "{4D36E96B-E325-11CE-BFC1-08002BE10318}";
pub(crate) const MOUSE: &str = "{4D36E96F-E325-11CE-BFC1-08002BE10318}";
pub(crate) const INTERFACES: &str = r"ControlSet001\Services\Tcpip\Parameters\Interfaces";

/// A service as a line of regedit has it: its name, when it starts, and what stands in for that.
fn service(text: &mut String, name: &str, start: u32, instead: Option<u32>) {
    write!(text, "[ControlSet001\\Services\\{name}]\n\"Start\"=dword:{start:08x}\n\"Type\"=dword:00000001\n").unwrap();
    if let Some(instead) = instead {
        write!(text, "[ControlSet001\\Services\\{name}\\StartOverride]\n\"0\"=dword:{instead:08x}\n").unwrap();
    }
}

/// The hive `SYSTEM` of a server as it comes from VMware.
pub(crate) fn from_vmware() -> Vec<u8> {
    let mut text = "[Select]\n\"Current\"=dword:00000001\n\"Default\"=dword:00000001\n".to_owned();
    for (name, start, instead) in [
        ("atapi", 3, None),
        ("intelide", 0, Some(3)),
        ("pciide", 0, None),
        ("storahci", 3, Some(3)),
        // Its file is not there: starting it at boot would stop the start.
        ("msahci", 3, None),
        ("LSI_SAS", 0, None),
        ("i8042prt", 4, None),
        ("kbdclass", 3, None),
        ("mouclass", 3, None),
        ("VMTools", 2, None),
        ("vmmemctl", 2, None),
        ("vmci", 0, None),
        ("vm3dmp", 3, None),
        ("vmmouse", 3, None),
        ("ekrn", 2, None),
    ] {
        service(&mut text, name, start, instead);
    }
    write!(
        text,
        r#"
        [ControlSet001\Control\Class\{MOUSE}]
        "UpperFilters"={}
        [ControlSet001\Control\Class\{KEYBOARD}]
        "UpperFilters"={}
        [{INTERFACES}\{{A}}]
        "EnableDHCP"=dword:00000000
        "IPAddress"={}
        "SubnetMask"={}
        "DefaultGateway"={}
        "NameServer"="10.0.0.2,10.0.0.3"
        [{INTERFACES}\{{B}}]
        "EnableDHCP"=dword:00000001
        "IPAddress"={}
        "SubnetMask"={}
        "NameServer"=""
        [{INTERFACES}\{{C}}]
        "EnableDHCP"=dword:00000001
        "NameServer"="10.9.9.9"
        [ControlSet001\Control\Session Manager\Memory Management]
        "PagingFiles"={}
        [ControlSet001\Control\Session Manager\Power]
        "HiberbootEnabled"=dword:00000001
        [ControlSet001\Control\CrashControl]
        "AutoReboot"=dword:00000001
        [ControlSet001\Control\TimeZoneInformation]
        "Bias"=dword:00000000
        [ControlSet001\Control\Terminal Server]
        "fDenyTSConnections"=dword:00000001
        [MountedDevices]
        "\\DosDevices\\C:"=hex:78,56,34,12,00,00,10,00,00,00,00,00
        "\\DosDevices\\E:"=hex:78,56,34,99,00,00,10,00,00,00,00,00
        "\\DosDevices\\D:"=hex:5c,00,3f,00
        "#,
        texts(&["vmmouse", "mouclass"]),
        texts(&["kbdclass"]),
        texts(&["10.0.0.5"]),
        texts(&["255.255.255.0"]),
        texts(&["10.0.0.1"]),
        texts(&["0.0.0.0"]),
        texts(&["0.0.0.0"]),
        texts(&["E:\\pagefile.sys 0 0"]),
    )
    .unwrap();
    merge(&empty(5), &regedit(&text))
}

/// That of a server that is fit for a cloud.
pub(crate) fn fit() -> Vec<u8> {
    let mut text = "[Select]\n\"Current\"=dword:00000001\n".to_owned();
    for name in ["viostor", "atapi", "intelide", "storahci"] {
        service(&mut text, name, 0, Some(0));
    }
    for (name, start) in [("netkvm", 3), ("i8042prt", 3), ("VMTools", 4), ("cloudbase-init", 2)] {
        service(&mut text, name, start, None);
    }
    write!(
        text,
        "[{INTERFACES}\\{{A}}]\n\"EnableDHCP\"=dword:00000001\n\"NameServer\"=\"\"\n\
         [ControlSet001\\Control\\TimeZoneInformation]\n\"RealTimeIsUniversal\"=dword:00000001\n"
    )
    .unwrap();
    merge(&empty(5), &regedit(&text))
}

/// That of a Windows 10 with virtio drivers that were never used.
pub(crate) fn windows_10() -> Vec<u8> {
    let mut text = "[Select]\n\"Current\"=dword:00000001\n".to_owned();
    for (name, start, instead) in [
        ("viostor", 0, Some(3)),
        ("vioscsi", 0, Some(3)),
        ("storahci", 0, None),
        ("atapi", 0, Some(3)),
        ("netkvm", 3, None),
        ("cloudbase-init", 4, None),
    ] {
        service(&mut text, name, start, instead);
    }
    text.push_str("[ControlSet001\\Control\\Session Manager\\Power]\n\"HiberbootEnabled\"=dword:00000001\n");
    merge(&empty(5), &regedit(&text))
}

/// The files of drivers, as a script that makes them.
pub(crate) const DRIVERS: &str = r"
for name in ['atapi', 'intelide', 'pciide', 'storahci', 'vioscsi', 'netkvm', 'i8042prt']:
    write('Windows/System32/drivers/' + name + '.sys', b'MZ')
";

/// Puts a volume on the first partition of a disk.
pub(crate) fn on_disk(volume: &[u8]) -> Vec<u8> {
    let mut disk = table(16, "label: dos\nlabel-id: 0x12345678\nstart=2048, size=24576, type=7, bootable\n");
    put(&mut disk, 1, volume);
    disk
}

/// Makes the disk of a Windows Server 2019 with the hive `system`; `more` is a script that adds to it.
pub(crate) fn server(system: &[u8], more: &str) -> Vec<u8> {
    let software = software("Windows Server 2019 Standard", "17763", "ServerStandard");
    on_disk(&volume(system, &software, &format!("{DRIVERS}{more}")))
}

pub(crate) fn examined(disk: &[u8]) -> Plan {
    plan(Arc::new(Memory(disk.to_vec())), &Choice::default()).unwrap()
}

fn finding<'p>(plan: &'p Plan, id: &str) -> &'p Finding {
    plan.findings.iter().find(|found| found.kind.id == id).unwrap_or_else(|| panic!("{id}: {:#?}", plan.findings))
}

fn evidence(plan: &Plan, id: &str) -> Vec<String> {
    let shown = |at: &guest::Evidence| format!("{} {}", at.path, at.value.as_deref().unwrap_or_default());
    finding(plan, id).evidence.iter().map(shown).collect()
}

#[test]
fn a_server_from_vmware() {
    // A driver in the image without its file does not count as one.
    let more = "os.remove('Windows/System32/drivers/viostor.sys')\nos.remove('Windows/System32/drivers/netkvm.sys')\n";
    let plan = examined(&server(&from_vmware(), more));
    let expected = [
        "windows-lacks-viostor",
        "windows-boot-drivers",
        "windows-lacks-netkvm",
        "network-static",
        "cloudbase-init-missing",
        "windows-input-drivers",
        "hypervisor-tools",
        "windows-fast-startup",
        "windows-not-generalized",
        "windows-foreign-drivers",
        "windows-antivirus",
        "windows-crash-reboot",
        "windows-clock-local",
        "windows-remote-desktop-off",
        "windows-pagefile-elsewhere",
        "windows-drive-letters",
    ];
    assert_eq!(ids(&plan), expected, "{:#?}", plan.findings);
    let services = r"HKLM\SYSTEM\ControlSet001\Services";
    assert_eq!(
        evidence(&plan, "windows-boot-drivers"),
        [
            format!(r"{services}\atapi Start: 3 (dword)"),
            format!(r"{services}\intelide\StartOverride 0: 3 (dword)"),
            format!(r"{services}\storahci Start: 3 (dword)"),
            format!(r"{services}\storahci\StartOverride 0: 3 (dword)"),
        ]
    );
    assert_eq!(
        evidence(&plan, "network-static"),
        [
            format!(r"HKLM\SYSTEM\{INTERFACES}\{{A}} EnableDHCP: 0 (dword)"),
            format!(r#"HKLM\SYSTEM\{INTERFACES}\{{A}} IPAddress: ["10.0.0.5"] (multi_sz)"#),
            format!(r#"HKLM\SYSTEM\{INTERFACES}\{{A}} SubnetMask: ["255.255.255.0"] (multi_sz)"#),
            format!(r#"HKLM\SYSTEM\{INTERFACES}\{{A}} DefaultGateway: ["10.0.0.1"] (multi_sz)"#),
            format!(r#"HKLM\SYSTEM\{INTERFACES}\{{A}} NameServer: "10.0.0.2,10.0.0.3" (sz)"#),
            format!(r#"HKLM\SYSTEM\{INTERFACES}\{{C}} NameServer: "10.9.9.9" (sz)"#),
        ]
    );
    assert_eq!(
        evidence(&plan, "windows-input-drivers"),
        [
            format!(r"{services}\i8042prt Start: 4 (dword)"),
            format!(
                r#"HKLM\SYSTEM\ControlSet001\Control\Class\{MOUSE} UpperFilters: ["vmmouse", "mouclass"] (multi_sz)"#
            ),
        ]
    );
    assert_eq!(
        evidence(&plan, "hypervisor-tools"),
        [format!(r"{services}\VMTools Start: 2 (dword)"), format!(r"{services}\vmmemctl Start: 2 (dword)")]
    );
    assert_eq!(evidence(&plan, "windows-foreign-drivers"), [format!(r"{services}\vmci Start: 0 (dword)")]);
    assert_eq!(
        evidence(&plan, "windows-drive-letters"),
        [r"HKLM\SYSTEM\MountedDevices E: disk 99345678, byte 1048576"],
        "C: is there, and D: is a drive for discs"
    );
    assert_eq!(evidence(&plan, "windows-antivirus"), [format!(r"{services}\ekrn Start: 2 (ESET)")]);
    assert_eq!(
        evidence(&plan, "windows-lacks-viostor"),
        [format!("{services} viostor: (no such key)"), format!("{services} vioscsi: (no such key)")]
    );
}

#[test]
fn a_server_that_is_fit_stays_as_it_is() {
    let plan = examined(&server(&fit(), ""));
    assert_eq!(ids(&plan), ["windows-not-generalized"], "{:#?}", plan.findings);
    assert!(plan.changes.is_empty() && plan.report.notes.is_empty(), "{:#?}", plan.report.notes);
}

#[test]
fn windows_10_with_fast_startup() {
    let software = software("Windows 10 Pro", "19045", "Professional");
    let more = format!("{DRIVERS}write('hiberfil.sys', b'hibr' + bytes(8192))");
    let plan = examined(&on_disk(&volume(&windows_10(), &software, &more)));
    let expected = [
        "windows-hibernated",
        "windows-boot-drivers",
        "cloudbase-init-disabled",
        "windows-fast-startup",
        "windows-not-generalized",
    ];
    assert_eq!(ids(&plan), expected, "{:#?}", plan.findings);
    assert_eq!(finding(&plan, "windows-hibernated").kind.severity, Severity::BlocksBoot);
    assert!(finding(&plan, "windows-hibernated").kind.remedy.contains("shutdown /s /t 0"));
    let overrides = evidence(&plan, "windows-boot-drivers");
    assert_eq!(overrides.len(), 3, "{overrides:?}");
    assert!(overrides[0].ends_with(r"viostor\StartOverride 0: 3 (dword)"), "{overrides:?}");
}

#[test]
fn drivers_beside_virtio_are_a_fallback() {
    let mut text = "[Select]\n\"Current\"=dword:00000001\n".to_owned();
    service(&mut text, "viostor", 0, None);
    service(&mut text, "atapi", 0, Some(3));
    let plan = examined(&server(&merge(&empty(5), &regedit(&text)), ""));
    assert!(ids(&plan).contains(&"windows-fallback-drivers") && !ids(&plan).contains(&"windows-boot-drivers"));
}

#[test]
fn the_set_of_the_next_start_is_examined() {
    let text = "[Select]\n\"Current\"=dword:00000001\n\"Default\"=dword:00000002\n\
                [ControlSet001\\Services\\atapi]\n\"Start\"=dword:00000003\n\
                [ControlSet002\\Services\\atapi]\n\"Start\"=dword:00000002\n";
    let plan = examined(&server(&merge(&empty(5), &regedit(text)), ""));
    assert_eq!(evidence(&plan, "windows-boot-drivers"), [r"HKLM\SYSTEM\ControlSet002\Services\atapi Start: 2 (dword)"]);
}

#[test]
fn what_cloudbase_init_will_do() {
    let mut text = "[Select]\n\"Current\"=dword:00000001\n".to_owned();
    service(&mut text, "cloudbase-init", 4, None);
    let hive = merge(&empty(5), &regedit(&text));
    let conf = "write('Program Files/Cloudbase Solutions/Cloudbase-Init/conf/cloudbase-init.conf', b'[DEFAULT]\\nmetadata_services=";
    let setup = "write('Windows/Setup/Scripts/SetupComplete.cmd', b'sc config cloudbase-init start= auto')\n";
    let vmware = format!("{conf}cloudbaseinit.metadata.services.vmwareguestinfoservice.VMwareGuestInfoService')\n");
    let drive = format!("{conf}a.VMware,cloudbaseinit.metadata.services.configdrive.ConfigDriveService')\n");
    for (more, disabled, metadata) in [
        (vmware.clone(), true, true),
        (drive.clone(), true, false),
        (drive + setup, false, false),
        (vmware + setup, false, true),
    ] {
        let plan = examined(&server(&hive, &more));
        let has = |id: &str| plan.findings.iter().any(|found| found.kind.id == id);
        assert_eq!((has("cloudbase-init-disabled"), has("cloudbase-init-metadata")), (disabled, metadata), "{more}");
        assert!(!has("cloudbase-init-missing"));
    }
}

#[test]
fn secrets_and_policies_are_told_and_not_shown() {
    let more = r#"
write('Windows/Panther/unattend.xml', '<u><AdministratorPassword><Value>hunter2</Value></AdministratorPassword></u>'.encode('utf-16'))
write('Windows/System32/Sysprep/unattend.xml', b'<Password>*SENSITIVE*DATA*DELETED*</Password>')
write('Users/ana/AppData/Roaming/Microsoft/Windows/PowerShell/PSReadLine/ConsoleHost_history.txt', b'hunter2')
write('Users/ana/.ssh/id_ed25519', b'hunter2')
write('Users/bob/.aws/credentials', b'hunter2')
write('Users/bob/.ssh/authorized_keys', b'')
write('ProgramData/ssh/ssh_host_rsa_key', b'hunter2')
"#;
    let text = r#"
        [Policies\Microsoft\Windows\DeviceInstall\Restrictions]
        "DenyUnspecified"=dword:00000001
        "DenyDeviceIDs"=dword:00000000
        [Microsoft\Windows NT\CurrentVersion\Winlogon]
        "AutoAdminLogon"="1"
        "DefaultPassword"="hunter2"
        [Microsoft\Windows\CurrentVersion\Setup\State]
        "ImageState"="IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"
        "#;
    let disk = on_disk(&volume(&fit(), &merge(&empty(5), &regedit(text)), &format!("{DRIVERS}{more}")));
    let plan = examined(&disk);
    let expected = ["windows-driver-policy", "windows-auto-logon", "windows-answer-files", "windows-secrets"];
    assert_eq!(ids(&plan), expected, "{:#?}", plan.findings);
    assert!(!format!("{:?}", plan.findings).contains("hunter2"));
    assert_eq!(evidence(&plan, "windows-answer-files"), ["/Windows/Panther/unattend.xml "]);
    assert_eq!(finding(&plan, "windows-secrets").evidence.len(), 4);
    assert_eq!(
        evidence(&plan, "windows-driver-policy"),
        [r"HKLM\SOFTWARE\Policies\Microsoft\Windows\DeviceInstall\Restrictions DenyUnspecified: 1 (dword)"]
    );
}
