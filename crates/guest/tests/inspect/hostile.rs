//! Guests that try to get out, to be read forever, or to write to the terminal of who looks at them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;
use guest::{Browser, Report, inspect};

use crate::disks::{Memory, Node, Nodes, assert_note, debian, ext, ext_edited, fat, report, text};

const SECRET: &str = "root:$6$saltsalt$secrethash:19000:0:99999:7:::\n";

fn hostile(nodes: &Nodes<'_>) -> Report {
    report(ext(8, &["-t", "ext4"], nodes))
}

/// Returns the report, made in a time that no sound disk of this size needs.
fn in_time(disk: Vec<u8>) -> Report {
    let start = Instant::now();
    let report = report(disk);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    report
}

#[test]
fn hostname_that_is_a_link_brings_nothing() {
    for target in ["shadow", "/etc/shadow", "../../../../../../etc/shadow", "/etc/token"] {
        let report = hostile(&[
            ("etc/os-release", text("ID=debian\n")),
            ("etc/shadow", text(SECRET)),
            ("etc/token", text("a-valid-looking-name\n")),
            ("etc/hostname", Node::Link(target)),
        ]);
        assert_eq!(report.os.as_ref().unwrap().hostname, None, "{target}");
        let told = format!("{report:?}");
        assert!(!told.contains("secrethash") && !told.contains("a-valid-looking-name"), "{told}");
    }
}

#[test]
fn hostname_that_is_no_name_brings_nothing() {
    for content in [SECRET, "a\x1b]0;owned\x07\n", "-rf\n", "a b\n", "\n\n", "a/../b\n"] {
        let report = hostile(&[("etc/os-release", text("ID=debian\n")), ("etc/hostname", text(content))]);
        assert_eq!(report.os.unwrap().hostname, None, "{content:?}");
    }
}

/// The host running the test has these files too: what is told must be the guest's.
#[test]
fn links_stay_inside_the_guest() {
    for target in ["/usr/lib/os-release", "../../../../../../../../usr/lib/os-release", "/../../usr/./lib//os-release"]
    {
        let report = hostile(&[
            ("usr/lib/os-release", text("ID=inside\nVERSION_ID=1\n")),
            ("etc/os-release", Node::Link(target)),
            ("bin", Node::Link("/../../usr/bin")),
        ]);
        assert_eq!(report.os.unwrap().distro.as_deref(), Some("inside"), "{target}");
    }
    // The host has an executable /bin/sh; this guest has not.
    let report = hostile(&[("etc/os-release", text("ID=x\n")), ("bin/sh", Node::Link("/usr/bin/dash"))]);
    assert_eq!(report.os.unwrap().arch, None);
}

#[test]
fn loops_of_links_end() {
    let long = "a/".repeat(120);
    let report = hostile(&[
        ("etc/fstab", text("")),
        ("usr/bin", Node::Folder),
        ("etc/os-release", Node::Link("os-release")),
        ("usr/lib/os-release", Node::Link("/etc/os-release")),
        ("etc/hostname", Node::Link("hostname")),
        ("lib", Node::Link("/lib64")),
        ("lib64", Node::Link("lib")),
        ("boot", Node::Link("/a")),
        ("a", Node::Link(&long)),
    ]);
    assert_note(&report, "leads over too many links");
    assert_eq!(report.os.unwrap().distro, None);
}

#[test]
fn special_and_huge_files_are_not_read() {
    let report = hostile(&[
        ("etc/os-release", Node::Fifo),
        ("etc/redhat-release", Node::Folder),
        ("etc/fstab", Node::Hole(1 << 40)),
        ("etc/hostname", Node::Hole(3 << 20)),
        ("bin/sh", Node::Fifo),
    ]);
    let os = report.os.as_ref().unwrap();
    assert_eq!((&os.distro, &os.hostname, &os.arch), (&None, &None, &None));
    assert_note(&report, "/etc/os-release is not a regular file");
    assert_note(&report, "/etc/fstab has 1099511627776 bytes, over the limit of 1048576");
    assert_note(&report, "/etc/hostname has 3145728 bytes");
}

#[test]
fn the_end_of_a_file_of_holes_is_told_to_be_too_far() {
    let disk = ext(8, &["-t", "ext4"], &[("etc/os-release", text("ID=debian\n")), ("etc/fstab", Node::Hole(1 << 40))]);
    let browser = Browser::open(Arc::new(Memory(disk))).unwrap();
    assert_eq!(browser.read("/etc/fstab", 1 << 33, 4).unwrap(), [0; 4]);
    let error = browser.read("/etc/fstab", (1 << 40) - 4, 4).unwrap_err().to_string();
    assert!(error.contains("/etc/fstab") && error.contains("too far"), "{error}");
}

