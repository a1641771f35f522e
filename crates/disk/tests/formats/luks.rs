//! LUKS against cryptsetup and qemu-img, in both directions.

mod hostile;
mod qcow2;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::common::{Folder, Numbers, check_extents, qemu_img, read_all, seeded_disk, text};
use disk::{Deny, ErrorKind, FileSource, Format, Given, Opened, Source, WriteOptions, probe};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse battery staple";

fn given(passphrase: &str) -> Given {
    Given::new().with_passphrase(Zeroizing::new(passphrase.as_bytes().to_vec()))
}

fn open_with(source: Arc<dyn Source>, passphrase: &str) -> disk::Result<Opened> {
    disk::open(source, Format::Luks, &given(passphrase))
}

fn open_path(path: &Path, passphrase: &str) -> disk::Result<Opened> {
    open_with(Arc::new(FileSource::open(path).unwrap()), passphrase)
}

/// Runs cryptsetup with `input` as the answer to its question for a passphrase.
fn try_cryptsetup(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .args(["--batch-mode", "--key-file=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cryptsetup is needed by these tests (Debian package cryptsetup-bin): {error}"));
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn cryptsetup(arguments: &[&str]) -> String {
    try_cryptsetup(arguments, PASSPHRASE).unwrap_or_else(|error| panic!("cryptsetup {arguments:?} failed: {error}"))
}

/// Adds `new` as a further passphrase of the file at `path`.
fn add_key(folder: &Folder, path: &Path, new: &str, options: &[&str]) {
    let file = folder.path("new passphrase");
    std::fs::write(&file, new).unwrap();
    let mut arguments = vec!["luksAddKey", text(path), text(&file), "--pbkdf-force-iterations", "1000"];
    arguments.extend(options);
    cryptsetup(&arguments);
}

const SECRET: &str = "secret,id=passphrase,data=correct horse battery staple";

/// Encrypts the raw disk at `raw` by qemu-img.
fn qemu_luks(folder: &Folder, raw: &Path) -> PathBuf {
    let path = folder.path("image");
    let options = "key-secret=passphrase,iter-time=10";
    qemu_img(&["convert", "--object", SECRET, "-f", "raw", "-O", "luks", "-o", options, text(raw), text(&path)]);
    path
}

/// Lets qemu-img read the LUKS file at `path`.
fn qemu_read(folder: &Folder, path: &Path) -> Vec<u8> {
    let out = folder.path("read by QEMU");
    let image = format!("driver=luks,key-secret=passphrase,file.filename={}", text(path));
    qemu_img(&["convert", "--object", SECRET, "--image-opts", &image, "-O", "raw", text(&out)]);
    std::fs::read(out).unwrap()
}

/// Checks that `disk` reads as `expected` whole, in pieces that end inside sectors, and from many threads.
fn check_reads(disk: &dyn Source, expected: &[u8]) {
    assert_eq!(disk.len(), expected.len() as u64);
    assert!(read_all(disk, 1 << 20).unwrap() == expected, "reads wrong");
    assert!(read_all(disk, 100_001).unwrap() == expected, "reads wrong in odd pieces");
    assert_eq!(check_extents(disk, expected), disk.len());
    std::thread::scope(|scope| {
        for seed in 0..3 {
            scope.spawn(move || {
                let mut numbers = Numbers::new(seed);
                for _ in 0..200 {
                    let start = numbers.below(expected.len() as u64) as usize;
                    let length = (numbers.below(20_000) as usize).min(expected.len() - start);
                    let mut bytes = vec![0xee; length];
                    disk.read_at(&mut bytes, start as u64).unwrap();
                    assert!(bytes == expected[start..start + length], "{length} bytes at {start}");
                }
            });
        }
    });
    assert!(disk.read_at(&mut [0; 2], disk.len() - 1).is_err());
}

/// Encrypts the raw disk at `raw`, of `size` bytes, into a version 1 file: cryptsetup makes the header and QEMU the rest.
fn version_1(folder: &Folder, raw: &Path, size: usize, options: &[&str]) -> PathBuf {
    let path = folder.path("image");
    let file = std::fs::File::create(&path).unwrap();
    let length = (2 << 20) + size as u64;
    file.set_len(length).unwrap();
    let format = ["luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--offset", "4096", text(&path)];
    cryptsetup(&[&format[..], options].concat());
    let target = format!("driver=luks,key-secret=passphrase,file.filename={}", text(&path));
    qemu_img(&["convert", "--object", SECRET, "-n", "-f", "raw", "--target-image-opts", text(raw), &target]);
    // The last sector is not whole then, and not seen.
    file.set_len(length + 100).unwrap();
    path
}

#[test]
fn version_1_in_every_cipher() {
    let folder = Folder::new();
    let expected = seeded_disk((1 << 20) + 3 * 512, 1);
    let raw = folder.write("raw", &expected);
    for (cipher, bits, hash) in [
        ("aes-xts-plain64", "512", "sha256"),
        ("aes-xts-plain64", "256", "sha1"),
        ("aes-xts-plain", "512", "sha512"),
        ("aes-cbc-essiv:sha256", "256", "sha256"),
        ("aes-cbc-plain64", "256", "sha256"),
        ("aes-cbc-plain", "128", "sha1"),
    ] {
        let options = ["--cipher", cipher, "--key-size", bits, "--hash", hash];
        let image = version_1(&folder, &raw, expected.len(), &options);
        assert_eq!(probe(&FileSource::open(&image).unwrap()).unwrap(), Format::Luks);
        let opened = open_path(&image, PASSPHRASE).unwrap();
        assert_eq!((opened.format, opened.variant.as_str()), (Format::Luks, "v1"));
        let note =
            format!("encrypted by {cipher} with a key of {bits} bits in sectors of 512 bytes; 1 key slot in use");
        assert_eq!(opened.notes, [note]);
        check_reads(&*opened.disk, &expected);
    }
}

#[test]
fn version_1_of_qemu() {
    let folder = Folder::new();
    let expected = seeded_disk((1 << 20) + 512, 5);
    let image = qemu_luks(&folder, &folder.write("raw", &expected));
    check_reads(&*open_path(&image, PASSPHRASE).unwrap().disk, &expected);
}

#[test]
fn version_1_with_several_slots() {
    let folder = Folder::new();
    let expected = seeded_disk((1 << 20) + 512, 2);
    let raw = folder.write("raw", &expected);
    let image = version_1(&folder, &raw, expected.len(), &[]);
    add_key(&folder, &image, "second", &[]);
    add_key(&folder, &image, "third", &["--key-slot", "7"]);
    try_cryptsetup(&["luksKillSlot", text(&image), "0"], "second").unwrap();
    for passphrase in ["second", "third"] {
        let opened = open_path(&image, passphrase).unwrap();
        assert!(opened.notes[0].ends_with("2 key slots in use"), "{:?}", opened.notes);
        check_reads(&*opened.disk, &expected);
    }
    for passphrase in [PASSPHRASE, "", "second\n"] {
        let error = open_path(&image, passphrase).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), "the passphrase does not open any of the 2 key slots in use");
        assert!(error.hint().unwrap().contains("line break"));
    }
    let error = disk::open(Arc::new(FileSource::open(&image).unwrap()), Format::Luks, &Deny).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("--passphrase-file"));
}

