//! Guests that fit another hypervisor: they do not come up as a cloud's servers, and do when they are prepared.
//!
//! `xtask/src/guests` makes them, real Debians with real faults; QEMU starts them on virtio devices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tests::guest::{Firmware, Guest};
use tests::{command, disks, run, tool};

/// From power-on to the end of cloud-init, on an emulated processor of a busy machine.
const BOOT: Duration = Duration::from_secs(600);

/// What OVMF says of the first disk before it goes on to the network, where nothing is either.
const NO_LOADER: &str = "\"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x2,0x0): Not Found";

/// What cloud-init runs last: what it says is computed in the guest, so that no echo of this text is taken for it.
const USER_DATA: &str = r#"#cloud-config
runcmd:
  - - sh
    - -c
    - |
      address=$(ip -4 -o address show scope global | awk '{print $4}')
      machine=$(sed s/0123456789abcdef0123456789abcdef/old/ /etc/machine-id)
      keys=$(grep -L 'not a key' /etc/ssh/ssh_host_*_key | wc -l)
      echo "molde-proof host=$(hostname) address=$address machine=$machine keys=$keys data=$(mount | grep -c /data)" > /dev/ttyS0
"#;

/// The disk of a broken guest.
fn broken(name: &str) -> PathBuf {
    let folder =
        std::env::var_os("MOLDE_GUESTS").expect("`cargo xtask test --slow` makes the guests and names their folder");
    PathBuf::from(folder).join(name).with_extension("raw")
}

fn molde(words: &[&str]) -> tests::Done {
    run(&mut command(tests::binary(), words))
}

/// Returns what the root of a guest is on.
fn root_kind(disk: &str) -> String {
    let found = molde(&["guest", "inspect", "--json", disk]).json();
    let root = found["filesystems"].as_array().unwrap().iter().find(|found| found["mounted_at"] == "/").unwrap();
    root["type"].as_str().unwrap().to_owned()
}

/// Prepares the disk into a new file, once and for all; what the plan does not name stays as it is.
fn prepared(raw: &Path, folder: &Path, firmware: Firmware) -> PathBuf {
    let before = disks::md5_of(raw);
    let ready = folder.join("ready.qcow2");
    let (from, to) = (raw.to_str().unwrap(), ready.to_str().unwrap());
    let done = molde(&["guest", "prepare", "--json", from, "-o", to]).json();
    assert_eq!(disks::md5_of(raw), before, "the disk that is read stays as it is");
    // Once, and not where that takes minutes in a build that is not optimized: both trees are read as a whole.
    if firmware == Firmware::Uefi && root_kind(from) == "ext4" {
        nothing_else_differs(&done, from, to);
    }
    let again = molde(&["guest", "prepare", "--dry-run", to]).ok();
    assert!(again.ends_with("there is nothing to change\n"), "{again}");
    let left = molde(&["guest", "check", "--json", to]).json();
    assert_eq!(left["blocking"], 0, "{left}");
    is_sound(&ready, folder, firmware);
    ready
}

/// Asserts that the guests differ where the plan said so, and in the record that prepare leaves.
fn nothing_else_differs(done: &Value, from: &str, to: &str) {
    let planned: Vec<&str> =
        done["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
    let told = molde(&["guest", "diff", "--json", from, to]);
    let differing: Value = serde_json::from_str(&told.stdout).unwrap();
    let path = |side: &Value| side["path"].as_str().map(str::to_owned);
    let differing: Vec<String> = differing
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| path(&difference["after"]).or(path(&difference["before"])).unwrap())
        .collect();
    // Below a folder that goes, and above a file that comes, there are more.
    let is_named = |path: &str| {
        let (path, record) = (Path::new(path), Path::new("/var/log/molde-prepare.log"));
        path == record || planned.iter().any(|change| path.starts_with(change) || Path::new(change).starts_with(path))
    };
    let others: Vec<&String> = differing.iter().filter(|path| !is_named(path)).collect();
    assert!(planned.len() > 10 && differing.len() >= planned.len() && others.is_empty(), "{others:?}");
}