#[test]
fn blocks_that_an_old_file_system_does_not_count_are_not_held() {
    let mut disk = ext(8, &["-t", "ext2"], &[("etc/os-release", text("ID=debian\n"))]);
    // The upper half of their number, which counts with 64 bits only.
    disk[1024 + 0x150..1024 + 0x152].copy_from_slice(&[0xff; 2]);
    let report = in_time(disk);
    assert_note(&report, "block groups");
    assert_eq!(report.os, None);
}

#[test]
fn escape_sequences_do_not_reach_the_terminal() {
    let report = report(ext(
        8,
        &["-t", "ext4", "-L", "\x1b[31mred"],
        &[
            (
                "etc/os-release",
                text("ID=\x1b[1m\nVERSION_ID='1\x07'\nPRETTY_NAME=\"Nice\x1b]52;c;eA==\x07\u{202e}\"\n"),
            ),
            ("lib/modules/6.1.0-\x1b[2J/x", text("")),
            ("boot/vmlinuz-6.1\n-x", text("")),
            ("usr/bin/cloud-init", text("")),
            ("etc/cloud/cloud.cfg", text("datasource_list: [ \"\x1b[2J\", Ec2 ]\n")),
            ("etc/fstab", text("/dev/sda /\x1b[2J ext4\n")),
        ],
    ));
    let os = report.os.as_ref().unwrap();
    assert_eq!((&os.distro, &os.version, os.kernels.len()), (&None, &None, 0));
    assert_eq!(os.name.as_deref(), Some("Nice\\u{1b}]52;c;eA==\\u{7}\\u{202e}"));
    assert_eq!(os.cloud_init.as_ref().unwrap().datasources, ["Ec2"]);
    assert_eq!(report.filesystems[0].label.as_deref(), Some("\\u{1b}[31mred"));
}