/// Lets cryptsetup encrypt `disk` into a version 2 file, data and all.
fn encrypt_by_cryptsetup(folder: &Folder, disk: &[u8], options: &[&str]) -> PathBuf {
    let path = folder.path("image");
    std::fs::write(&path, disk).unwrap();
    // The disk is shifted by half of this, and the header put before it.
    let room = 32 << 20;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(disk.len() as u64 + room).unwrap();
    let mut arguments = vec!["reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", text(&path)];
    arguments.extend(options);
    cryptsetup(&arguments);
    path
}

#[test]
fn version_2_of_cryptsetup_in_every_sector_size_and_derivation() {
    let folder = Folder::new();
    let disk = seeded_disk(1 << 20, 3);
    for (options, says) in [
        (&["--sector-size", "512", "--pbkdf", "pbkdf2", "--hash", "sha512"][..], "xts-plain64 with a key of 512 bits"),
        (
            &[
                "--sector-size",
                "1024",
                "--pbkdf",
                "argon2i",
                "--pbkdf-memory",
                "64",
                "--cipher",
                "aes-cbc-plain64",
                "--key-size",
                "192",
            ],
            "aes-cbc-plain64 with a key of 192 bits in sectors of 1024 bytes",
        ),
        (
            &["--sector-size", "2048", "--pbkdf", "pbkdf2", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"],
            "aes-cbc-essiv:sha256 with a key of 256 bits in sectors of 2048 bytes",
        ),
        (
            &["--sector-size", "4096", "--pbkdf", "argon2id", "--pbkdf-memory", "4096", "--pbkdf-parallel", "4"],
            "in sectors of 4096 bytes",
        ),
    ] {
        let rounds = if options.contains(&"pbkdf2") { "1000" } else { "4" };
        let options = [options, &["--pbkdf-force-iterations", rounds]].concat();
        let image = encrypt_by_cryptsetup(&folder, &disk, &options);
        assert_eq!(probe(&FileSource::open(&image).unwrap()).unwrap(), Format::Luks);
        let opened = open_path(&image, PASSPHRASE).unwrap();
        assert_eq!(opened.variant, "v2");
        assert!(opened.notes.len() == 1 && opened.notes[0].contains(says), "{:?}", opened.notes);
        // Behind the disk lies what the shift left there.
        let whole = read_all(&*opened.disk, 1 << 20).unwrap();
        assert!(whole.len() as u64 >= 16 << 20 && whole[..disk.len()] == disk, "{options:?}");
        check_reads(&*opened.disk, &whole);
        assert_eq!(open_path(&image, "wrong").unwrap_err().kind(), ErrorKind::Refused);
    }
}

/// A version 2 file with three slots over an empty disk, as bytes, kept short.
fn version_2() -> Vec<u8> {
    let folder = Folder::new();
    let image = folder.path("image");
    std::fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    let format = ["luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let areas = ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1M", "--offset", "4096"];
    cryptsetup(&[&format[..], &areas, &[text(&image)]].concat());
    add_key(
        &folder,
        &image,
        "second",
        &["--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64"],
    );
    add_key(&folder, &image, "third", &["--pbkdf", "pbkdf2"]);
    cryptsetup(&["config", "--key-slot", "2", "--priority", "prefer", text(&image)]);
    std::fs::read(image).unwrap()
}

fn open_v2(image: &[u8], passphrase: &str) -> disk::Result<Opened> {
    open_with(Arc::new(image.to_vec()), passphrase)
}

#[test]
fn version_2_slots_and_copies_of_the_header() {
    let image = version_2();
    for passphrase in [PASSPHRASE, "second", "third"] {
        let opened = open_v2(&image, passphrase).unwrap();
        assert!(opened.notes[0].ends_with("3 key slots in use"), "{:?}", opened.notes);
        assert_eq!(opened.disk.len(), 2 << 20);
    }
    assert_eq!(open_v2(&image, "fourth").unwrap_err().kind(), ErrorKind::Refused);
    let damaged = |places: &[usize]| {
        let mut image = image.clone();
        places.iter().for_each(|at| image[*at] ^= 1);
        open_v2(&image, PASSPHRASE)
    };
    let expected = read_all(&*open_v2(&image, PASSPHRASE).unwrap().disk, 1 << 20).unwrap();
    // In the text and in the length of the first copy, and in the text of the second one.
    for (place, which) in [(5000, "first"), (13, "first"), (16384 + 5000, "second")] {
        let opened = damaged(&[place]).unwrap();
        assert!(opened.notes[1].contains(&format!("the {which} copy")), "{:?}", opened.notes);
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected);
    }
    let error = damaged(&[5000, 16384 + 5000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("checksum"), "{error}");
    let mut followed = image.clone();
    for at in [0, 16384] {
        followed[at + 16000] = b'x';
        seal(&mut followed, at);
    }
    assert!(open_v2(&followed, PASSPHRASE).unwrap_err().to_string().contains("at byte 16000"));
    // The later one of two sound copies counts.
    let mut later = image.clone();
    change(&mut later, 16384, |text| text.replace("aes-xts-plain64", "aes-xts-random"));
    assert!(open_v2(&later, PASSPHRASE).is_ok());
    later[16384 + 16 + 7] += 1;
    seal(&mut later, 16384);
    assert!(open_v2(&later, PASSPHRASE).unwrap_err().to_string().contains("aes-xts-random"));
}

/// Changes the text of the version 2 header at `at` and makes its checksum right.
fn change(image: &mut [u8], at: usize, edit: impl Fn(String) -> String) {
    let text = &image[at + 4096..at + 16384];
    let text = edit(String::from_utf8(text.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap());
    assert!(text.len() < 12288, "no room for the text");
    image[at + 4096..at + 16384].fill(0);
    image[at + 4096..at + 4096 + text.len()].copy_from_slice(text.as_bytes());
    seal(image, at);
}

fn seal(image: &mut [u8], at: usize) {
    image[at + 448..at + 512].fill(0);
    let digest = Sha256::digest(&image[at..at + 16384]);
    image[at + 448..at + 480].copy_from_slice(&digest);
}

fn options(passphrase: &str) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set("iter-time", "1");
    options.set_passphrase(Zeroizing::new(passphrase.as_bytes().to_vec()));
    options
}

#[test]
fn what_is_written_is_read_by_qemu_and_cryptsetup() {
    let folder = Folder::new();
    for (seed, size) in [(1 << 20) + 700, 512, 3 << 20, 0].into_iter().enumerate() {
        let mut expected = seeded_disk(size, seed as u64);
        let layout = disk::layout(Arc::new(expected.clone()), Format::Luks, &options(PASSPHRASE)).unwrap();
        let bytes = read_all(&*layout, 1 << 20).unwrap();
        assert!(bytes == read_all(&*layout, 100_001).unwrap());
        assert_eq!(check_extents(&*layout, &bytes), bytes.len() as u64);
        let path = folder.path("image");
        std::fs::write(&path, &bytes).unwrap();
        let dump = cryptsetup(&["luksDump", text(&path)]);
        for line in ["xts-plain64", "sha256", "Payload offset:\t4096", "MK bits:       \t512", "Key Slot 0: ENABLED"] {
            assert!(dump.contains(line), "{dump} does not contain {line}");
        }
        cryptsetup(&["open", "--test-passphrase", text(&path)]);
        assert!(try_cryptsetup(&["open", "--test-passphrase", text(&path)], "wrong").is_err());
        expected.resize(size.next_multiple_of(512), 0);
        assert!(qemu_read(&folder, &path) == expected, "QEMU reads {size} bytes wrong");
        add_key(&folder, &path, "second", &[]);
        for passphrase in [PASSPHRASE, "second"] {
            assert!(read_all(&*open_path(&path, passphrase).unwrap().disk, 1 << 20).unwrap() == expected);
        }
        let mut numbers = Numbers::new(seed as u64);
        for _ in 0..300 {
            let start = numbers.below(bytes.len() as u64) as usize;
            let length = (numbers.below(5000) as usize).min(bytes.len() - start);
            let mut part = vec![0xee; length];
            layout.read_at(&mut part, start as u64).unwrap();
            assert!(part == bytes[start..start + length], "{length} bytes at {start}");
        }
    }
}

#[test]
fn each_file_has_its_own_key_and_needs_a_passphrase() {
    let disk: Arc<dyn Source> = Arc::new(vec![0; 4096]);
    let write = |options: &WriteOptions| disk::layout(Arc::clone(&disk), Format::Luks, options);
    let [one, two] = [1, 2].map(|_| read_all(&*write(&options("x")).unwrap(), 1 << 20).unwrap());
    assert_ne!(one[112..164], two[112..164]);
    assert_ne!(one[one.len() - 4096..], two[two.len() - 4096..]);
    let error = write(&WriteOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("--new-passphrase-file"));
    let mut wrong = options("x");
    wrong.set("iter-time", "0");
    assert_eq!(write(&wrong).map(|_| ()).unwrap_err().kind(), ErrorKind::Unsupported);
}
