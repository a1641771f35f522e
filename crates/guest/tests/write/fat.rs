//! Changing files of FAT12, FAT16 and FAT32 that mkfs.vfat and mtools made, judged by fsck.fat and mtools.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::error::ErrorKind;
use disk::source::Source;
use guest::{FatWriter, Overlay};

use crate::images::{NOW, Random, noise};

/// Where the file system lies on its disk.
const OFFSET: u64 = 1 << 20;

/// Options of mkfs.vfat for each kind, its size in KiB, and the length of its clusters.
const KINDS: [(&[&str], usize, usize); 4] = [
    (&["-F", "12", "-s", "1"], 1024, 512),
    (&["-F", "16", "-s", "4", "-r", "112"], 20 << 10, 2048),
    (&["-F", "32", "-s", "1"], 40 << 10, 512),
    (&["-F", "32", "-s", "2", "-f", "1"], 70 << 10, 1024),
];

fn tool(package: &str, program: &str, arguments: &[&str]) -> (bool, Vec<u8>) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    let output =
        command.args(arguments).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output().unwrap_or_else(|error| {
            panic!("cannot run {program} ({error}): install the Debian package {package}, for example with apt-get");
        });
    (output.status.success(), [output.stdout, output.stderr].concat())
}

/// Makes a volume with `\EFI\debian\grubx64.efi` of 5000 bytes and `\startup.nsh`.
fn volume(options: &[&str], kib: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let image = file("image");
    assert!(tool("dosfstools", "mkfs.vfat", &[options, &["-C", &image, &kib.to_string()]].concat()).0);
    fs::write(file("grub"), noise(1, 5000)).unwrap();
    fs::write(file("text"), b"exit\n").unwrap();
    let at = |path: &str| format!("::{path}");
    for made in ["/EFI", "/EFI/debian"] {
        assert!(tool("mtools", "mmd", &["-i", &image, &at(made)]).0);
    }
    for (from, to) in [("grub", "/EFI/debian/grubx64.efi"), ("text", "/startup.nsh")] {
        assert!(tool("mtools", "mcopy", &["-i", &image, &file(from), &at(to)]).0);
    }
    fs::read(&image).unwrap()
}

fn disk(volume: &[u8]) -> Overlay {
    let mut bytes = vec![0x5a; OFFSET as usize];
    bytes.extend(volume);
    bytes.resize(bytes.len() + (1 << 20), 0x5a);
    Overlay::new(Arc::new(bytes))
}

fn open(disk: &mut Overlay) -> disk::error::Result<FatWriter<'_>> {
    let end = disk.len() - (1 << 20);
    FatWriter::open(disk, OFFSET..end, NOW)
}

fn bytes(disk: &Overlay) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Writes the volume to a file, and asserts that fsck.fat has nothing to say about it.
fn checked(disk: &Overlay, folder: &Path, what: &str) -> String {
    let bytes = bytes(disk);
    let end = bytes.len() - (1 << 20);
    assert!(bytes[..OFFSET as usize].iter().chain(&bytes[end..]).all(|byte| *byte == 0x5a), "{what}: written outside");
    let image = folder.join("checked").to_str().unwrap().to_owned();
    fs::write(&image, &bytes[OFFSET as usize..end]).unwrap();
    let (is_sound, told) = tool("dosfstools", "fsck.fat", &["-n", "-v", &image]);
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(is_sound, "{what}: {told}");
    image
}

/// Asserts that mtools reads `content` at `path`.
fn assert_read(image: &str, path: &str, content: &[u8]) {
    let (is_read, read) = tool("mtools", "mcopy", &["-n", "-i", image, &format!("::{path}"), "-"]);
    assert!(is_read && read == content, "{path}: {} bytes instead of {}", read.len(), content.len());
}

