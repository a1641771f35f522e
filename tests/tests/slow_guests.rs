//! Guests that fit another hypervisor: they do not come up as a cloud's servers, and do when they are prepared.
//!
//! `xtask/src/guests` makes them, real Debians with real faults; QEMU starts them on virtio devices.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::guest::{Firmware, Guest};
use tests::{command, disks, run, tool};

/// From power-on to the end of cloud-init, on an emulated processor of a busy machine.
const BOOT: Duration = Duration::from_secs(400);

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

/// Prepares the disk into a new file, once and for all.
fn prepared(raw: &Path, folder: &Path) -> PathBuf {
    let before = disks::md5_of(raw);
    let ready = folder.join("ready.qcow2");
    let (from, to) = (raw.to_str().unwrap(), ready.to_str().unwrap());
    molde(&["guest", "prepare", "--json", from, "-o", to]).json();
    assert_eq!(disks::md5_of(raw), before, "the disk that is read stays as it is");
    let again = molde(&["guest", "prepare", "--dry-run", to]).ok();
    assert!(again.ends_with("there is nothing to change\n"), "{again}");
    let left = molde(&["guest", "check", "--json", to]).json();
    assert_eq!(left["blocking"], 0, "{left}");
    is_sound(&ready, folder);
    ready
}

/// Asserts that e2fsck finds no fault in the root.
fn is_sound(qcow2: &Path, folder: &Path) {
    let (raw, root) = (folder.join("ready.raw"), folder.join("root.img"));
    let [from, whole, part] = [qcow2, &raw, &root].map(|path| path.to_str().unwrap().to_owned());
    tool("qemu-img", ["convert", "-O", "raw", &from, &whole]);
    tool("dd", ["bs=1M", "skip=1", "conv=sparse", "status=none", &format!("if={whole}"), &format!("of={part}")]);
    tool("e2fsck", ["-fn", &part]);
    std::fs::remove_file(raw).unwrap();
    std::fs::remove_file(root).unwrap();
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
    let ready = prepared(&raw, folder.path());
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
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let (_, rest) = witness.split_once(&format!("<filesystem dev=\"{}\">", text(device))).unwrap();
        let rest = rest.split("</filesystem>").next().unwrap();
        assert!(
            rest.contains(&format!("<type>{}</type>", text(kind))) && rest.contains(&text(uuid)),
            "{found}\n{witness}"
        );
    }
}

/// Its kernel is silent until prepare gives it a serial console.
#[test]
fn a_guest_of_another_hypervisor_comes_up_with_uefi() {
    let (raw, folder) = (broken("uefi"), tempfile::tempdir().unwrap());
    let ready = prepared(&raw, folder.path());
    comes_up(folder.path(), &ready, Firmware::Uefi);
}