/// Asserts that the checkers of its file systems find no fault.
fn is_sound(qcow2: &Path, folder: &Path, firmware: Firmware) {
    const MIB: u64 = 1 << 20;
    let (raw, part) = (folder.join("ready.raw"), folder.join("part.img"));
    let [from, whole, image] = [qcow2, &raw, &part].map(|path| path.to_str().unwrap().to_owned());
    tool("qemu-img", ["convert", "-O", "raw", &from, &whole]);
    let cut = |first: u64, count: u64| {
        let (input, output) = (format!("if={whole}"), format!("of={image}"));
        let (skip, count) = (format!("skip={first}"), format!("count={count}"));
        tool("dd", ["bs=1M", "conv=sparse", "status=none", &skip, &count, &input, &output]);
    };
    let total = std::fs::metadata(&raw).unwrap().len() / MIB;
    // Behind the root lie with UEFI the system partition, of 32 MiB, and the second table.
    let behind = if firmware == Firmware::Uefi { 33 } else { 0 };
    cut(1, total - 1 - behind);
    match root_kind(&from).as_str() {
        "ext4" => drop(tool("e2fsck", ["-fn", &image])),
        "xfs" => drop(tool("xfs_repair", ["-n", "-f", &image])),
        "btrfs" => drop(tool("btrfs", ["check", "--readonly", &image])),
        kind => panic!("the root is on {kind}"),
    }
    if firmware == Firmware::Uefi {
        std::fs::remove_file(&part).unwrap();
        cut(total - behind, 32);
        tool("fsck.vfat", ["-n", &image]);
    }
    std::fs::remove_file(raw).unwrap();
    std::fs::remove_file(part).unwrap();
}

