//! The doctor: what is found on guests of each kind, what prepare makes of their files, and that it does so once only.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest::{Choice, KINDS, Plan, State, plan};

use crate::disks::{Memory, Node, elf, ext, put, table};

pub(crate) const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// Files by their paths; `-> x` is a link to `x`, and a path that ends with `/` an empty folder.
pub(crate) type Files = BTreeMap<String, String>;

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

/// A small Debian that is fit for a cloud, with `more` in it.
pub(crate) fn debian(more: &[(&str, &str)]) -> Files {
    let mut all = files(&[
        ("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        ("etc/fstab", &format!("UUID={UUID} / ext4 errors=remount-ro 0 1\n")),
        ("usr/bin/cloud-init", "#!/usr/bin/python3\n"),
        ("etc/cloud/cloud.cfg", "datasource_list: [ NoCloud, ConfigDrive, OpenStack, None ]\n"),
        ("etc/network/interfaces", "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n"),
        ("etc/machine-id", ""),
        (
            "boot/grub/grub.cfg",
            &format!("menuentry x {{\n\tlinux /boot/vmlinuz root=UUID={UUID} ro console=ttyS0\n\tinitrd /boot/i\n}}\n"),
        ),
        ("bin", "-> usr/bin"),
    ]);
    all.extend(files(more));
    all
}

/// The same without cloud-init.
pub(crate) fn without_cloud_init(more: &[(&str, &str)]) -> Files {
    let mut all = debian(&[]);
    all.retain(|path, _| !path.contains("cloud"));
    all.extend(files(more));
    all
}

/// A disk with the files on its first partition, and swap on the second.
pub(crate) fn disk(files: &Files) -> Vec<u8> {
    disk_with(files, &[])
}

/// The same with files that are no text in place of some.
pub(crate) fn disk_with(files: &Files, others: &[(&str, &[u8])]) -> Vec<u8> {
    let program = elf(62);
    let mut nodes: Vec<(&str, Node<'_>)> = vec![("usr/bin/sh", Node::File(&program))];
    for (path, content) in files {
        let node = match (content.strip_prefix("-> "), path.strip_suffix('/')) {
            (Some(target), _) => Node::Link(target),
            (None, Some(folder)) => {
                nodes.push((folder, Node::Folder));
                continue;
            }
            (None, None) => {
                let other = others.iter().find(|(own, _)| own == path);
                Node::File(other.map_or(content.as_bytes(), |(_, bytes)| bytes))
            }
        };
        nodes.push((path, node));
    }
    let mut disk = table(
        8,
        "label: dos\nlabel-id: 0x12345678\nstart=2048, size=10240, type=83, bootable\nstart=12288, size=2048, type=82\n",
    );
    put(&mut disk, 1, &ext(5, &["-t", "ext4", "-U", UUID, "-O", "^has_journal"], &nodes));
    disk
}

fn examined(files: &Files, choice: &Choice) -> Plan {
    plan(Arc::new(Memory(disk(files))), choice).unwrap()
}

/// Makes of the files what the plan says.
fn apply(files: &mut Files, plan: &Plan) {
    for change in &plan.changes {
        let path = change.path.trim_start_matches('/').to_owned();
        files.retain(|own, _| *own != path && !own.starts_with(&format!("{path}/")));
        match &change.after {
            State::File(bytes) => drop(files.insert(path, String::from_utf8(bytes.clone()).unwrap())),
            State::Link(target) => drop(files.insert(path, format!("-> {target}"))),
            State::Absent => {}
            other => panic!("{other:?} is nothing that is planned"),
        }
    }
}

pub(crate) fn ids(plan: &Plan) -> Vec<&'static str> {
    let mut ids: Vec<_> = plan.findings.iter().map(|finding| finding.kind.id).collect();
    ids.dedup();
    ids
}

/// Prepares the files, checks what was found, and that a second run finds nothing more to change; returns the result.
fn prepared(mut files: Files, choice: &Choice, expected: &[&str]) -> Files {
    let first = examined(&files, choice);
    assert_eq!(ids(&first), expected, "{:#?}", first.findings);
    apply(&mut files, &first);
    let second = examined(&files, choice);
    assert!(second.changes.is_empty(), "a second run changes {:#?}", second.changes);
    files
}

/// Does the same with what is automatic, for one file.
fn check(files: Files, expected: &[&str], path: &str, content: &str) {
    let after = prepared(files, &Choice::default(), expected);
    assert_eq!(after.get(path).map(String::as_str), Some(content), "{path}");
}

#[test]
fn a_guest_that_is_fit_stays_as_it_is() {
    let plan = examined(&debian(&[]), &Choice::default());
    assert_eq!(ids(&plan), [] as [&str; 0], "{:#?}", plan.findings);
    assert!(plan.changes.is_empty() && plan.report.os.is_some());
}

#[test]
fn fstab_gets_uuids_and_loses_what_is_not_there() {
    let before = "# a comment\n/dev/sda1\t/ ext4  defaults 0 1\nUUID=dead-beef /data xfs defaults 0 0\n/dev/sdb1 /more ext4 defaults\n\
                  /dev/sdc1 /usb ext4 noauto 0 0\n/dev/disk/by-id/ata-x-part2 none swap sw 0 0\ntmpfs /tmp tmpfs\nserver:/x /x nfs defaults\n";
    let after = format!(
        "# a comment\nUUID={UUID}\t/ ext4  defaults 0 1\n# molde: not in this image: UUID=dead-beef /data xfs defaults 0 0\n\
         # molde: not in this image: /dev/sdb1 /more ext4 defaults\n/dev/sdc1 /usb ext4 noauto 0 0\n\
         # molde: not in this image: /dev/disk/by-id/ata-x-part2 none swap sw 0 0\ntmpfs /tmp tmpfs\nserver:/x /x nfs defaults\n"
    );
    let expected = ["fstab-device-name", "fstab-missing-device"];
    check(debian(&[("etc/fstab", before)]), &expected, "etc/fstab", &after);
    // The root is told by what is in it, whatever fstab calls it.
    let wrong = "UUID=00000000-0000-0000-0000-000000000001 / ext4 defaults 0 1";
    check(debian(&[("etc/fstab", wrong)]), &expected[..1], "etc/fstab", &format!("UUID={UUID} / ext4 defaults 0 1"));
}

/// Without a volume group on the disk, a name of the device-mapper is that of something else, unless crypttab opens it.
#[test]
fn fstab_loses_volumes_of_other_disks() {
    let before = format!(
        "UUID={UUID} / ext4 defaults 0 1\n/dev/mapper/data-lv /data xfs defaults 0 0\n/dev/mapper/safe /safe ext4 defaults 0 0\n\
         /dev/mapper/gone /gone ext4 defaults 0 0\n/dev/mapper/usb /usb ext4 nofail 0 0\n/dev/md/0 /md ext4 defaults 0 0\n"
    );
    let after = before
        .replace("/dev/mapper/data", "# molde: not in this image: /dev/mapper/data")
        .replace("/dev/mapper/gone", "# molde: not in this image: /dev/mapper/gone");
    let crypttab = "safe /var/safe.img none luks\ngone /dev/sdb1 none luks\n";
    let files = debian(&[("etc/fstab", &before), ("etc/crypttab", crypttab)]);
    check(files, &["fstab-missing-device", "crypttab-missing-device"], "etc/fstab", &after);
}

#[test]
fn one_repair_alone_or_all_but_one() {
    let before = "/dev/sda1 / ext4\n/dev/sdb1 /more ext4\n";
    let found = ["fstab-device-name", "fstab-missing-device"];
    let ids = |id: &str| vec![id.to_owned()];
    let only = Choice { only: ids("fstab-missing-device"), ..Choice::default() };
    let files = prepared(debian(&[("etc/fstab", before)]), &only, &found);
    assert_eq!(files["etc/fstab"], "/dev/sda1 / ext4\n# molde: not in this image: /dev/sdb1 /more ext4\n");
    let skip = Choice { skip: ids("fstab-missing-device"), ..Choice::default() };
    let files = prepared(debian(&[("etc/fstab", before)]), &skip, &found);
    assert_eq!(files["etc/fstab"], format!("UUID={UUID} / ext4\n/dev/sdb1 /more ext4\n"));
}

#[test]
fn command_lines_of_grub2_with_and_without_initramfs() {
    let before = "menuentry a {\n\tlinux\t/vmlinuz root=/dev/sda1 ro quiet resume=/dev/sdb5\n\tinitrd /i\n}\nmenuentry b {\n\tlinux /vmlinuz root=/dev/hda1 cloud-init=disabled\n}\n";
    let after = format!(
        "menuentry a {{\n\tlinux\t/vmlinuz root=UUID={UUID} ro quiet console=tty0 console=ttyS0,115200\n\tinitrd /i\n}}\n\
         menuentry b {{\n\tlinux /vmlinuz root=PARTUUID=12345678-01 console=tty0 console=ttyS0,115200\n}}\n"
    );
    let settings = "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\nGRUB_DISABLE_LINUX_UUID=true\n";
    let guest = debian(&[("boot/grub/grub.cfg", before), ("etc/default/grub", settings)]);
    let expected = ["root-by-name", "cloud-init-disabled", "resume-missing", "serial-console-missing"];
    check(guest.clone(), &expected, "boot/grub/grub.cfg", &after);
    let settings = "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200\"\n#GRUB_DISABLE_LINUX_UUID=true\n";
    check(guest, &expected, "etc/default/grub", settings);
}

#[test]
fn command_lines_of_other_loaders() {
    let console = "console=tty0 console=ttyS0,115200";
    for (path, before, after) in [
        (
            "boot/grub/menu.lst",
            "title a\n kernel /vmlinuz root=/dev/hda1 ro\n initrd /i\n",
            format!("title a\n kernel /vmlinuz root=UUID={UUID} ro {console}\n initrd /i\n"),
        ),
        (
            "boot/loader/entries/a.conf",
            "linux /vmlinuz\noptions root=/dev/sda1 ro\n",
            format!("linux /vmlinuz\noptions root=UUID={UUID} ro {console}\n"),
        ),
        (
            "boot/extlinux.conf",
            "LABEL a\n  APPEND root=/dev/vda1\n  INITRD /i\n",
            format!("LABEL a\n  APPEND root=UUID={UUID} {console}\n  INITRD /i\n"),
        ),
        ("etc/kernel/cmdline", "root=/dev/nvme0n1p1 quiet", format!("root=UUID={UUID} quiet {console}")),
    ] {
        check(debian(&[(path, before)]), &["root-by-name", "serial-console-missing"], path, &after);
    }
    let block = |text: &str| format!("{text}{}", "#".repeat(1024 - text.len()));
    let before = block("# GRUB Environment Block\nkernelopts=root=/dev/sda1 ro\n");
    let after = block(&format!("# GRUB Environment Block\nkernelopts=root=UUID={UUID} ro {console}\n"));
    check(
        debian(&[("boot/grub2/grubenv", &before)]),
        &["root-by-name", "serial-console-missing"],
        "boot/grub2/grubenv",
        &after,
    );
}

#[test]
fn ifupdown_is_left_to_cloud_init_or_asks_itself() {
    let before =
        "auto lo eth0\niface lo inet loopback\niface eth0 inet static\n  address 10.0.0.9/24\n  gateway 10.0.0.1\n";
    let given_up = "auto lo\niface lo inet loopback\n# molde: iface eth0 inet static\n# molde:   address 10.0.0.9/24\n# molde:   gateway 10.0.0.1\nsource /etc/network/interfaces.d/*\n";
    let resolv = ("etc/resolv.conf", "search home\nnameserver 10.0.0.1\n");
    let path = "etc/network/interfaces";
    check(debian(&[(path, before), resolv]), &["network-static", "resolv-conf-static"], path, given_up);
    let asks = "auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n";
    check(without_cloud_init(&[(path, before)]), &["cloud-init-missing", "network-static"], path, asks);
}

#[test]
fn netplan_is_put_aside() {
    let before = "network:\n  version: 2\n  ethernets:\n    ens192:\n      addresses: [10.0.0.2/24]\n      match: {macaddress: \"00:50:56:00:00:01\"}\n";
    let path = "etc/netplan/00-installer.yaml";
    let after = prepared(debian(&[(path, before)]), &Choice::default(), &["network-static"]);
    assert!(!after.contains_key(path));
    assert_eq!(after["etc/netplan/00-installer.yaml.molde-saved"], before);
    let after =
        prepared(without_cloud_init(&[(path, before)]), &Choice::default(), &["cloud-init-missing", "network-static"]);
    assert!(after[path].contains("dhcp4: true"));
    let bridge = "network:\n  bridges:\n    br0:\n      addresses: [10.0.0.2/24]\n";
    check(debian(&[(path, bridge)]), &["network-manual"], path, bridge);
}

#[test]
fn ifcfg_of_red_hat_and_suse() {
    let before = "TYPE=Ethernet\nBOOTPROTO=none\nDEVICE=eth0\nONBOOT=yes\nHWADDR=00:50:56:00:00:01\nIPADDR=10.0.0.2\nPREFIX=24\nGATEWAY=10.0.0.1\nDNS1=10.0.0.1\nUUID=x\n";
    let path = "etc/sysconfig/network-scripts/ifcfg-eth0";
    check(
        debian(&[(path, before)]),
        &["network-static", "network-mac"],
        path,
        "TYPE=Ethernet\nBOOTPROTO=dhcp\nDEVICE=eth0\nONBOOT=yes\n",
    );
    let before = "BOOTPROTO='static'\nIPADDR='10.0.0.2/24'\nSTARTMODE='auto'\n";
    let path = "etc/sysconfig/network/ifcfg-eth0";
    let routes = ("etc/sysconfig/network/routes", "default 10.0.0.1 - -\n10.1.0.0/16 10.0.0.3 - -\n");
    let guest = debian(&[(path, before), routes]);
    check(guest.clone(), &["network-static"], path, "BOOTPROTO=dhcp\nSTARTMODE='auto'\n");
    check(guest, &["network-static"], routes.0, "10.1.0.0/16 10.0.0.3 - -\n");
    let bond = "DEVICE=eth1\nMASTER=bond0\nSLAVE=yes\nBOOTPROTO=none\n";
    check(debian(&[(path, bond)]), &["network-manual"], path, bond);
}

#[test]
fn keyfiles_of_network_manager() {
    let before = "[connection]\nid=ens192\ntype=ethernet\ninterface-name=ens192\n\n[ethernet]\nmac-address=00:50:56:00:00:01\n\n\
                  [ipv4]\naddress1=10.0.0.2/24,10.0.0.1\ndns=10.0.0.1;\nmethod=manual\n\n[ipv6]\nmethod=ignore\n";
    let after =
        "[connection]\nid=ens192\ntype=ethernet\n\n[ethernet]\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=ignore\n";
    let path = "etc/NetworkManager/system-connections/ens192.nmconnection";
    check(debian(&[(path, before)]), &["network-static", "network-mac"], path, after);
    let vpn = "[connection]\ntype=wireguard\n[ipv4]\naddress1=10.9.0.2/24\nmethod=manual\n";
    check(debian(&[(path, vpn)]), &["network-manual"], path, vpn);
}

#[test]
fn networkd_is_made_general() {
    let before = "[Match]\nMACAddress=00:50:56:00:00:01\n\n[Network]\nAddress=10.0.0.2/24\nGateway=10.0.0.1\n";
    let path = "etc/systemd/network/10-lan.network";
    let link = ("etc/systemd/network/10-lan.link", "[Match]\nMACAddress=00:50:56:00:00:01\n[Link]\nName=lan0\n");
    let after = prepared(
        debian(&[(path, before), link]),
        &Choice::default(),
        &["network-mac", "network-static", "network-mac"],
    );
    assert!(after[path].contains("DHCP=yes") && !after.contains_key(link.0));
    assert_eq!(after["etc/systemd/network/10-lan.network.molde-saved"], before);
}

#[test]
fn rules_that_name_adapters_go_and_masks_stay() {
    let rules = (
        "etc/udev/rules.d/70-persistent-net.rules",
        "# c\nSUBSYSTEM==\"net\", ATTR{address}==\"00:50:56:00:00:01\", NAME=\"eth0\"\n",
    );
    let mask = ("etc/udev/rules.d/75-persistent-net-generator.rules", "");
    let after = prepared(debian(&[rules, mask]), &Choice::default(), &["persistent-net-rules"]);
    assert!(!after.contains_key(rules.0) && after.contains_key(mask.0));
}

#[test]
fn whatever_keeps_cloud_init_from_working_goes() {
    let unit = "[Unit]\n[Install]\nWantedBy=cloud-init.target\n";
    let after = prepared(
        debian(&[
            ("etc/cloud/cloud-init.disabled", ""),
            ("etc/cloud/cloud.cfg", "a: 1\ndatasource_list:\n  - NoCloud\n  - None\nb: 2\n"),
            ("etc/cloud/cloud.cfg.d/99-net.cfg", "network:\n  config: disabled\n"),
            ("usr/lib/systemd/system/cloud-init.service", unit),
            ("usr/lib/systemd/system/cloud-config.service", unit),
            ("usr/lib/systemd/system/cloud-final.service", unit),
            (
                "etc/systemd/system/cloud-init.target.wants/cloud-init.service",
                "-> /usr/lib/systemd/system/cloud-init.service",
            ),
            (
                "etc/systemd/system/cloud-init.target.wants/cloud-final.service",
                "-> /usr/lib/systemd/system/cloud-final.service",
            ),
            ("etc/systemd/system/cloud-final.service", "-> /dev/null"),
            ("var/lib/cloud/instance", "-> instances/i-1"),
            ("var/lib/cloud/instances/i-1/user-data.txt", "password: secret"),
            ("var/lib/cloud/seed/nocloud/meta-data", "x"),
        ]),
        &Choice::default(),
        &["cloud-init-disabled", "cloud-init-datasource", "cloud-init-network-disabled", "cloud-init-stale-instance"],
    );
    assert!(
        !after.contains_key("etc/cloud/cloud-init.disabled")
            && !after.contains_key("etc/systemd/system/cloud-final.service")
    );
    assert_eq!(
        after["etc/cloud/cloud.cfg"],
        "a: 1\n# molde: datasource_list:\n# molde:   - NoCloud\n# molde:   - None\nb: 2\n"
    );
    assert_eq!(after["etc/cloud/cloud.cfg.d/99-net.cfg"], "# molde: network:\n# molde:   config: disabled\n");
    assert_eq!(
        after["etc/systemd/system/cloud-init.target.wants/cloud-config.service"],
        "-> /usr/lib/systemd/system/cloud-config.service"
    );
    let left: Vec<&String> = after.keys().filter(|path| path.starts_with("var/lib/cloud")).collect();
    assert_eq!(left, ["var/lib/cloud/seed/nocloud/meta-data"]);
}

#[test]
fn what_makes_a_machine_itself_goes() {
    let more = [
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("var/lib/dbus/machine-id", "-> /etc/machine-id"),
        ("etc/ssh/ssh_host_ed25519_key", "secret"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "public"),
        ("etc/ssh/sshd_config", "Port 22\n"),
        ("var/lib/systemd/random-seed", "seed"),
        ("var/lib/dhcp/dhclient.eth0.leases", "lease {}"),
        ("etc/lvm/devices/system.devices", "x"),
        ("boot/grub/device.map", "(hd0) /dev/sda\n"),
    ];
    let found = ["lvm-devices-file", "ssh-host-keys", "random-seed", "device-cache", "machine-id", "dhcp-leases"];
    let after = prepared(debian(&more), &Choice::default(), &found);
    assert_eq!(after["etc/machine-id"], "");
    let left: Vec<&str> = more.iter().map(|(path, _)| *path).filter(|path| after.contains_key(*path)).collect();
    assert_eq!(left, ["etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh/sshd_config"]);
    // Without anything that makes new keys, the old ones stay until one asks.
    let guest = without_cloud_init(&more[2..4]);
    let after = prepared(guest, &Choice::default(), &["cloud-init-missing", "ssh-host-keys-kept"]);
    assert!(after.contains_key("etc/ssh/ssh_host_ed25519_key"));
}

#[test]
fn secrets_are_told_and_go_on_request_without_being_shown() {
    let more = [
        ("root/.bash_history", "mysql -p hunter2\n"),
        ("home/ana/.ssh/authorized_keys", "ssh-ed25519 AAAA ana\n"),
        ("home/ana/.ssh/id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n"),
        ("home/ana/.ssh/id_ed25519.pub", "ssh-ed25519 AAAA\n"),
        ("root/.aws/credentials", "aws_secret_access_key = hunter2\n"),
        ("etc/ssl/private/web.key", "-----BEGIN PRIVATE KEY-----\nhunter2\n"),
        ("etc/ssl/private/ssl-cert-snakeoil.key", "-----BEGIN PRIVATE KEY-----\n"),
        ("etc/shadow", "root:$y$hunter2:1::::::\ndaemon:*:1::::::\nana:!$6$x:1::::::\n"),
        ("var/log/syslog", "hunter2\n"),
        ("var/log/journal/x/system.journal", "hunter2"),
    ];
    let found =
        ["shell-history", "authorized-keys", "private-keys", "cloud-credentials", "tls-keys", "passwords", "logs"];
    let plan = examined(&debian(&more), &Choice::default());
    assert_eq!(ids(&plan), found);
    assert!(plan.changes.is_empty());
    let passwords = plan.findings.iter().find(|finding| finding.kind.id == "passwords").unwrap();
    assert_eq!(passwords.evidence.iter().map(|at| at.value.as_deref()).collect::<Vec<_>>(), [Some("root")]);
    let with =
        ["shell-history", "authorized-keys", "private-keys", "cloud-credentials", "logs"].map(str::to_owned).to_vec();
    let choice = Choice { with, ..Choice::default() };
    let plan = examined(&debian(&more), &choice);
    assert!(!format!("{:?}", plan.findings).contains("hunter2"));
    assert!(!plan.changes.iter().filter_map(guest::Change::diff).any(|diff| diff.contains("hunter2")));
    let after = prepared(debian(&more), &choice, &found);
    assert_eq!(after["var/log/syslog"], "");
    let left: Vec<&str> = more.iter().map(|(path, _)| *path).filter(|path| after.contains_key(*path)).collect();
    assert_eq!(
        left,
        [
            "home/ana/.ssh/id_ed25519.pub",
            "etc/ssl/private/web.key",
            "etc/ssl/private/ssl-cert-snakeoil.key",
            "etc/shadow",
            "var/log/syslog"
        ]
    );
}

#[test]
fn tools_of_another_hypervisor_are_masked() {
    let unit = "[Service]\nExecStart=/usr/bin/vmtoolsd\n";
    let more = [
        ("usr/lib/systemd/system/vmtoolsd.service", unit),
        ("etc/systemd/system/multi-user.target.wants/vmtoolsd.service", "-> /usr/lib/systemd/system/vmtoolsd.service"),
        ("usr/lib/systemd/system/open-vm-tools.service", "[Unit]\nConditionVirtualization=vmware\n"),
        (
            "etc/systemd/system/multi-user.target.wants/open-vm-tools.service",
            "-> /usr/lib/systemd/system/open-vm-tools.service",
        ),
        ("etc/rc3.d/S03vmware-tools", "-> ../init.d/vmware-tools"),
        ("etc/X11/xorg.conf", "Section \"Device\"\n  Driver \"vmware\"\nEndSection\n"),
    ];
    let after = prepared(debian(&more), &Choice::default(), &["hypervisor-tools", "xorg-driver"]);
    assert_eq!(after["etc/systemd/system/vmtoolsd.service"], "-> /dev/null");
    assert!(
        !after.contains_key("etc/systemd/system/open-vm-tools.service")
            && !after.contains_key("etc/rc3.d/S03vmware-tools")
    );
    assert!(!after.contains_key("etc/X11/xorg.conf") && after.contains_key("etc/X11/xorg.conf.molde-saved"));
}

#[test]
fn diffs_show_what_changes_and_nothing_that_steers_a_terminal() {
    let plan = examined(&debian(&[("etc/fstab", "/dev/sda1 / ext4\n# \u{1b}[31m red\n")]), &Choice::default());
    let [change] = &plan.changes[..] else { panic!("{:#?}", plan.changes) };
    assert_eq!(
        (change.summary().as_str(), change.device.as_str(), change.inner.as_str()),
        ("edit /etc/fstab", "/dev/sda1", "/etc/fstab")
    );
    let expected = format!(
        "--- a/etc/fstab\n+++ b/etc/fstab\n@@ -1,2 +1,2 @@\n-/dev/sda1 / ext4\n+UUID={UUID} / ext4\n # \\u{{1b}}[31m red\n"
    );
    assert_eq!(change.diff().unwrap(), expected);
}

/// A unit that claims to be wanted by a path is wanted by nothing, and gets no link there.
#[test]
fn units_have_names_and_no_paths() {
    let unit = "[Install]\nWantedBy=../../../home/x cloud-init.target\n";
    let after = prepared(
        debian(&[("usr/lib/systemd/system/cloud-init.service", unit)]),
        &Choice::default(),
        &["cloud-init-disabled"],
    );
    let links: Vec<&String> = after.keys().filter(|path| path.ends_with("/cloud-init.service")).collect();
    assert_eq!(
        links,
        ["etc/systemd/system/cloud-init.target.wants/cloud-init.service", "usr/lib/systemd/system/cloud-init.service"]
    );
}

/// Links of the guest lead no edit out of its tree, and things of other kinds are not read.
#[test]
fn hostile_links_stay_inside() {
    let more = [
        ("etc/resolv.conf", "-> ../../../../../../etc/shadow"),
        ("etc/shadow", "root:$y$x:1::::::\n"),
        ("etc/network/interfaces", "-> /etc/network/interfaces"),
        ("etc/default", "-> ."),
        ("var/log", "-> /"),
        ("home", "-> /"),
    ];
    let plan = examined(&debian(&more), &Choice::default());
    assert!(plan.changes.is_empty(), "{:#?}", plan.changes);
}

#[test]
fn every_kind_has_its_section_in_the_documentation() {
    let page = include_str!("../../../../docs/guests/findings.md");
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let ids: Vec<&str> = KINDS.iter().map(|kind| kind.id).collect();
    assert_eq!(sections, ids, "docs/guests/findings.md has one section for each kind, in their order");
}

/// A hole takes no reading, and memory all the same: it counts, so that a small disk cannot fill the memory.
#[test]
fn files_of_holes_end_at_the_limit() {
    let paths: Vec<String> = (0..600).map(|n| format!("etc/sysconfig/network-scripts/ifcfg-eth{n}")).collect();
    let mut nodes = vec![("etc/os-release", crate::disks::text("ID=centos\n"))];
    nodes.extend(paths.iter().map(|path| (path.as_str(), Node::Hole(1 << 20))));
    let plan = plan(Arc::new(Memory(ext(8, &["-t", "ext4", "-N", "1024"], &nodes))), &Choice::default()).unwrap();
    assert!(plan.report.notes.iter().any(|note| note.contains("reached its limit")), "{:#?}", plan.report.notes);
}
