//! Makes what targets for guests begin with: `sound/*.zst`, and the seeds in `corpus/guest_*`.
//!
//! `cargo run --release --example seeds` in this folder, as root (ntfs-3g), with the packages that the tests of the crate
//! `guest` name. Its tests have the makers of disks.
#![allow(dead_code)]

#[path = "../../crates/guest/tests/inspect/disks.rs"]
mod disks;
#[path = "../../crates/guest/tests/inspect/hives.rs"]
mod hives;
#[path = "../../crates/guest/tests/inspect/lvm.rs"]
mod lvm;
#[path = "../../crates/guest/tests/inspect/volume.rs"]
mod volume;

use std::fs;
use std::path::Path;

use disks::{Node, btrfs, debian, dirty, ext, fat, iso, put, table, text, tool, xfs};

/// A Debian that was moved here from another hypervisor.
const TEXTS: &[&str] = &[
    "/etc/os-release\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian'\n\0/etc/fstab\nUUID=1 / ext4 defaults 0 1\n\
     /dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sdb1 /data ext4 defaults 0 2\nLABEL=ESP /boot/efi vfat umask=0077 0 1\n\
     /dev/sda3 none swap sw 0 0\n/dev/disk/by-id/ata-X-part1 /x xfs nofail 0 0\n\0/etc/crypttab\nc /dev/sda1 none luks\n\
     d /dev/sdc none luks,nofail\n\0/bin/sh\n\x7fELF\x02\x01\x01\0/usr/bin/apt-get\nx",
    "/etc/os-release\nID=debian\n\0/bin/sh\nx\0/etc/default/grub\nGRUB_TIMEOUT=0\n\
     GRUB_CMDLINE_LINUX=\"console=tty0 root=/dev/sda1 quiet\"\nGRUB_DISABLE_LINUX_UUID=true\n\0/boot/grub/grub.cfg\n\
     set default=\"1\"\nset timeout=0\nmenuentry 'Debian' --class x {\n\tlinux /boot/vmlinuz-6.1.0-18-amd64 root=/dev/sda1 ro quiet\n\
     \tinitrd /boot/initrd.img-6.1.0-18-amd64\n}\nsubmenu 'More' {\nmenuentry \"b\" {\nlinux16 /vmlinuz root=/dev/sda1 resume=/dev/sda3\n}\n}\n\
     \0/boot/grub/device.map\n(hd0) /dev/sda\n\0/boot/vmlinuz-6.1.0-18-amd64\nk\0/lib/modules/6.1.0-18-amd64/modules.dep\n\
     kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\n\0/lib/modules/6.1.0-18-amd64/modules.builtin\n\
     kernel/fs/ext4/ext4.ko\n\0/boot/config-6.1.0-18-amd64\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_NET=m\n",
    "/etc/os-release\nID=fedora\n\0/bin/sh\nx\0/boot/loader/entries/a-5.14.conf\ntitle Fedora\nversion 5.14\n\
     linux /vmlinuz-5.14\ninitrd /initramfs-5.14.img\noptions root=/dev/sda1 ro $kernelopts\n\0/boot/grub2/grubenv\n\
     # GRUB Environment Block\nsaved_entry=a-5.14\nkernelopts=root=/dev/sda1 ro rhgb\n####\n\0/etc/kernel/cmdline\nroot=/dev/sda1 quiet\n\
     \0/etc/sysconfig/network-scripts/ifcfg-ens33\nTYPE=Ethernet\nBOOTPROTO=none\nHWADDR=00:50:56:AA:BB:CC\nIPADDR=10.0.0.2\n\
     PREFIX=24\nGATEWAY=10.0.0.1\nDNS1=10.0.0.1\nDEVICE=ens33\nONBOOT=yes\nUUID=0\n\0/etc/sysconfig/network\nHOSTNAME=old\nGATEWAY=10.0.0.1\n\
     \0/etc/NetworkManager/system-connections/a.nmconnection\n[connection]\nid=a\ntype=ethernet\ninterface-name=ens33\n[ethernet]\n\
     mac-address=00:50:56:AA:BB:CC\n[ipv4]\naddress1=10.0.0.2/24,10.0.0.1\ndns=10.0.0.1;\nmethod=manual\n[ipv6]\nmethod=ignore\n",
    "/etc/os-release\nID=ubuntu\n\0/bin/sh\nx\0/usr/bin/cloud-init\nx\0/etc/netplan/01-x.yaml\nnetwork:\n  version: 2\n  ethernets:\n    ens160:\n\
     \x20     addresses: [10.0.0.2/24]\n      gateway4: 10.0.0.1\n      match:\n        macaddress: 00:50:56:aa:bb:cc\n      set-name: ens160\n\
     \0/etc/cloud/cloud.cfg\ndatasource_list: [ VMware, None ]\ndisable_root: true\n\0/etc/cloud/cloud.cfg.d/99-x.cfg\nnetwork: {config: disabled}\n\
     datasource_list:\n  - OVF\n\0/etc/cloud/cloud-init.disabled\n\0/var/lib/cloud/instance -> /var/lib/cloud/instances/i\0/var/lib/cloud/instances/i/sem/x\n\
     \0/etc/machine-id\n0123456789abcdef0123456789abcdef\n\0/var/lib/dbus/machine-id -> /etc/machine-id\0/etc/ssh/ssh_host_rsa_key\nx\
     \0/etc/hostname\nold-server\n\0/etc/hosts\n127.0.1.1 old-server\n\0/etc/resolv.conf\nnameserver 10.0.0.1\n",
    "/etc/os-release\nID=debian\n\0/bin/sh\nx\0/etc/network/interfaces\nsource /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n\
     allow-hotplug eth0\niface eth0 inet static\n\taddress 10.0.0.2/24\n\tgateway 10.0.0.1\n\thwaddress 00:50:56:aa:bb:cc\niface eth0 inet6 auto\n\
     auto bond0\niface bond0 inet manual\n bond-slaves eth0\n\0/etc/network/interfaces.d/x\nauto eth1\niface eth1 inet static\naddress 10.0.0.3\n\
     \0/etc/systemd/network/10-x.network\n[Match]\nName=en*\nMACAddress=00:50:56:aa:bb:cc\n[Network]\nAddress=10.0.0.2/24\nGateway=10.0.0.1\nDNS=10.0.0.1\n\
     \0/etc/systemd/network/10-x.link\n[Match]\nMACAddress=00:50:56:aa:bb:cc\n[Link]\nName=lan0\n\0/etc/udev/rules.d/70-persistent-net.rules\n\
     SUBSYSTEM==\"net\", ATTR{address}==\"00:50:56:aa:bb:cc\", NAME=\"eth0\"\n\0/etc/X11/xorg.conf\nSection \"Device\"\n Driver \"vmware\"\nEndSection\n\
     \0/etc/lvm/devices/system.devices\nx\0/run/blkid/blkid.tab\nx\0/etc/systemd/system/multi-user.target.wants/open-vm-tools.service -> /lib/systemd/system/open-vm-tools.service\
     \0/lib/systemd/system/open-vm-tools.service\n[Unit]\n[Install]\nWantedBy=multi-user.target\n\0/root/.bash_history\nexport PASSWORD=x\n\
     \0/root/.ssh/authorized_keys\nssh-rsa A\n\0/home/u/.aws/credentials\n[default]\n\0/etc/shadow\nroot:$6$x$y:19000:0:99999:7:::\nu:!:1::::::\n\
     \0/etc/passwd\nroot:x:0:0::/root:/bin/bash\nu:x:1000:1000::/home/u:/bin/sh\n\0/var/log/syslog\nx\0/var/lib/dhcp/dhclient.leases\nlease {}\n",
    "/etc/alpine-release\n3.19.1\n\0/etc/fstab\n/dev/sda1 / ext4\n\0/bin/busybox\nx\0/lib/apk/db/installed\nC:Q1\nP:busybox\nV:1.36.1-r15\nA:x86_64\n\n\
     P:cloud-init\nV:23\n\n\0/boot/extlinux.conf\nDEFAULT virt\nTIMEOUT 10\nLABEL virt\n  KERNEL vmlinuz-virt\n  INITRD initramfs-virt\n\
     \x20 APPEND root=/dev/sda1 modules=sd-mod\n\0/etc/update-extlinux.conf\nroot=/dev/sda1\ndefault_kernel_opts=\"quiet\"\n",
    "/etc/redhat-release\nCentOS release 6.10 (Final)\n\0/etc/fstab\n/dev/sda1 / ext4\n\0/bin/sh\nx\0/boot/grub/grub.conf\ndefault=0\nsplashimage=(hd0,0)/x\n\
     title CentOS\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-2.6.32 ro root=/dev/sda1 rhgb\n\tinitrd /boot/initramfs-2.6.32.img\n\0/boot/grub/menu.lst -> grub.conf\
     \0/etc/inittab\nid:3:initdefault:\n\0/var/lib/dpkg/status\nPackage: dash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:0.5\n\
     Description: x\n y\n\nPackage: cloud-init\nStatus: deinstall ok config-files\nVersion: 2\n\n\0/var/lib/pacman/local/bash-5.2-1/desc\n%NAME%\nbash\n\n%VERSION%\n5.2-1\n\n%ARCH%\nx86_64\n",
];

