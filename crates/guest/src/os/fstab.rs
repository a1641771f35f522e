//! fstab(5): what is mounted where.

use crate::filesystems::btrfs::Subvolume;
use crate::report::{Filesystem, Partition};
use crate::volumes::lvm2;

/// Most entries; a system has some ten.
const ENTRIES_MAX: usize = 256;
const PATH_MAX: usize = 1024;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What is mounted.
    pub(crate) spec: Spec,
    /// Where: an absolute path.
    pub(crate) path: String,
    /// How: options, parted by commas.
    pub(crate) options: String,
}

impl Entry {
    /// Returns the subvolume of btrfs that the options name.
    pub(crate) fn subvolume(&self) -> Subvolume {
        let value = |key: &str| self.options.split(',').rev().find_map(|option| option.trim().strip_prefix(key));
        let number = || value("subvolid=")?.parse().ok().map(Subvolume::Number);
        value("subvol=").map(|path| Subvolume::Path(path.to_owned())).or_else(number).unwrap_or_default()
    }
}

/// How a file system is named, without its quotes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// By UUID or serial of the file system.
    Uuid(String),
    /// By label of the file system.
    Label(String),
    /// By id of the partition.
    PartitionUuid(String),
    /// By name in a GPT.
    PartitionName(String),
    /// By device, as [`crate::report::Filesystem::device`] has it.
    Device(String),
}

/// Reads the entries that mount something of a disk on an absolute path.
pub(crate) fn parse(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let spec = Spec::parse(&decode(fields.next().filter(|field| !field.starts_with('#'))?))?;
        let path = decode(fields.next()?);
        let options = decode(fields.nth(1).unwrap_or_default());
        let is_plain = path.starts_with('/') && path.len() <= PATH_MAX && !path.split('/').any(|name| name == "..");
        is_plain.then_some(Entry { spec, path, options })
    };
    text.lines().filter_map(entry).take(ENTRIES_MAX).collect()
}

impl Spec {
    /// Reads what names a device: a tag, a link or a device name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let tagged = text.split_once('=').map(|(tag, value)| (tag.to_ascii_uppercase(), value.trim_matches('"')));
        let linked = text.strip_prefix("/dev/disk/by-").and_then(|rest| rest.split_once('/'));
        let linked = linked.map(|(kind, value)| (kind.replace("part", "PART").to_ascii_uppercase(), value));
        let Some((tag, value)) = linked.or(tagged) else {
            return device(text).map(Self::Device);
        };
        let value = value.to_owned();
        match tag.as_str() {
            "UUID" => Some(Self::Uuid(value)),
            "LABEL" => Some(Self::Label(value)),
            "PARTUUID" => Some(Self::PartitionUuid(value)),
            "PARTLABEL" => Some(Self::PartitionName(value)),
            "ID" => value.strip_prefix("dm-name-").map(|name| Self::Device(format!("/dev/mapper/{name}"))),
            _ => None,
        }
    }
}

impl Spec {
    /// Returns whether this names `filesystem`.
    pub(crate) fn means(&self, filesystem: &Filesystem, partitions: &[Partition]) -> bool {
        let is =
            |found: &Option<String>, text: &str| found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(text));
        let partition = partitions.iter().find(|partition| Some(partition.number) == filesystem.partition);
        match self {
            Self::Uuid(uuid) => is(&filesystem.uuid, uuid),
            Self::Label(label) => filesystem.label.as_ref() == Some(label),
            Self::PartitionUuid(uuid) => partition.is_some_and(|partition| is(&partition.uuid, uuid)),
            Self::PartitionName(name) => partition.is_some_and(|partition| partition.name.as_ref() == Some(name)),
            Self::Device(device) => filesystem.device == *device,
        }
    }
}

/// Returns the device that `text` means, where the disk is the first one: `/dev/nvme0n1p2` is `/dev/sda2`, and
/// `/dev/group/volume` is `/dev/mapper/group-volume`.
fn device(text: &str) -> Option<String> {
    let name = text.strip_prefix("/dev/")?;
    if let Some((group, volume)) = name.split_once('/') {
        return if group == "mapper" { Some(text.to_owned()) } else { Some(lvm2::device(group, volume)) };
    }
    let rest = ["sda", "vda", "xvda", "hda"].iter().find_map(|disk| name.strip_prefix(disk));
    let digits = match rest {
        Some(digits) => digits,
        None => {
            let rest = ["nvme0n1", "mmcblk0"].iter().find_map(|disk| name.strip_prefix(disk))?;
            if rest.is_empty() { rest } else { rest.strip_prefix('p')? }
        }
    };
    if digits.is_empty() {
        return Some("/dev/sda".to_owned());
    }
    digits.parse().ok().map(|number: u32| format!("/dev/sda{number}"))
}

/// Decodes `\040` and the like.
pub(crate) fn decode(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_each_kind_are_read() {
        let text = "# comment\n\nUUID=\"1234-ABCD\" /boot/efi vfat defaults 0 1\nLABEL=my\\040root / ext4\n\
                    /dev/sda1 /a ext4\n/dev/nvme0n1p3 /b xfs\n/dev/vda /c ext4\n/dev/sdb1 /data ext4\n\
                    PARTUUID=aa-01 /d ext4\n/dev/disk/by-partuuid/x /f ext4\n/dev/disk/by-uuid/u /e ext4\n\
                    /dev/mapper/my--vg-root /g xfs\n/dev/my-vg/root /h xfs\n/dev/disk/by-id/dm-name-vg-x /i xfs\n\
                    /dev/disk/by-id/ata-x-part1 /j xfs\nUUID=s none swap sw 0 0\nUUID=x /a/../b ext4\n";
        let device = |name: &str| Spec::Device(name.to_owned());
        let expected = [
            (Spec::Uuid("1234-ABCD".into()), "/boot/efi", "defaults"),
            (Spec::Label("my root".into()), "/", ""),
            (device("/dev/sda1"), "/a", ""),
            (device("/dev/sda3"), "/b", ""),
            (device("/dev/sda"), "/c", ""),
            (Spec::PartitionUuid("aa-01".into()), "/d", ""),
            (Spec::PartitionUuid("x".into()), "/f", ""),
            (Spec::Uuid("u".into()), "/e", ""),
            (device("/dev/mapper/my--vg-root"), "/g", ""),
            (device("/dev/mapper/my--vg-root"), "/h", ""),
            (device("/dev/mapper/vg-x"), "/i", ""),
        ];
        let expected =
            expected.map(|(spec, path, options)| Entry { spec, path: path.to_owned(), options: options.to_owned() });
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn options_name_a_subvolume() {
        for (options, expected) in [
            ("defaults", Subvolume::Default),
            ("subvol=root,compress=zstd:1", Subvolume::Path("root".into())),
            ("noatime,subvol=/@/var/my\\040log", Subvolume::Path("/@/var/my log".into())),
            ("subvolid=256", Subvolume::Number(256)),
            ("subvolid=256,subvol=@", Subvolume::Path("@".into())),
            ("subvol=a,subvol=b", Subvolume::Path("b".into())),
            ("subvolid=x", Subvolume::Default),
        ] {
            let entries = parse(&format!("UUID=x / btrfs {options} 0 0\n"));
            assert_eq!(entries[0].subvolume(), expected, "{options}");
        }
    }
}
