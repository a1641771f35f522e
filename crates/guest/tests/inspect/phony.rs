//! Phony guests: small disks with the files by which each family of systems is known, and with its usual faults.
//!
//! All are made without the kernel's help: file systems by mke2fs, mkfs.xfs and mkfs.vfat, volumes of LVM by hand.

use guest::{InitramfsEntry, initramfs_segment};

use crate::disks::{MIB, Node, ext, ext_edited, fat, put, table, text, tool, xfs};
use crate::lvm::{HEAD, IDS, group, physical_volume, segment, volume};

/// What a kernel of a guest knows of modules: the drivers of virtio are there, and nothing of theirs is built in.
const DEPENDS: &str = "kernel/virtio.ko:\nkernel/virtio_pci.ko: kernel/virtio.ko\nkernel/virtio_blk.ko: kernel/virtio.ko\n\
                       kernel/virtio_scsi.ko: kernel/virtio.ko\nkernel/virtio_net.ko: kernel/virtio.ko\n";
const MODULES: [&str; 5] = ["virtio", "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net"];

/// The first bytes of a 64-bit program for x86.
fn program() -> Vec<u8> {
    crate::disks::elf(62)
}

/// Files of a guest while they are listed: text, links (`-> x`), folders (a path that ends with `/`), and bytes.
#[derive(Default)]
pub(crate) struct Listed {
    text: Vec<(String, String)>,
    bytes: Vec<(String, Vec<u8>)>,
}

impl Listed {
    /// A system with `files`, whose shell is a program for x86.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let mut listed = Self::default();
        listed.bytes.push(("bin/sh".to_owned(), program()));
        listed.add(files)
    }

    pub(crate) fn add(mut self, files: &[(&str, &str)]) -> Self {
        self.text.extend(files.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())));
        self
    }

    /// Adds the modules of a kernel, below `usr/lib` where `lib` is a link there.
    pub(crate) fn modules(mut self, lib: &str, version: &str) -> Self {
        let base = format!("{lib}/modules/{version}");
        self.text.push((format!("{base}/modules.dep"), DEPENDS.to_owned()));
        self.text.push((format!("{base}/modules.builtin"), "kernel/ext4.ko\n".to_owned()));
        self.text.extend(MODULES.iter().map(|name| (format!("{base}/kernel/{name}.ko"), format!("module {name}"))));
        self
    }

    /// Adds an initramfs with `modules` of the kernel and `other` files.
    pub(crate) fn initramfs(mut self, path: &str, lib: &str, version: &str, modules: &[&str], other: &[&str]) -> Self {
        let paths: Vec<String> =
            modules.iter().map(|name| format!("{lib}/modules/{version}/kernel/{name}.ko")).collect();
        let all = paths.iter().map(String::as_str).chain(other.iter().copied());
        let entries: Vec<_> = all.map(|path| InitramfsEntry { path, mode: 0o644, bytes: b"x" }).collect();
        self.bytes.push((path.to_owned(), initramfs_segment(0, &entries, 0).unwrap()));
        self
    }

    pub(crate) fn nodes(&self) -> Vec<(&str, Node<'_>)> {
        let texts =
            self.text.iter().map(|(path, content)| match (content.strip_prefix("-> "), path.strip_suffix('/')) {
                (Some(target), _) => (path.as_str(), Node::Link(target)),
                (None, Some(folder)) => (folder, Node::Folder),
                (None, None) => (path.as_str(), text(content)),
            });
        texts.chain(self.bytes.iter().map(|(path, bytes)| (path.as_str(), Node::File(bytes)))).collect()
    }
}

