//! Crafted and damaged LUKS headers: each is refused for its own reason, and soon.

use std::sync::Arc;
use std::time::Duration;

use disk::{ErrorKind, Format};

use super::super::common::{Folder, Numbers, open_bytes, seeded_disk};
use super::{PASSPHRASE, change, open_v2, open_with, seal, version_1, version_2};
use crate::common::Stopwatch;

/// Far above what any refusal needs on a busy machine, and far below a key derivation that somebody else chose.
const BOUND: Duration = Duration::from_secs(2);

/// Checks that version 2 text with `from` replaced by `to` is refused in this way, in no time. The passphrase is that of
/// the slot with Argon2; the other two have their own.
#[track_caller]
fn refused(image: &[u8], (from, to): (&str, &str), kind: ErrorKind, says: &str) {
    let mut image = image.to_vec();
    for at in [0, 16384] {
        change(&mut image, at, |text| {
            assert!(text.contains(from), "{text} does not contain {from}");
            text.replace(from, to)
        });
    }
    let started = Stopwatch::start();
    let error = open_v2(&image, "second").expect_err(says);
    assert!(started.elapsed() < BOUND);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error} does not say {says:?}");
}

/// A slot that asks for too much does not keep another one from being opened.
#[test]
fn a_costly_slot_is_passed_over() {
    let mut image = version_2();
    change(&mut image, 0, |text| text.replace("\"memory\":64", "\"memory\":67108864"));
    open_v2(&image, PASSPHRASE).unwrap();
    open_v2(&image, "third").unwrap();
    let error = open_v2(&image, "second").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let hint = "if you trust the file, allow it with: --unlock-memory 65536M --unlock-seconds 269";
    assert_eq!(error.hint(), Some(hint));
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
    refused("\"key_size\":64", "\"key_size\":40", Corrupt, "40 bytes");
    refused("\"offset\":\"290816\"", "\"offset\":\"32768\"", Corrupt, "key material");
    refused("\"offset\":\"32768\"", "\"offset\":\"16384\"", Corrupt, "key material");
    refused("\"offset\":\"32768\"", "\"offset\":\"18446744073709551104\"", Corrupt, "key material");
    refused("\"config\":{", "\"config\":[", Corrupt, "JSON");
    refused("\"json_size\":\"12288\"", "\"json_size\":\"12287\"", Corrupt, "json_size");
    refused("\"keyslots_size\":\"1048576\"", "\"keyslots_size\":\"4096\"", Corrupt, "key material");
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
        let started = Stopwatch::start();
        let error = open_with(Arc::new(image), PASSPHRASE).expect_err(says);
        assert!(started.elapsed() < BOUND, "{says}");
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
            let started = Stopwatch::start();
            let error = open_bytes(bytes, Format::Luks).unwrap_err();
            assert!(started.elapsed() < BOUND);
            refused += u64::from(error.hint().is_none_or(|hint| !hint.contains("--passphrase-file")));
        }
        assert!(refused > 200, "only {refused} of 2000 damaged headers were found out");
        // The key material of the first slot: all of it is needed.
        for _ in 0..20 {
            let mut bytes = image.clone();
            let start = if header == 592 { 4096 } else { 32768 };
            bytes[start + numbers.below(256_000) as usize] ^= 1 << numbers.below(8);
            assert_eq!(open_with(Arc::new(bytes), PASSPHRASE).unwrap_err().kind(), ErrorKind::Refused);
        }
    }
}

/// Numbers of the text replaced by others, with right checksums: refused or asked for a passphrase, and soon.
#[test]
fn version_2_texts_with_other_numbers() {
    let image = version_2();
    let mut numbers = Numbers::new(8);
    let values = ["", "0", "1", "511", "4096", "16384", "2097152", "4294967295", "4294967296", "18446744073709551615"];
    let mut refused = 0;
    for _ in 0..1000 {
        let mut bytes = image.clone();
        let (place, value) = (numbers.next() as usize, values[numbers.below(values.len() as u64) as usize]);
        for at in [0, 16384] {
            change(&mut bytes, at, |text| {
                let mut parts: Vec<_> = text.split_inclusive(|c: char| !c.is_ascii_digit()).collect();
                let digits: Vec<_> = (0..parts.len()).filter(|part| parts[*part].len() > 1).collect();
                let part = digits[place % digits.len()];
                let after = &parts[part][parts[part].len() - 1..];
                let replaced = format!("{value}{after}");
                parts[part] = &replaced;
                parts.concat()
            });
        }
        let started = Stopwatch::start();
        let error = open_bytes(bytes, Format::Luks).unwrap_err();
        assert!(started.elapsed() < BOUND);
        refused += u64::from(error.hint().is_none_or(|hint| !hint.contains("--passphrase-file")));
    }
    assert!(refused > 300, "only {refused} of 1000 texts were found out");
}
