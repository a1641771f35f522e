//! Disks that tests are made of: by `sfdisk`, `mke2fs` and `qemu-img`, with data from a seed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::{Random, tool};

const MIB: u64 = 1 << 20;
/// Where the partition begins.
const PARTITION: u64 = MIB;

/// What `/etc/hostname` in the disk of [`linux`] says.
pub const HOSTNAME: &str = "seeded";

/// Writes a raw disk of `mib` MiB to `path`: an MBR and an ext4 file system with what an inspection looks for and a
/// third of the disk as incompressible data, followed by holes.
pub fn linux(path: &Path, mib: u64, seed: u64) {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
    write("etc/hostname", format!("{HOSTNAME}\n").as_bytes());
    write("usr/bin/bash", &elf_x86_64());
    write("var/data", &Random::new(seed).bytes((mib * MIB / 3) as usize));
    write("var/text", "the same line again and again\n".repeat(20_000).as_bytes());
    File::create(path).unwrap().set_len(mib * MIB).unwrap();
    let layout = root.path().join("layout");
    fs::write(&layout, "label: dos\nstart=2048, type=83, bootable\n").unwrap();
    let script = format!("sfdisk --quiet '{}' < '{}'", path.display(), layout.display());
    tool("sh", ["-c", &script]);
    fs::remove_file(layout).unwrap();
    let offset = format!("offset={PARTITION}");
    let (root, blocks) = (root.path().to_str().unwrap(), format!("{}k", (mib * MIB - PARTITION) / 1024));
    tool("mke2fs", ["-q", "-t", "ext4", "-E", &offset, "-d", root, path.to_str().unwrap(), &blocks]);
}

/// Writes a raw disk of `mib` MiB with a boot signature and `data` incompressible bytes spread over it.
pub fn scattered(path: &Path, mib: u64, data: u64, seed: u64) {
    const RUN: u64 = 192 << 10;
    let mut random = Random::new(seed);
    let mut file = File::create(path).unwrap();
    file.set_len(mib * MIB).unwrap();
    for _ in 0..data / RUN {
        let sectors = (mib * MIB - RUN) / 512;
        file.seek(SeekFrom::Start(512 + random.below(sectors - 1) * 512)).unwrap();
        file.write_all(&random.bytes(RUN as usize)).unwrap();
    }
}

/// Writes a disk whose boot sector stops the processor: the smallest guest.
pub fn halting(path: &Path) {
    let mut disk = vec![0; MIB as usize];
    // cli; hlt; jmp back.
    disk[..4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfc]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, disk).unwrap();
}

/// Converts a raw disk beside it; `name` ends with the format, options are those of `qemu-img convert -o`.
#[must_use]
pub fn convert(raw: &Path, format: &str, options: &str) -> PathBuf {
    let target = raw.with_extension(format);
    let mut words = vec!["convert", "-f", "raw", "-O", format];
    if !options.is_empty() {
        words.extend(["-o", options]);
    }
    words.extend([raw.to_str().unwrap(), target.to_str().unwrap()]);
    tool("qemu-img", words);
    target
}

/// Converts a raw disk to a streamOptimized VMDK beside it.
#[must_use]
pub fn vmdk(raw: &Path) -> PathBuf {
    convert(raw, "vmdk", "subformat=streamOptimized")
}

/// Panics unless qemu-img finds the same disk in both files.
#[track_caller]
pub fn assert_same(raw: &Path, other: &Path, format: &str) {
    tool("qemu-img", ["compare", "-f", "raw", "-F", format, raw.to_str().unwrap(), other.to_str().unwrap()]);
}

/// Returns the MD5 of a file, in hexadecimal.
#[must_use]
pub fn md5_of(path: &Path) -> String {
    let (mut file, mut digest, mut buffer) = (File::open(path).unwrap(), Md5::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(digest.finalize()),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// Returns the MD5 of bytes, in hexadecimal.
#[must_use]
pub fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// The header of a 64-bit x86 program (ELF): enough to tell the machine.
fn elf_x86_64() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    header[16..20].copy_from_slice(&[3, 0, 0x3e, 0]);
    header
}