#[test]
fn every_operation_on_every_kind() {
    for (options, kib, cluster) in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = disk(&volume(options, kib));
        let mut writer = open(&mut disk).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert!(writer.exists(b"/efi/DEBIAN/GrubX64.efi").unwrap() && !writer.exists(b"/EFI/BOOT/x").unwrap());
        writer.make_folder(b"/EFI/BOOT").unwrap();
        writer.make_folder(b"/loader").unwrap();
        let large = noise(2, 100_001);
        writer.create(b"/EFI/BOOT/BOOTX64.EFI", &large).unwrap();
        writer.create(b"/EFI/BOOT/grubx64.efi", &noise(3, cluster * 3)).unwrap();
        writer.create(b"/EFI/BOOT/grub.cfg", b"").unwrap();
        writer.append(b"/EFI/BOOT/grub.cfg", b"configfile\n").unwrap();
        writer.append(b"/efi/boot/GRUBX64.EFI", &noise(4, 10)).unwrap();
        writer.append(b"/EFI/BOOT/grubx64.efi", &noise(5, cluster * 2)).unwrap();
        // More names than a cluster has room for, so that the folder grows; long ones with a short one of their own.
        for number in 0..40 {
            let name = format!("/loader/an entry of a kernel {number:02}.conf");
            writer.create(name.as_bytes(), name.as_bytes()).unwrap();
        }
        writer.replace(b"/startup.nsh", &noise(6, cluster + 1)).unwrap();
        writer.replace(b"/EFI/debian/grubx64.efi", b"short").unwrap();
        writer.create(b"/gone", &large).unwrap();
        writer.remove(b"/gone").unwrap();
        writer.make_folder(b"/loader/empty").unwrap();
        writer.remove_folder(b"/loader/empty").unwrap();
        writer.remove(b"/loader/an entry of a kernel 07.conf").unwrap();
        writer.create("/loader/größe".as_bytes(), b"in the place of another").unwrap();
        let error = writer.remove_folder(b"/loader").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");

        let image = checked(&disk, folder.path(), &format!("{options:?}"));
        let grub = [noise(3, cluster * 3), noise(4, 10), noise(5, cluster * 2)].concat();
        assert_read(&image, "/EFI/BOOT/BOOTX64.EFI", &large);
        assert_read(&image, "/EFI/BOOT/grubx64.efi", &grub);
        assert_read(&image, "/EFI/BOOT/grub.cfg", b"configfile\n");
        assert_read(&image, "/loader/an entry of a kernel 39.conf", b"/loader/an entry of a kernel 39.conf");
        assert_read(&image, "/startup.nsh", &noise(6, cluster + 1));
        assert_read(&image, "/EFI/debian/grubx64.efi", b"short");
        let listed = tool("mtools", "mdir", &["-b", "-i", &image, "::/loader"]).1;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        assert_eq!(listed.lines().count(), 40, "{listed}");
        let listed = String::from_utf8_lossy(&tool("mtools", "mdir", &["-i", &image, "::/EFI/BOOT"]).1).into_owned();
        assert!(listed.contains("2023-11-14"), "{listed}");
        // Both copies of the table are the same, which fsck.fat does not always look at.
        open(&mut disk).unwrap();
    }
}

/// A store that has the original has most chunks of the copy.
#[test]
fn a_copy_lies_within_chunks_as_its_original_does() {
    let folder = tempfile::tempdir().unwrap();
    // In the last one there is no such place.
    for (options, kib, length, is_alike) in [
        (&["-F", "32", "-s", "1"][..], 40 << 10, 712_704, true),
        (&["-F", "16", "-s", "4"], 20 << 10, 3_000_001, true),
        (&["-F", "12", "-s", "4"], 1536, 600_000, false),
    ] {
        let mut disk = disk(&volume(options, kib));
        let content = noise(4, length);
        let mut writer = open(&mut disk).unwrap();
        writer.create(b"/EFI/debian/shimx64.efi", &content).unwrap();
        // One that only begins like it.
        writer.create(b"/EFI/debian/other", &content[..20_000]).unwrap();
        writer.make_folder(b"/EFI/BOOT").unwrap();
        writer.create(b"/EFI/BOOT/BOOTX64.EFI", &content).unwrap();
        let image = checked(&disk, folder.path(), "a copy");
        for path in ["/EFI/debian/shimx64.efi", "/EFI/BOOT/BOOTX64.EFI"] {
            assert_read(&image, path, &content);
        }
        let bytes = bytes(&disk);
        let places: Vec<usize> = (0..bytes.len() - 512)
            .step_by(512)
            .filter(|at| {
                bytes[*at..][..512] == content[..512] && bytes[at + 20_000..][..480] == content[20_000..20_480]
            })
            .collect();
        assert_eq!(places.len(), 2, "{options:?}");
        assert_eq!((places[1] - places[0]).is_multiple_of(512 << 10), is_alike, "{options:?}: {places:?}");
    }
}