/// Ubuntu 22.04 as its server installer leaves it: GPT for both firmwares, netplan, and cloud-init told to find nothing.
pub(crate) fn ubuntu() -> Vec<u8> {
    const UUID: &str = "22222222-2222-4222-8222-222222222204";
    const VERSION: &str = "5.15.0-91-generic";
    let fstab = format!(
        "/dev/disk/by-uuid/{UUID} / ext4 defaults 0 1\n/dev/disk/by-uuid/AAAA-2204 /boot/efi vfat defaults 0 1\n/swap.img none swap sw 0 0\n"
    );
    let grub = format!(
        "menuentry 'Ubuntu' {{\n\tlinux\t/boot/vmlinuz-{VERSION} root=UUID={UUID} ro  net.ifnames=0\n\tinitrd\t/boot/initrd.img-{VERSION}\n}}\n"
    );
    let listed = Listed::new(&[
        ("etc/os-release", "NAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\nPRETTY_NAME=\"Ubuntu 22.04.3 LTS\"\n"),
        ("etc/hostname", "jammy\n"),
        ("etc/fstab", &fstab),
        ("usr/bin/apt-get", ""),
        ("usr/bin/cloud-init", ""),
        ("var/lib/dpkg/status", "Package: cloud-init\nStatus: install ok installed\nVersion: 23.3.3-0ubuntu0~22.04.1\n"),
        ("boot/efi/", ""),
        ("boot/grub/grub.cfg", &grub),
        ("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"net.ifnames=0\"\n"),
        ("usr/sbin/netplan", ""),
        ("etc/netplan/00-installer-config.yaml", "# This is the network config written by 'subiquity'\nnetwork:\n  ethernets:\n    ens160:\n      addresses: [192.168.7.20/24]\n      nameservers: {addresses: [192.168.7.1]}\n      routes: [{to: default, via: 192.168.7.1}]\n  version: 2\n"),
        ("etc/cloud/cloud.cfg", "datasource_list: [ NoCloud, ConfigDrive, OpenStack, None ]\n"),
        ("etc/cloud/cloud.cfg.d/99-installer.cfg", "datasource:\n  None: {metadata: {instance-id: 1234}}\ndatasource_list: [None]\n"),
        ("etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg", "network: {config: disabled}\n"),
        ("etc/resolv.conf", "-> ../run/systemd/resolve/stub-resolv.conf"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_ed25519_key", "old"),
        ("etc/ssh/ssh_host_ed25519_key.pub", "old"),
        ("home/ana/notes", "stays\n"),
        (&format!("boot/vmlinuz-{VERSION}"), "kernel"),
    ])
    .modules("lib", VERSION)
    .initramfs(&format!("boot/initrd.img-{VERSION}"), "usr/lib", VERSION, &["vmw_pvscsi"], &["scripts/functions"]);
    let mut disk = table(
        16,
        "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\nstart=4096, size=8192, type=U\n\
         start=12288, size=18432, type=L\n",
    );
    disk[384..388].copy_from_slice(b"GRUB");
    let loaders = [("EFI/BOOT/BOOTX64.EFI", "x"), ("EFI/ubuntu/shimx64.efi", "x"), ("EFI/ubuntu/grubx64.efi", "x")];
    put(&mut disk, 2, &fat(4, &["-i", "AAAA2204"], &loaders));
    put(&mut disk, 6, &ext(9, &["-t", "ext4", "-U", UUID], &listed.nodes()));
    disk
}

/// CentOS 7 with `/boot` of its own: ifcfg files that name the adapter's address, dracut without virtio, VMware's tools.
pub(crate) fn centos7() -> Vec<u8> {
    const BOOT: &str = "77777777-2222-4222-8222-222222222207";
    const ROOT: &str = "77777777-3333-4333-8333-333333333307";
    const VERSION: &str = "3.10.0-1160.el7.x86_64";
    let fstab = format!(
        "/dev/sda2 / ext4 defaults 1 1\nUUID={BOOT} /boot ext4 defaults 1 2\n/dev/mapper/data-old /data xfs defaults 0 0\n"
    );
    let listed = Listed::new(&[
        ("etc/os-release", "NAME=\"CentOS Linux\"\nID=\"centos\"\nVERSION_ID=\"7\"\nPRETTY_NAME=\"CentOS Linux 7 (Core)\"\n"),
        ("etc/centos-release", "CentOS Linux release 7.9.2009 (Core)\n"),
        ("etc/redhat-release", "-> centos-release"),
        ("etc/hostname", "c7.example.org\n"),
        ("etc/fstab", &fstab),
        ("usr/bin/yum", ""),
        ("var/lib/rpm/Packages", ""),
        ("usr/bin/cloud-init", ""),
        ("usr/lib/systemd/system/vmtoolsd.service", "[Service]\nExecStart=/usr/bin/vmtoolsd\n"),
        ("etc/systemd/system/multi-user.target.wants/vmtoolsd.service", "-> /usr/lib/systemd/system/vmtoolsd.service"),
        ("etc/cloud/cloud.cfg", "users:\n - default\n"),
        ("etc/sysconfig/network", "GATEWAY=10.7.0.1\n"),
        ("etc/sysconfig/network-scripts/ifcfg-ens192", "TYPE=Ethernet\nBOOTPROTO=none\nNAME=ens192\nDEVICE=ens192\nONBOOT=yes\nHWADDR=00:50:56:00:00:07\nIPADDR=10.7.0.9\nPREFIX=24\nDNS1=10.7.0.1\n"),
        ("etc/sysconfig/network-scripts/ifcfg-lo", "DEVICE=lo\nIPADDR=127.0.0.1\nNETMASK=255.0.0.0\nONBOOT=yes\n"),
        ("etc/default/grub", "GRUB_CMDLINE_LINUX=\"rhgb quiet\"\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("boot/", ""),
        ("srv/data", "stays\n"),
    ])
    .modules("lib", VERSION);
    let grub = format!(
        "menuentry 'CentOS Linux' {{\n\tlinux16 /vmlinuz-{VERSION} root=/dev/sda2 ro rhgb quiet\n\tinitrd16 /initramfs-{VERSION}.img\n}}\n"
    );
    let boot = Listed::default()
        .add(&[
            ("grub2/grub.cfg", &grub),
            (&format!("vmlinuz-{VERSION}"), "kernel"),
            ("grub2/device.map", "(hd0) /dev/sda\n"),
        ])
        .initramfs(&format!("initramfs-{VERSION}.img"), "usr/lib", VERSION, &["mptspi"], &["usr/lib/dracut/x"]);
    let mut disk = table(
        14,
        "label: dos\nlabel-id: 0x77777777\nstart=2048, size=8192, type=83, bootable\nstart=10240, size=16384, type=83\n",
    );
    disk[384..388].copy_from_slice(b"GRUB");
    put(&mut disk, 1, &ext(4, &["-t", "ext4", "-U", BOOT], &boot.nodes()));
    put(&mut disk, 5, &ext(8, &["-t", "ext4", "-U", ROOT], &listed.nodes()));
    disk
}

/// CentOS 6: GRUB 1, upstart, no os-release and no machine-id, udev's rules for adapters, an ext4 as its time made them.
pub(crate) fn centos6() -> Vec<u8> {
    const ROOT: &str = "66666666-3333-4333-8333-333333333306";
    const VERSION: &str = "2.6.32-754.el6.x86_64";
    let menu = format!(
        "default=0\ntimeout=5\nsplashimage=(hd0,0)/boot/grub/splash.xpm.gz\ntitle CentOS 6\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-{VERSION} ro root=/dev/sda1 rhgb quiet\n\tinitrd /boot/initramfs-{VERSION}.img\n"
    );
    let listed = Listed::new(&[
        ("etc/redhat-release", "CentOS release 6.10 (Final)\n"),
        ("etc/centos-release", "-> redhat-release"),
        ("etc/fstab", "/dev/sda1 / ext4 defaults 1 1\ntmpfs /dev/shm tmpfs defaults 0 0\n/dev/sda2 swap swap defaults 0 0\n"),
        ("etc/inittab", "id:3:initdefault:\n"),
        ("usr/bin/yum", ""),
        ("var/lib/rpm/Packages", ""),
        ("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=c6\nGATEWAY=10.6.0.1\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nBOOTPROTO=static\nHWADDR=00:50:56:00:00:06\nIPADDR=10.6.0.9\nNETMASK=255.255.255.0\nONBOOT=yes\n"),
        ("etc/udev/rules.d/70-persistent-net.rules", "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"00:50:56:00:00:06\", NAME=\"eth0\"\n"),
        ("etc/resolv.conf", "nameserver 10.6.0.1\n"),
        ("boot/grub/menu.lst", "-> ./grub.conf"),
        ("boot/grub/grub.conf", &menu),
        ("boot/grub/device.map", "(hd0) /dev/sda\n"),
        (&format!("boot/vmlinuz-{VERSION}"), "kernel"),
        ("etc/ssh/ssh_host_rsa_key", "old"),
        ("etc/ssh/ssh_host_rsa_key.pub", "old"),
        ("etc/rc.d/init.d/sshd", "do_rsa_keygen() {\n\tssh-keygen\n}\n"),
    ])
    .modules("lib", VERSION)
    .initramfs(&format!("boot/initramfs-{VERSION}.img"), "lib", VERSION, &["mptspi", "virtio_pci", "virtio_blk", "virtio"], &["dracut-004-411.el6"]);
    let mut disk = table(
        10,
        "label: dos\nlabel-id: 0x66666666\nstart=2048, size=14336, type=83, bootable\nstart=16384, size=2048, type=82\n",
    );
    disk[0x3e..0x40].copy_from_slice(&[3, 2]);
    disk[0x180..0x184].copy_from_slice(b"GRUB");
    let old = ["-t", "ext4", "-I", "256", "-O", "^metadata_csum,^64bit,uninit_bg", "-U", ROOT];
    put(&mut disk, 1, &ext(7, &old, &listed.nodes()));
    // What mkswap would write: a page with the size, the signature and an UUID.
    disk[8 * MIB + 4086..8 * MIB + 4096].copy_from_slice(b"SWAPSPACE2");
    disk[8 * MIB + 1024] = 1;
    disk[8 * MIB + 1036..8 * MIB + 1052].fill(0x66);
    disk
}

/// Alpine as `setup-disk -m sys` leaves it with a BIOS: extlinux, OpenRC, ifupdown with a fixed address.
pub(crate) fn alpine() -> Vec<u8> {
    const ROOT: &str = "a1a1a1a1-3333-4333-8333-333333333319";
    const VERSION: &str = "6.6.14-0-lts";
    let listed = Listed::new(&[
        ("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME=\"Alpine Linux v3.19\"\n"),
        ("etc/alpine-release", "3.19.1\n"),
        ("etc/hostname", "alp\n"),
        ("etc/fstab", "/dev/sda1 / ext4 rw,relatime 0 1\n/dev/cdrom /media/cdrom iso9660 noauto,ro 0 0\n"),
        ("lib/apk/db/installed", "P:musl\nV:1.2\n\n"),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n\taddress 10.3.0.9\n\tnetmask 255.255.255.0\n\tgateway 10.3.0.1\n"),
        ("boot/extlinux.conf", "DEFAULT lts\nLABEL lts\n  LINUX vmlinuz-lts\n  INITRD initramfs-lts\n  APPEND root=/dev/sda1 modules=sd-mod,usb-storage,ext4 quiet rootfstype=ext4\n"),
        ("etc/update-extlinux.conf", "default_kernel_opts=\"quiet rootfstype=ext4\"\nroot=/dev/sda1\nmodules=sd-mod,usb-storage,ext4\n"),
        ("boot/vmlinuz-lts", "kernel"),
        ("etc/ssh/ssh_host_rsa_key", "old"),
    ])
    .modules("lib", VERSION)
    .initramfs("boot/initramfs-lts", "lib", VERSION, &["mptspi"], &["sbin/nlplug-findfs"]);
    let mut disk = table(10, "label: dos\nlabel-id: 0xa1a1a1a1\nstart=2048, size=14336, type=83, bootable\n");
    put(&mut disk, 1, &ext(7, &["-t", "ext4", "-U", ROOT], &listed.nodes()));
    disk
}

/// Fedora with everything but `/boot` on LVM and XFS, as its server edition is installed.
pub(crate) fn fedora() -> Vec<u8> {
    const BOOT: &str = "fedfedfe-2222-4222-8222-222222222239";
    const VERSION: &str = "6.5.6-300.fc39.x86_64";
    let fstab = format!(
        "/dev/mapper/fedora-root / xfs defaults 0 0\nUUID={BOOT} /boot ext4 defaults 1 2\nUUID=FEDA-0039 /boot/efi vfat umask=0077 0 2\n"
    );
    let listed = Listed::new(&[
        ("etc/os-release", "-> ../usr/lib/os-release"),
        ("usr/lib/os-release", "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=39\nPRETTY_NAME=\"Fedora Linux 39 (Server Edition)\"\n"),
        ("etc/hostname", "fed39\n"),
        ("etc/fstab", &fstab),
        ("usr/bin/dnf", ""),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", ""),
        ("usr/bin/cloud-init", ""),
        ("etc/cloud/cloud.cfg", "users:\n - default\n"),
        ("etc/NetworkManager/system-connections/ens192.nmconnection", "[connection]\nid=ens192\ntype=ethernet\ninterface-name=ens192\n\n[ipv4]\naddress1=10.39.0.9/24,10.39.0.1\nmethod=manual\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/lvm/devices/system.devices", "IDTYPE=sys_wwid IDNAME=naa.6000c29 DEVNAME=/dev/sda3\n"),
        ("boot/efi/", ""),
    ])
    .modules("lib", VERSION);
    let entry = format!(
        "title Fedora Linux\nlinux /vmlinuz-{VERSION}\ninitrd /initramfs-{VERSION}.img\noptions root=/dev/mapper/fedora-root ro rd.lvm.lv=fedora/root console=ttyS0\n"
    );
    let boot = Listed::default()
        .add(&[
            ("grub2/grub.cfg", "blscfg\n"),
            (&format!("loader/entries/0123-{VERSION}.conf"), &entry),
            (&format!("vmlinuz-{VERSION}"), "kernel"),
        ])
        .initramfs(&format!("initramfs-{VERSION}.img"), "usr/lib", VERSION, &["vmw_pvscsi"], &["usr/lib/dracut/x"]);
    let mut disk = table(
        40,
        "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=8192, type=L\nstart=18432, size=59392, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n",
    );
    put(
        &mut disk,
        1,
        &fat(
            4,
            &["-i", "FEDA0039"],
            &[("EFI/BOOT/BOOTX64.EFI", "x"), ("EFI/fedora/shimx64.efi", "x"), ("EFI/fedora/grub.cfg", "x")],
        ),
    );
    put(&mut disk, 5, &ext(4, &["-t", "ext4", "-U", BOOT], &boot.nodes()));
    let content = group("fedora", &[(IDS[0], 29)], &volume("root", &[segment(0, 24, &[("pv0", 2)])]));
    let mut physical = physical_volume(IDS[0], 29, &content, 512);
    let root = xfs(24, &[], &listed.nodes());
    physical[HEAD + 2 * MIB..HEAD + 2 * MIB + root.len()].copy_from_slice(&root);
    put(&mut disk, 9, &physical);
    disk
}

/// Arch with systemd-boot, whose entries and kernels lie on the FAT at `/boot`.
pub(crate) fn arch() -> Vec<u8> {
    let listed = Listed::new(&[
        ("etc/os-release", "NAME=\"Arch Linux\"\nID=arch\nPRETTY_NAME=\"Arch Linux\"\nBUILD_ID=rolling\n"),
        ("etc/hostname", "arch\n"),
        ("etc/fstab", "/dev/sda2 / ext4 rw 0 1\n/dev/sda1 /boot vfat rw 0 2\n"),
        ("usr/bin/pacman", ""),
        ("var/lib/pacman/local/", ""),
        (
            "etc/systemd/network/20-wired.network",
            "[Match]\nName=en*\n\n[Network]\nAddress=10.4.0.9/24\nGateway=10.4.0.1\n",
        ),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("boot/", ""),
    ])
    .modules("lib", "6.7.0-arch1-1");
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", "x"),
        ("EFI/systemd/systemd-bootx64.efi", "x"),
        ("loader/loader.conf", "default arch.conf\n"),
        (
            "loader/entries/arch.conf",
            "title Arch Linux\nlinux /vmlinuz-linux\ninitrd /initramfs-linux.img\noptions root=/dev/sda2 rw\n",
        ),
        ("vmlinuz-linux", "kernel"),
    ];
    let mut disk = table(14, "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=16384, type=L\n");
    put(&mut disk, 1, &fat(4, &["-i", "AAAA0A0A"], &files));
    put(&mut disk, 5, &ext(8, &["-t", "ext4"], &listed.nodes()));
    disk
}

/// Two systems on one disk, each with faults of its own; the first one is what is prepared.
pub(crate) fn two_systems() -> Vec<u8> {
    let system = |release: &str, fstab: &str| {
        Listed::new(&[
            ("etc/os-release", release),
            ("etc/fstab", fstab),
            ("usr/bin/cloud-init", ""),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/resolv.conf", "nameserver 10.0.0.1\n"),
        ])
    };
    let mut disk = table(12, "label: dos\nstart=2048, size=8192, type=83, bootable\nstart=10240, size=8192, type=83\n");
    let first =
        system("ID=debian\nVERSION_ID=12\n", "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 /mnt/old ext4 noauto 0 0\n");
    let second = system("ID=centos\nVERSION_ID=7\n", "/dev/sda2 / ext4 defaults 0 1\n");
    put(&mut disk, 1, &ext(4, &["-t", "ext4"], &first.nodes()));
    put(&mut disk, 5, &ext(4, &["-t", "ext4"], &second.nodes()));
    disk
}

/// A system whose root is encrypted: `/boot` can be read, and nothing else.
pub(crate) fn encrypted() -> Vec<u8> {
    let mut disk =
        table(24, "label: dos\nstart=2048, size=8192, type=83, bootable\nstart=10240, size=36864, type=83\n");
    disk[384..388].copy_from_slice(b"GRUB");
    let boot = Listed::default().add(&[("grub/grub.cfg", "menuentry x\n"), ("vmlinuz-6.1.0-18-amd64", "kernel")]);
    put(&mut disk, 1, &ext(4, &["-t", "ext4"], &boot.nodes()));
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::write(&image, vec![0; 18 * MIB]).unwrap();
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    tool(
        "cryptsetup-bin",
        "cryptsetup",
        &[&["luksFormat", "-q"], &cheap[..], &[image.to_str().unwrap(), "-"]].concat(),
        "secret",
    );
    put(&mut disk, 5, &std::fs::read(&image).unwrap());
    disk
}

/// A system that would harm who looks at it: links out of its tree and in circles, pipes and devices in place of files, a
/// table of a tebibyte, names that steer a terminal.
pub(crate) fn hostile() -> Vec<u8> {
    let nodes = [
        ("etc/os-release", text("ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Nice\u{1b}]0;owned\u{7}\"\n")),
        ("etc/hostname", text("\u{1b}[2Jevil\n")),
        ("etc/fstab", Node::Hole(1 << 40)),
        ("etc/machine-id", Node::Fifo),
        ("etc/resolv.conf", Node::Link("../../../../../../../../etc/shadow")),
        ("etc/shadow", text("root:$6$salt$secrethash:19000:0:99999:7:::\n")),
        ("etc/network/interfaces", Node::Link("/etc/network/interfaces")),
        ("etc/netplan/\u{1b}[31m.yaml", text("network:\n  ethernets:\n    e:\n      addresses: [10.0.0.2/24]\n")),
        ("etc/netplan/b.yaml", Node::Link("../../../../../../../../../../etc/passwd")),
        ("etc/cloud/cloud.cfg", Node::Fifo),
        ("etc/cloud/cloud.cfg.d", Node::Link("..")),
        ("etc/cloud/cloud-init.disabled", Node::Folder),
        ("etc/udev/rules.d/70-persistent-net.rules", Node::Fifo),
        ("etc/systemd/system", Node::Link("../../../../../../../../../../tmp")),
        ("etc/default", Node::Link(".")),
        ("etc/ssh/ssh_host_rsa_key", Node::Link("../shadow")),
        ("etc/ssh/ssh_host_dsa_key", Node::Fifo),
        ("usr/bin/cloud-init", text("")),
        ("usr/lib/systemd/system/cloud-init.service", text("[Install]\nWantedBy=../../../../evil cloud-init.target\n")),
        ("boot/grub/grub.cfg", Node::Link("/boot/grub/../grub/grub.cfg")),
        ("boot/grub/menu.lst", Node::Link("../../etc/fstab")),
        ("boot/vmlinuz-6.1.0-1-amd64", text("")),
        ("boot/initrd.img-6.1.0-1-amd64", Node::Hole(1 << 40)),
        ("var/lib/cloud/instance", Node::Link("/")),
        ("var/lib/cloud/instances", Node::Link("../../../home")),
        ("var/lib/dhcp", Node::Link("/home")),
        ("var/log", Node::Link("/home")),
        ("home/ana/notes", text("stays\n")),
        ("tmp", Node::Folder),
    ];
    // Only an administrator makes devices in a folder; debugfs makes them in a file system.
    let commands = "cd etc\nmknod crypttab c 1 5\ncd X11\n mknod xorg.conf b 8 0\n";
    let mut disk = table(8, "label: dos\nstart=2048, size=12288, type=83, bootable\n");
    let nodes: Vec<_> = nodes.into_iter().chain([("etc/X11", Node::Folder)]).collect();
    put(&mut disk, 1, &ext_edited(6, &["-t", "ext4"], &nodes, commands));
    disk
}