fn keep(name: &str, sound: &[u8]) {
    fs::create_dir_all("sound").unwrap();
    let packed = zstd::encode_all(sound, 19).unwrap();
    println!("{name}: {} bytes of {}", packed.len(), sound.len());
    fs::write(Path::new("sound").join(name).with_added_extension("zst"), packed).unwrap();
}

fn seed(target: &str, name: &str, input: &[u8]) {
    let folder = Path::new("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), input).unwrap();
}

fn main() {
    disks_of_guests();
    filesystems_of_linux();
    other_filesystems();
    hive();
    initramfs();
    rpm();
    for (number, text) in TEXTS.iter().enumerate() {
        seed("guest_texts", &format!("{number}"), text.as_bytes());
    }
    // Each sound file as it is.
    for (target, count) in [
        ("guest_disk", 3),
        ("guest_ext", 3),
        ("guest_xfs", 3),
        ("guest_btrfs", 3),
        ("guest_fat", 3),
        ("guest_ntfs", 1),
        ("guest_iso", 2),
        ("guest_hive", 1),
    ] {
        (0..count).for_each(|which| seed(target, &format!("{which}"), &[which]));
    }
    for (target, operations) in [("guest_ext_write", 12), ("guest_fat_write", 7)] {
        let all = (0..operations).flat_map(|operation| (0..3).map(move |which| (operation, which)));
        all.for_each(|(operation, which)| seed(target, &format!("{operation}-{which}"), &[operation, which]));
    }
}

fn guest<'a>(fstab: &'a str, config: &'a str) -> Vec<(&'a str, Node<'a>)> {
    let mut nodes = debian(fstab, b"");
    nodes.push(("boot/grub/grub.cfg", text(config)));
    nodes.push(("boot/efi", Node::Folder));
    nodes.push(("etc/machine-id", text("0123456789abcdef0123456789abcdef\n")));
    nodes.push(("etc/network/interfaces", text("auto eth0\niface eth0 inet static\n\taddress 10.0.0.2/24\n")));
    nodes
}