#[test]
fn many_names_and_lines_are_cut() {
    let modules: Vec<String> = (0..300).map(|at| format!("lib/modules/6.{at}.0/x")).collect();
    let fstab = "UUID=00000000-0000-0000-0000-000000000000 /x ext4\n".repeat(15_000);
    let long = format!("ID={}\nPRETTY_NAME={}\n", "i".repeat(500_000), "p".repeat(500_000));
    let mut nodes: Vec<(&str, Node<'_>)> = modules.iter().map(|path| (path.as_str(), text(""))).collect();
    nodes.extend([("etc/os-release", text(&long)), ("etc/fstab", text(&fstab))]);
    let os = hostile(&nodes).os.unwrap();
    assert_eq!((os.kernels.len(), os.kernels.last().map(String::as_str)), (64, Some("6.299.0")));
    assert_eq!((os.distro, os.name.unwrap().len()), (None, 128 + 3));
}

/// debugfs writes what no mkfs would; each of these made a naive reader allocate or loop.
#[test]
fn inodes_that_lie_about_their_length_are_refused() {
    let nodes = debian("", b"");
    for (commands, part) in [
        ("set_inode_field /etc/os-release size 0x7fffffffff\n", "a link of 549755813887 bytes is over the limit"),
        ("set_inode_field /etc size 0x7fffffff00\n", "The folder /etc is too large"),
        ("set_inode_field /var/lib/dpkg/status size 0x7fffffffff\n", "/var/lib/dpkg/status has 549755813887 bytes"),
    ] {
        let report = in_time(ext_edited(12, &["-t", "ext4"], &nodes, commands));
        assert_note(&report, part);
    }
}

/// A superblock without checksum that claims everything at once.
#[test]
fn superblocks_that_lie_are_refused() {
    let sound = ext(4, &["-t", "ext4", "-O", "^metadata_csum"], &debian("", b""));
    let (groups, block_size, first_inode_size) = (32, 24, 88);
    for (at, value) in [
        (groups, 1_u32),
        (groups, 0),
        (block_size, 21),
        (block_size, 6),
        (block_size, u32::MAX),
        (4, u32::MAX),
        (0x150, u32::MAX),
        (40, 1),
        (first_inode_size, 0),
        (first_inode_size, 0xffff),
        (0xfe, 0),
        (0xfe, 0xffff),
        (96, u32::MAX),
        (0xe0, u32::MAX),
    ] {
        let mut disk = sound.clone();
        disk[1024 + at..1024 + at + 4].copy_from_slice(&value.to_le_bytes());
        let report = in_time(disk);
        assert!(report.filesystems.len() <= 1, "{report:?}");
    }
}

/// Index nodes that all lead to the same node: without a limit, 84^4 visits of blocks that stay in memory.
#[test]
fn tree_of_extents_that_fans_out_is_refused() {
    const BLOCK: usize = 1024;
    let options = ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^dir_index", "-I", "256"];
    let mut disk = ext(8, &options, &debian("", b""));
    // The last blocks of the file system are free.
    let first = disk.len() / BLOCK - 16;
    let node = |depth: u16, entries: u16, child: usize| {
        let mut node = [
            &0xf30a_u16.to_le_bytes()[..],
            &entries.to_le_bytes(),
            &84_u16.to_le_bytes(),
            &depth.to_le_bytes(),
            &[0; 4],
        ]
        .concat();
        for at in 0..entries {
            node.extend(u32::from(at).to_le_bytes());
            node.extend(u32::try_from(child).unwrap().to_le_bytes());
            node.extend([0; 4]);
        }
        node
    };
    for depth in 0..5_u16 {
        let at = first + 4 - usize::from(depth);
        let bytes = node(depth, if depth == 0 { 0 } else { 84 }, at + 1);
        disk[at * BLOCK..at * BLOCK + bytes.len()].copy_from_slice(&bytes);
    }
    // The inode of /etc is the one whose only extent leads to the block that names `os-release`.
    let block = disk
        .chunks(BLOCK)
        .position(|block| block.windows(10).any(|part| part == b"os-release") && block[4] == 12)
        .unwrap();
    let extent =
        [&[0x0a, 0xf3, 1, 0, 4, 0, 0, 0][..], &[0; 8], &[1, 0, 0, 0], &u32::try_from(block).unwrap().to_le_bytes()]
            .concat();
    let inode = disk.windows(extent.len()).position(|part| part == extent).unwrap();
    let root = node(5, 4, first);
    disk[inode..inode + root.len()].copy_from_slice(&root);
    let start = Instant::now();
    let report = report(disk);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_note(&report, "/etc");
}

/// A folder of deleted names whose cluster is followed by itself: only the limit of reads ends it.
#[test]
fn folder_of_fat_that_runs_in_a_circle_ends() {
    let mut disk = fat(9, &["-F", "16", "-s", "1"], &[("EFI/BOOT/BOOTX64.EFI", "x")]);
    let reserved = usize::from(u16::from_le_bytes([disk[14], disk[15]])) * 512;
    let fat_length = usize::from(u16::from_le_bytes([disk[22], disk[23]])) * 512;
    let root = reserved + 2 * fat_length;
    let data = root + usize::from(u16::from_le_bytes([disk[17], disk[18]])) * 32;
    let efi = disk[root..data].chunks(32).find(|entry| entry.starts_with(b"EFI ")).unwrap();
    let cluster = u16::from_le_bytes([efi[26], efi[27]]);
    let link = reserved + usize::from(cluster) * 2;
    disk[link..link + 2].copy_from_slice(&cluster.to_le_bytes());
    let folder = data + (usize::from(cluster) - 2) * 512;
    disk[folder..folder + 512].chunks_mut(32).for_each(|entry| entry[0] = 0xe5);
    let report = in_time(disk);
    assert_note(&report, "reached its limit of reads, bytes or time");
    assert!(!report.boot.uefi);
}

#[test]
fn disks_that_are_cut_off_are_described_as_far_as_they_go() {
    let whole = crate::disks::table(10, "label: gpt\nstart=2048, size=16384, type=L\n");
    let mut disk = whole;
    crate::disks::put(&mut disk, 1, &ext(8, &["-t", "ext4"], &debian("", b"")));
    for length in [512, 600, 1024, 1536, 17_408, 1 << 20, (1 << 20) + 1024, (1 << 20) + 2048, 3 << 20, 9 << 20] {
        let report = report(disk[..length].to_vec());
        assert!(report.os.is_none() || length >= 9 << 20, "{length}");
    }
}

/// A disk whose bytes cannot be had must not be told to be empty.
#[test]
fn failure_to_read_is_an_error_and_damage_is_not() {
    struct Failing(Memory, ErrorKind);
    impl Source for Failing {
        fn len(&self) -> u64 {
            self.0.len()
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            if offset + buf.len() as u64 > 1 << 20 {
                return Err(Error::new(self.1, "injected"));
            }
            self.0.read_at(buf, offset)
        }
    }
    let disk = ext(8, &["-t", "ext4"], &debian("", b""));
    let failed = inspect(Arc::new(Failing(Memory(disk.clone()), ErrorKind::Io))).unwrap_err();
    assert_eq!((failed.kind(), failed.to_string().as_str()), (ErrorKind::Io, "injected"));
    let damaged = inspect(Arc::new(Failing(Memory(disk), ErrorKind::Corrupt))).unwrap();
    assert!(!damaged.notes.is_empty(), "{damaged:?}");
}
