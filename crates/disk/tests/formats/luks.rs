//! LUKS against cryptsetup and qemu-img, in both directions, and against crafted headers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Folder, Numbers, check_extents, open_bytes, qemu_img, read_all, seeded_disk, text};
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

/// Checks that version 2 text with `from` replaced by `to` is refused in this way, in no time.
#[track_caller]
fn refused(image: &[u8], (from, to): (&str, &str), kind: ErrorKind, says: &str) {
    let mut image = image.to_vec();
    for at in [0, 16384] {
        change(&mut image, at, |text| {
            assert!(text.contains(from), "{text} does not contain {from}");
            text.replace(from, to)
        });
    }
    let started = Instant::now();
    let error = open_v2(&image, PASSPHRASE).expect_err(says);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error} does not say {says:?}");
}

#[test]
fn version_2_texts_that_are_refused() {
    use ErrorKind::{Corrupt, TooLarge, Unsupported};
    let image = version_2();
    let refused = |from, to, kind, says| refused(&image, (from, to), kind, says);
    refused("\"type\":\"crypt\"", "\"type\":\"linear\"", Unsupported, "\"linear\"");
    refused("\"type\":\"crypt\"", "\"type\":\"hw-opal\"", Unsupported, "\"hw-opal\"");
    refused("aes-xts-plain64", "cipher_null-ecb", Unsupported, "cipher_null-ecb");
    refused("\"iv_tweak\"", "\"integrity\":{\"type\":\"hmac(sha256)\"},\"iv_tweak\"", Unsupported, "integrity");
    refused("\"iv_tweak\"", "\"flags\":[\"in-reencryption\"],\"iv_tweak\"", Unsupported, "in-reencryption");
    let requires = "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},";
    refused("\"config\":{", requires, Unsupported, "online-reencrypt-v2");
    refused(
        "\"segments\":{",
        "\"segments\":{\"1\":{\"type\":\"crypt\",\"offset\":\"0\",\"size\":\"1\"},",
        Unsupported,
        "2 segments",
    );
    refused("\"sector_size\":4096", "\"sector_size\":8192", Corrupt, "8192");
    refused("\"sector_size\":4096", "\"sector_size\":0", Corrupt, "sectors of 0 bytes");
    refused("\"offset\":\"2097152\"", "\"offset\":\"4096\"", Corrupt, "begins at byte 4096");
    refused("\"offset\":\"2097152\"", "\"offset\":\"9223372036854775808\"", Corrupt, "encrypted disk");
    refused("\"offset\":\"2097152\"", "\"offset\":\"99999999999999999999\"", Corrupt, "no number");
    refused("\"offset\":\"2097152\"", "\"offset\":\"+2097152\"", Corrupt, "no number");
    refused("\"size\":\"dynamic\"", "\"size\":\"4194304\"", Corrupt, "encrypted disk");
    refused("\"size\":\"dynamic\"", "\"size\":\"1000\"", Corrupt, "whole sectors");
    refused("\"stripes\":4000", "\"stripes\":4294967295", Unsupported, "4000 stripes");
    refused("\"iterations\":1000", "\"iterations\":4294967295", TooLarge, "4294967295 PBKDF2 rounds");
    refused("\"iterations\":1000", "\"iterations\":0", Corrupt, "no PBKDF2 rounds");
    refused("\"memory\":64", "\"memory\":67108864", TooLarge, "67108864 KiB");
    refused("\"time\":4", "\"time\":4294967295", TooLarge, "4294967295 Argon2 passes");
    refused("\"memory\":64", "\"memory\":0", Corrupt, "bad Argon2 parameters");
    refused("\"cpus\":", "\"cpus\":1", TooLarge, "lanes");
    refused("\"key_size\":64", "\"key_size\":4294967295", Corrupt, "4294967295");
    refused("\"key_size\":64", "\"key_size\":48", Corrupt, "48 bytes");
    refused("\"offset\":\"290816\"", "\"offset\":\"32768\"", Corrupt, "key material");
    refused("\"offset\":\"32768\"", "\"offset\":\"16384\"", Corrupt, "key material");
    refused("\"offset\":\"32768\"", "\"offset\":\"18446744073709551104\"", Corrupt, "key material");
    refused("\"config\":{", "\"config\":[", Corrupt, "JSON");
    let deep = format!("\"x\":{}{},\"config\":{{", "[".repeat(17), "]".repeat(17));
    refused("\"config\":{", &deep, Corrupt, "16 objects and lists");
    refused(
        "\"digests\":{\"0\":{\"type\":\"pbkdf2\"",
        "\"digests\":{\"0\":{\"type\":\"x\"",
        Unsupported,
        "no key slot",
    );
    refused("\"hash\":\"sha256\"", "\"hash\":\"md5\"", Unsupported, "md5");
    let slots =
        "\"keyslots\":{".to_owned() + &(3..40).map(|n| format!("\"{n}\":{{\"type\":\"x\"}},")).collect::<String>();
    refused("\"keyslots\":{", &slots, TooLarge, "40 LUKS key slots");
}