fn disks_of_guests() {
    const CONFIG: &str = "menuentry 'Debian' {\nlinux /vmlinuz root=/dev/sda2 ro\n}\n";
    let mut disk = table(6, "label: gpt\nstart=2048, size=2048, type=U\nstart=4096, size=6144, type=L\n");
    put(&mut disk, 1, &fat(1, &["-n", "ESP"], &[("EFI/debian/grubx64.efi", "x"), ("EFI/debian/grub.cfg", "x")]));
    let small = ["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^has_journal,^metadata_csum"];
    put(&mut disk, 2, &ext(3, &small, &guest("/dev/sda2 / ext4\n/dev/sda1 /boot/efi vfat\n", CONFIG)));
    keep("gpt", &disk);
    let script = "label: dos\nlabel-id: 0x12345678\nstart=2048, size=4096, type=83\nstart=6144, size=6144, type=5\n\
                  size=512, type=82\nsize=512, type=83\n";
    let mut disk = table(7, script);
    put(&mut disk, 1, &ext(2, &["-t", "ext2", "-b", "1024", "-N", "128"], &guest("/dev/sda1 / ext2\n", CONFIG)));
    keep("mbr", &disk);
    let volumes = [
        lvm::volume("root", &[lvm::segment(0, 1, &[("pv0", 1)]), lvm::segment(1, 2, &[("pv0", 2), ("pv0", 3)])]),
        lvm::volume("data", &[lvm::segment(0, 1, &[("pv0", 0)])]),
    ];
    let description = lvm::group("vg", &[(lvm::IDS[0], 5)], &volumes.concat());
    let root = ext(3, &["-t", "ext2", "-b", "1024", "-N", "128"], &guest("/dev/vg/root / ext2\n", CONFIG));
    let mut disk = lvm::physical_volume(lvm::IDS[0], 5, &description, 512);
    put(&mut disk, 2, &root[..1 << 20]);
    for (turn, stripe) in root[1 << 20..].chunks(64 << 10).enumerate() {
        let at = (3 + turn % 2) * (1 << 20) + turn / 2 * stripe.len();
        disk[at..at + stripe.len()].copy_from_slice(stripe);
    }
    keep("lvm", &disk);
}