/// A disk that counts what is read of it.
struct Counted {
    bytes: Vec<u8>,
    read: AtomicU64,
}

impl Source for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::error::Result<()> {
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(buf, offset)
    }
}

/// A volume may be made for it: each of its files is as long, and differs in the last byte.
#[test]
fn a_new_file_is_compared_with_few_others() {
    const FILES: u64 = 40;
    const LENGTH: u64 = 512 << 10;
    let folder = tempfile::tempdir().unwrap();
    let mut disk = disk(&volume(&["-F", "16", "-s", "16"], 60 << 10));
    let mut content = noise(8, LENGTH as usize);
    let last = content.len() - 1;
    for number in 0..FILES {
        content[last] = number as u8;
        open(&mut disk).unwrap().create(format!("/EFI/debian/{number}.efi").as_bytes(), &content).unwrap();
    }
    content[last] = 0xff;
    let counted = Arc::new(Counted { bytes: bytes(&disk), read: AtomicU64::new(0) });
    let mut disk = Overlay::new(Arc::<Counted>::clone(&counted));
    open(&mut disk).unwrap().create(b"/EFI/new.efi", &content).unwrap();
    let read = counted.read.load(Ordering::Relaxed);
    assert!((LENGTH..FILES / 4 * LENGTH).contains(&read), "{read} bytes were read");
    assert_read(&checked(&disk, folder.path(), "one among many"), "/EFI/new.efi", &content);
}

#[test]
fn a_full_volume_is_refused_and_stays_as_it_was() {
    for (options, kib, cluster) in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = disk(&volume(options, kib));
        let mut low = 0;
        let mut high = kib * 1024 / cluster;
        // The most clusters that fit are found by trying; what does not fit changes nothing.
        while low + 1 < high {
            let middle = low.midpoint(high);
            let before = disk.changes();
            let tried = open(&mut disk).unwrap().create(b"/all", &vec![7; middle * cluster]);
            match tried {
                Ok(()) => {
                    low = middle;
                    open(&mut disk).unwrap().remove(b"/all").unwrap();
                }
                Err(error) => {
                    assert!(error.to_string().contains("full") && error.hint().is_some(), "{error}");
                    assert_eq!(disk.changes(), before);
                    high = middle;
                }
            }
        }
        open(&mut disk).unwrap().create(b"/all", &vec![7; low * cluster]).unwrap();
        let before = bytes(&disk);
        let mut writer = open(&mut disk).unwrap();
        assert!(writer.create(b"/EFI/more", b"x").is_err() && writer.make_folder(b"/EFI/BOOT").is_err());
        // What is there can be written over with as much.
        writer.replace(b"/startup.nsh", b"other").unwrap();
        writer.replace(b"/startup.nsh", b"exit\n").unwrap();
        checked(&disk, folder.path(), &format!("{options:?}"));
        let after = bytes(&disk);
        let differ = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert!(differ < 64, "{differ} bytes differ");
    }
}

#[test]
fn a_top_folder_of_fixed_length_can_be_full() {
    let folder = tempfile::tempdir().unwrap();
    let volume = volume(KINDS[1].0, KINDS[1].1);
    let entries = usize::from(u16::from_le_bytes([volume[17], volume[18]]));
    let mut disk = disk(&volume);
    let mut writer = open(&mut disk).unwrap();
    let made = (0..200).take_while(|number| writer.create(format!("/F{number}").as_bytes(), b"x").is_ok()).count();
    // Two are taken by what was there before.
    assert_eq!(made, entries - 2);
    let error = writer.create(b"/EFI/debian/other", b"x").and_then(|()| writer.create(b"/MORE", b"x")).unwrap_err();
    assert!(error.to_string().contains("folder is full"), "{error}");
    checked(&disk, folder.path(), "full top");
}

