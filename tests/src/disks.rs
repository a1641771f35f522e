//! Disks that tests are made of: by `sfdisk`, `mke2fs` and `qemu-img`, with data from a seed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use tempfile::TempDir;

use crate::{Random, tool};

const MIB: u64 = 1 << 20;
/// Where the partition begins.
const PARTITION: u64 = MIB;

/// What `/etc/hostname` in the disk of [`linux`] says.
pub const HOSTNAME: &str = "seeded";
/// What `/etc/machine-id` holds after a first start.
const STARTED: &str = "0123456789abcdef0123456789abcdef\n";

/// Writes a raw disk of `mib` MiB to `path`: an MBR and an ext4 file system with what an inspection looks for and a
/// third of the disk as incompressible data, followed by holes. Prepare leaves it as it is.
pub fn linux(path: &Path, mib: u64, seed: u64) {
    system(path, mib, seed, "");
}

/// Does the same for a system that was started already, so that prepare has something to do.
pub fn started(path: &Path, mib: u64, seed: u64) {
    system(path, mib, seed, STARTED);
}

/// Writes the system of [`started`] to `path` on btrfs, which only a kernel changes: a raw disk of 112 MiB.
pub fn started_on_btrfs(path: &Path, seed: u64) {
    const MIB_OF_DISK: u64 = 112;
    let root = tree(4, seed, STARTED);
    divide(path, MIB_OF_DISK);
    let volume = path.with_extension("btrfs");
    File::create(&volume).unwrap().set_len(MIB_OF_DISK * MIB - PARTITION).unwrap();
    tool("mkfs.btrfs", ["-q", "--rootdir", root.path().to_str().unwrap(), volume.to_str().unwrap()]);
    let (from, to) = (format!("if={}", volume.display()), format!("of={}", path.display()));
    tool("dd", [&from, &to, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"]);
    fs::remove_file(volume).unwrap();
}

fn system(path: &Path, mib: u64, seed: u64, machine_id: &str) {
    let root = tree(mib, seed, machine_id);
    divide(path, mib);
    let offset = format!("offset={PARTITION}");
    let (root, blocks) = (root.path().to_str().unwrap(), format!("{}k", (mib * MIB - PARTITION) / 1024));
    tool("mke2fs", ["-q", "-t", "ext4", "-E", &offset, "-d", root, path.to_str().unwrap(), &blocks]);
}

/// Makes the folder that the root of the system becomes, for a disk of `mib` MiB.
fn tree(mib: u64, seed: u64, machine_id: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
    write("etc/hostname", format!("{HOSTNAME}\n").as_bytes());
    write("etc/machine-id", machine_id.as_bytes());
    write("usr/bin/bash", &elf_x86_64());
    write("var/data", &Random::new(seed).bytes((mib * MIB / 3) as usize));
    write("var/text", "the same line again and again\n".repeat(20_000).as_bytes());
    root
}

/// Makes a raw disk of `mib` MiB with one partition.
fn divide(path: &Path, mib: u64) {
    File::create(path).unwrap().set_len(mib * MIB).unwrap();
    let script = format!("echo 'start=2048, type=83, bootable' | sfdisk --quiet --label dos '{}'", path.display());
    tool("sh", ["-c", &script]);
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

/// Writes a disk of 4 MiB whose guest reads it sector by sector, 18 in a second, and prints the first byte of each: letters
/// from `b` on, in their order, again and again. An error of the disk is an `E`, and the end.
pub fn reciting(path: &Path) {
    #[rustfmt::skip]
    const CODE: &[u8] = &[
        0xeb, 0x12,                   // 7c00  jmp 0x7c14
        0x00, 0x00,                   // 7c02  fill
        0x10, 0x00, 0x01, 0x00,       // 7c04  disk address packet: 16 bytes, one sector
        0x00, 0x80, 0x00, 0x00,       // 7c08  to 0000:8000
        0x01, 0, 0, 0, 0, 0, 0, 0,    // 7c0c  sector number
        0xfa,                         // 7c14  cli
        0x31, 0xc0,                   // 7c15  xor ax, ax
        0x8e, 0xd8,                   // 7c17  mov ds, ax
        0x8e, 0xd0,                   // 7c19  mov ss, ax
        0xbc, 0x00, 0x7c,             // 7c1b  mov sp, 0x7c00
        0xfb,                         // 7c1e  sti
        0xbe, 0x04, 0x7c,             // 7c1f  mov si, 0x7c04
        0xb4, 0x42,                   // 7c22  mov ah, 0x42           read (DL is the boot disk)
        0xcd, 0x13,                   // 7c24  int 0x13
        0x72, 0x0d,                   // 7c26  jc 0x7c35
        0xa0, 0x00, 0x80,             // 7c28  mov al, [0x8000]
        0xe8, 0x10, 0x00,             // 7c2b  call 0x7c3e
        0xff, 0x06, 0x0c, 0x7c,       // 7c2e  inc word [0x7c0c]
        0xf4,                         // 7c32  hlt                    until the next timer tick
        0xeb, 0xea,                   // 7c33  jmp 0x7c1f
        0xb0, b'E',                   // 7c35  mov al, 'E'
        0xe8, 0x04, 0x00,             // 7c37  call 0x7c3e
        0xfa, 0xf4, 0xeb, 0xfc,       // 7c3a  cli; hlt; jmp 0x7c3a
        0x52, 0x50,                   // 7c3e  push dx; push ax       print AL
        0xba, 0xfd, 0x03,             // 7c40  mov dx, 0x3fd
        0xec,                         // 7c43  in al, dx
        0xa8, 0x20,                   // 7c44  test al, 0x20          transmitter empty
        0x74, 0xfb,                   // 7c46  jz 0x7c43
        0x58,                         // 7c48  pop ax
        0xba, 0xf8, 0x03,             // 7c49  mov dx, 0x3f8          COM1
        0xee,                         // 7c4c  out dx, al
        0x5a, 0xc3,                   // 7c4d  pop dx; ret
    ];
    let mut disk: Vec<u8> = (0..4 * MIB / 512).flat_map(|sector| [b'a' + (sector % 26) as u8; 512]).collect();
    disk[..CODE.len()].copy_from_slice(CODE);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, disk).unwrap();
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