fn filesystems_of_linux() {
    let long = vec![b'x'; 60_000];
    let deep = "../etc/".repeat(20) + "hostname";
    let names: Vec<String> = (0..60).map(|number| format!("many/a-name-with-some-length-{number:05}")).collect();
    let mut nodes = vec![
        ("boot/initrd", Node::File(&long)),
        ("etc/hostname", text("web-01\n")),
        ("etc/fstab", text("/dev/sda1 / ext4 defaults 0 1\n")),
        ("etc/long", Node::Link(&deep)),
        ("etc/short", Node::Link("hostname")),
        ("etc/hole", Node::Hole(100_000)),
        ("empty", Node::Folder),
    ];
    nodes.extend(names.iter().map(|name| (name.as_str(), text("x"))));
    let (old, plain, sums) = (
        ["-t", "ext2", "-b", "1024", "-N", "128"],
        ["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^metadata_csum,^has_journal"],
        ["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^has_journal"],
    );
    keep("ext2", &ext(2, &old, &nodes));
    keep("ext4", &ext(2, &plain, &nodes));
    keep("ext4-sums", &ext(2, &sums, &nodes));
    keep("ext4-journal", &dirty());
    // mkfs.xfs copies no holes as such, and its folders leave their inodes at some ten names.
    keep("xfs4", &xfs(16, &["-m", "crc=0"], &nodes));
    keep("xfs5", &xfs(16, &["-m", "crc=1"], &nodes));
    keep("btrfs", &btrfs(16, &["--mixed"], &nodes));
    for (name, fixture) in
        [("xfs-log", "xfs-dirty"), ("btrfs-subvolumes", "btrfs-suse"), ("btrfs-packed", "btrfs-packed")]
    {
        let packed = fs::read(format!("../crates/guest/tests/inspect/fixtures/{fixture}.zst")).unwrap();
        keep(name, &zstd::decode_all(&*packed).unwrap());
    }
}

