//! Thousands of damaged images: opening and reading them ends soon, with bytes or an error, and never panics.

mod common;

use std::time::{Duration, Instant};

use common::{Folder, Numbers, open_bytes, seeded_disk};
use disk::{ErrorKind, Format, Source, probe};

/// Each damaged image must be done in this time, which is far above what any needs and far below that of a bomb.
const BOUND: Duration = Duration::from_secs(2);

/// Opens and reads everything that is not a hole; a disk that claims to be large is read in part.
fn exercise(bytes: Vec<u8>, format: Format) -> disk::Result<()> {
    let size = bytes.len() as u64;
    let _ = probe(&bytes);
    let disk = open_bytes(bytes, format)?.disk;
    let (mut offset, mut read) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    while offset < disk.len() {
        let extent = disk.extent_at(offset)?;
        assert!(extent.length > 0 && extent.end() <= disk.len());
        let mut at = offset;
        while extent.kind == disk::ExtentKind::Data && at < extent.end() {
            let length = (extent.end() - at).min(1 << 20) as usize;
            disk.read_at(&mut buffer[..length], at)?;
            at += length as u64;
            read += length as u64;
        }
        offset = extent.end();
    }
    // No byte of the file is used twice; the tiny images here compress at most a hundredfold.
    assert!(read <= size * 4096 + (4 << 20), "{read} bytes came out of a file of {size}");
    Ok(())
}

/// Damages `image` in its tables or anywhere, `times` times, and exercises each.
fn mutate(image: &[u8], format: Format, times: u64, seed: u64) {
    exercise(image.to_vec(), format).unwrap();
    assert!(image.len() > 20_000, "an image with hardly any data proves little: {} bytes", image.len());
    let mut numbers = Numbers::new(seed);
    let mut failed = 0;
    for time in 0..times {
        let mut bytes = image.to_vec();
        for _ in 0..=numbers.below(3) {
            // Half of the damage is in the first four kilobytes, where most tables are.
            let end = if numbers.below(2) == 0 { bytes.len().min(4096) } else { bytes.len() };
            let at = numbers.below(end as u64) as usize;
            bytes[at] = match numbers.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << numbers.below(8)),
                _ => numbers.next() as u8,
            };
        }
        if numbers.below(10) == 0 {
            bytes.truncate(numbers.below(bytes.len() as u64) as usize);
        }
        let started = Instant::now();
        failed += u64::from(exercise(bytes, format).is_err());
        assert!(started.elapsed() < BOUND, "mutation {time} of {format} with seed {seed} took {:?}", started.elapsed());
    }
    assert!(failed > times / 100, "only {failed} of {times} damaged images were found out");
}

fn images(format: Format, name: &str, options: &[&[&str]], times: u64) {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 3));
    for (seed, options) in options.iter().enumerate() {
        let image = folder.image("image", &raw, name, options);
        let bytes = std::fs::read(image).unwrap();
        mutate(&bytes, format, times, seed as u64);
    }
}

#[test]
fn qcow2() {
    let kinds: &[&[&str]] = &[
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=4k,compat=0.10"],
        &["-c", "-o", "cluster_size=4k"],
        &["-c", "-o", "cluster_size=16k,compression_type=zstd"],
    ];
    images(Format::Qcow2, "qcow2", kinds, 3000);
}

#[test]
fn vhd_fixed() {
    images(Format::Vhd, "vpc", &[&["-o", "subformat=fixed,force_size=on"]], 2000);
}

#[test]
fn vmdk() {
    images(Format::Vmdk, "vmdk", &[&["-o", "subformat=monolithicSparse"], &["-o", "subformat=streamOptimized"]], 3000);
}

#[test]
fn vmdk_with_footer() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 3));
    let image = folder.image("image", &raw, "vmdk", &["-o", "subformat=streamOptimized"]);
    mutate(&common::with_footer(&std::fs::read(image).unwrap()), Format::Vmdk, 3000, 9);
}

/// Blocks of VHD and VDI are large, so the damage is done to the tables only, and to smaller copies.
#[test]
fn vhd_dynamic_and_vdi() {
    images(Format::Vhd, "vpc", &[&["-o", "subformat=dynamic,force_size=on"]], 500);
    images(Format::Vdi, "vdi", &[&[]], 1000);
}

/// Cut anywhere, a file whose last byte is needed is never read to the end as if it were whole.
#[test]
fn cuts() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 4));
    for (format, name, options) in [
        (Format::Qcow2, "qcow2", &["-o", "cluster_size=512"][..]),
        (Format::Qcow2, "qcow2", &["-c", "-o", "cluster_size=4k"]),
        (Format::Qcow2, "qcow2", &["-c", "-o", "cluster_size=4k,compression_type=zstd"]),
        (Format::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]),
        (Format::Vmdk, "vmdk", &["-o", "subformat=monolithicSparse"]),
        (Format::Vhd, "vpc", &["-o", "subformat=fixed,force_size=on"]),
        (Format::Vhd, "vpc", &["-o", "subformat=dynamic,force_size=on"]),
        (Format::Vdi, "vdi", &["-o", "static=on"]),
    ] {
        let image = folder.image("image", &raw, name, options);
        let whole = std::fs::read(image).unwrap();
        let expected = common::read_all(&*open_bytes(whole.clone(), format).unwrap().disk, 1 << 20).unwrap();
        let heads = 0..1200.min(whole.len());
        for length in heads.chain((1200..whole.len()).step_by(whole.len() / 50 + 1)) {
            let cut = whole[..length].to_vec();
            match open_bytes(cut, format).and_then(|opened| common::read_all(&*opened.disk, 1 << 20)) {
                // The end of the file may be padding that no cluster needs.
                Ok(bytes) => assert!(bytes == expected, "{format} {options:?} cut at {length} reads as another disk"),
                Err(error) => {
                    let kind = error.kind();
                    let unfit = length < 600 && kind == ErrorKind::WrongFormat;
                    let footless = name == "vpc" && kind == ErrorKind::WrongFormat;
                    assert!(
                        kind == ErrorKind::Corrupt || unfit || footless,
                        "{format} cut at {length}: {kind:?} {error}"
                    );
                }
            }
        }
    }
}