#[test]
fn version_1_headers_that_are_refused() {
    use ErrorKind::{Corrupt, TooLarge, Unsupported, WrongFormat};
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(64 << 10, 4));
    let image = std::fs::read(version_1(&folder, &raw, 64 << 10, &[])).unwrap();
    let refused = |changes: &[(usize, &[u8])], kind, says: &str| {
        let mut image = image.clone();
        for (at, bytes) in changes {
            image[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let started = Instant::now();
        let error = open_with(Arc::new(image), PASSPHRASE).expect_err(says);
        assert!(started.elapsed() < Duration::from_secs(1), "{says}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    };
    let be = u32::to_be_bytes;
    refused(&[(0, b"SKUL")], WrongFormat, "does not begin with");
    refused(&[(6, &[0, 3])], Unsupported, "version 3");
    refused(&[(8, b"serpent\0")], Unsupported, "serpent-xts-plain64");
    refused(&[(40, b"xts-essiv:sha256\0")], Unsupported, "aes-xts-essiv:sha256");
    refused(&[(72, b"ripemd160\0")], Unsupported, "ripemd160");
    refused(&[(8, b"cipher_null\0")], Unsupported, "cipher_null-xts-plain64");
    refused(&[(8, &[0xff; 32])], Corrupt, "name of the cipher");
    refused(&[(72, b"md5\0")], Unsupported, "md5");
    refused(&[(104, &be(0))], Unsupported, "detached");
    refused(&[(104, &be(u32::MAX))], Corrupt, "the file ends");
    refused(&[(104, &be(8))], Corrupt, "key material");
    refused(&[(108, &be(u32::MAX))], Corrupt, "4294967295 bytes");
    refused(&[(108, &be(0))], Corrupt, "key of 0 bytes");
    refused(&[(164, &be(u32::MAX))], TooLarge, "4294967295 PBKDF2 rounds");
    refused(&[(164, &be(0))], Corrupt, "no PBKDF2 rounds");
    refused(&[(208, &be(1))], Corrupt, "state 0x1");
    refused(&[(208, &be(0xdead))], Unsupported, "no key slot in use");
    refused(&[(212, &be(u32::MAX))], TooLarge, "4294967295 PBKDF2 rounds");
    refused(&[(248, &be(0))], Corrupt, "key material");
    refused(&[(248, &be(u32::MAX))], Corrupt, "key material");
    refused(&[(252, &be(u32::MAX))], Corrupt, "4294967295 stripes");
    refused(&[(256, &be(0x00ac_71f3)), (260, &be(1)), (296, &be(9))], Corrupt, "key material of LUKS slot 1");
    for length in [0, 5, 7, 591, 592, 4096, 200_000, (2 << 20) - 1] {
        let error = open_bytes(image[..length].to_vec(), Format::Luks).unwrap_err();
        assert!(matches!(error.kind(), Corrupt | WrongFormat), "cut at {length}: {error}");
    }
}

/// Damaged headers and key material: an error or a disk, soon, and the rounds of a hostile slot are bounded.
#[test]
fn damaged_files_end_soon() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(64 << 10, 4));
    let version_1 = std::fs::read(version_1(&folder, &raw, 64 << 10, &[])).unwrap();
    let mut version_2 = version_2();
    version_2.truncate((2 << 20) + 4096);
    for (image, header) in [(version_1, 592), (version_2, 5200)] {
        let mut numbers = Numbers::new(7);
        let mut refused = 0;
        for _ in 0..2000 {
            let mut bytes = image.clone();
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(header) as usize;
                bytes[at] = if numbers.below(2) == 0 { 0xff } else { numbers.next() as u8 };
            }
            if header != 592 && numbers.below(4) != 0 {
                seal(&mut bytes, 0);
            }
            if numbers.below(20) == 0 {
                bytes.truncate(numbers.below(bytes.len() as u64) as usize);
            }
            let started = Instant::now();
            let error = open_bytes(bytes, Format::Luks).unwrap_err();
            assert!(started.elapsed() < Duration::from_secs(1));
            refused += u64::from(error.hint().is_none_or(|hint| !hint.contains("--passphrase-file")));
        }
        assert!(refused > 200, "only {refused} of 2000 damaged headers were found out");
    }
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

/// Encrypts the raw disk at `raw` into a qcow2 file by qemu-img.
fn qemu_qcow2(folder: &Folder, raw: &Path, options: &str) -> PathBuf {
    let path = folder.path("image.qcow2");
    let options = format!("encrypt.format=luks,encrypt.key-secret=passphrase,encrypt.iter-time=10{options}");
    let arguments = ["convert", "--object", SECRET, "-f", "raw", "-O", "qcow2", "-o", &options, text(raw), text(&path)];
    qemu_img(&arguments);
    path
}

fn open_qcow2(image: Vec<u8>, passphrase: &str) -> disk::Result<Opened> {
    disk::open(Arc::new(image), Format::Qcow2, &given(passphrase))
}

#[test]
fn qcow2_that_qemu_encrypted() {
    let folder = Folder::new();
    let expected = seeded_disk((3 << 20) + 512, 6);
    let raw = folder.write("raw", &expected);
    for (options, variant, clusters) in
        [("", "v3 LUKS", 65536), (",cluster_size=16k,extended_l2=on", "v3 subclusters LUKS", 16384)]
    {
        let image = std::fs::read(qemu_qcow2(&folder, &raw, options)).unwrap();
        let opened = open_qcow2(image.clone(), PASSPHRASE).unwrap();
        assert_eq!((opened.variant.as_str(), opened.block_size), (variant, Some(clusters)));
        assert!(opened.notes[0].contains("aes-xts-plain64 with a key of 512 bits"), "{:?}", opened.notes);
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected, "{options} reads wrong");
        assert!(read_all(&*opened.disk, 100_001).unwrap() == expected, "{options} reads wrong in odd pieces");
        assert!(check_extents(&*opened.disk, &expected) < expected.len() as u64, "holes are not encrypted");
        assert_eq!(open_qcow2(image.clone(), "wrong").unwrap_err().kind(), ErrorKind::Refused);
        let error = open_bytes(image, Format::Qcow2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("--passphrase-file"));
    }
}