fn other_filesystems() {
    let long = "x".repeat(9000);
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", "x"),
        ("EFI/debian/grubx64.efi", long.as_str()),
        ("EFI/debian/grub.cfg", "search.fs_uuid 1 root\n"),
        ("EFI/a long name of a folder/x", "x"),
        ("EFI/Microsoft/Boot/BCD", "regf"),
        ("EFI/empty/a", ""),
    ];
    for (name, mib, options) in [("fat12", 1, ["-F", "12"]), ("fat16", 9, ["-F", "16"]), ("fat32", 34, ["-F", "32"])] {
        keep(name, &fat(mib, &[&options[..], &["-s", "1", "-n", "ESP"]].concat(), &files));
    }
    let name = "vmlinuz-6.1.0-".to_owned() + &"long-".repeat(40);
    let nodes = [
        ("vmlinuz", text("k")),
        (name.as_str(), text("k")),
        ("loader/entries/a.conf", text("x")),
        ("a/b/c/d/e/f/g/h/i/j", text("deep")),
        ("grub/grub.cfg", Node::Link("../loader/./entries/a.conf")),
    ];
    keep("iso-rock-ridge", &iso(&["-R", "-V", "LIVE"], &nodes));
    keep("iso", &iso(&["-J", "-iso-level", "3", "-V", "LIVE"], &nodes[..4]));
    let script = r"
import os, struct
def write(path, data):
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as file: file.write(data)
def reparse(path, tag, data):
    os.setxattr(path, 'system.ntfs_reparse_data', struct.pack('<IHH', tag, len(data), 0) + data)
def link(path, tag, target, flags=b''):
    name = target.encode('utf-16-le')
    reparse(path, tag, struct.pack('<HHHH', 0, len(name), len(name) + 2, 0) + flags + name + b'\0\0\0\0')
write('small.txt', b'inside the record')
write('Windows/System32/config/SYSTEM', bytes(20000))
for number in range(90): write('many/A long file name, number %04d.txt' % number, b'%d' % number)
os.link('small.txt', 'second name.txt')
with open('hole', 'wb') as file:
    file.write(b'head'); file.seek(300000); file.write(b'tail')
with open('scattered', 'wb') as file:
    for number in range(40):
        file.seek(number * 8192); file.write(b'%08d' % number)
os.mkdir('packed'); os.setxattr('packed', 'system.ntfs_attrib', struct.pack('<I', 0x810))
write('packed/text', b''.join(b'%08d' % number for number in range(9000)))
os.mkdir('other'); link('other', 0xa0000003, r'\??\C:\Windows')
write('near', b''); link('near', 0xa000000c, r'Windows\System32', struct.pack('<I', 1))
write('wof', b'x' * 9000); reparse('wof', 0x80000017, struct.pack('<IIII', 1, 2, 1, 0))
write('hiberfil.sys', bytes(8192))
";
    keep("ntfs", &volume::ntfs(5, &["-L", "System", "-c", "4096"], script).0);
}

