//! The kernel's command line, from the files of each loader.

use crate::disks::{Node, Nodes, debian, ext, put, report, table, text};

/// Returns the line and the file that has it.
fn line(nodes: &Nodes<'_>) -> (Option<String>, Option<String>) {
    let mut all = vec![("etc/os-release", text("ID=x\n"))];
    all.extend(nodes.iter().map(|(path, node)| match node {
        Node::File(content) => (*path, Node::File(content)),
        Node::Link(target) => (*path, Node::Link(target)),
        _ => panic!("{path} is neither file nor link"),
    }));
    let boot = report(ext(8, &["-t", "ext4"], &all)).boot;
    (boot.command_line, boot.command_line_from)
}

fn some(line: &str, path: &str) -> (Option<String>, Option<String>) {
    (Some(line.to_owned()), Some(path.to_owned()))
}

const BLSCFG: &str =
    "set default=\"${saved_entry}\"\nset default_kernelopts=\"root=/dev/sda9 ro \"\ninsmod blscfg\nblscfg\n";

#[test]
fn entries_of_their_own_are_taken_with_the_environment_of_grub() {
    let environment = format!(
        "{:#<1024}",
        "# GRUB Environment Block\nsaved_entry=0a-5.14.0-1.el9\nkernelopts=root=UUID=u ro\\ quiet\n"
    );
    let entries = [
        ("boot/grub2/grub.cfg", text(BLSCFG)),
        (
            "boot/loader/entries/0a-5.14.0-1.el9.conf",
            text("title a\noptions $kernelopts $tuned_params console=ttyS0\n"),
        ),
        ("boot/loader/entries/0a-5.14.0-10.el9.conf", text("title b\noptions root=/dev/mapper/r-r resume=/dev/sda2\n")),
        ("boot/loader/entries/0a-0-rescue.conf", text("title c\noptions single\n")),
        ("etc/kernel/cmdline", text("stale\n")),
    ];
    let newest = some("root=/dev/mapper/r-r resume=/dev/sda2", "/boot/loader/entries/0a-5.14.0-10.el9.conf");
    assert_eq!(line(&entries), newest);
    let mut saved: Vec<_> = entries.into();
    saved.push(("boot/efi/EFI/x/grubenv", text(&environment)));
    saved.push(("boot/grub2/grubenv", Node::Link("../efi/EFI/x/grubenv")));
    assert_eq!(line(&saved), some("root=UUID=u ro quiet console=ttyS0", "/boot/loader/entries/0a-5.14.0-1.el9.conf"));
    // Where the environment has no options, the script has them.
    let old = [
        ("boot/grub2/grub.cfg", text(BLSCFG)),
        ("boot/loader/entries/a-4.18.conf", text("options $kernelopts net.ifnames=0\n")),
    ];
    assert_eq!(line(&old), some("root=/dev/sda9 ro net.ifnames=0", "/boot/loader/entries/a-4.18.conf"));
}

#[test]
fn each_loader_has_its_file() {
    let systemd = [
        ("efi/loader/loader.conf", text("timeout 3\ndefault arch*\n")),
        ("efi/loader/entries/arch-1.conf", text("options root=PARTUUID=p rw\noptions quiet\n")),
        ("efi/loader/entries/zz-9.conf", text("options no\n")),
    ];
    assert_eq!(line(&systemd), some("root=PARTUUID=p rw quiet", "/efi/loader/entries/arch-1.conf"));
    let alpine = [("boot/extlinux.conf", text("DEFAULT lts\nLABEL lts\n  APPEND root=UUID=u modules=ext4\n"))];
    assert_eq!(line(&alpine), some("root=UUID=u modules=ext4", "/boot/extlinux.conf"));
    let old = [("boot/grub/menu.lst", text("default 0\ntitle x\nkernel /boot/vmlinuz ro root=/dev/hda1\n"))];
    assert_eq!(line(&old), some("ro root=/dev/hda1", "/boot/grub/menu.lst"));
    assert_eq!(
        line(&[("etc/kernel/cmdline", text("root=LABEL=r\n  rw\n"))]),
        some("root=LABEL=r rw", "/etc/kernel/cmdline")
    );
    assert_eq!(line(&[("etc/kernel/x", text("x"))]), (None, None));
}

#[test]
fn a_line_of_the_guest_is_cut_and_escaped_and_no_other_file() {
    let long = format!("menuentry x {{\nlinux /vmlinuz \x1b[2J {}\n}}\n", "a".repeat(10_000));
    let (found, _) = line(&[("boot/grub/grub.cfg", text(&long))]);
    let found = found.unwrap();
    assert!(found.starts_with("\\u{1b}[2J aaa") && found.ends_with("a..."), "{found}");
    assert!(found.len() < 2100, "{}", found.len());
    let secret = "root:$6$salt$hash:1:0:9:7:::\n";
    for path in ["etc/kernel/cmdline", "boot/grub/grub.cfg", "boot/extlinux.conf", "boot/loader/entries/a.conf"] {
        let found = line(&[("etc/shadow", text(secret)), (path, Node::Link("/etc/shadow"))]);
        assert!(found.0.is_none_or(|line| line.is_empty()), "{path}");
    }
}

/// `/boot` of its own has at its top what is elsewhere below `/boot`; the line switches cloud-init off.
#[test]
fn boot_of_its_own_is_followed_by_fstab_and_alone() {
    let config = "set default=0\nmenuentry x {\nlinux /vmlinuz-1 root=LABEL=root cloud-init=disabled\n}\n";
    let boot = ext(4, &["-t", "ext2", "-L", "boot"], &[("grub/grub.cfg", text(config))]);
    let mut disk = table(16, "label: dos\nstart=2048, size=8192, type=83\nstart=10240, size=20480, type=83\n");
    put(&mut disk, 1, &boot);
    let alone = report(disk.clone()).boot;
    assert_eq!(
        (alone.command_line, alone.command_line_from),
        some("root=LABEL=root cloud-init=disabled", "/grub/grub.cfg")
    );
    put(&mut disk, 5, &ext(10, &["-t", "ext4", "-L", "root"], &debian("LABEL=boot /boot ext2\n", b"")));
    let report = report(disk);
    assert_eq!(report.boot.command_line.as_deref(), Some("root=LABEL=root cloud-init=disabled"));
    assert_eq!(report.boot.command_line_from.as_deref(), Some("/boot/grub/grub.cfg"));
    assert!(report.os.unwrap().cloud_init.unwrap().disabled);
}