/// An encrypted qcow2 file of this crate.
fn own_qcow2(disk: Vec<u8>, cluster_size: &str) -> Arc<dyn Source> {
    let mut options = options(PASSPHRASE);
    options.set("encrypt", "luks");
    options.set("cluster_size", cluster_size);
    disk::layout(Arc::new(disk), Format::Qcow2, &options).unwrap()
}

#[test]
fn encrypted_qcow2_that_is_written_is_read_by_qemu() {
    let folder = Folder::new();
    for (seed, (size, cluster_size)) in
        [(3 << 20, "64K"), (600 << 10, "512"), (5 << 20, "2M"), (0, "4K")].into_iter().enumerate()
    {
        let expected = seeded_disk(size, seed as u64);
        let layout = own_qcow2(expected.clone(), cluster_size);
        let bytes = read_all(&*layout, 1 << 20).unwrap();
        assert!(bytes == read_all(&*layout, 100_001).unwrap());
        check_extents(&*layout, &bytes);
        let path = folder.path("own.qcow2");
        std::fs::write(&path, &bytes).unwrap();
        let image =
            format!("driver=qcow2,encrypt.format=luks,encrypt.key-secret=passphrase,file.filename={}", text(&path));
        let report = qemu_img(&["check", "--object", SECRET, "--image-opts", &image]);
        assert!(report.contains("No errors were found"), "{report}");
        let out = folder.path("read by QEMU");
        qemu_img(&["convert", "--object", SECRET, "--image-opts", &image, "-O", "raw", text(&out)]);
        assert!(std::fs::read(out).unwrap() == expected, "QEMU reads {size} bytes in clusters of {cluster_size} wrong");
        let opened = open_qcow2(bytes, PASSPHRASE).unwrap();
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected);
    }
    let mut both = options(PASSPHRASE);
    both.set("encrypt", "luks");
    both.set("compression", "zstd");
    let error = disk::layout(Arc::new(vec![1; 512]), Format::Qcow2, &both).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("both compressed and encrypted"), "{error}");
    both = WriteOptions::default();
    both.set("encrypt", "luks");
    let error = disk::layout(Arc::new(vec![1; 512]), Format::Qcow2, &both).map(|_| ()).unwrap_err();
    assert!(error.hint().unwrap().contains("--new-passphrase-file"));
}

#[test]
fn encrypted_qcow2_headers_that_are_refused() {
    use ErrorKind::{Corrupt, Unsupported};
    let image = read_all(&*own_qcow2(vec![7; 70_000], "64K"), 1 << 20).unwrap();
    let be64 = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let (luks, length) = (be64(112) as usize, be64(120));
    let refused = |at: usize, bytes: &[u8], kind, says: &str| {
        let mut image = image.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let error = open_qcow2(image, PASSPHRASE).expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    };
    refused(32, &1_u32.to_be_bytes(), Unsupported, "encrypted (AES)");
    refused(32, &3_u32.to_be_bytes(), Unsupported, "unknown method 3");
    refused(104, &0_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(104, &1_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(108, &15_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(112, &(luks as u64 + 512).to_be_bytes(), Corrupt, "begins no cluster");
    refused(112, &(1_u64 << 63).to_be_bytes(), Corrupt, "LUKS header");
    refused(112, &0_u64.to_be_bytes(), Corrupt, "already in use");
    refused(120, &u64::MAX.to_be_bytes(), Corrupt, "LUKS header");
    refused(120, &(length + 65536).to_be_bytes(), Corrupt, "already in use");
    refused(120, &4096_u64.to_be_bytes(), Corrupt, "LUKS header");
    refused(luks, b"x", ErrorKind::WrongFormat, "does not begin with a LUKS header");
    refused(luks + 7, &[2], Unsupported, "version 2 inside");
    // A data cluster that says it is compressed.
    let l2 = (be64(be64(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    refused(l2, &(be64(l2) | 1 << 62).to_be_bytes(), Corrupt, "is compressed");
}