/// What the examination of a Windows looks at, as a server of VMware has it.
fn hive() {
    let text = r#"
        [Select]
        "Current"=dword:00000001
        "Default"=dword:00000001
        [ControlSet001\Services\atapi]
        "Start"=dword:00000003
        "Type"=dword:00000001
        "Group"=hex(1):53,00,43,00,00,00
        [ControlSet001\Services\intelide]
        "Start"=dword:00000000
        [ControlSet001\Services\intelide\StartOverride]
        "0"=dword:00000003
        [ControlSet001\Services\storahci]
        "Start"=dword:00000003
        [ControlSet001\Services\i8042prt]
        "Start"=dword:00000004
        [ControlSet001\Services\VMTools]
        "Start"=dword:00000002
        "ImagePath"=hex(2):43,00,3a,00,00,00
        [ControlSet001\Services\cloudbase-init]
        "Start"=dword:00000004
        [ControlSet001\Services\Tcpip\Parameters]
        "Hostname"=hex(1):57,00,45,00,42,00,00,00
        [ControlSet001\Services\Tcpip\Parameters\Interfaces\{A}]
        "EnableDHCP"=dword:00000000
        "IPAddress"=hex(7):31,00,2e,00,32,00,00,00,00,00
        "SubnetMask"=hex(7):32,00,00,00,00,00
        "DefaultGateway"=hex(7):31,00,00,00,00,00
        "NameServer"=hex(1):31,00,30,00,00,00
        [ControlSet001\Control\Class\{4D36E96F-E325-11CE-BFC1-08002BE10318}]
        "UpperFilters"=hex(7):76,00,6d,00,6d,00,6f,00,75,00,73,00,65,00,00,00,6d,00,6f,00,75,00,63,00,6c,00,61,00,73,00,73,00,00,00,00,00
        [ControlSet001\Control\Session Manager\Memory Management]
        "PagingFiles"=hex(7):45,00,3a,00,5c,00,70,00,20,00,30,00,20,00,30,00,00,00,00,00
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
        [Microsoft\Windows NT\CurrentVersion]
        "CurrentBuild"=hex(1):31,00,37,00,37,00,36,00,33,00,00,00
        "ProductName"=hex(1):57,00,00,00
        [Microsoft\Windows NT\CurrentVersion\Winlogon]
        "AutoAdminLogon"=hex(1):31,00,00,00
        "DefaultPassword"=hex(1):78,00,00,00
        [Microsoft\Windows\CurrentVersion\Uninstall\{B}]
        "DisplayName"=hex(1):56,00,4d,00,00,00
        "DisplayVersion"=hex(1):31,00,00,00
        [Microsoft\Windows\CurrentVersion\Setup\State]
        "ImageState"=hex(1):49,00,00,00
    "#;
    keep("hive", &hives::merge(&hives::empty(5), &hives::regedit(text)));
}

