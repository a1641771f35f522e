//! Each byte is read once and written once on its way: no temporary copies.

use tests::{Molde, Random, disks};

/// What records, logs and tables may add to the bytes that are moved, in percent.
const BESIDE: u64 = 10;
/// What they and chunks that are opened for the small reads of an inspection may add; far below any copy.
const SMALL: u64 = 8 << 20;

/// Runs `work` and checks how many bytes the server reads and writes for it.
#[track_caller]
fn assert_moves(molde: &Molde, what: &str, (reads, writes): (u64, u64), work: impl FnOnce()) {
    let before = molde.bytes_read_and_written();
    work();
    let after = molde.bytes_read_and_written();
    let (read, written) = (after.0 - before.0, after.1 - before.1);
    let most = |bytes: u64| bytes + bytes / 100 * BESIDE + SMALL;
    assert!(read <= most(reads), "{what}: {read} bytes were read, for {reads}");
    assert!(written <= most(writes), "{what}: {written} bytes were written, for {writes}");
    assert!(
        written + (2 << 20) >= writes,
        "{what}: only {written} bytes of {writes} were written, so what is measured?"
    );
}

#[test]
fn no_byte_is_copied_twice() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let size = 48 << 20;
    let whole = molde.file("whole.bin");
    std::fs::write(&whole, Random::new(60).bytes(24 << 20)).unwrap();
    assert_moves(&molde, "an object in one piece", (0, 24 << 20), || {
        molde.cli(["object", "put", "files/whole", whole.to_str().unwrap()]).ok();
    });
    let parts = molde.file("parts.bin");
    std::fs::write(&parts, Random::new(61).bytes(size as usize)).unwrap();
    assert_moves(&molde, "an object in parts", (0, size), || {
        molde.cli(["object", "put", "files/parts", parts.to_str().unwrap()]).ok();
    });
    let image = molde.file("image.bin");
    std::fs::write(&image, Random::new(62).bytes(size as usize)).unwrap();
    assert_moves(&molde, "an uploaded image", (0, size), || {
        molde.cli(["image", "create", "uploaded", "--format", "raw", "--file", image.to_str().unwrap()]).ok();
    });
    // A few blocks of it, to find out what it is; that alone is near what records may cost.
    assert_moves(&molde, "an import of a raw object, which is shared", (2 << 20, 0), || {
        molde.cli(["image", "create", "shared", "--format", "raw", "--from", "files/parts", "--wait"]).ok();
    });

    let raw = molde.file("disk.raw");
    disks::linux(&raw, 96, 63);
    let vmdk = disks::vmdk(&raw);
    let moved = std::fs::metadata(&vmdk).unwrap().len();
    molde.cli(["object", "put", "files/disk.vmdk", vmdk.to_str().unwrap()]).ok();
    assert_moves(&molde, "an import", (moved, moved), || {
        molde.cli(["image", "create", "web", "--from", "files/disk.vmdk", "--wait"]).ok();
    });
    assert_moves(&molde, "an export", (moved, moved), || {
        molde.cli(["image", "export", "web", "files/out.qcow2", "--wait"]).ok();
    });
}
