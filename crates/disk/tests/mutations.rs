//! Thousands of damaged images: opening and reading them ends soon, with bytes or an error, and never panics.

mod common;

use common::damage::mutate;
use common::{Folder, open_bytes, seeded_disk};
use disk::{ErrorKind, Format};

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
        &["-o", "cluster_size=16k,extended_l2=on"],
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