/// One archive with what is looked for, in each of the forms that the kernel unpacks, and two segments in one file.
fn initramfs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let modules = "usr/lib/modules/6.1.0-18-amd64/kernel/drivers";
    for (path, content) in [
        (format!("{modules}/block/virtio_blk.ko"), "module"),
        (format!("{modules}/net/virtio_net.ko.xz"), "module"),
        ("etc/udev/rules.d/70-persistent-net.rules".to_owned(), "SUBSYSTEM==\"net\"\n"),
        ("etc/fstab".to_owned(), "/dev/sda1 / ext4\n"),
        ("conf/conf.d/resume".to_owned(), "RESUME=/dev/sda3\n"),
        ("init".to_owned(), "#!/bin/sh\n"),
    ] {
        let path = root.join("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let plain = root.join("plain");
    let shown = (root.join("tree").display().to_string(), plain.display().to_string());
    let script = format!("cd '{}' && find . | sort | cpio -o -H newc --quiet > '{}'", shown.0, shown.1);
    tool("cpio", "sh", &["-c", &script], "");
    let archive = fs::read(&plain).unwrap();
    let mut all = vec![("cpio".to_owned(), archive.clone())];
    for (program, package, options) in [
        ("gzip", "gzip", &["-9"][..]),
        ("bzip2", "bzip2", &["-9"]),
        ("xz", "xz-utils", &["--check=crc32"]),
        ("lzma", "xz-utils", &["-9"]),
        ("zstd", "zstd", &["-q", "-19"]),
        ("lz4", "lz4", &["-q", "-l"]),
        ("lzop", "lzop", &["-9"]),
    ] {
        let copy = root.join("copy");
        let script = format!("{program} {} -c < '{}' > '{}'", options.join(" "), shown.1, copy.display());
        tool(package, "sh", &["-c", &script], "");
        all.push((program.to_owned(), fs::read(copy).unwrap()));
    }
    let two = [&archive[..archive.len().min(2048) / 4 * 4], &all[1].1].concat();
    all.push(("two".to_owned(), two));
    all.push(("two-whole".to_owned(), [archive, all[5].1.clone()].concat()));
    all.iter().for_each(|(name, bytes)| seed("guest_initramfs", name, bytes));
}

/// A header of rpm with a name and a version, and `rest` bytes of other data.
fn header(number: usize, rest: usize) -> Vec<u8> {
    let data = [format!("package-{number}\x001.{number}\x001.el9\0x86_64\0").as_bytes(), &vec![b'x'; rest]].concat();
    let starts: Vec<usize> =
        [0].into_iter().chain((0..data.len()).filter(|at| data[*at] == 0).map(|at| at + 1)).collect();
    let entries = [1000, 1001, 1002, 1022].into_iter().zip(&starts).flat_map(|(tag, at)| [tag, 6, *at as u32, 1]);
    let numbers = [4, data.len() as u32].into_iter().chain(entries);
    [numbers.flat_map(u32::to_be_bytes).collect(), data].concat()
}

fn rpm() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let headers: Vec<Vec<u8>> = [0, 600, 1500].into_iter().enumerate().map(|(at, rest)| header(at, rest)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("database");
    let path = file.to_str().unwrap();
    let rows: String =
        headers.iter().map(|header| format!("insert into Packages(blob) values(x'{}');", hex(header))).collect();
    let made = "create table 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL);";
    tool("sqlite3", "sqlite3", &[path], &format!("pragma page_size=512; begin; {made} {rows} commit;"));
    let sound = fs::read(path).unwrap();
    seed("guest_rpm", "sqlite", &[&[0], &*sound].concat());
    // The log has a header of 32 bytes, and of 24 bytes before each page, the last of which ends a transaction.
    let mut log = [0x377f_0682, 3_007_000, 512, 0, 1, 2, 0, 0].map(u32::to_be_bytes).concat();
    for (number, page) in (1..).zip(sound.chunks(512).take(4)) {
        let end = if number == 4 { sound.len() as u32 / 512 } else { 0 };
        log.extend([[number, end, 1, 2, 0, 0].map(u32::to_be_bytes).concat(), page.to_vec()].concat());
    }
    seed("guest_rpm", "sqlite-log", &[&[1], &sound[..sound.len().min(2048)], &log].concat());
    let slots = |length: u32| {
        let head = [b"RpmP", &[0; 4][..], &[7, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0], &[0; 12]].concat();
        [head, [&b"Slot"[..], &1_u32.to_le_bytes(), &256_u32.to_le_bytes(), &length.to_le_bytes()].concat()].concat()
    };
    let body = &headers[0];
    let mut blob =
        [b"BlbS", &1_u32.to_le_bytes()[..], &[7, 0, 0, 0], &(body.len() as u32).to_le_bytes(), body].concat();
    blob.resize((blob.len() + 12).next_multiple_of(16) - 12, 0);
    blob.extend([&[0; 4], &(body.len() as u32).to_le_bytes()[..], b"BlbE"].concat());
    let mut ndb = slots(blob.len() as u32 / 16);
    ndb.resize(4096, 0);
    seed("guest_rpm", "ndb", &[&[2], &*ndb, &blob].concat());
    for order in [1234, 4321] {
        let mut text =
            format!("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=512\ndb_lorder={order}\nHEADER=END\n");
        for (number, header) in (1_u32..).zip(&headers) {
            text.push_str(&format!(" {}\n {}\n", hex(&number.to_le_bytes()), hex(header)));
        }
        let _ = fs::remove_file(&file);
        tool("db5.3-util", "db5.3_load", &[path], &(text + "DATA=END\n"));
        seed("guest_rpm", &format!("bdb-{order}"), &[&[3], &*fs::read(&file).unwrap()].concat());
    }
}