/// Starts a prepared guest and asserts that it becomes the server that was asked for.
fn comes_up(folder: &Path, ready: &Path, firmware: Firmware) {
    let mut guest = Guest::start(folder, ready, firmware, USER_DATA);
    let said = guest.wait_until_it_says("molde-proof ", BOOT);
    let (known, rest) = said.trim_end().split_once(" machine=").unwrap();
    assert!(known.ends_with("molde-proof host=new-server address=10.0.2.15/24"), "{said}");
    let (machine, rest) = rest.split_once(' ').unwrap();
    assert!(machine.len() == 32 && machine.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
    // One key for each kind that its programs know; the old ones would not count.
    let keys =
        rest.strip_prefix("keys=").and_then(|rest| rest.strip_suffix(" data=0")).unwrap_or_else(|| panic!("{said}"));
    assert!(keys.parse::<u32>().unwrap() >= 3, "{said}");
}

#[test]
fn a_guest_of_another_hypervisor_comes_up_with_a_bios() {
    let (raw, folder) = (broken("bios"), tempfile::tempdir().unwrap());
    let mut guest = Guest::start(folder.path(), &raw, Firmware::Bios, USER_DATA);
    // The initramfs has no driver for the disk, and looks for it under its old name.
    guest.wait_until_it_says("ALERT!  /dev/sda1 does not exist.", BOOT);
    drop(guest);
    let ready = prepared(&raw, folder.path(), Firmware::Bios);
    comes_up(folder.path(), &ready, Firmware::Bios);
}

/// What cannot be repaired from outside: its own programs install cloud-init and make its initramfs anew.
#[test]
fn a_guest_without_cloud_init_gets_it_from_packages() {
    let (raw, folder) = (broken("bare"), tempfile::tempdir().unwrap());
    let (from, packages) = (raw.to_str().unwrap(), raw.with_file_name("packages"));
    let ready = folder.path().join("ready.qcow2");
    let to = ready.to_str().unwrap();
    let found = molde(&["guest", "check", "--json", from]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    for fault in ["cloud-init-missing", "initramfs-not-appendable"] {
        assert!(found["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == fault), "{fault}: {found}");
    }
    let packages = packages.to_str().unwrap();
    let done = molde(&["guest", "prepare", "--json", "--packages", packages, from, "-o", to]).json();
    let programs: Vec<&str> =
        done["programs"].as_array().unwrap().iter().map(|program| program["finding"].as_str().unwrap()).collect();
    assert_eq!(programs, ["initramfs-not-appendable", "cloud-init-missing"]);
    let touched = done["changed_by_programs"]["paths"].as_array().unwrap();
    let is_touched = |path: &str, what: &str| touched.iter().any(|told| told["path"] == path && told["what"] == what);
    assert!(
        is_touched("/usr/bin/cloud-init", "created") && is_touched("/var/lib/dpkg/status", "changed"),
        "{touched:?}"
    );
    let again = molde(&["guest", "prepare", "--dry-run", "--packages", packages, to]).ok();
    assert!(again.ends_with("there is nothing to change\n"), "{again}");
    is_sound(&ready, folder.path(), Firmware::Bios);
    comes_up(folder.path(), &ready, Firmware::Bios);
}

/// libguestfs asks a kernel that has mounted the same disk.
#[test]
fn libguestfs_says_the_same_of_it() {
    let raw = broken("uefi");
    let raw = raw.to_str().unwrap();
    let witness = tool("virt-inspector", ["--no-applications", "--no-icon", "--format=raw", "-a", raw]);
    let says = |tag: &str| {
        let (_, rest) = witness.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("no {tag}: {witness}"));
        rest.split('<').next().unwrap().to_owned()
    };
    let found = molde(&["guest", "inspect", "--json", raw]).json();
    let os = &found["os"];
    for (field, tag) in
        [("root", "root"), ("type", "name"), ("arch", "arch"), ("distro", "distro"), ("hostname", "hostname")]
    {
        assert_eq!(os[field], says(tag), "{field}: {found}\n{witness}");
    }
    assert_eq!(os["version"], says("major_version"), "{found}\n{witness}");
    for filesystem in found["filesystems"].as_array().unwrap() {
        let (device, kind, uuid) = (&filesystem["device"], &filesystem["type"], &filesystem["uuid"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (_, rest) = witness.split_once(&format!("<filesystem dev=\"{}\">", text(device))).unwrap();
        let rest = rest.split("</filesystem>").next().unwrap();
        assert!(
            rest.contains(&format!("<type>{}</type>", text(kind))) && rest.contains(&text(uuid)),
            "{found}\n{witness}"
        );
    }
}

/// Firmware finds nothing to start until prepare puts its loader where that is looked for without an entry, and the kernel
/// is silent until prepare gives it a serial console.
#[test]
fn a_guest_of_another_hypervisor_comes_up_with_uefi() {
    let (raw, folder) = (broken("uefi"), tempfile::tempdir().unwrap());
    let mut guest = Guest::start(folder.path(), &raw, Firmware::Uefi, USER_DATA);
    guest.wait_until_it_says(NO_LOADER, BOOT);
    drop(guest);
    let ready = prepared(&raw, folder.path(), Firmware::Uefi);
    comes_up(folder.path(), &ready, Firmware::Uefi);
}

/// The same faults on a root that a kernel in the micro-VM changes.
#[test]
fn a_guest_on_xfs_comes_up_with_a_bios() {
    repaired_and_up("bios-xfs", Firmware::Bios, &["root-by-name", "initramfs-lacks-virtio"]);
}

/// Here two engines change one guest: the system partition is written without the micro-VM.
#[test]
fn a_guest_on_btrfs_comes_up_with_uefi() {
    repaired_and_up("uefi-btrfs", Firmware::Uefi, &["root-by-name", "initramfs-lacks-virtio", "uefi-fallback-missing"]);
}

/// That it does not start before is told by what is found, as the same faults stop the guests on ext4.
fn repaired_and_up(name: &str, firmware: Firmware, faults: &[&str]) {
    let (raw, folder) = (broken(name), tempfile::tempdir().unwrap());
    let told = molde(&["guest", "check", "--json", raw.to_str().unwrap()]);
    let found: Value = serde_json::from_str(&told.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    for fault in faults {
        assert!(findings.iter().any(|finding| finding["id"] == *fault), "{fault}: {found}");
    }
    let ready = prepared(&raw, folder.path(), firmware);
    comes_up(folder.path(), &ready, firmware);
}