#[test]
fn what_is_not_written() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = volume(KINDS[2].0, KINDS[2].1);
        change(&mut bytes);
        open(&mut disk(&bytes)).err().map(|error| (error.kind(), error.to_string()))
    };
    assert_eq!(refused(&|_| {}), None);
    // 32 reserved sectors come before the first table.
    let table = 32 * 512;
    for (what, change) in [
        ("not unmounted", &(|bytes: &mut Vec<u8>| bytes[65] |= 1) as &dyn Fn(&mut Vec<u8>)),
        ("not unmounted", &|bytes| {
            let size = u32::from_le_bytes(bytes[36..40].try_into().unwrap()) as usize * 512;
            [table, table + size].iter().for_each(|at| bytes[at + 7] &= !8);
        }),
        ("tables of the FAT differ", &|bytes| bytes[table + 400] ^= 1),
        ("one table in use", &|bytes| bytes[40] |= 0x80),
        ("parameter block", &|bytes| bytes[13] = 3),
        ("parameter block", &|bytes| bytes[34] = 0xff),
    ] {
        let (_, told) = refused(change).unwrap_or_else(|| panic!("{what} is not refused"));
        assert!(told.contains(what), "`{told}` does not say `{what}`");
    }
    let mut disk = disk(&volume(KINDS[0].0, KINDS[0].1));
    let mut writer = open(&mut disk).unwrap();
    for path in ["/EFI", "/startup.nsh", "/efi/Debian", "/none/file", "/startup.nsh/x", "/a:b", "/..", "/EFI/.", "/"] {
        assert_eq!(writer.create(path.as_bytes(), b"x").unwrap_err().kind(), ErrorKind::Refused, "{path}");
    }
    assert!(writer.remove(b"/EFI").is_err() && writer.remove_folder(b"/startup.nsh").is_err());
    assert!(writer.replace(b"/none", b"x").is_err() && writer.append(b"/EFI", b"x").is_err());
    assert!(disk.changes().is_empty());
}

/// Thousands of damaged copies: never a panic, all or nothing, and what could be written is still sound for this writer.
#[test]
fn damaged_volumes() {
    type Operation = fn(&mut FatWriter<'_>) -> disk::error::Result<()>;
    let operations: [Operation; 6] = [
        |writer| writer.make_folder(b"/EFI/BOOT"),
        |writer| writer.create(b"/EFI/debian/a long name.efi", &[1; 3000]),
        |writer| writer.replace(b"/startup.nsh", &[2; 700]),
        |writer| writer.append(b"/EFI/debian/grubx64.efi", &[3; 3000]),
        |writer| writer.remove(b"/startup.nsh"),
        |writer| writer.remove_folder(b"/EFI/debian"),
    ];
    let mut random = Random(0x6d6f_6c64_6500_0007);
    for (options, kib, rounds) in
        [(KINDS[0].0, 1024, 500), (&["-F", "16", "-s", "1"], 3 << 10, 400), (KINDS[2].0, 40 << 10, 50)]
    {
        let sound = volume(options, kib);
        let sectors: Vec<usize> = sound
            .chunks(512)
            .enumerate()
            .filter(|(_, part)| part.iter().any(|byte| *byte != 0))
            .map(|(at, _)| at)
            .collect();
        let (mut done, mut refused) = (0, 0);
        for round in 0..rounds {
            let mut damaged = sound.clone();
            for _ in 0..=random.next(4) {
                let sector = sectors[random.next(sectors.len().min(60))];
                let within = if random.next(2) == 0 { random.next(64) } else { random.next(512) };
                damaged[sector * 512 + within] = [0, 0xff, random.next(256) as u8][random.next(3)];
            }
            let mut disk = Overlay::new(Arc::new(damaged));
            let length = disk.len();
            for operation in operations {
                let before = (round % 16 == 0).then(|| bytes(&disk));
                match FatWriter::open(&mut disk, 0..length, NOW).and_then(|mut writer| operation(&mut writer)) {
                    Ok(()) => {
                        done += 1;
                        FatWriter::open(&mut disk, 0..length, NOW).unwrap();
                    }
                    Err(_) => {
                        refused += 1;
                        assert!(before.is_none_or(|before| before == bytes(&disk)), "round {round}");
                    }
                }
            }
        }
        assert!(done > rounds && refused > rounds / 2, "{options:?}: {done} done, {refused} refused");
    }
}
